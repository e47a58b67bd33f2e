package hclspec

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// maxInstances bounds the servers of one block.
const maxInstances = 16384

// progress of a value that is evaluated when it is first needed.
type progress int

const (
	untouched progress = iota
	busy
	finished
)

// local is one local value.
type local struct {
	attr  *hcl.Attribute
	state progress
	value cty.Value // NilVal: it failed
}

// declared is a block that expressions refer to: a repository or a server.
type declared struct {
	kind      string
	label     string
	block     *hcl.Block
	state     progress
	keyed     bool // it has for_each
	failed    bool // its for_each has no value
	instances []instance
	keys      map[string]bool
	byAddress map[string]string // stored name or label
	value     cty.Value
}

// instance is one server or repository: the block itself, or one for each key.
type instance struct {
	key     string
	address string
	name    string
	each    cty.Value
}

// declare collects the names that expressions may refer to.
func (l *loader) declare() {
	for _, b := range l.blocks["locals"] {
		attrs, diags := b.Body.JustAttributes()
		l.diags = append(l.diags, diags...)
		for _, name := range sortedKeys(attrs) {
			if before, twice := l.locals[name]; twice {
				l.twice("local."+name, attrs[name].NameRange, before.attr.NameRange)
				continue
			}
			l.locals[name] = &local{attr: attrs[name]}
		}
	}
	l.declareBlocks("repository", l.repositories)
	l.declareBlocks("server", l.servers)
	l.declareMoves()
	for _, b := range language() {
		l.checkTwice(b)
	}
}

func (l *loader) declareBlocks(kind string, into map[string]*declared) {
	for _, b := range l.blocks[kind] {
		label := b.Labels[0]
		if _, twice := into[label]; !twice { // checkTwice reports the second one
			into[label] = &declared{kind: kind, label: label, block: b}
		}
	}
}

// checkTwice checks labels, and refuses a second block of one name, or of a kind that stands once.
func (l *loader) checkTwice(schema block) {
	seen := map[string]hcl.Range{}
	for _, b := range l.blocks[schema.name] {
		label := ""
		if schema.label != "" {
			label = b.Labels[0]
			if err := CheckName(label); err != nil && !schema.later && schema.name != "variable" && schema.name != "output" {
				l.refuse("Invalid name", err, b.LabelRanges[0])
			}
		}
		if schema.label == "" && !schema.single {
			continue
		}
		if before, twice := seen[label]; twice {
			l.twice(strings.TrimSuffix(schema.name+"."+label, "."), b.DefRange, before)
		}
		seen[label] = b.DefRange
	}
}

func (l *loader) twice(what string, at, before hcl.Range) {
	l.fail("Declared twice", fmt.Sprintf("%s is declared at %s:%d already.", what, before.Filename, before.Start.Line), "Take one of them out, or give it another name.", &at)
}

// refuse reports a mistake.
func (l *loader) refuse(summary string, err error, at hcl.Range) {
	var (
		m mistake
		u unscheduled
	)
	if errors.As(err, &u) {
		d := failure(summary, u.what, "", &at)
		d.Extra = Help{Code: "E-SCHEDULE", Hint: u.hint}
		l.diags = append(l.diags, d)
		return
	}
	if errors.As(err, &m) {
		l.fail(summary, m.what, m.hint, &at)
		return
	}
	l.fail(summary, err.Error(), "", &at)
}

// enter begins the evaluation of a name; false: it is under way already, which is a cycle.
func (l *loader) enter(name string, state *progress, at hcl.Range) bool {
	if *state == busy {
		from := slices.Index(l.trail, name)
		l.fail("A value depends on itself", strings.Join(append(slices.Clone(l.trail[from:]), name), " needs ")+".", "Break the circle at one of them.", &at)
		return false
	}
	*state = busy
	l.trail = append(l.trail, name)
	return true
}

func (l *loader) leave(state *progress) {
	*state = finished
	l.trail = l.trail[:len(l.trail)-1]
}

func (l *loader) localValue(name string) (cty.Value, bool) {
	x := l.locals[name]
	if x.state != finished {
		if len(l.trail) > 500 {
			l.fail("Too long a chain", "More than 500 values depend on each other in one chain.", "", x.attr.NameRange.Ptr())
			return cty.DynamicVal, false
		}
		if !l.enter("local."+name, &x.state, x.attr.NameRange) {
			return cty.DynamicVal, false
		}
		if v, ok := l.evaluate(x.attr.Expr, scope{}, nil); ok {
			x.value = v
		}
		l.leave(&x.state)
	}
	return x.value, x.value != cty.NilVal
}

// declaredValue gives what server.NAME or repository.NAME stands for: an object with its address and name, or a map of
// such objects by key.
func (l *loader) declaredValue(d *declared) (cty.Value, bool) {
	if d.state != finished {
		if !l.enter(d.kind+"."+d.label, &d.state, d.block.DefRange) {
			return cty.DynamicVal, false
		}
		l.expand(d)
		l.leave(&d.state)
	}
	return d.value, !d.failed
}

