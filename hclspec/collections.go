package hclspec

import (
	"fmt"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
)

// maxMixed bounds the tuples and objects whose elements the library must find a common type for: it compares each with
// each. Elements of one type need no comparing, however many they are.
const maxMixed = 2000

// gather converts a tuple or object to a collection with any one type of element, as convert.Convert does, in time that
// grows with their number.
func gather(v cty.Value, wanted cty.Type) (cty.Value, error) {
	t := v.Type()
	plain, marks := v.Unmark()
	if !wanted.HasDynamicTypes() || !wanted.IsCollectionType() || !t.IsTupleType() && !t.IsObjectType() || plain.IsNull() || !plain.IsKnown() {
		return convertTo(v, wanted)
	}
	n := plain.LengthInt()
	if one, ok := uniform(plain); n > 0 && ok && wanted.ElementType() == cty.DynamicPseudoType {
		switch {
		case wanted.IsListType() && t.IsTupleType():
			return cty.ListVal(one).WithMarks(marks), nil
		case wanted.IsSetType() && t.IsTupleType():
			return cty.SetVal(one).WithMarks(marks), nil
		case wanted.IsMapType() && t.IsObjectType():
			return cty.MapVal(plain.AsValueMap()).WithMarks(marks), nil
		}
	}
	if n > maxMixed {
		return cty.NilVal, fmt.Errorf("more than %d values, and not all of one type", maxMixed)
	}
	return convertTo(v, wanted)
}

func convertTo(v cty.Value, wanted cty.Type) (cty.Value, error) {
	out, err := convert.Convert(v, wanted)
	if err != nil {
		return cty.NilVal, fmt.Errorf("%s", convert.MismatchMessage(v.Type(), wanted))
	}
	return out, nil
}

// uniform gives the elements when all have one type that is known.
func uniform(v cty.Value) ([]cty.Value, bool) {
	var out []cty.Value
	for it := v.ElementIterator(); it.Next(); {
		_, e := it.Element()
		if e.Type().HasDynamicTypes() || len(out) > 0 && !e.Type().Equals(out[0].Type()) {
			return nil, false
		}
		out = append(out, e)
	}
	return out, true
}

// gathering makes a function gather its arguments itself instead of having the library convert them.
func gathering(f function.Function) function.Function {
	params, rest := f.Params(), f.VarParam()
	types := make([]cty.Type, len(params))
	found := false
	loosen := func(p *function.Parameter) cty.Type {
		was := p.Type
		if was.IsCollectionType() && was.HasDynamicTypes() {
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
