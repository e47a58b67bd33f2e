package hclspec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/zclconf/go-cty/cty"
	"pgregory.net/rapid"
)

// inJSON writes HCL as JSON with the same meaning; false: it cannot be parsed.
func inJSON(src []byte, schema block) (string, bool) {
	f, diags := hclsyntax.ParseConfig(src, "a.hcl", hcl.InitialPos)
	if diags.HasErrors() {
		return "", false
	}
	var b bytes.Buffer
	w := rewriter{&b, src}
	w.body(f.Body.(*hclsyntax.Body), schema)
	var out bytes.Buffer
	if err := json.Indent(&out, b.Bytes(), "", "  "); err != nil {
		panic(fmt.Sprintf("%v:\n%s", err, b.String()))
	}
	return out.String(), true
}

type rewriter struct {
	*bytes.Buffer
	src []byte
}

func (w rewriter) text(s string) {
	e := json.NewEncoder(w.Buffer)
	e.SetEscapeHTML(false)
	_ = e.Encode(s)
	w.Truncate(w.Len() - 1)
}

func (w rewriter) body(b *hclsyntax.Body, schema block) {
	w.WriteByte('{')
	n := 0
	next := func(name string) {
		if n++; n > 1 {
			w.WriteByte(',')
		}
		w.text(name)
		w.WriteByte(':')
	}
	for _, name := range slices.Sorted(maps.Keys(b.Attributes)) {
		next(name)
		static := false
		for _, a := range schema.attributes {
			static = static || a.name == name && a.kind.static
		}
		if static {
			w.text(w.source(b.Attributes[name].Expr))
			continue
		}
		w.expression(b.Attributes[name].Expr)
	}
	var types []string
	for _, inner := range b.Blocks {
		if !slices.Contains(types, inner.Type) {
			types = append(types, inner.Type)
		}
	}
	for _, name := range types {
		next(name)
		w.blocks(b, name, schema)
	}
	w.WriteByte('}')
}

// blocks writes all blocks of a kind as an array.
func (w rewriter) blocks(b *hclsyntax.Body, kind string, schema block) {
	known := block{}
	for _, s := range schema.blocks {
		if s.name == kind {
			known = s
		}
	}
	w.WriteByte('[')
	n := 0
	for _, inner := range b.Blocks {
		if inner.Type != kind {
			continue
		}
		if n++; n > 1 {
			w.WriteByte(',')
		}
		for _, l := range inner.Labels {
			w.WriteByte('{')
			w.text(l)
			w.WriteByte(':')
		}
		w.body(inner.Body, known)
		w.WriteString(strings.Repeat("}", len(inner.Labels)))
	}
	w.WriteByte(']')
}

func (w rewriter) source(e hclsyntax.Expression) string {
	r := e.Range()
	return string(w.src[r.Start.Byte:r.End.Byte])
}

func (w rewriter) expression(e hclsyntax.Expression) {
	switch x := e.(type) {
	case *hclsyntax.LiteralValueExpr:
		if s := w.source(e); x.Val.Type() == cty.Number && !json.Valid([]byte(s)) {
			w.text("${" + s + "}")
			return
		}
		w.WriteString(w.source(e))
		return
	case *hclsyntax.TupleConsExpr:
		w.WriteByte('[')
		for n, item := range x.Exprs {
			if n > 0 {
				w.WriteByte(',')
			}
			w.expression(item)
		}
		w.WriteByte(']')
		return
	case *hclsyntax.TemplateExpr:
		if v, diags := x.Value(nil); !diags.HasErrors() && v.Type() == cty.String && len(x.Variables()) == 0 {
			w.text(strings.NewReplacer("${", "$${", "%{", "%%{").Replace(v.AsString()))
			return
		}
		if s, ok := w.parts(x); ok {
			w.text(s)
			return
		}
	}
	w.text("${" + w.source(e) + "}")
}

