package render_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/plan/render"
)

// wide is a plan of n servers: a few steps wait, the others do not.
func wide(n int) *plan.Plan {
	p := &plan.Plan{Auto: []plan.Impact{plan.Safe, plan.Declared}}
	for i := range n {
		name := fmt.Sprintf("s%04d", i)
		s := plan.Step{
			ID: "server." + name + "/slot", Action: plan.CreateSlot{Server: name, Slot: "pgkeep_" + name}, Change: plan.Add, Impact: plan.Safe,
			Because: []plan.Reason{{Code: "no-slot", Text: strings.Repeat("because of this ", 10)}}, Effect: "WAL is kept",
		}
		if i%50 == 49 {
			s.Action, s.Change, s.Impact = plan.Prune{Server: name, SystemID: "7", Repository: "main", Backups: []string{"b" + name}}, plan.Destroy, plan.Destructive
		}
		p.Steps = append(p.Steps, s)
		p.Findings = append(p.Findings, plan.Finding{Severity: plan.Warning, Code: "E-SETTINGS", Subject: name, Text: strings.Repeat("a warning ", 10)})
		p.NotDone = append(p.NotDone, plan.NotDone{What: "backup of " + name, Why: plan.Reason{Text: "not yet"}})
	}
	return p
}

func markdown(t interface{ Fatal(...any) }, p *plan.Plan, limit int) string {
	var out bytes.Buffer
	if err := render.Markdown(&out, p, limit); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestMarkdownLimit: never more than the limit, always the summary and the digest, what needs approval before the rest, and
// what is left out is counted.
func TestMarkdownLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := wide(rapid.IntRange(0, 300).Draw(t, "servers"))
		limit := rapid.SampledFrom([]int{0, 1, 2_000, 3_000, 10_000, 65_000, 1 << 20}).Draw(t, "limit")
		out := markdown(t, p, limit)
		most := max(limit, 2_000)
		if limit == 0 {
			most = render.MarkdownLimit
		}
		if len(out) > most || !utf8.ValidString(out) {
			t.Fatalf("%d bytes of %d", len(out), most)
		}
		if !strings.Contains(out, p.Summary()) || !strings.Contains(out, p.Review().String()) {
			t.Fatalf("no summary or digest:\n%s", out)
		}
		cut := strings.Contains(out, "are left out") || strings.Contains(out, "_and ")
		whole := strings.Count(out, "<details>") == len(p.Steps) && strings.Count(out, "E-SETTINGS") == len(p.Findings)
		if cut == whole {
			t.Fatalf("cut %t, whole %t:\n%s", cut, whole, out)
		}
		if strings.Count(out, "<details>") != strings.Count(out, "</details>") {
			t.Fatalf("a part is cut in two:\n%s", out)
		}
	})
	out := markdown(t, wide(400), 0)
	if n := strings.Count(out, "(destructive)</summary>"); n != 8 {
		t.Errorf("%d of 8 steps that need approval are explained", n)
	}
}

// TestMarkdownEscapes: other people's words are shown, and not obeyed.
func TestMarkdownEscapes(t *testing.T) {
	evil := "</details><script>alert(1)</script> | `x` **bold** [link](http://evil) ![i](x) @everyone #1\n# heading \u202edesrever"
	p := wide(50)
	p.Steps[49].ID, p.Steps[49].Effect, p.Steps[49].Because[0].Text = "server."+evil+"/slot", evil, evil
	p.Findings[0].Subject, p.Findings[0].Text, p.NotDone[0].What = evil, evil, evil
	out := markdown(t, p, 1<<20)
	for _, bad := range []string{"<script>", "[link](", "![i](", "**bold**", "@everyone", "\n# heading", "\u202e", "&lt;/details><"} {
		for _, line := range strings.Split(out, "\n") {
			if strings.HasPrefix(line, "<details>") { // Markdown is not obeyed there, and HTML is
				line = strings.NewReplacer("[link](", "", "![i](", "", "**bold**", "").Replace(line)
			}
			if strings.Contains(outsideCode(line), bad) {
				t.Errorf("%q is obeyed: %s", bad, line)
			}
		}
	}
	for _, draw := range []func() string{
		func() string { var b bytes.Buffer; _ = render.DOT(&b, p); return b.String() },
		func() string { var b bytes.Buffer; _ = render.Mermaid(&b, p); return b.String() },
	} {
		for _, line := range strings.Split(draw(), "\n") {
			if strings.HasPrefix(line, "# heading") || strings.Contains(line, "[\"") && strings.Contains(line, "<script>") {
				t.Errorf("a label breaks out: %s", line)
			}
		}
	}
}

// outsideCode drops code spans from a line of Markdown.
func outsideCode(line string) string {
	for {
		i := strings.Index(line, "`")
		if i < 0 {
			return line
		}
		fence := line[i : i+len(line[i:])-len(strings.TrimLeft(line[i:], "`"))]
		if i > 0 && line[i-1] == '\\' {
			line = line[:i-1] + line[i+1:]
			continue
		}
		j := strings.Index(line[i+len(fence):], fence)
		if j < 0 {
			return line
		}
		line = line[:i] + line[i+2*len(fence)+j:]
	}
}
