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
		r := Removed{Conninfo: get[Secret](d, "conninfo"), Slot: text0(d, "slot"), SlotName: text0(d, "slot_name"), Spool: text0(d, "spool"), Backups: text0(d, "backups"), Where: d.where()}
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
	p, err := readPlace(e, "from is the address of a server that was.")
	if err != nil {
		return err
	}
	r.From, r.Name = p.String(), l.origin(p).stored()
	d := l.servers[p.label]
	switch {
	case d != nil && !p.keyed:
		return mistake{fmt.Sprintf("%s is still declared at %s.", p, spot(d.block.DefRange)), "Take out one of the two."}
	case l.stands(p):
		return mistake{fmt.Sprintf("%s is still declared at %s.", p, spot(d.block.DefRange)), "Take its key out of for_each, or this block."}
	}
	return nil
}
