package hclspec

import (
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

func (l *loader) buildOutputs() []Output {
	var out []Output
	schema := outputBlock()
	for _, b := range l.sorted("output") {
		d := l.decode(&schema, b.Body, b.DefRange, nil)
		attr, ok := l.content(&schema, b.Body).Attributes["value"]
		if !ok || d.broken {
			continue
		}
		v, ok := l.evaluate(attr.Expr, scope{}, nil)
		if !ok {
			continue
		}
		o := Output{Name: b.Labels[0], Sensitive: get[bool](d, "sensitive"), Where: d.where()}
		if v.ContainsMarked() && !o.Sensitive {
			l.refuse("Invalid value", mistake{"The value is sensitive, and outputs are shown.", "Add sensitive = true."}, attr.Expr.Range())
			continue
		}
		if !o.Sensitive {
			j, err := ctyjson.Marshal(v, v.Type())
			if err != nil {
				l.refuse("Invalid value", mistake{"The value has no JSON form.", ""}, attr.Expr.Range())
				continue
			}
			o.JSON = j
		}
		out = append(out, o)
	}
	return out
}

func (l *loader) buildApproval(b *hcl.Block) Approval {
	for _, s := range language() {
		if s.name == "approval" {
			d := l.decode(&s, b.Body, b.DefRange, nil)
			return Approval{Auto: get[[]string](d, "auto"), Where: d.where()}
		}
	}
	return Approval{}
}

// sorted gives the blocks of a kind by label.
func (l *loader) sorted(kind string) []*hcl.Block {
	out := slices.Clone(l.blocks[kind])
	sortBy(out, func(b *hcl.Block) string { return b.Labels[0] })
	return out
}

func sortBy[T any](all []T, key func(T) string) {
	slices.SortStableFunc(all, func(a, b T) int { return strings.Compare(key(a), key(b)) })
}
