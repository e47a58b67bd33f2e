package hclspec

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// sensitive marks a value that must not be shown.
const sensitive = mark("sensitive")

type mark string

// scope says what an expression may mention.
type scope struct {
	each     bool // each.key and each.value
	constant bool // nothing at all
	varsOnly bool // var.NAME
}

// ready is an expression whose names were checked and whose values are at hand.
type ready struct {
	context  *hcl.EvalContext
	broken   bool // a name in it does not exist, or has no value: reported already
	usesEach bool
	secret   bool // something in it is sensitive
	done     bool
	value    cty.Value // when done
}

// prepare checks every name in the expression and evaluates what it needs.
func (l *loader) prepare(e hcl.Expression, s scope) *ready {
	if r, ok := l.readied[e]; ok {
		return r
	}
	r := &ready{context: &hcl.EvalContext{Functions: l.functions}}
	roots := map[string]map[string]cty.Value{}
	for _, t := range e.Variables() {
		if t.RootName() == "each" && s.each {
			r.usesEach = true
			r.broken = !l.checkEach(t) || r.broken
			continue
		}
		root, name, v, ok := l.resolve(t, s)
		if !ok {
			r.broken = true
			continue
		}
		if roots[root] == nil {
			roots[root] = map[string]cty.Value{}
		}
		roots[root][name] = v
		r.secret = r.secret || holdsSecret(v)
	}
	r.context.Variables = map[string]cty.Value{}
	for root, names := range roots {
		r.context.Variables[root] = cty.ObjectVal(names)
	}
	l.readied[e] = r
	return r
}

// evaluate gives the expression's value. ok is false when there is none; the reason was reported, here or before.
func (l *loader) evaluate(e hcl.Expression, s scope, i *instance) (v cty.Value, ok bool) {
	if l.overspent { // reported; more would only take time
		return cty.DynamicVal, false
	}
	r := l.prepare(e, s)
	if r.broken {
		return cty.DynamicVal, false
	}
	if r.done {
		return r.value, r.value.IsWhollyKnown()
	}
	context, secret := r.context, r.secret
	if r.usesEach {
		if i == nil {
			return cty.DynamicVal, false
		}
		context = r.context.NewChild()
		context.Variables = map[string]cty.Value{"each": i.each}
		secret = secret || i.each.ContainsMarked()
	}
	v = l.compute(e, context, secret)
	if !r.usesEach {
		r.done, r.value = true, v
	}
	return v, v.IsWhollyKnown()
}

// compute does the work, after counting it. A panic of the libraries is an error like any other.
func (l *loader) compute(e hcl.Expression, context *hcl.EvalContext, secret bool) (v cty.Value) {
	at := e.Range()
	defer func() {
		if p := recover(); p != nil {
			l.fail("This expression cannot be evaluated", "The evaluation of this expression broke off.", "Write it in another way, and please report it.", &at)
			v = cty.DynamicVal
		}
	}()
	if !l.spend(estimate(e, context, l.offered), at) {
		return cty.DynamicVal
	}
	v, diags := e.Value(context)
	for _, d := range diags {
		if d.Extra == nil {
			d.Extra = attributeHint(e, context, d.Subject)
		}
		d.EvalContext, d.Expression = nil, nil // a value is never quoted: it may be a password
		if secret {
			d.Detail, d.Extra = "It depends on a sensitive value, so the reason is not shown.", nil
		}
	}
	l.diags = append(l.diags, diags...)
	if diags.HasErrors() {
		return cty.DynamicVal
	}
	if hugeInside(v) {
		l.fail("A number is too large", "The value holds a number beyond 10^150.", "", &at)
		return cty.DynamicVal
	}
	return v
}

// attributeHint suggests the attribute or key that an expression meant where the library only says that there is none.
func attributeHint(e hcl.Expression, context *hcl.EvalContext, at *hcl.Range) any {
	if at == nil {
		return nil
	}
	for _, t := range e.Variables() {
		for n := 1; n < len(t); n++ {
			name, where := step(t[n])
			if where == nil || *where != *at {
				continue
			}
			v, diags := t[:n].TraverseAbs(context)
			v, _ = v.Unmark()
			if diags.HasErrors() || v.IsNull() || !v.CanIterateElements() || !v.Type().IsObjectType() && !v.Type().IsMapType() {
				return nil
			}
			known := sortedKeys(v.AsValueMap())
			if near := nearest(name, known); near != "" {
				return Help{Hint: fmt.Sprintf("Did you mean %s?", near)}
			}
			if len(known) > 0 {
				return Help{Hint: fmt.Sprintf("It has %s.", listing(known))}
			}
		}
	}
	return nil
}

// spend counts work before it is done; false: it is more than a configuration may cause.
func (l *loader) spend(price int, at hcl.Range) bool {
	switch {
	case price > maxWork:
		l.fail("The configuration computes too much", "The value of this expression may become larger than pgkeep builds.", "Loop over less.", &at)
		return false
	case l.work+price > maxWork:
		if !l.overspent {
			l.fail("The configuration computes too much", "With this expression, all values together may become larger than pgkeep builds.", "Loop over less.", &at)
		}
		l.overspent = true
		return false
	}
	l.work += price
	return true
}

// holdsSecret says whether something in the value is sensitive. A set is so as a whole, or not at all.
func holdsSecret(v cty.Value) bool {
	if v.Type().IsSetType() {
		return v.IsMarked()
	}
	return v.ContainsMarked()
}

func hugeInside(v cty.Value) bool {
	v, _ = v.Unmark()
	if v.IsNull() || !v.IsKnown() {
		return false
	}
	if v.Type() == cty.Number {
		return huge(v.AsBigFloat())
	}
	if t := v.Type(); !v.CanIterateElements() || t.IsCollectionType() && (t.ElementType() == cty.String || t.ElementType() == cty.Bool) {
		return false
	}
	for it := v.ElementIterator(); it.Next(); {
		if _, e := it.Element(); hugeInside(e) {
			return true
		}
	}
	return false
}

// checkEach accepts each.key and each.value.
func (l *loader) checkEach(t hcl.Traversal) bool {
	name, at := second(t)
	if name == "key" || name == "value" {
		return true
	}
	l.fail("Unknown name", fmt.Sprintf("each has key and value, and no %s.", quote(name)), didYouMean("each.", nearest(name, []string{"key", "value"})), at)
	return false
}
