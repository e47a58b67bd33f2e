package hclspec

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// decoded is a block after its attributes were read: values by name, defaults filled in.
type decoded struct {
	at      hcl.Range
	present bool // it stands in the file
	broken  bool // something in it was refused, so checks across attributes stay silent
	values  map[string]any
	ranges  map[string]hcl.Range
	blocks  map[string]*decoded
}

// get gives a value; the zero value when the attribute has neither value nor default.
func get[T any](d *decoded, name string) T {
	v, _ := d.values[name].(T)
	return v
}

func text0(d *decoded, name string) string { return get[string](d, name) }

// set says whether the attribute stands in the file.
func (d *decoded) set(name string) bool { _, ok := d.ranges[name]; return ok }

// where gives the ranges, those of nested blocks under "block.attribute".
func (d *decoded) where() Where {
	w := Where{Block: d.at, Attr: map[string]hcl.Range{}}
	d.collect("", w.Attr)
	return w
}

func (d *decoded) collect(prefix string, into map[string]hcl.Range) {
	for name, r := range d.ranges {
		into[prefix+name] = r
	}
	for name, b := range d.blocks {
		b.collect(prefix+name+".", into)
	}
}

// meantOf ends the sentence about an unknown name where the library knows nothing: it leaves out the arguments that are given already, though
// a value may have been meant for one of them.
func meantOf(d *hcl.Diagnostic, name string, wanted *hcl.BodySchema, c *hcl.BodyContent) string {
	if d.Summary != "Unsupported argument" || strings.Contains(d.Detail, "Did you mean") {
		return ""
	}
	var names []string
	for _, a := range wanted.Attributes {
		names = append(names, a.Name)
	}
	near := nearest(name, names)
	if near == "" {
		return ""
	}
	text := fmt.Sprintf(" Did you mean %q?", near)
	if given, ok := c.Attributes[near]; ok {
		text += fmt.Sprintf(" It is given already, at %s.", spot(given.NameRange))
	}
	return text
}

// content matches a body with its schema: what the schema does not have, or has as not built yet, is an error.
func (l *loader) content(schema *block, body hcl.Body) *hcl.BodyContent {
	if c, ok := l.contents[body]; ok {
		return c
	}
	wanted := &hcl.BodySchema{}
	for _, a := range schema.attributes {
		wanted.Attributes = append(wanted.Attributes, hcl.AttributeSchema{Name: a.name})
	}
	for _, b := range schema.blocks {
		h := hcl.BlockHeaderSchema{Type: b.name}
		if b.label != "" {
			h.LabelNames = []string{b.label}
		}
		wanted.Blocks = append(wanted.Blocks, h)
	}
	c, diags := body.Content(wanted)
	l.diags = append(l.diags, diags...)
	for _, d := range diags {
		if quoted := strings.SplitN(d.Detail, `"`, 3); len(quoted) == 3 {
			l.strange[body] = append(l.strange[body], quoted[1])
			d.Detail += meantOf(d, quoted[1], wanted, c)
		}
	}
	if diags.HasErrors() && schema.name == "configuration" {
		c.Attributes = nil // tells load that declarations are missing
	}
	l.refuseLater(schema, c)
	l.contents[body] = c
	return c
}

func (l *loader) refuseLater(schema *block, c *hcl.BodyContent) {
	later := map[string]bool{}
	single := map[string]bool{}
	for _, b := range schema.blocks {
		later[b.name], single[b.name] = b.later, b.single && schema.name != "configuration"
	}
	first := map[string]hcl.Range{}
	kept := c.Blocks[:0]
	for _, b := range c.Blocks {
		before, twice := first[b.Type]
		switch {
		case later[b.Type]:
			l.fail("Not built yet", fmt.Sprintf("The block %s is not built yet in this pgkeep.", b.Type), "Take it out: it is refused, so that nobody believes it works.", b.TypeRange.Ptr())
		case twice && single[b.Type]:
			l.twice(b.Type, b.DefRange, before)
		default:
			kept = append(kept, b)
		}
		first[b.Type] = b.DefRange
	}
	c.Blocks = kept
}

// decode reads a block and the blocks inside it, except those attributes that have no reader.
func (l *loader) decode(schema *block, body hcl.Body, at hcl.Range, i *instance) *decoded {
	return l.decodeAt("", schema, &hcl.Block{Body: body, DefRange: at}, i)
}

