package plan

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unicode"

	"github.com/hashicorp/hcl/v2"

	"github.com/pgkeep/pgkeep/hclspec"
)

// configuration writes a Spec as JSON: every field under its name in lower case, what is not set left out. Sensitive values
// and where something stands in the HCL are absent, and so are outputs, which decide nothing.
func configuration(spec *hclspec.Spec) (json.RawMessage, error) {
	tree, err := plainTree(reflect.ValueOf(*spec))
	if err != nil {
		return nil, fmt.Errorf("write the configuration: %w", err)
	}
	out, err := json.Marshal(tree)
	if err != nil {
		return nil, fmt.Errorf("write the configuration: %w", err)
	}
	return out, nil
}

// left tells the types that never go into a file.
func left(t reflect.Type) bool {
	switch t {
	case reflect.TypeFor[hclspec.Secret](), reflect.TypeFor[hclspec.Output](), reflect.TypeFor[hclspec.Where](), reflect.TypeFor[hcl.Range]():
		return true
	}
	return false
}

// plainTree turns a value into what json.Marshal writes in an order of its own: maps, lists, strings, numbers. nil stands
// for what is not set.
func plainTree(v reflect.Value) (any, error) {
	t := v.Type()
	if left(t) || (t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer) && left(t.Elem()) || v.IsZero() {
		return nil, nil
	}
	switch x := v.Interface().(type) {
	case time.Duration:
		return x.String(), nil
	case encoding.TextMarshaler:
		text, err := x.MarshalText()
		return string(text), err
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		return plainTree(v.Elem())
	case reflect.Struct:
		return structTree(v)
	case reflect.Map:
		return mapTree(v)
	case reflect.Slice, reflect.Array:
		return listTree(v)
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint32, reflect.Uint64, reflect.Float64:
		return v.Interface(), nil
	default:
		return nil, fmt.Errorf("no plan holds a %s", v.Type())
	}
}

func structTree(v reflect.Value) (any, error) {
	out := map[string]any{}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() || f.Tag.Get("json") == "-" {
			continue
		}
		item, err := plainTree(v.Field(i))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		if item != nil {
			out[lowerName(f.Name)] = item
		}
	}
	return out, nil
}

func mapTree(v reflect.Value) (any, error) {
	out := make(map[string]any, v.Len())
	for _, key := range v.MapKeys() {
		item, err := plainTree(v.MapIndex(key))
		if err != nil {
			return nil, err
		}
		out[key.String()] = item
	}
	return out, nil
}

func listTree(v reflect.Value) (any, error) {
	out := make([]any, v.Len())
	for i := range out {
		item, err := plainTree(v.Index(i))
		if err != nil {
			return nil, err
		}
		out[i] = item
	}
	return out, nil
}

// lowerName writes a field's name as the HCL writes names: RecoveryWindow is recovery_window, WALWait is wal_wait.
func lowerName(name string) string {
	var out strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		if i > 0 && unicode.IsUpper(r) && (unicode.IsLower(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			out.WriteByte('_')
		}
		out.WriteRune(unicode.ToLower(r))
	}
	return out.String()
}
