package hclspec

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// untold are the sentences that no configuration brings about, each with the reason.
func untold() map[string]string {
	library := "the answer to a panic or refusal of a library: none is known"
	return map[string]string{
		"This expression cannot be evaluated":                        library,
		"The evaluation of this expression broke off.":               library,
		"The value has no JSON form.":                                library,
		" is not a number.":                                          library,
		"No value":                                                   "of the console: cmd/pgkeep/testdata/script/console.txtar",
		"This depends on a part of the configuration that is wrong.": "of the console, likewise",
		" is not a port.":                                            "of the command line: TestNewRecoveryRefuses",
		" has letters and their marks apart, which pgkeep would take for another text.": "of the command line: TestNewRecoveryRefuses",
		"No directory to restore into is given.":                                        "of the command line: TestNewRecoveryRefuses",
		"The text is not UTF-8.":                                                        "the parser refuses the file before; the command line is refused by TestNewRecoveryRefuses",
	}
}

// TestEverySentenceHasAStory finds each summary and each explanation in the source of this package, and looks for it in
// what the stories of testdata want.
func TestEverySentenceHasAStory(t *testing.T) {
	told := toldText(t)
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		for at, pattern := range sentences(t, name) {
			if seen[pattern] {
				continue
			}
			seen[pattern] = true
			re, err := regexp.Compile(pattern)
			if err != nil {
				t.Fatalf("%s: %q: %v", at, pattern, err)
			}
			if !re.MatchString(told) && !excused(pattern) {
				t.Errorf("%s: no story of testdata shows %q", at, pattern)
			}
		}
	}
	if len(seen) < 150 {
		t.Errorf("only %d sentences were found in the source", len(seen))
	}
}

func excused(pattern string) bool {
	for sentence := range untold() {
		if strings.Trim(pattern, ".*") == strings.Trim(regexp.QuoteMeta(sentence), ".*") {
			return true
		}
	}
	return false
}

// toldText is what all stories want, without the line breaks of the drawing.
func toldText(t *testing.T) string {
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, name := range names {
		a, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range a.Files {
			if f.Name == "want" {
				b.WriteString(strings.Join(strings.Fields(string(f.Data)), " "))
				b.WriteString("\n")
			}
		}
	}
	return b.String()
}

// sentences gives the summaries and explanations of a source file by where they stand, as patterns.
func sentences(t *testing.T, name string) map[string]string {
	src, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, name, src, 0)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	add := func(e ast.Expr) {
		if p := pattern(e); strings.Trim(p, ".*") != "" {
			out[fmt.Sprint(set.Position(e.Pos()))] = p
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			says := map[string]int{"fail": 2, "failure": 2, "missing": 3, "refuse": 1, "wrong": 0, "unexpected": 0}
			from, count := 0, says[called(n)]
			if called(n) == "missing" {
				from = 1 // before it stands what is missing
			}
			for i := from; i < min(count, len(n.Args)); i++ {
				add(n.Args[i])
			}
		case *ast.CompositeLit:
			if id, ok := n.Type.(*ast.Ident); ok && id.Name == "mistake" && len(n.Elts) > 0 {
				add(n.Elts[0])
			}
			for _, e := range n.Elts {
				if kv, ok := e.(*ast.KeyValueExpr); ok && fmt.Sprint(kv.Key) == "what" {
					add(kv.Value)
				}
			}
		}
		return true
	})
	return out
}

func called(n *ast.CallExpr) string {
	switch f := n.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}

var verb = regexp.MustCompile(`%[-+#0-9.]*[a-zA-Z]`)

// pattern turns a string of the source into what it may become.
func pattern(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		if err != nil || e.Kind != token.STRING {
			return ".*"
		}
		return regexp.QuoteMeta(s)
	case *ast.BinaryExpr:
		return pattern(e.X) + pattern(e.Y)
	case *ast.ParenExpr:
		return pattern(e.X)
	case *ast.CallExpr:
		if called(e) != "Sprintf" || len(e.Args) == 0 {
			return ".*"
		}
		lit, ok := e.Args[0].(*ast.BasicLit)
		if !ok {
			return ".*"
		}
		s, _ := strconv.Unquote(lit.Value)
		var b strings.Builder
		last := 0
		for _, m := range verb.FindAllStringIndex(s, -1) {
			b.WriteString(strings.ReplaceAll(regexp.QuoteMeta(s[last:m[0]]), "%%", "%") + ".*")
			last = m[1]
		}
		return b.String() + strings.ReplaceAll(regexp.QuoteMeta(s[last:]), "%%", "%")
	}
	return ".*"
}
