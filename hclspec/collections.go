package hclspec

import (
	"fmt"
	"slices"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// maxMixed bounds the tuples and objects whose elements the library must find a common type for: it compares each with
// each. Elements of one type need no comparing, however many they are.
const maxMixed = 2000

// gather converts a value to a collection as convert.Convert does, in time that grows with the number of its elements:
// the library compares the type of each element with each other's, also where they are the same.
func gather(v cty.Value, wanted cty.Type) (cty.Value, error) {
	plain, marks := v.Unmark()
	if !wanted.IsCollectionType() || plain.IsNull() || !plain.IsWhollyKnown() || !alike(plain.Type(), wanted) || plain.LengthInt() == 0 {
		return convertTo(v, wanted)
	}
	elements, ok := elementsAs(plain, wanted.ElementType())
	switch {
	case wanted.IsSetType() && ok && !elements[0].Type().IsPrimitiveType():
		return cty.NilVal, fmt.Errorf("a set holds text, numbers, or true and false, and no %s", elements[0].Type().FriendlyName())
	case !ok && plain.LengthInt() > maxMixed:
		return cty.NilVal, fmt.Errorf("more than %d values, and not all of one type", maxMixed)
	case !ok:
		out, err := convertTo(v, wanted)
		if err == nil && !plainSets(out.Type()) {
			return cty.NilVal, fmt.Errorf("a set holds text, numbers, or true and false")
		}
		return out, err
	case wanted.IsListType():
		return cty.ListVal(elements).WithMarks(marks), nil
	case wanted.IsSetType():
		return cty.SetVal(elements).WithMarks(marks), nil
	}
	named := map[string]cty.Value{}
	for it := plain.ElementIterator(); it.Next(); {
		k, _ := it.Element()
		named[k.AsString()] = elements[len(named)]
	}
	return cty.MapVal(named).WithMarks(marks), nil
}

// alike says whether a value of type t can become a collection of the wanted kind.
func alike(t, wanted cty.Type) bool {
	if wanted.IsMapType() {
		return t.IsMapType() || t.IsObjectType()
	}
	return t.IsTupleType() || t.IsListType() || t.IsSetType()
}

// elementsAs gives the elements as one type, which is the wanted one where that is known; false: they are not.
func elementsAs(v cty.Value, wanted cty.Type) ([]cty.Value, bool) {
	out := make([]cty.Value, 0, v.LengthInt())
	for it := v.ElementIterator(); it.Next(); {
		_, e := it.Element()
		if wanted != cty.DynamicPseudoType && !e.Type().Equals(wanted) {
			var err error
			if e, err = convert.Convert(e, wanted); err != nil {
				return nil, false
			}
		}
		if e.Type().HasDynamicTypes() || len(out) > 0 && !e.Type().Equals(out[0].Type()) {
			return nil, false
		}
		out = append(out, e)
	}
	return out, true
}

func convertTo(v cty.Value, wanted cty.Type) (cty.Value, error) {
	out, err := convert.Convert(v, wanted)
	if err != nil {
		return cty.NilVal, fmt.Errorf("%s", convert.MismatchMessage(v.Type(), wanted))
	}
	return out, nil
}

// gathering makes a function gather its arguments itself instead of having the library convert them.
func gathering(f function.Function) function.Function {
	params, rest := f.Params(), f.VarParam()
	types := make([]cty.Type, len(params))
	found := false
	loosen := func(p *function.Parameter) cty.Type {
		was := p.Type
		if was.IsCollectionType() {
			p.Type, found = cty.DynamicPseudoType, true
		}
		return was
	}
	for i := range params {
		types[i] = loosen(&params[i])
	}
	restType := cty.DynamicPseudoType
	if rest != nil {
		restType = loosen(rest)
	}
	if !found {
		return f
	}
	gatherAll := func(args []cty.Value) ([]cty.Value, error) {
		out := make([]cty.Value, len(args))
		for i, a := range args {
			wanted := restType
			if i < len(types) {
				wanted = types[i]
			}
			var err error
			if out[i], err = gather(a, wanted); err != nil {
				return nil, function.NewArgError(i, err)
			}
		}
		return out, nil
	}
	return function.New(&function.Spec{
		Params: params, VarParam: rest,
		Type: func(args []cty.Value) (cty.Type, error) {
			args, err := gatherAll(args)
			if err != nil {
				return cty.NilType, err
			}
			return f.ReturnTypeForValues(args)
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			args, err := gatherAll(args)
			if err != nil {
				return cty.NilVal, err
			}
			return f.Call(args)
		},
	})
}

// toCollection is tolist, toset or tomap.
func toCollection(wanted cty.Type) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "v", Type: cty.DynamicPseudoType, AllowNull: true, AllowMarked: true, AllowDynamicType: true}},
		Type: func(args []cty.Value) (cty.Type, error) {
			v, err := gather(args[0], wanted)
			if err != nil {
				return cty.NilType, function.NewArgErrorf(0, "cannot convert %s: %w", args[0].Type().FriendlyName(), err)
			}
			return v.Type(), nil
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return gather(args[0], wanted) },
	})
}

// distinct is the library's function of that name, which compares each element with each.
func distinct() function.Function {
	list := cty.List(cty.DynamicPseudoType)
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "list", Type: list}},
		Type:   func(args []cty.Value) (cty.Type, error) { return args[0].Type(), nil },
		Impl: func(args []cty.Value, t cty.Type) (cty.Value, error) {
			seen := map[int][]cty.Value{}
			var out []cty.Value
			for it := args[0].ElementIterator(); it.Next(); {
				_, e := it.Element()
				h := e.Hash()
				if !slices.ContainsFunc(seen[h], e.RawEquals) {
					seen[h], out = append(seen[h], e), append(out, e)
				}
			}
			if len(out) == 0 {
				return cty.ListValEmpty(t.ElementType()), nil
			}
			return cty.ListVal(out), nil
		},
	})
}

// plainSets says whether no set in the type holds collections: the library sorts a set by all that its elements hold,
// whenever it is used.
func plainSets(t cty.Type) bool {
	switch {
	case t.IsSetType():
		return t.ElementType().IsPrimitiveType() || t.ElementType() == cty.DynamicPseudoType
	case t.IsCollectionType():
		return plainSets(t.ElementType())
	case t.IsTupleType():
		return !slices.ContainsFunc(t.TupleElementTypes(), func(e cty.Type) bool { return !plainSets(e) })
	case t.IsObjectType():
		for _, e := range t.AttributeTypes() {
			if !plainSets(e) {
				return false
			}
		}
	}
	return true
}

// setProduct is the library's function of that name, whose result is a list also where all arguments are sets.
func setProduct() function.Function {
	f := stdlib.SetProductFunc
	lists := func(args []cty.Value) ([]cty.Value, error) {
		out := make([]cty.Value, len(args))
		for i, a := range args {
			out[i] = a
			if plain, _ := a.Unmark(); plain.Type().IsSetType() {
				var err error
				if out[i], err = gather(a, cty.List(plain.Type().ElementType())); err != nil {
					return nil, function.NewArgError(i, err)
				}
			}
		}
		return out, nil
	}
	return function.New(&function.Spec{
		Params: f.Params(), VarParam: f.VarParam(),
		Type: func(args []cty.Value) (cty.Type, error) {
			args, err := lists(args)
			if err != nil {
				return cty.NilType, err
			}
			return f.ReturnTypeForValues(args)
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			args, err := lists(args)
			if err != nil {
				return cty.NilVal, err
			}
			return f.Call(args)
		},
	})
}
