package state_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// codeConstants reads the constants of type Code from this package's source.
func codeConstants(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "observation.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if name, ok := spec.Type.(*ast.Ident); !ok || name.Name != "Code" {
			return true
		}
		for _, v := range spec.Values {
			code, err := strconv.Unquote(v.(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			codes = append(codes, code)
		}
		return true
	})
	return codes
}

// TestEveryCodeIsExplained compares the constants with docs/errors.md, both ways: each code has one section, with cause,
// evidence and what to run next.
func TestEveryCodeIsExplained(t *testing.T) {
	text, err := os.ReadFile("../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for _, part := range strings.Split(string(text), "\n## ")[1:] {
		code, body, _ := strings.Cut(part, "\n")
		if _, twice := sections[code]; twice {
			t.Errorf("%s is explained twice", code)
		}
		sections[code] = body
	}
	codes := codeConstants(t)
	if len(codes) < 30 {
		t.Fatalf("only %d codes were found in the source", len(codes))
	}
	for _, code := range codes {
		body, ok := sections[code]
		if !ok {
			t.Errorf("docs/errors.md does not explain %s", code)
			continue
		}
		for _, want := range []string{"Cause", "Evidence", "Next"} {
			if !regexp.MustCompile(`(?m)^- ` + want + `: \S+ .*\.$`).MatchString(body) {
				t.Errorf("docs/errors.md, %s: no %s", code, want)
			}
		}
	}
	for code := range sections {
		if !slices.Contains(codes, code) {
			t.Errorf("docs/errors.md explains %s, which no constant is", code)
		}
	}
}
