package hclspec

import (
	"encoding/json"
	"fmt"

	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// node is a part of a JSON Schema.
type node = map[string]any

// JSONSchema gives the JSON Schema (draft 2020-12) of *.hcl.json files, made from the tables that the decoder reads by.
// What it refuses, Load refuses; what it lets in, Load may refuse for what a schema cannot say, such as a name that is
// not declared. Indented JSON with a newline at the end.
func JSONSchema() ([]byte, error) {
	top := bodySchema(block{name: "configuration", blocks: language()})
	top["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	top["title"] = "pgkeep configuration"
	top["description"] = "The JSON syntax of pgkeep's configuration (*.hcl.json). Text is a template: \"${var.env}\"."
	top["$defs"] = node{"template": node{"type": "string", "pattern": templatePattern, "description": "an expression in ${ }"}}
	b, err := json.MarshalIndent(top, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the JSON Schema: %w", err)
	}
	return append(b, '\n'), nil
}

// templatePattern finds ${ or %{ that is not escaped by doubling its sign; a schema need not know more of expressions.
const templatePattern = `[$%]\{`

func template() node { return node{"$ref": "#/$defs/template"} }

// bodySchema is an object with the attributes and blocks of a body.
func bodySchema(b block) node {
	if b.open {
		return node{"type": "object"}
	}
	properties := node{"//": node{"description": "a comment"}}
	var required []string
	for _, a := range b.attributes {
		properties[a.name] = attributeSchema(a)
		if a.required {
			required = append(required, a.name)
		}
	}
	for _, inner := range b.blocks {
		if !inner.later {
			properties[inner.name] = blockSchema(inner, b.name == "configuration")
		}
	}
	out := node{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		out["required"] = required
	}
	for _, name := range b.either {
		one, _ := out["oneOf"].([]any)
		out["oneOf"] = append(one, node{"required": []string{name}, "properties": node{name: node{"type": "string"}}})
	}
	return out
}

func attributeSchema(a attribute) node {
	out := a.kind.schema()
	if !a.required && !a.kind.static {
		out["anyOf"] = append(out["anyOf"].([]any), node{"type": "null"})
	}
	out["description"] = a.kind.name
	if a.otherwise != "" {
		out["description"] = a.kind.name + "; without it: " + a.otherwise
	}
	if v, err := constant(a.standard); a.standard != "" && err == nil {
		if j, err := ctyjson.Marshal(v, v.Type()); err == nil {
			out["default"] = json.RawMessage(j)
		}
	}
	return out
}

// blockSchema is {label: body}, body, or an array of either. Beyond the top level a block of a kind that stands once may
// not be an array of several.
func blockSchema(b block, top bool) node {
	body := bodySchema(b)
	several := node{"type": "array", "items": body}
	if b.single {
		several["maxItems"] = 1
	}
	if b.label == "" {
		return node{"anyOf": []any{body, several}}
	}
	labels := node{"type": "object", "additionalProperties": node{"anyOf": []any{body, several}}, "properties": node{"//": true}}
	if top && b.name != "variable" && b.name != "output" {
		labels["propertyNames"] = node{"anyOf": []any{node{"pattern": namePart.String()}, node{"const": "//"}}}
	}
	return node{"anyOf": []any{labels, node{"type": "array", "items": labels}}}
}

// schema says what JSON a kind of value is read from.
func (k kind) schema() node {
	text := node{"type": "string"}
	var forms []any
	switch {
	case k.static:
		return node{"anyOf": []any{text}}
	case k.read == nil:
		return node{"anyOf": []any{node{}}}
	case k.shape == shapeBool:
		forms = []any{node{"type": "boolean"}, node{"enum": []string{"true", "false"}}}
	case k.shape == shapeWhole:
		forms = []any{node{"type": "number", "minimum": k.least, "maximum": k.most, "multipleOf": 1}, node{"type": "string", "pattern": `^[0-9.eE+-]+$`}}
	case k.shape == shapeReferences:
		forms = []any{node{"type": "array", "minItems": 1, "items": node{"anyOf": []any{template(), node{"type": "array"}}}}}
	case k.shape == shapeList:
		item := k.item.schema()
		forms = []any{node{"type": "array", "items": item, "uniqueItems": true}}
	case k.shape == shapeMap:
		forms = []any{node{"type": "object", "additionalProperties": node{"type": "string"}}}
	case len(k.words) > 0:
		forms = []any{node{"enum": k.words}}
	case k.pattern != "":
		forms = []any{node{"type": "string", "pattern": k.pattern}}
	default:
		forms = []any{node{"type": []string{"string", "number", "boolean"}}}
	}
	return node{"anyOf": append(forms, template())}
}
