package hclspec

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// place is the address of a server, as moved and removed write it.
type place struct {
	label, key string
	keyed      bool
}

// String gives the address: server.orders, server.orders["eu"].
func (p place) String() string {
	if p.keyed {
		return fmt.Sprintf("server.%s[%q]", p.label, p.key)
	}
	return "server." + p.label
}

// stored is the stored name that a server at this address has by itself.
func (p place) stored() string {
	if p.keyed {
		return p.label + "." + p.key
	}
	return p.label
}

// readPlace reads server.NAME or server.NAME["KEY"], which need not be declared.
func readPlace(e hcl.Expression, what string) (place, error) {
	wanted := mistake{what, `Write server.NAME, or server.NAME["KEY"].`}
	t, diags := hcl.AbsTraversalForExpr(e)
	if diags.HasErrors() || t.RootName() != "server" || len(t) < 2 || len(t) > 3 {
		return place{}, wanted
	}
	p := place{keyed: len(t) == 3}
	p.label, _ = second(t)
	if err := CheckName(p.label); err != nil {
		return p, err
	}
	if p.keyed {
		p.key, _ = step(t[2])
		return p, CheckName(p.key)
	}
	return p, nil
}

// move is one moved block.
type move struct {
	block        *hcl.Block
	from, to     place
	fromAt, toAt hcl.Range
}

// declareMoves reads the moved blocks before any server is expanded: they say what servers are stored as.
func (l *loader) declareMoves() {
	schema := movedBlock()
	froms := map[place]*move{}
	for _, b := range l.blocks["moved"] {
		d := l.decode(&schema, b.Body, b.DefRange, nil)
		c := l.content(&schema, b.Body)
		from, to := c.Attributes["from"], c.Attributes["to"]
		if d.broken || from == nil || to == nil {
			continue
		}
		m := &move{block: b, fromAt: from.Expr.Range(), toAt: to.Expr.Range()}
		var err, err2 error
		if m.from, err = readPlace(from.Expr, "from is the address that a server had."); err != nil {
			l.refuse("Invalid from", err, m.fromAt)
		}
		if m.to, err2 = readPlace(to.Expr, "to is the address that a server has now."); err2 != nil {
			l.refuse("Invalid to", err2, m.toAt)
		}
		if err != nil || err2 != nil {
			continue
		}
		if before := l.moves[m.to]; before != nil {
			l.fail("Moved twice", fmt.Sprintf("%s gets its stored name from the moved block at %s already.", m.to, spot(before.block.DefRange)), "Leave one of the two.", &m.toAt)
			continue
		}
		if before := froms[m.from]; before != nil {
			l.fail("Moved twice", fmt.Sprintf("%s is moved at %s already, to %s.", m.from, spot(before.block.DefRange), before.to), "Leave one of the two.", &m.fromAt)
			continue
		}
		l.moves[m.to], froms[m.from] = m, m
	}
	l.breakCircles()
}

func spot(r hcl.Range) string { return fmt.Sprintf("%s:%d", r.Filename, r.Start.Line) }

// breakCircles reports each circle of moves once, and takes it out.
func (l *loader) breakCircles() {
	for _, m := range l.movesInOrder() {
		way := []string{m.to.String()}
		for at := m; at != nil && len(way) <= len(l.moves)+1; at = l.moves[at.from] {
			way = append(way, at.from.String())
			if at.from == m.to {
				l.fail("Moved in a circle", strings.Join(way, " comes from ")+".", "A chain of moves begins at an address that is gone.", &m.toAt)
				l.dropCircle(m)
				break
			}
		}
	}
}

func (l *loader) dropCircle(m *move) {
	for at := m; at != nil; {
		next := l.moves[at.from]
		delete(l.moves, at.to)
		at = next
	}
}

func (l *loader) movesInOrder() []*move {
	var out []*move
	for _, m := range l.moves {
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b *move) int { return strings.Compare(a.to.String(), b.to.String()) })
	return out
}

