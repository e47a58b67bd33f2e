package hclspec

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const languagePage = "../docs/language.md"

// TestLanguagePage compares the tables of docs/language.md with the schema; -update writes them.
func TestLanguagePage(t *testing.T) {
	b, err := os.ReadFile(languagePage)
	if err != nil {
		t.Fatal(err)
	}
	want := between(t, string(b), "functions", functionList())
	want = between(t, want, "blocks", blockTables())
	if *update {
		if err := os.WriteFile(languagePage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := cmp.Diff(want, string(b)); d != "" {
		t.Errorf("docs/language.md is not what the schema says (-want +got), -update writes it:\n%s", d)
	}
}

func between(t *testing.T, page, mark, text string) string {
	head, rest, ok := strings.Cut(page, "<!-- "+mark+" -->\n")
	_, tail, ok2 := strings.Cut(rest, "<!-- end -->")
	if !ok || !ok2 {
		t.Fatalf("no mark %q in %s", mark, languagePage)
	}
	return head + "<!-- " + mark + " -->\n" + text + "<!-- end -->" + tail
}

func functionList() string {
	var names []string
	for _, n := range sortedKeys(allowedFunctions()) {
		names = append(names, "`"+n+"`")
	}
	var b strings.Builder
	for chunk := range slices.Chunk(names, 11) {
		b.WriteString(strings.Join(chunk, ", "))
		b.WriteString(",\n")
	}
	return strings.TrimSuffix(b.String(), ",\n") + ".\n"
}

func blockTables() string {
	var b strings.Builder
	var later []string
	for _, s := range language() {
		if s.later {
			later = append(later, "`"+s.name+"`")
			continue
		}
		head := s.name
		if s.label != "" {
			head += " \"" + strings.ToUpper(s.label) + "\""
		}
		fmt.Fprintf(&b, "\n### %s\n\n", head)
		if s.name == "locals" {
			b.WriteString("Any names, each with any value: `local.NAME`. Several blocks may stand beside each other.\n")
			continue
		}
		if s.single {
			b.WriteString("May stand once.\n\n")
		}
		b.WriteString("| attribute | type and unit | default | refused when |\n|---|---|---|---|\n")
		rows(&b, "", s)
		for _, r := range s.refused {
			fmt.Fprintf(&b, "\nRefused: %s.\n", r)
		}
	}
	fmt.Fprintf(&b, "\n### Not built yet\n\nThe blocks %s, and what the tables call so.\n", strings.Join(later, ", "))
	return b.String()
}

func rows(b *strings.Builder, prefix string, s block) {
	for _, a := range s.attributes {
		standard := a.otherwise
		switch {
		case a.required:
			standard = "required"
		case a.standard != "":
			standard = "`" + a.standard + "`"
		}
		var when []string
		for _, r := range a.kind.refused {
			when = append(when, r.when)
		}
		fmt.Fprintf(b, "| `%s%s` | %s | %s | %s |\n", prefix, a.name, a.kind.name, standard, strings.Join(when, "; "))
	}
	for _, n := range s.blocks {
		if n.later {
			fmt.Fprintf(b, "| `%s%s { }` | | | not built yet |\n", prefix, n.name)
			continue
		}
		rows(b, prefix+n.name+".", n)
		for _, r := range n.refused {
			fmt.Fprintf(b, "| `%s%s { }` | | | %s |\n", prefix, n.name, r)
		}
	}
}

// TestSchema tries every default and every example of a refusal: the documentation promises nothing that is not so.
func TestSchema(t *testing.T) {
	for _, s := range language() {
		trySchema(t, s.name, s)
	}
}

func trySchema(t *testing.T, at string, s block) {
	for _, a := range s.attributes {
		name := at + "." + a.name
		if a.kind.read == nil {
			continue
		}
		if !a.required && a.standard == "" && a.otherwise == "" {
			t.Errorf("%s: what holds without it?", name)
		}
		if a.standard != "" {
			if v, err := constant(a.standard); err != nil {
				t.Errorf("%s: default %s: %v", name, a.standard, err)
			} else if _, err := a.kind.read(v, nil); err != nil {
				t.Errorf("%s: default %s: %v", name, a.standard, err)
			}
		}
		for _, r := range a.kind.refused {
			tryRefusal(t, name, a, r)
		}
	}
	for _, b := range s.blocks {
		trySchema(t, at+"."+b.name, b)
	}
}

func tryRefusal(t *testing.T, name string, a attribute, r refusal) {
	if r.example == "" {
		return
	}
	v, err := constant(r.example)
	if err != nil {
		t.Errorf("%s: example %s: %v", name, r.example, err)
		return
	}
	if x, err := a.kind.read(v, nil); err == nil {
		t.Errorf("%s: %s is refused when %q, says the page, and became %v", name, r.example, r.when, x)
	}
}
