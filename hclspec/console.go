package hclspec

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// SensitiveValue is what a console shows instead of a value that must not be shown.
const SensitiveValue = "(sensitive value)"

// Console evaluates expressions against a configuration that was loaded. It is for one goroutine.
type Console struct {
	l *loader
	n int // lines evaluated
}

// NewConsole loads a configuration as Load does, and keeps its values at hand. With an error among the diagnostics,
// expressions can still be evaluated: what they mention of the broken part has no value.
func NewConsole(fsys fs.FS, dir string, o LoadOptions) (*Console, map[string]*hcl.File, hcl.Diagnostics) {
	l := newLoader(fsys, o)
	l.load(dir)
	diags := tidy(l.diags)
	relocate(l.files, diags)
	return &Console{l: l}, l.files, diags
}

// Evaluate gives the value of an expression as HCL; what is sensitive in it is SensitiveValue. The diagnostics quote the
// expression, which stands in the files given back with them.
func (c *Console) Evaluate(expression string) (string, map[string]*hcl.File, hcl.Diagnostics) {
	c.n++
	name := fmt.Sprintf("(console %d)", c.n)
	c.l.diags, c.l.work, c.l.overspent = nil, 0, false
	c.l.sources.bytes, c.l.sources.tokens = 0, 0
	files := map[string]*hcl.File{}
	e, diags := c.l.expression(name, expression)
	files[name] = &hcl.File{Bytes: []byte(expression)}
	defer delete(c.l.files, name)
	if diags.HasErrors() {
		return "", files, tidy(diags)[:1]
	}
	v, ok := c.value(e)
	if diags := tidy(c.l.diags); diags.HasErrors() {
		return "", files, diags
	}
	if !ok {
		return "", files, hcl.Diagnostics{failure("No value", "This depends on a part of the configuration that is wrong.", "Run pgkeep validate.", e.Range().Ptr())}
	}
	return showValue(v), files, nil
}

// value evaluates, also a whole root: `var` is an object of all variables.
func (c *Console) value(e hclsyntax.Expression) (cty.Value, bool) {
	defer delete(c.l.readied, e)
	t, isTraversal := e.(*hclsyntax.ScopeTraversalExpr)
	if !isTraversal || len(t.Traversal) != 1 || !slices.Contains([]string{"var", "local", "repository", "server"}, t.Traversal.RootName()) {
		return c.l.evaluate(e, scope{}, nil)
	}
	all := map[string]cty.Value{}
	for _, name := range c.l.names(t.Traversal.RootName()) {
		v, ok := c.l.valueOf(t.Traversal.RootName(), name)
		if !ok {
			return cty.DynamicVal, false
		}
		all[name] = v
	}
	return cty.ObjectVal(all), true
}

// Names are the words that an expression can begin with, for completion: roots with their names, and functions.
func (c *Console) Names() []string {
	var out []string
	for _, root := range []string{"local", "repository", "server", "var"} {
		for _, name := range c.l.names(root) {
			out = append(out, root+"."+name)
		}
	}
	for _, f := range sortedKeys(c.l.offered) {
		out = append(out, f+"(")
	}
	return out
}

// showValue writes a value as HCL, in lines when it is a collection that is not empty.
func showValue(v cty.Value) string {
	var b strings.Builder
	writeValue(&b, v, "")
	return b.String()
}

func writeValue(b *strings.Builder, v cty.Value, indent string) {
	if v.IsMarked() {
		b.WriteString(SensitiveValue)
		return
	}
	t := v.Type()
	switch {
	case v.IsNull():
		b.WriteString("null")
	case !v.IsKnown():
		b.WriteString("(no value)")
	case t == cty.String:
		b.WriteString(QuoteHCL(v.AsString()))
	case t == cty.Number:
		b.WriteString(v.AsBigFloat().Text('f', -1))
	case t == cty.Bool:
		fmt.Fprintf(b, "%t", v.True())
	case t.IsObjectType(), t.IsMapType():
		writeItems(b, v, indent, "{", "}")
	case v.CanIterateElements():
		writeItems(b, v, indent, "[", "]")
	default:
		b.WriteString("(" + t.FriendlyName() + ")")
	}
}

func writeItems(b *strings.Builder, v cty.Value, indent, opening, closing string) {
	b.WriteString(opening)
	n := 0
	for it := v.ElementIterator(); it.Next(); n++ {
		k, e := it.Element()
		b.WriteString("\n" + indent + "  ")
		if opening == "{" {
			name := k.AsString()
			if !hclsyntax.ValidIdentifier(name) {
				name = QuoteHCL(name)
			}
			b.WriteString(name + " = ")
		}
		writeValue(b, e, indent+"  ")
		if opening == "[" {
			b.WriteString(",")
		}
	}
	if n > 0 {
		b.WriteString("\n" + indent)
	}
	b.WriteString(closing)
}

// QuoteHCL writes text as a quoted string of HCL that means just this text; what a terminal would obey is escaped.
func QuoteHCL(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i, r := range s {
		next := strings.HasPrefix(s[i:], "${") || strings.HasPrefix(s[i:], "%{")
		switch {
		case r == '"' || r == '\\':
			b.WriteString(`\` + string(r))
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case checkPlain(string(r)) != nil:
			fmt.Fprintf(&b, `\u%04x`, r)
		case next:
			b.WriteString(string(r) + string(r))
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