// parts writes a template as a template.
func (w rewriter) parts(x *hclsyntax.TemplateExpr) (string, bool) {
	var b strings.Builder
	for _, p := range x.Parts {
		switch p := p.(type) {
		case *hclsyntax.LiteralValueExpr:
			if p.Val.Type() != cty.String {
				return "", false
			}
			b.WriteString(strings.NewReplacer("${", "$${", "%{", "%%{").Replace(p.Val.AsString()))
		case *hclsyntax.ScopeTraversalExpr, *hclsyntax.FunctionCallExpr:
			b.WriteString("${" + w.source(p) + "}")
		default:
			return "", false
		}
	}
	return b.String(), true
}

var (
	spots  = regexp.MustCompile(`[a-z]+\.hcl(\.json)?:\d+(,\d+-\d+)?`)
	places = regexp.MustCompile(`used at SPOT(, SPOT)*( and \d+ more)?`) // two on one line of HCL have lines of their own in JSON
)

// said gives what diagnostics say, without where.
func said(diags hcl.Diagnostics) []string {
	var out []string
	for _, d := range diags {
		text := d.Summary + " | " + d.Detail + " | " + HelpOf(d).Hint
		text = places.ReplaceAllString(spots.ReplaceAllString(text, "SPOT"), "used at SPOT")
		out = append(out, strings.ReplaceAll(text, ".hcl.json", ".hcl"))
	}
	slices.Sort(out)
	return out
}

func languageBlock() block { return block{name: "configuration", blocks: language()} }

// TestStoriesInJSON tells every story again with its configuration in JSON: the same is loaded, and the same is said.
func TestStoriesInJSON(t *testing.T) {
	names, _ := filepath.Glob("testdata/*.txtar")
	told := 0
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			files, _, o := storyFiles(t, a)
			inHCL, other := fstest.MapFS{}, fstest.MapFS{}
			for f, content := range files {
				inHCL[f], other[f] = content, content
				if strings.HasSuffix(f, ".vars.hcl") || strings.HasSuffix(f, ".json") {
					continue
				}
				j, ok := inJSON(content.Data, languageBlock())
				if !ok {
					t.Skip("it is about the syntax of HCL")
				}
				delete(other, f)
				other[f+".json"] = &fstest.MapFile{Data: []byte(j)}
			}
			told++
			s, diags := Load(inHCL, ".", o)
			sj, diagsj := Load(other, ".", o)
			if d := cmp.Diff(said(diags), said(diagsj)); d != "" {
				t.Errorf("diagnostics differ (-HCL +JSON):\n%s", d)
			}
			if d := cmp.Diff(asJSON(t, s), asJSON(t, sj)); d != "" {
				t.Errorf("the Spec differs (-HCL +JSON):\n%s", d)
			}
			if text := drawn(t, sj, diagsj); strings.Contains(text, "hunter2") {
				t.Errorf("a secret is shown:\n%s", text)
			}
		})
	}
	if told < 15 {
		t.Errorf("only %d stories were told", told)
	}
}

// TestRandomInJSON writes random configurations, right and wrong ones, and loads them in both syntaxes.
func TestRandomInJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		src := randomHCL(t, rapid.Bool().Draw(t, "benign"))
		j, ok := inJSON([]byte(src), languageBlock())
		if !ok {
			t.Fatalf("the generator writes HCL that cannot be parsed:\n%s", src)
		}
		o := LoadOptions{Version: "0.1.0", Hostname: "backup1"}
		s, diags := Load(fstest.MapFS{"a.hcl": {Data: []byte(src)}}, ".", o)
		sj, diagsj := Load(fstest.MapFS{"a.hcl.json": {Data: []byte(j)}}, ".", o)
		if d := cmp.Diff(said(diags), said(diagsj)); d != "" {
			t.Fatalf("%s\n%s\ndiagnostics differ (-HCL +JSON):\n%s", src, j, d)
		}
		a, _ := json.Marshal(s)
		b, _ := json.Marshal(sj)
		if d := cmp.Diff(plain(a), plain(b)); d != "" {
			t.Fatalf("%s\n%s\nthe Spec differs (-HCL +JSON):\n%s", src, j, d)
		}
	})
}

func plain(j []byte) any {
	var v any
	_ = json.Unmarshal(j, &v)
	dropWhere(v)
	return v
}
