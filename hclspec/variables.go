package hclspec

import (
	"fmt"
	"path"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// variable is one variable block and its value.
type variable struct {
	block     *hcl.Block
	wanted    cty.Type
	typeSize  int
	defaults  *typeexpr.Defaults
	sensitive bool
	nullable  bool
	given     *given
	value     cty.Value // NilVal: it has none
}

// given is a value from outside, the strongest seen so far.
type given struct {
	value cty.Value
	from  string     // "--var", "PGKEEP_VAR_env" …
	at    *hcl.Range // in a values file
}

// readVariables declares the variables, gives them their values and checks them.
func (l *loader) readVariables(valueFiles []string) {
	for _, b := range l.blocks["variable"] {
		if _, twice := l.variables[b.Labels[0]]; !twice {
			l.variables[b.Labels[0]] = l.declareVariable(b)
		}
	}
	for _, name := range sortedKeys(l.variables) {
		if raw, ok := l.o.Env["PGKEEP_VAR_"+name]; ok {
			l.giveText(name, raw, "PGKEEP_VAR_"+name)
		}
	}
	for _, file := range append(valueFiles, l.o.VarFiles...) {
		l.giveFile(path.Clean(file))
	}
	for _, name := range sortedKeys(l.o.Vars) {
		if _, ok := l.variables[name]; !ok {
			l.stray("Unknown variable", fmt.Sprintf("--var names %s, and no variable block does.", quote(name)), l.otherName("var", name, l.names("var")), nil)
			continue
		}
		l.giveText(name, l.o.Vars[name], "--var")
	}
	for _, name := range sortedKeys(l.variables) {
		l.settle(name, l.variables[name])
	}
	for _, name := range sortedKeys(l.variables) {
		l.validate(name, l.variables[name])
	}
}

func (l *loader) declareVariable(b *hcl.Block) *variable {
	schema := variableBlock()
	if !hclsyntax.ValidIdentifier(b.Labels[0]) {
		l.refuse("Invalid name", mistake{quote(b.Labels[0]) + " cannot be the name of a variable.", "Names are letters, digits, _ and -, and begin with a letter."}, b.LabelRanges[0])
	}
	d := l.decode(&schema, b.Body, b.DefRange, nil)
	v := &variable{block: b, wanted: cty.DynamicPseudoType, sensitive: get[bool](d, "sensitive"), nullable: get[bool](d, "nullable")}
	if attr, ok := l.content(&schema, b.Body).Attributes["type"]; ok {
		wanted, defaults, diags := typeexpr.TypeConstraintWithDefaults(attr.Expr)
		l.diags = append(l.diags, diags...)
		r := attr.Expr.Range()
		if !plainSets(wanted) {
			l.refuse("Invalid type", mistake{"A set holds text, numbers, or true and false.", "Write list(…), or map(…)."}, r)
		} else if !diags.HasErrors() {
			v.wanted, v.defaults, v.typeSize = wanted, defaults, r.End.Byte-r.Start.Byte
		}
	}
	return v
}

// giveText reads a value of the command line or environment: text as it stands for a string, HCL for a collection.
func (l *loader) giveText(name, raw, from string) {
	v := l.variables[name]
	if v.wanted.IsPrimitiveType() || v.wanted == cty.DynamicPseudoType {
		v.given = &given{value: cty.StringVal(raw), from: from}
		return
	}
	v.given = &given{value: cty.NilVal, from: from}
	bad := func() {
		l.fail("Invalid value for a variable", fmt.Sprintf("The value that %s gives to var.%s is not HCL.", from, name), fmt.Sprintf("A %s is written as in a file, quotes included.", v.wanted.FriendlyName()), nil)
	}
	e, diags := l.expression("("+from+" "+name+")", raw)
	delete(l.files, "("+from+" "+name+")") // never quoted: it may be a password
	if diags.HasErrors() || len(e.Variables()) > 0 {
		bad()
		return
	}
	before := len(l.diags)
	x, ok := l.evaluate(e, scope{constant: true}, nil)
	if !ok {
		l.diags = l.diags[:before]
		bad()
		return
	}
	v.given = &given{value: x, from: from}
}

// giveFile reads a file of values.
func (l *loader) giveFile(name string) {
	body, diags := l.sources.read(name, nil)
	l.diags = append(l.diags, diags...)
	if body == nil {
		return
	}
	attrs, diags := body.JustAttributes()
	l.diags = append(l.diags, diags...)
	for _, n := range sortedKeys(attrs) {
		v, ok := l.variables[n]
		if !ok {
			l.stray("Unknown variable", fmt.Sprintf("There is no variable %s.", quote(n)), l.otherName("var", n, l.names("var")), attrs[n].NameRange.Ptr())
			continue
		}
		at := attrs[n].Expr.Range()
		x, ok := l.evaluate(attrs[n].Expr, scope{constant: true}, nil)
		if !ok {
			x = cty.NilVal
		}
		v.given = &given{value: x, from: name, at: &at}
	}
}

// settle chooses between the given value and the default, and converts to the type.
func (l *loader) settle(name string, v *variable) {
	schema := variableBlock()
	if v.given == nil {
		attr, ok := l.content(&schema, v.block.Body).Attributes["default"]
		if !ok {
			l.fail("Variable without a value", fmt.Sprintf("var.%s has no default, and nobody gives it a value.", name),
				fmt.Sprintf("Write it into pgkeep.vars.hcl, or give --var %s=VALUE or PGKEEP_VAR_%s.", name, name), v.block.DefRange.Ptr())
			return
		}
		at := attr.Expr.Range()
		x, ok := l.evaluate(attr.Expr, scope{constant: true}, nil)
		if !ok {
			return
		}
		v.given = &given{value: x, from: "default", at: &at}
	}
	if v.given.value == cty.NilVal {
		return
	}
	l.convertVariable(name, v)
}

func (l *loader) convertVariable(name string, v *variable) {
	x := v.given.value
	if !l.spend(times(weigh(x)/nodeWork, v.typeSize), v.block.DefRange) {
		return
	}
	if v.defaults != nil && !x.IsNull() {
		x = v.defaults.Apply(x)
	}
	x, err := gather(x, v.wanted)
	if err != nil {
		detail := fmt.Sprintf("var.%s is a %s, and the value from %s is not: %v.", name, v.wanted.FriendlyName(), v.given.from, err)
		if v.sensitive {
			detail = fmt.Sprintf("var.%s is a %s, and the value from %s is not.", name, v.wanted.FriendlyName(), v.given.from)
		}
		l.fail("Invalid value for a variable", detail, "", v.given.at)
		return
	}
	if x.IsNull() && !v.nullable {
		l.fail("Invalid value for a variable", fmt.Sprintf("var.%s is not nullable, and %s gives null.", name, v.given.from), "", v.given.at)
		return
	}
	if v.sensitive {
		x = x.Mark(sensitive)
	}
	v.value = x
}

// validate tries the validation blocks of a variable.
func (l *loader) validate(name string, v *variable) {
	outer := variableBlock()
	if v.value == cty.NilVal {
		return
	}
	for _, b := range l.content(&outer, v.block.Body).Blocks {
		c := l.content(&outer.blocks[0], b.Body)
		condition, message := c.Attributes["condition"], c.Attributes["error_message"]
		if len(l.strange[b.Body]) > 0 {
			continue // reported
		}
		if condition == nil || message == nil {
			l.fail("Missing attribute", "validation needs condition and error_message.", "", b.DefRange.Ptr())
			continue
		}
		ok, known := l.evaluate(condition.Expr, scope{varsOnly: true}, nil)
		if l.prepare(message.Expr, scope{varsOnly: true}).broken || !known { // its names are wrong also while nobody needs it
			continue
		}
		ok, _ = ok.Unmark()
		ok, err := convert.Convert(ok, cty.Bool)
		at := condition.Expr.Range()
		if err != nil || ok.IsNull() {
			l.fail("Invalid condition", "A condition is true or false.", "", &at)
			continue
		}
		if ok.False() {
			l.invalid(name, v, message, at)
		}
	}
}

// invalid reports a value that a validation refuses, in the words of its error_message.
func (l *loader) invalid(name string, v *variable, message *hcl.Attribute, condition hcl.Range) {
	at := v.given.at
	if at == nil {
		at = &condition
	}
	detail := fmt.Sprintf("The value that %s gives to var.%s does not pass.", v.given.from, name)
	if m, ok := l.evaluate(message.Expr, scope{varsOnly: true}, nil); ok && !m.ContainsMarked() {
		if s, err := asText(m); err == nil && checkPlain(strings.ReplaceAll(s, "\n", " ")) == nil {
			detail = s
		}
	}
	l.fail("Invalid value for var."+name, detail, "", at)
}