// origin follows the moves backwards, to the address under which a server was first stored.
func (l *loader) origin(p place) place {
	for range len(l.moves) + 1 {
		switch m, whole := l.moves[p], l.moves[place{label: p.label}]; {
		case m != nil:
			p = m.from
		case p.keyed && whole != nil && !whole.from.keyed: // a block under another label, with the same keys
			p = place{whole.from.label, p.key, true}
		default:
			return p
		}
	}
	return p
}

// moved says whether a moved block names the instance.
func (l *loader) moved(p place) *move {
	if m := l.moves[p]; m != nil || !p.keyed {
		return m
	}
	return l.moves[place{label: p.label}]
}

// checkMoves compares the moves with the servers that are declared, once their keys are known.
func (l *loader) checkMoves(removed []Removed) {
	for _, m := range l.movesInOrder() {
		l.checkMovedFrom(m, removed)
		l.checkMovedTo(m)
	}
}

// takenFrom says whether a server has its stored name from an address where another is declared still.
func (l *loader) takenFrom(s Server) bool {
	for m := range l.movesTo(s) {
		if l.fromStands(m) {
			return true
		}
	}
	return false
}

// movesTo gives the moves that a server's stored name comes from, the last first.
func (l *loader) movesTo(s Server) iter.Seq[*move] {
	return func(yield func(*move) bool) {
		p := l.placeOf(s)
		for m := l.moved(p); m != nil && yield(m); m = l.moved(p) {
			if p.keyed && !m.from.keyed && !m.to.keyed {
				p.label = m.from.label
			} else {
				p = m.from
			}
		}
	}
}

func (l *loader) placeOf(s Server) place {
	d := l.servers[s.Block]
	for _, i := range d.instances {
		if i.address == s.Address {
			return place{s.Block, i.key, d.keyed}
		}
	}
	return place{label: s.Block}
}

// fromStands says whether the server that a block says has moved is declared still.
func (l *loader) fromStands(m *move) bool {
	return l.stands(m.from) || !m.from.keyed && !m.to.keyed && l.servers[m.from.label] != nil
}

func (l *loader) checkMovedFrom(m *move, removed []Removed) {
	if l.fromStands(m) {
		l.refuse("Invalid from", mistake{fmt.Sprintf("%s is still declared at %s.", m.from, spot(l.servers[m.from.label].block.DefRange)), "moved tells where a server went that is declared no more: take one of the two out."}, m.fromAt)
		return
	}
	for _, r := range removed {
		if r.From == m.from.String() {
			l.refuse("Invalid from", mistake{fmt.Sprintf("%s is removed at %s, so it cannot have moved too.", m.from, spot(r.Where.Block)), "Take one of the two out."}, m.fromAt)
		}
	}
}

func (l *loader) checkMovedTo(m *move) {
	for _, next := range l.moves {
		if next.from == m.to {
			return // the chain goes on there
		}
	}
	d := l.servers[m.to.label]
	switch {
	case d == nil:
		l.missing("server."+m.to.label, "Invalid to", fmt.Sprintf("%s is not declared.", m.to), l.otherName("server", m.to.label, l.names("server")), &m.toAt)
	case d.failed: // reported where it failed
	case m.to.keyed && !d.keyed:
		l.missing("server."+m.to.label+"[]", "Invalid to", fmt.Sprintf("server.%s has no for_each, so it has no instance %s.", m.to.label, quote(m.to.key)), fmt.Sprintf("Write server.%s.", m.to.label), &m.toAt)
	case m.to.keyed && !d.keys[m.to.key]:
		l.missing(m.to.String(), "Invalid to", fmt.Sprintf("server.%s has no instance %s.", m.to.label, quote(m.to.key)), l.keyHint("server", d, m.to.key), &m.toAt)
	case !m.to.keyed && d.keyed && m.from.keyed:
		l.refuse("Invalid to", mistake{fmt.Sprintf("%s was one server, and %s has a for_each.", m.from, m.to), fmt.Sprintf("Name the instance: server.%s[\"KEY\"].", m.to.label)}, m.toAt)
	}
}

// stands says whether a server is declared at just this address.
func (l *loader) stands(p place) bool {
	d := l.servers[p.label]
	if d == nil || d.failed || d.keyed != p.keyed {
		return false
	}
	return !p.keyed || d.keys[p.key]
}
