package hclspec

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// jsonBody turns JSON into the tree that the parser of HCL makes, so that both syntaxes have one meaning: the same
// schema, bounds, masks and diagnostics.
type jsonBody struct {
	*jsonReader
	literal bool // text is text, as in files of values: no templates
	diags   hcl.Diagnostics
}

// parseJSON reads a JSON file. schema says which names are blocks; nil: a file of values, where all are attributes.
func (s *sources) parseJSON(name string, src []byte, schema *block) (*hcl.File, hcl.Diagnostics) {
	r := newJSONReader(name, src)
	file := &hcl.File{Bytes: src}
	s.files[name] = file
	v, problem := r.document()
	if s.tokens += r.tokens; problem == nil && s.tokens > maxTokens {
		return nil, tooBig(name, tooManyTokens(), nil)
	}
	if problem != nil && problem.tooBig {
		return nil, tooBig(name, problem.what, r.between(problem.at, min(problem.at+1, len(src))).Ptr())
	}
	if problem != nil {
		return nil, hcl.Diagnostics{failure("Invalid JSON", problem.what, problem.hint, r.between(problem.at, min(problem.at+1, len(src))).Ptr())}
	}
	b := &jsonBody{jsonReader: r, literal: schema == nil}
	b.tokens = s.tokens
	if schema == nil {
		schema = &block{name: "values", open: true}
	}
	if v.is != '{' {
		b.wrong(v, "A configuration in JSON is one object.")
	}
	file.Body = b.body(schema, v)
	s.tokens = b.tokens
	return file, b.diags
}

func (b *jsonBody) fail(summary, detail, hint string, at hcl.Range) {
	b.diags = append(b.diags, failure(summary, detail, hint, &at))
}

func (b *jsonBody) wrong(v jsonValue, what string) {
	b.fail("Invalid JSON", what+" This is "+jsonKind(v.is)+".", "", b.rangeOf(v))
}

func jsonKind(c byte) string {
	return map[byte]string{'{': "an object", '[': "an array", '"': "text", '0': "a number", 't': "true", 'f': "false", 'n': "null"}[c]
}

// body reads the properties of an object as the attributes and blocks of a body.
func (b *jsonBody) body(schema *block, v jsonValue) *hclsyntax.Body {
	at := b.rangeOf(v)
	out := &hclsyntax.Body{Attributes: hclsyntax.Attributes{}, SrcRange: at, EndRange: hcl.Range{Filename: b.name, Start: at.End, End: at.End}}
	for n, name := range v.names {
		if name.text == "//" {
			continue // a comment
		}
		if inner := b.blockNamed(schema, name.text, v.items[n]); inner != nil {
			out.Blocks = append(out.Blocks, b.blocks(inner, name, v.items[n])...)
			continue
		}
		if before, twice := out.Attributes[name.text]; twice {
			b.fail("Attribute redefined", fmt.Sprintf("The argument %q was already set at %s. Each argument may be set only once.", name.text, before.NameRange), "", b.inside(name))
			continue
		}
		static := false
		for _, a := range schema.attributes {
			static = static || a.name == name.text && a.kind.static
		}
		out.Attributes[name.text] = &hclsyntax.Attribute{Name: name.text, NameRange: b.inside(name), Expr: b.expression(v.items[n], static), SrcRange: b.between(name.start, v.items[n].end), EqualsRange: b.between(name.end, name.end)}
	}
	return out
}

// inside is the range of text without its quotes.
func (b *jsonBody) inside(v jsonValue) hcl.Range { return b.between(v.start+1, v.end-1) }

// blockNamed finds the block that a property is. An unknown name with an object is a block too, so that it is refused as
// HCL's would be.
func (b *jsonBody) blockNamed(schema *block, name string, v jsonValue) *block {
	if schema.open {
		return nil
	}
	var names []string
	for n := range schema.blocks {
		if schema.blocks[n].name == name {
			return &schema.blocks[n]
		}
		names = append(names, schema.blocks[n].name)
	}
	for _, a := range schema.attributes {
		if a.name == name {
			return nil
		}
	}
	if near := nearest(name, names); v.isBlock() && (near != "" || schema.name == "configuration") {
		unknown := &block{name: name, later: true}
		for _, s := range schema.blocks {
			if s.name == near && (len(v.names) > 0 || v.is == '[') {
				unknown.label = s.label
			}
		}
		return unknown
	}
	return nil
}

