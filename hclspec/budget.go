package hclspec

import (
	"math/big"
	"math/bits"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// maxWork bounds what all expressions of a configuration may build, in units of about a byte; a node of a collection
// counts nodeWork. It is added up from the expressions before they are evaluated, so that a `for` in a `for`, or a list
// of lists that doubles itself, is refused and not tried.
const (
	maxWork  = 32 << 20
	nodeWork = 16
)

// weigh counts a value: one unit a byte of text, nodeWork a node. Text counts as a byte even where it is shared.
func weigh(v cty.Value) int {
	v, _ = v.Unmark()
	t := v.Type()
	if v.IsNull() || !v.IsKnown() {
		return nodeWork
	}
	if t == cty.String {
		return nodeWork + len(v.AsString())
	}
	if !v.CanIterateElements() {
		return nodeWork
	}
	sorts := 1
	if t.IsSetType() {
		sorts = sorting(v.LengthInt())
	}
	total := nodeWork
	for it := v.ElementIterator(); it.Next(); {
		k, e := it.Element()
		if k.Type() == cty.String {
			k, _ = k.Unmark()
			total += len(k.AsString())
		}
		if total = plus(total, times(sorts, weigh(e))); total > maxWork {
			return total
		}
	}
	return total
}

// sorting is how often the elements of a set of n are looked at when it is used: the library sorts them each time.
func sorting(n int) int { return 1 + 4*bits.Len(uint(n)/32) }

// costs estimates what evaluating expressions builds, from above.
type costs struct {
	context *hcl.EvalContext
	offered map[string]offered
	bound   map[string]int                    // weight of the variables of enclosing `for`s
	items   map[*hclsyntax.AnonSymbolExpr]int // weight of the item of enclosing splats
}

func estimate(e hcl.Expression, context *hcl.EvalContext, known map[string]offered) int {
	n, ok := e.(hclsyntax.Expression)
	if !ok {
		return 0
	}
	c := costs{context: context, offered: known, bound: map[string]int{}, items: map[*hclsyntax.AnonSymbolExpr]int{}}
	return c.of(n)
}

func plus(a, b int) int { return min(a+b, maxWork+1) }

func times(a, b int) int {
	if a > 0 && b > (maxWork+1)/a {
		return maxWork + 1
	}
	return a * b
}

func (c costs) of(e hclsyntax.Expression) int {
	switch e := e.(type) {
	case nil:
		return 0
	case *hclsyntax.LiteralValueExpr:
		return literal(e.Val)
	case *hclsyntax.ScopeTraversalExpr:
		return c.traversal(e.Traversal)
	case *hclsyntax.RelativeTraversalExpr:
		return c.of(e.Source)
	case *hclsyntax.IndexExpr:
		return plus(c.of(e.Key), c.largest(e.Collection))
	case *hclsyntax.FunctionCallExpr:
		return c.call(e)
	case *hclsyntax.ForExpr:
		return c.loop(e)
	case *hclsyntax.SplatExpr:
		return c.splat(e)
	case *hclsyntax.AnonSymbolExpr:
		return plus(nodeWork, c.items[e])
	case *hclsyntax.ObjectConsExpr:
		total := nodeWork
		for _, item := range e.Items {
			total = plus(total, plus(c.of(item.KeyExpr), c.of(item.ValueExpr)))
		}
		return total
	case *hclsyntax.ObjectConsKeyExpr:
		return plus(nodeWork, c.of(e.Wrapped))
	}
	return c.inner(e)
}

// inner handles the expressions that cost what their parts cost.
func (c costs) inner(e hclsyntax.Expression) int {
	switch e := e.(type) {
	case *hclsyntax.TupleConsExpr:
		return c.all(e.Exprs)
	case *hclsyntax.TemplateExpr:
		return c.all(e.Parts)
	case *hclsyntax.TemplateJoinExpr:
		return c.of(e.Tuple)
	case *hclsyntax.TemplateWrapExpr:
		return c.of(e.Wrapped)
	case *hclsyntax.ParenthesesExpr:
		return c.of(e.Expression)
	case *hclsyntax.ConditionalExpr:
		price := c.all([]hclsyntax.Expression{e.Condition, e.TrueResult, e.FalseResult})
		return plus(price, c.pairs(e.TrueResult, e.FalseResult))
	case *hclsyntax.BinaryOpExpr:
		return c.all([]hclsyntax.Expression{e.LHS, e.RHS})
	case *hclsyntax.UnaryOpExpr:
		return plus(nodeWork, c.of(e.Val))
	}
	return nodeWork
}

func (c costs) all(parts []hclsyntax.Expression) int {
	total := nodeWork
	for _, p := range parts {
		total = plus(total, c.of(p))
	}
	return total
}

// literal refuses, by its price, a number whose text would be without end: 1e999999999 is nine characters.
func literal(v cty.Value) int {
	if v.Type() == cty.Number && !v.IsNull() && v.IsKnown() {
		if huge(v.AsBigFloat()) {
			return maxWork + 1
		}
	}
	return weigh(v)
}

func huge(f *big.Float) bool { return f.IsInf() || f.MantExp(nil) > 512 || f.MantExp(nil) < -2048 }

// traversal is the weight of what is named, known because what an expression names is evaluated before it.
func (c costs) traversal(t hcl.Traversal) int {
	if w, ok := c.bound[t.RootName()]; ok {
		return plus(nodeWork, w)
	}
	v, diags := t.TraverseAbs(c.context)
	if diags.HasErrors() {
		return nodeWork
	}
	return weigh(v)
}

// largest is the weight of the heaviest element of a collection that is named, so that looking up one of ten thousand
// costs what one costs.
func (c costs) largest(e hclsyntax.Expression) int {
	t, ok := e.(*hclsyntax.ScopeTraversalExpr)
	if !ok {
		return c.of(e)
	}
	if _, inner := c.bound[t.Traversal.RootName()]; inner {
		return c.of(e)
	}
	v, diags := t.Traversal.TraverseAbs(c.context)
	if diags.HasErrors() {
		return nodeWork
	}
	_, most := elements(v)
	return plus(nodeWork, most)
}

func elements(v cty.Value) (count, heaviest int) {
	v, _ = v.Unmark()
	if v.IsNull() || !v.IsKnown() || !v.CanIterateElements() {
		return 1, weigh(v)
	}
	for it := v.ElementIterator(); it.Next(); {
		k, e := it.Element()
		count++
		heaviest = max(heaviest, weigh(e), weigh(k))
	}
	return count, heaviest
}

// source evaluates what a loop runs over, unless it needs the variable of another loop; then its own price bounds both
// the count and the weight of an element.
func (c costs) source(e hclsyntax.Expression) (price, count, heaviest int) {
	price = c.of(e)
	if price > maxWork || c.inLoop(e) {
		return price, price/nodeWork + 1, price
	}
	v, diags := e.Value(c.context)
	if diags.HasErrors() {
		return price, 0, 0
	}
	count, heaviest = elements(v)
	return plus(price, price), count, heaviest
}

func (c costs) inLoop(e hclsyntax.Expression) bool {
	for _, t := range e.Variables() {
		if _, ok := c.bound[t.RootName()]; ok {
			return true
		}
	}
	return len(c.items) > 0
}

func (c costs) loop(e *hclsyntax.ForExpr) int {
	price, count, heaviest := c.source(e.CollExpr)
	inner := costs{context: c.context, offered: c.offered, bound: map[string]int{e.ValVar: heaviest, e.KeyVar: heaviest}, items: c.items}
	for name, w := range c.bound {
		if _, shadowed := inner.bound[name]; !shadowed {
			inner.bound[name] = w
		}
	}
	body := nodeWork
	for _, part := range []hclsyntax.Expression{e.KeyExpr, e.ValExpr, e.CondExpr} {
		if part != nil {
			body = plus(body, inner.of(part))
		}
	}
	return plus(price, times(count, body))
}

func (c costs) splat(e *hclsyntax.SplatExpr) int {
	price, count, heaviest := c.source(e.Source)
	inner := costs{context: c.context, offered: c.offered, bound: c.bound, items: map[*hclsyntax.AnonSymbolExpr]int{e.Item: heaviest}}
	for item, w := range c.items {
		inner.items[item] = w
	}
	return plus(price, times(count, inner.of(e.Each)))
}

// pairs prices a comparison of all elements of some collections with each other.
func (c costs) pairs(all ...hclsyntax.Expression) int {
	n := 0
	for _, e := range all {
		n = plus(n, c.count(e))
	}
	return times(n, n)
}

// count is how many elements a value has, from above.
func (c costs) count(e hclsyntax.Expression) int {
	switch e := e.(type) {
	case *hclsyntax.TupleConsExpr:
		return len(e.Exprs)
	case *hclsyntax.ObjectConsExpr:
		return len(e.Items)
	case *hclsyntax.ParenthesesExpr:
		return c.count(e.Expression)
	case *hclsyntax.LiteralValueExpr, *hclsyntax.TemplateExpr:
		return 1
	case *hclsyntax.ScopeTraversalExpr:
		if _, inner := c.bound[e.Traversal.RootName()]; inner {
			break
		}
		if v, diags := e.Traversal.TraverseAbs(c.context); !diags.HasErrors() {
			n, _ := elements(v)
			return n
		}
	}
	return c.of(e) / nodeWork
}

// call prices a function by how its result grows; see functions.go.
func (c costs) call(e *hclsyntax.FunctionCallExpr) int {
	total, product := nodeWork, 1
	for _, a := range e.Args {
		w := c.of(a)
		total, product = plus(total, w), times(product, w)
	}
	f, ok := c.offered[e.Name]
	if !ok {
		return total
	}
	switch f.grows {
	case asProduct:
		return plus(total, product)
	case asBytes:
		return plus(total, times(total, nodeWork))
	case asFormat:
		return plus(total, plus(product, times(total, 25)))
	case asSorted:
		return plus(total, times(total, sorting(total/nodeWork)))
	case asPairs:
		return plus(total, c.pairs(e.Args...))
	case asProductOfPairs:
		return plus(product, c.pairs(e.Args...))
	case asSum:
	}
	return plus(total, total)
}
