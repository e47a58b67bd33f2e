package hclspec

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"
)

func (l *loader) buildRemoved() []Removed {
	var out []Removed
	schema := removedBlock()
	seen := map[string]bool{}
	for _, b := range l.blocks["removed"] {
		d := l.decode(&schema, b.Body, b.DefRange, nil)
		attr, ok := l.content(&schema, b.Body).Attributes["from"]
		if d.broken || !ok {
			continue
		}
		r := Removed{Conninfo: get[Secret](d, "conninfo"), Slot: text0(d, "slot"), SlotName: text0(d, "slot_name"), Backups: text0(d, "backups"), Where: d.where()}
		if err := l.readFrom(attr.Expr, &r); err != nil {
			l.refuse("Invalid from", err, attr.Expr.Range())
			continue
		}
		if seen[r.From] {
			l.refuse("Removed twice", mistake{fmt.Sprintf("%s has a removed block already.", r.From), ""}, b.DefRange)
		}
		if r.Slot == "drop" && r.Conninfo.Empty() {
			l.refuse("Invalid slot", mistake{"To drop the slot pgkeep must connect, and conninfo is not given.", ""}, d.ranges["slot"])
		}
		if r.SlotName == "" {
			r.SlotName = defaultSlot(r.Name)
		}
		seen[r.From] = true
		out = append(out, r)
	}
	sortBy(out, func(r Removed) string { return r.From })
	return out
}

// readFrom reads server.NAME or server.NAME["KEY"], which must not be declared any more.
func (l *loader) readFrom(e hcl.Expression, r *Removed) error {
	wanted := mistake{"from is the address of a server that was.", `Write server.legacy, or server.orders["eu"].`}
	t, diags := hcl.AbsTraversalForExpr(e)
	if diags.HasErrors() || t.RootName() != "server" || len(t) < 2 || len(t) > 3 {
		return wanted
	}
	label, _ := second(t)
	if err := CheckName(label); err != nil {
		return err
	}
	r.From, r.Name = "server."+label, label
	d := l.servers[label]
	if len(t) == 2 {
		if d != nil {
			return mistake{fmt.Sprintf("%s is still declared at %s:%d.", r.From, d.block.DefRange.Filename, d.block.DefRange.Start.Line), "Take out one of the two."}
		}
		return nil
	}
	key, _ := step(t[2])
	if err := CheckName(key); err != nil {
		return err
	}
	r.From, r.Name = fmt.Sprintf("server.%s[%q]", label, key), label+"."+key
	if d == nil {
		return nil
	}
	for _, i := range d.instances {
		if d.keyed && i.key == key {
			return mistake{fmt.Sprintf("%s is still declared at %s:%d.", r.From, d.block.DefRange.Filename, d.block.DefRange.Start.Line), "Take its key out of for_each, or this block."}
		}
	}
	return nil
}