// isBlock says whether the value looks like the body of a block, or like several.
func (v jsonValue) isBlock() bool {
	return v.is == '{' || v.is == '[' && len(v.items) > 0 && v.items[0].is == '{'
}

// blocks reads {label: {…}}, {…}, or arrays of either.
func (b *jsonBody) blocks(schema *block, name, v jsonValue) []*hclsyntax.Block {
	if v.is == '[' {
		var out []*hclsyntax.Block
		for _, item := range v.items {
			if item.is == '[' {
				b.wrong(item, fmt.Sprintf("The block %s is an object.", quote(name.text)))
				continue
			}
			out = append(out, b.blocks(schema, name, item)...)
		}
		return out
	}
	switch {
	case v.is != '{' && schema.label != "":
		b.wrong(v, fmt.Sprintf("The blocks %s are an object, with a property for each label.", quote(name.text)))
		return nil
	case v.is != '{':
		b.wrong(v, fmt.Sprintf("The block %s is an object.", quote(name.text)))
		return nil
	case schema.label == "":
		return []*hclsyntax.Block{b.block(schema, name, v)}
	}
	var out []*hclsyntax.Block
	for n, label := range v.names {
		if label.text == "//" {
			continue
		}
		out = append(out, b.labelled(schema, name, label, v.items[n])...)
	}
	return out
}

func (b *jsonBody) labelled(schema *block, name, label, v jsonValue) []*hclsyntax.Block {
	bodies := []jsonValue{v}
	if v.is == '[' {
		bodies = v.items
	}
	var out []*hclsyntax.Block
	for _, body := range bodies {
		if body.is != '{' {
			b.wrong(body, fmt.Sprintf("The block %s %s is an object.", name.text, quote(label.text)))
			continue
		}
		if second, ok := schema.secondLabel(body); ok {
			inner := b.labelled(schema, name, second, body.items[0])
			for _, x := range inner {
				x.Labels, x.LabelRanges = []string{label.text, second.text}, []hcl.Range{b.rangeOf(label), b.rangeOf(second)}
			}
			out = append(out, inner...)
			continue
		}
		x := b.block(schema, name, body)
		x.Labels, x.LabelRanges = []string{label.text}, []hcl.Range{b.rangeOf(label)}
		if !schema.later {
			x.TypeRange = b.rangeOf(label) // the block begins at its own label, not at the first of its kind
		}
		out = append(out, x)
	}
	return out
}

// secondLabel tells whether a block's body is rather another label with the body inside it: its one property has a name
// that the schema does not know, and holds an object with a name that it does.
func (schema *block) secondLabel(v jsonValue) (jsonValue, bool) {
	if schema.later || len(v.names) != 1 || schema.knows(v.names[0].text) || v.items[0].is != '{' {
		return jsonValue{}, false
	}
	return v.names[0], slices.ContainsFunc(v.items[0].names, func(n jsonValue) bool { return schema.knows(n.text) })
}

// knows tells whether a body of this kind has an attribute or block of the name.
func (schema *block) knows(name string) bool {
	return slices.ContainsFunc(schema.attributes, func(a attribute) bool { return a.name == name }) ||
		slices.ContainsFunc(schema.blocks, func(b block) bool { return b.name == name })
}

func (b *jsonBody) block(schema *block, name, v jsonValue) *hclsyntax.Block {
	out := &hclsyntax.Block{Type: name.text, TypeRange: b.inside(name), OpenBraceRange: b.between(v.start, v.start+1), CloseBraceRange: b.between(v.end-1, v.end)}
	if schema.later {
		out.Body = &hclsyntax.Body{Attributes: hclsyntax.Attributes{}, SrcRange: b.rangeOf(v)}
		return out
	}
	out.Body = b.body(schema, v)
	return out
}