func (l *loader) decodeAt(prefix string, schema *block, b *hcl.Block, i *instance) *decoded {
	d := &decoded{values: map[string]any{}, ranges: map[string]hcl.Range{}, blocks: map[string]*decoded{}}
	c := &hcl.BodyContent{}
	if b != nil {
		d.at, d.present = b.DefRange, true
		c = l.content(schema, b.Body)
		d.broken = len(l.strange[b.Body]) > 0 // what it was meant to be is not known
	}
	var missing []string
	for _, a := range schema.attributes {
		attr, stands := c.Attributes[a.name]
		if stands {
			d.ranges[a.name] = attr.Expr.Range()
			stands = l.read(prefix, a, attr, i, d)
		}
		if stands || d.values[a.name] != nil {
			continue
		}
		if _, written := d.ranges[a.name]; a.required && d.present && !written {
			missing = append(missing, a.name)
		}
		if a.standard != "" {
			d.values[a.name] = l.standard(a)
		}
	}
	if len(missing) > 0 {
		d.broken = true
		missing = withoutMistyped(missing, l.strange[b.Body])
	}
	if len(missing) > 0 {
		l.fail("Missing attribute", fmt.Sprintf("%s needs %s.", schema.name, strings.Join(missing, " and ")), "", d.at.Ptr())
	}
	for n := range schema.blocks {
		l.decodeNested(prefix, &schema.blocks[n], c, i, d)
	}
	return d
}

func (l *loader) decodeNested(prefix string, schema *block, c *hcl.BodyContent, i *instance, d *decoded) {
	if schema.later || !schema.single {
		return
	}
	var inner *hcl.Block
	for _, b := range c.Blocks {
		if b.Type == schema.name {
			inner = b
		}
	}
	n := l.decodeAt(prefix+schema.name+".", schema, inner, i)
	d.blocks[schema.name] = n
	d.broken = d.broken || n.broken
}

// read evaluates one attribute into d; false: it has no value, and its default holds.
func (l *loader) read(prefix string, a attribute, attr *hcl.Attribute, i *instance, d *decoded) bool {
	if a.kind.read == nil {
		return true
	}
	at := attr.Expr.Range()
	v, ok := l.evaluate(attr.Expr, scope{each: i != nil && i.key != ""}, i)
	if !ok {
		d.broken = true
		return true
	}
	summary := "Invalid " + prefix + a.name
	if v.ContainsMarked() && !a.kind.sensitive {
		l.refuse(summary, mistake{"The value is sensitive, and plans show this attribute.", "Only conninfo and sensitive outputs may hold a sensitive value."}, at)
		d.broken = true
		return true
	}
	v, _ = v.UnmarkDeep()
	if v.IsNull() {
		if a.required {
			l.refuse(summary, mistake{"The value is null.", ""}, at)
			d.broken = true
		}
		if !a.required {
			delete(d.ranges, a.name)
		}
		return a.required
	}
	x, err := a.kind.read(v, l.o.Zone)
	if err == nil {
		err = l.checkSecret(x)
	}
	if err != nil {
		d.broken = true
		l.refuse(summary, l.forKey(err, attr, i), at)
		return true
	}
	d.values[a.name] = x
	return true
}

// withoutMistyped leaves out the names that the body has with a typo: that one is reported already.
func withoutMistyped(missing, strange []string) []string {
	mistyped := map[string]bool{}
	for _, name := range strange {
		mistyped[nearest(name, missing)] = true
	}
	return slices.DeleteFunc(missing, func(name string) bool { return mistyped[name] })
}

// forKey adds the key for which a value is refused, when the value depends on it.
func (l *loader) forKey(err error, attr *hcl.Attribute, i *instance) error {
	var (
		m mistake
		u unscheduled
	)
	if r := l.readied[attr.Expr]; errors.As(err, &m) && r != nil && r.usesEach {
		m.what += fmt.Sprintf(" This is so for each.key = %q.", i.key)
		if errors.As(err, &u) {
			return unscheduled{m}
		}
		return m
	}
	return err
}

// standard gives the default that the schema has for an attribute.
func (l *loader) standard(a attribute) any {
	key := a.name + " " + a.standard
	if v, ok := l.standards[key]; ok {
		return v
	}
	v, err := constant(a.standard)
	if err != nil {
		panic(fmt.Sprintf("hclspec: default of %s: %v", a.name, err)) // a test decodes every default
	}
	x, err := a.kind.read(v, l.o.Zone)
	if err != nil {
		panic(fmt.Sprintf("hclspec: default of %s: %v", a.name, err))
	}
	l.standards[key] = x
	return x
}

// constant evaluates HCL without names, for defaults and examples in the schema.
func constant(src string) (cty.Value, error) {
	e, diags := hclsyntax.ParseExpression([]byte(src), "", hcl.InitialPos)
	if diags.HasErrors() {
		return cty.NilVal, diags
	}
	v, diags := e.Value(nil)
	if diags.HasErrors() {
		return cty.NilVal, diags
	}
	return v, nil
}
