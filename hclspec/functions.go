package hclspec

import (
	"fmt"
	"regexp"

	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// growth is how the size of a function's result follows from its arguments.
type growth int

const (
	asSum            growth = iota
	asProduct               // each argument may be repeated for each of another
	asBytes                 // each byte may become a node or several bytes
	asFormat                // asProduct, and a verb may be padded
	asSorted                // asSum, and the result is sorted whenever it is used
	asPairs                 // asSum, and the library compares the elements with each other
	asProductOfPairs        // asProduct, likewise
)

// offered is a function of the language and its growth.
type offered struct {
	f     function.Function
	grows growth
}

// allowedFunctions is the whole list. There is none that reads a file, the environment, the clock or the network: a
// configuration means the same wherever and whenever it is read. range, timestamp and the like are left out on purpose.
func allowedFunctions() map[string]offered {
	return map[string]offered{
		// text
		"chomp": {stdlib.ChompFunc, asSum}, "format": {bounded(stdlib.FormatFunc), asFormat}, "formatlist": {bounded(stdlib.FormatListFunc), asFormat},
		"join": {stdlib.JoinFunc, asProduct}, "lower": {stdlib.LowerFunc, asSum}, "upper": {stdlib.UpperFunc, asSum},
		"title": {stdlib.TitleFunc, asSum}, "replace": {stdlib.ReplaceFunc, asProduct}, "split": {stdlib.SplitFunc, asBytes},
		"strlen": {stdlib.StrlenFunc, asSum}, "strrev": {stdlib.ReverseFunc, asSum}, "substr": {stdlib.SubstrFunc, asSum},
		"trim": {stdlib.TrimFunc, asSum}, "trimprefix": {stdlib.TrimPrefixFunc, asSum}, "trimsuffix": {stdlib.TrimSuffixFunc, asSum},
		"trimspace": {stdlib.TrimSpaceFunc, asSum}, "regex": {stdlib.RegexFunc, asProduct}, "regexall": {stdlib.RegexAllFunc, asProduct},
		"jsonencode": {stdlib.JSONEncodeFunc, asBytes},
		// collections
		"chunklist": {stdlib.ChunklistFunc, asSum}, "coalesce": {stdlib.CoalesceFunc, asPairs}, "coalescelist": {stdlib.CoalesceListFunc, asSum},
		"compact": {stdlib.CompactFunc, asSum}, "concat": {stdlib.ConcatFunc, asSum}, "contains": {stdlib.ContainsFunc, asSum},
		"distinct": {distinct(), asSum}, "element": {stdlib.ElementFunc, asSum}, "flatten": {stdlib.FlattenFunc, asSum},
		"index": {stdlib.IndexFunc, asSum}, "keys": {stdlib.KeysFunc, asSum}, "length": {lengthOf(), asSum},
		"lookup": {stdlib.LookupFunc, asSum}, "merge": {stdlib.MergeFunc, asSum}, "reverse": {stdlib.ReverseListFunc, asSum},
		"setintersection": {stdlib.SetIntersectionFunc, asPairs}, "setproduct": {setProduct(), asProductOfPairs},
		"setsubtract": {stdlib.SetSubtractFunc, asPairs}, "setunion": {stdlib.SetUnionFunc, asPairs}, "slice": {stdlib.SliceFunc, asSum},
		"sort": {stdlib.SortFunc, asSum}, "values": {stdlib.ValuesFunc, asSum}, "zipmap": {stdlib.ZipmapFunc, asSum},
		// numbers
		"abs": {stdlib.AbsoluteFunc, asSum}, "ceil": {stdlib.CeilFunc, asSum}, "floor": {stdlib.FloorFunc, asSum}, "max": {stdlib.MaxFunc, asSum},
		"min": {stdlib.MinFunc, asSum}, "parseint": {stdlib.ParseIntFunc, asSum}, "signum": {stdlib.SignumFunc, asSum},
		// types
		"can": {tryfunc.CanFunc, asSum}, "try": {tryfunc.TryFunc, asSum}, "tobool": {stdlib.MakeToFunc(cty.Bool), asSum},
		"tolist": {toCollection(cty.List(cty.DynamicPseudoType)), asSum}, "tomap": {toCollection(cty.Map(cty.DynamicPseudoType)), asSum},
		"tonumber": {stdlib.MakeToFunc(cty.Number), asSum}, "toset": {toCollection(cty.Set(cty.DynamicPseudoType)), asSorted},
		"tostring": {stdlib.MakeToFunc(cty.String), asSum},
	}
}

// functions gives the list as hcl wants it.
func functions(known map[string]offered) map[string]function.Function {
	out := map[string]function.Function{}
	for name, o := range known {
		out[name] = gathering(o.f)
	}
	return out
}

// lengthOf counts the elements of a collection, or the characters of a text.
func lengthOf() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "value", Type: cty.DynamicPseudoType, AllowDynamicType: true}},
		Type:   function.StaticReturnType(cty.Number),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if args[0].Type() == cty.String {
				return stdlib.Strlen(args[0])
			}
			return stdlib.Length(args[0])
		},
	})
}

var wide = regexp.MustCompile(`%[^a-zA-Z%]*[0-9]{3}|%[^a-zA-Z%]*\*`)

// bounded refuses a format that pads to 100 characters or more: "%999999999d" is eleven characters and a gigabyte.
func bounded(f function.Function) function.Function {
	return function.New(&function.Spec{
		Params: f.Params(), VarParam: f.VarParam(),
		Type: func(args []cty.Value) (cty.Type, error) {
			first, _ := args[0].Unmark()
			if first.IsKnown() && !first.IsNull() && first.Type() == cty.String && wide.MatchString(first.AsString()) {
				return cty.NilType, function.NewArgErrorf(0, "a width is at most 99")
			}
			return f.ReturnTypeForValues(args)
		},
		Impl: func(args []cty.Value, _ cty.Type) (v cty.Value, err error) {
			if v, err = f.Call(args); err != nil {
				return cty.NilVal, fmt.Errorf("format: %w", err)
			}
			return v, nil
		},
	})
}