// expression turns a value into an expression: text is a template, as in HCL.
func (b *jsonBody) expression(v jsonValue, static bool) hclsyntax.Expression {
	at := b.rangeOf(v)
	switch v.is {
	case '{':
		out := &hclsyntax.ObjectConsExpr{SrcRange: at, OpenRange: b.between(v.start, v.start+1)}
		for n, name := range v.names {
			out.Items = append(out.Items, hclsyntax.ObjectConsItem{KeyExpr: b.template(name), ValueExpr: b.expression(v.items[n], false)})
		}
		return out
	case '[':
		out := &hclsyntax.TupleConsExpr{SrcRange: at, OpenRange: b.between(v.start, v.start+1)}
		for _, item := range v.items {
			out.Exprs = append(out.Exprs, b.expression(item, false))
		}
		return out
	case '"':
		if static {
			return b.written(v)
		}
		return b.template(v)
	case '0':
		x, err := cty.ParseNumberVal(v.text)
		if err != nil {
			b.fail("Invalid JSON", quote(v.text)+" is not a number.", "", at)
			x = cty.DynamicVal
		}
		return &hclsyntax.LiteralValueExpr{Val: x, SrcRange: at}
	case 'n':
		return &hclsyntax.LiteralValueExpr{Val: cty.NullVal(cty.DynamicPseudoType), SrcRange: at}
	}
	return &hclsyntax.LiteralValueExpr{Val: cty.BoolVal(v.is == 't'), SrcRange: at}
}

// template reads text with ${…} in it.
func (b *jsonBody) template(v jsonValue) hclsyntax.Expression {
	at := b.rangeOf(v)
	if b.literal || !strings.Contains(v.text, "${") && !strings.Contains(v.text, "%{") {
		return &hclsyntax.LiteralValueExpr{Val: cty.StringVal(v.text), SrcRange: at}
	}
	src, start := b.aligned(v), b.pos(v.start+1)
	tokens, _ := hclsyntax.LexTemplate(src, b.name, start)
	if !b.fits(tokens, at) {
		return &hclsyntax.LiteralValueExpr{Val: cty.DynamicVal, SrcRange: at}
	}
	e, diags := hclsyntax.ParseTemplate(src, b.name, start)
	b.diags = append(b.diags, diags...)
	switch e := e.(type) {
	case *hclsyntax.TemplateExpr:
		e.SrcRange = at
	case *hclsyntax.TemplateWrapExpr:
		e.SrcRange = at
	}
	return e
}

// written reads the text of an attribute that is never evaluated: an address, or a type.
func (b *jsonBody) written(v jsonValue) hclsyntax.Expression {
	src, start := b.aligned(v), v.start+1
	if s := string(src); strings.HasPrefix(s, "${") && strings.HasSuffix(s, "}") {
		src, start = src[2:len(src)-1], start+2
	}
	at := b.rangeOf(v)
	tokens, _ := hclsyntax.LexExpression(src, b.name, b.pos(start))
	if !b.fits(tokens, at) {
		return &hclsyntax.LiteralValueExpr{Val: cty.DynamicVal, SrcRange: at}
	}
	e, diags := hclsyntax.ParseExpression(src, b.name, b.pos(start))
	b.diags = append(b.diags, diags...)
	return e
}

// aligned gives the text of v, where it can with each byte at its place in the file: the backslash of \" becomes a space
// beside the quote, which means nothing inside ${…}.
func (b *jsonBody) aligned(v jsonValue) []byte {
	raw := string(b.src[v.start+1 : v.end-1])
	if len(raw) == len(v.text) || strings.Count(raw, `\"`) != strings.Count(raw, `\`) {
		return []byte(v.text)
	}
	out, depth, open := []byte(raw), 0, false
	for i := 0; i < len(out); i++ {
		switch {
		case out[i] == '$' && i+1 < len(out) && out[i+1] == '{':
			depth++
			i++
		case out[i] == '}' && depth > 0 && !open:
			depth--
		case out[i] != '\\':
		case depth != 1:
			return []byte(v.text)
		case open: // \" that ends the text: the space goes behind it
			out[i], out[i+1], open = '"', ' ', false
			i++
		default:
			out[i], open = ' ', true
			i++
		}
	}
	if open || depth != 0 {
		return []byte(v.text)
	}
	return out
}

// fits counts the tokens of a text, and bounds how deep they nest.
func (b *jsonBody) fits(tokens hclsyntax.Tokens, at hcl.Range) bool {
	if b.tokens += len(tokens); b.tokens > maxTokens {
		b.diags = append(b.diags, tooBig(b.name, tooManyTokens(), &at)...)
		return false
	}
	if _, what := tooDeep(tokens); what != "" {
		b.diags = append(b.diags, tooBig(b.name, what, &at)...)
		return false
	}
	return true
}
