package hclspec

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/zclconf/go-cty/cty"
)

// references reads server.orders, server.orders["eu"], or a list of such, as addresses, sorted.
func references(root string) kind {
	read := func(v cty.Value, _ *time.Location) (any, error) {
		out, err := addresses(root, v, nil, 0)
		if err != nil {
			return nil, err
		}
		if len(out) == 0 {
			return nil, mistake{fmt.Sprintf("No %s is named.", root), fmt.Sprintf("Write [%s.NAME].", root)}
		}
		slices.Sort(out)
		for n := 1; n < len(out); n++ {
			if out[n] == out[n-1] {
				return nil, mistake{fmt.Sprintf("%s is named twice.", out[n]), ""}
			}
		}
		return out, nil
	}
	name := "list of `" + root + ".NAME` or `" + root + ".NAME[\"KEY\"]`"
	return kind{name: name, shape: shapeReferences, read: read, refused: []refusal{
		{"text", `["orders"]`}, {"none", "[]"}, {"the same twice", ""}, {"not declared", ""},
	}}
}

// addresses flattens references. A map of instances stands for all of them.
func addresses(root string, v cty.Value, into []string, depth int) ([]string, error) {
	t := v.Type()
	if v.IsNull() || depth > 4 {
		return nil, notReference(root, "null")
	}
	if t.IsObjectType() && t.Equals(reference("", "").Type()) {
		address := v.GetAttr("address")
		if address.IsNull() || !strings.HasPrefix(address.AsString(), root+".") {
			return nil, notReference(root, "another kind of block")
		}
		return append(into, address.AsString()), nil
	}
	if t == cty.String {
		return nil, mistake{fmt.Sprintf("%s is text.", quote(v.AsString())), fmt.Sprintf("Write %s.NAME, without quotes.", root)}
	}
	if !t.IsTupleType() && !t.IsListType() && !t.IsSetType() && !t.IsMapType() && !t.IsObjectType() {
		return nil, notReference(root, t.FriendlyName())
	}
	for it := v.ElementIterator(); it.Next(); {
		_, e := it.Element()
		var err error
		if into, err = addresses(root, e, into, depth+1); err != nil {
			return nil, err
		}
	}
	return into, nil
}

func notReference(root, what string) error {
	return mistake{fmt.Sprintf("A %s is wanted, and this is %s.", root, what), fmt.Sprintf("Write %s.NAME.", root)}
}

// names turns addresses into labels or stored names. An address that is nowhere declared was made by hand.
func (l *loader) toNames(all map[string]*declared, addresses []string) ([]string, error) {
	var out []string
	for _, a := range addresses {
		_, rest, _ := strings.Cut(a, ".")
		label, _, _ := strings.Cut(rest, "[")
		d := all[label]
		if d == nil {
			return nil, mistake{fmt.Sprintf("%s is not declared.", quote(a)), ""}
		}
		name, ok := d.byAddress[a]
		if !ok {
			return nil, mistake{fmt.Sprintf("%s is not declared.", quote(a)), ""}
		}
		out = append(out, name)
	}
	slices.Sort(out)
	return out, nil
}

// named reads an attribute of references as names; nothing when it was refused.
func (l *loader) named(all map[string]*declared, d *decoded, attr string) []string {
	out, err := l.toNames(all, get[[]string](d, attr))
	if err != nil {
		d.broken = true
		l.refuse("Invalid "+attr, err, d.ranges[attr])
	}
	return out
}