// expand finds the instances of a block.
func (l *loader) expand(d *declared) {
	schema := schemaOf(d.kind)
	content := l.content(&schema, d.block.Body)
	address := d.kind + "." + d.label
	if attr, ok := content.Attributes["for_each"]; ok {
		d.keyed = true
		d.instances, ok = l.forEach(attr, address, d.label)
		d.failed = !ok
	} else if nearest("for_each", l.strange[d.block.Body]) != "" { // reported, and what it has to do with each and keys is not known
		d.keyed, d.failed = true, true
	} else if use := l.eachUsed(&schema, d.block.Body); use != nil {
		d.keyed, d.failed = true, true
		l.fail("for_each is missing", fmt.Sprintf("%s uses each, and has no for_each that says what it stands for.", address), "Add for_each = { … } to it, or write a value in place of each.", use)
	} else {
		d.instances = []instance{{address: address, name: d.label, each: cty.EmptyObjectVal}}
	}
	objects := map[string]cty.Value{}
	d.keys, d.byAddress = map[string]bool{}, map[string]string{}
	for n := range d.instances {
		i := &d.instances[n]
		if d.kind == "server" {
			l.storedAs(content, d, i)
		}
		d.keys[i.key], d.byAddress[i.address] = true, i.name
		objects[i.key] = reference(i.address, i.name)
	}
	switch {
	case !d.keyed:
		d.value = objects[""]
	case len(objects) == 0:
		d.value = cty.MapValEmpty(reference("", "").Type())
	default:
		d.value = cty.MapVal(objects)
	}
}

// eachUsed gives the first use of each in a body; nil: there is none.
func (l *loader) eachUsed(schema *block, body hcl.Body) *hcl.Range {
	c := l.content(schema, body)
	var first *hcl.Range
	found := func(at *hcl.Range) {
		if at != nil && (first == nil || at.Start.Byte < first.Start.Byte) {
			first = at
		}
	}
	for _, attr := range c.Attributes {
		for _, t := range attr.Expr.Variables() {
			if t.RootName() == "each" {
				found(t.SourceRange().Ptr())
			}
		}
	}
	for _, inner := range c.Blocks {
		for n := range schema.blocks {
			if schema.blocks[n].name == inner.Type && !schema.blocks[n].later {
				found(l.eachUsed(&schema.blocks[n], inner.Body))
			}
		}
	}
	return first
}

func reference(address, name string) cty.Value {
	return cty.ObjectVal(map[string]cty.Value{"address": cty.StringVal(address), "name": cty.StringVal(name)})
}

// schemaOf gives the schema of the blocks that expressions refer to.
func schemaOf(kind string) block {
	if kind == "server" {
		return serverBlock()
	}
	return repositoryBlock()
}

// storedAs lets a moved block, or the attribute stored_as, name an instance.
func (l *loader) storedAs(content *hcl.BodyContent, d *declared, i *instance) {
	p := place{d.label, i.key, d.keyed}
	i.name = l.origin(p).stored()
	attr, ok := content.Attributes["stored_as"]
	if !ok {
		return
	}
	if m := l.moved(p); m != nil {
		l.refuse("Invalid stored_as", mistake{fmt.Sprintf("%s has a stored_as, and the moved block at %s names it too.", i.address, spot(m.block.DefRange)), "Leave one of the two."}, attr.Expr.Range())
		return
	}
	v, ok := l.evaluate(attr.Expr, scope{each: d.keyed}, i)
	if !ok || v.IsNull() || v.IsMarked() {
		return // decode reports it
	}
	if s, err := asText(v); err == nil && checkStored(s) == nil {
		i.name = s
	}
}

// forEach expands a map, an object or a set of strings.
func (l *loader) forEach(attr *hcl.Attribute, address, label string) ([]instance, bool) {
	at := attr.Expr.Range()
	v, ok := l.evaluate(attr.Expr, scope{}, nil)
	if !ok {
		return nil, false
	}
	wanted := mistake{"for_each wants a map, or a set of strings.", `Write { eu = { … } }, or toset(["eu", "us"]).`}
	marked := v.IsMarked()
	v, _ = v.Unmark()
	t := v.Type()
	switch {
	case marked:
		l.refuse("Invalid for_each", mistake{"for_each is sensitive, and its keys become names that are shown.", ""}, at)
		return nil, false
	case v.IsNull(), !t.IsMapType() && !t.IsObjectType() && !t.IsSetType():
		l.refuse("Invalid for_each", wanted, at)
		return nil, false
	case v.LengthInt() > maxInstances:
		l.refuse("Invalid for_each", mistake{fmt.Sprintf("for_each has %d keys; a block may have %d instances.", v.LengthInt(), maxInstances), ""}, at)
		return nil, false
	}
	var out []instance
	for it := v.ElementIterator(); it.Next(); {
		k, e := it.Element()
		if k.Type() != cty.String || k.IsNull() || k.IsMarked() {
			l.refuse("Invalid for_each", wanted, at)
			return nil, false
		}
		if err := CheckName(k.AsString()); err != nil {
			l.refuse("Invalid key of for_each", err, at)
			return nil, false
		}
		key := k.AsString()
		out = append(out, instance{
			key: key, address: fmt.Sprintf("%s[%q]", address, key), name: label + "." + key,
			each: cty.ObjectVal(map[string]cty.Value{"key": k, "value": e}),
		})
	}
	slices.SortFunc(out, func(a, b instance) int { return strings.Compare(a.key, b.key) })
	return out, true
}
