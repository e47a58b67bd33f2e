package render

import (
	"fmt"
	"io"
	"strings"

	"github.com/pgkeep/pgkeep/plan"
)

// fills gives the colour of an impact in graphs; the contour tells it too, for those who see no colours.
func fills(i plan.Impact) (fill, line string) {
	switch i {
	case plan.Declared:
		return "#fff3cd", "dashed"
	case plan.Destructive:
		return "#f8d7da", "bold"
	case plan.Disruptive:
		return "#ffe0b2", "bold"
	case plan.Safe:
	}
	return "#d1e7dd", "solid"
}

// DOT writes the steps and their order as a graph for Graphviz: one node a step in the colour of its impact, one edge from
// what must be done first to what comes after it.
func DOT(w io.Writer, p *plan.Plan) error {
	var out strings.Builder
	out.WriteString("digraph plan {\n  rankdir = LR\n  node [shape = box, style = filled, fontname = \"sans-serif\"]\n")
	for i := range p.Steps {
		s := &p.Steps[i]
		fill, line := fills(s.Impact)
		label := dotQuoted(s.ID)
		mark, _ := sign(s.Change)
		fmt.Fprintf(&out, "  %s [label = %s, fillcolor = \"%s\", style = \"filled,%s\", tooltip = %s]\n",
			label, dotQuoted(strings.TrimSpace(mark+" "+plan.Verb(s.Action))+"\n"+s.ID+"\n"+string(s.Impact)), fill, line, dotQuoted(s.Effect))
	}
	for i := range p.Steps {
		for _, before := range p.Steps[i].After {
			fmt.Fprintf(&out, "  %s -> %s\n", dotQuoted(before), dotQuoted(p.Steps[i].ID))
		}
	}
	out.WriteString("}\n")
	_, err := io.WriteString(w, out.String())
	return err
}

// dotQuoted writes a string of the DOT language. A line break becomes a new line of the label; no escape of the language
// is obeyed.
func dotQuoted(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(oneLine(line))
	}
	return `"` + strings.Join(lines, `\n`) + `"`
}

// Mermaid writes the same graph in the language that forges draw inside Markdown.
func Mermaid(w io.Writer, p *plan.Plan) error {
	var out strings.Builder
	out.WriteString("flowchart LR\n")
	node := map[string]string{}
	for i := range p.Steps {
		s := &p.Steps[i]
		node[s.ID] = fmt.Sprintf("s%d", i+1)
		mark, _ := sign(s.Change)
		fmt.Fprintf(&out, "  %s[\"%s<br>%s<br>%s\"]:::%s\n", node[s.ID], entities(strings.TrimSpace(mark+" "+plan.Verb(s.Action))), entities(s.ID), s.Impact, s.Impact)
	}
	for i := range p.Steps {
		for _, before := range p.Steps[i].After {
			if node[before] != "" {
				fmt.Fprintf(&out, "  %s --> %s\n", node[before], node[p.Steps[i].ID])
			}
		}
	}
	for _, impact := range []plan.Impact{plan.Safe, plan.Declared, plan.Destructive, plan.Disruptive} {
		fill, _ := fills(impact)
		fmt.Fprintf(&out, "  classDef %s fill:%s,color:#000\n", impact, fill)
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// entities writes text for a quoted label of Mermaid: all but letters, digits and a few signs as numbered entities, so that
// nothing ends the label or is taken for markup.
func entities(s string) string {
	var out strings.Builder
	for _, r := range oneLine(s) {
		if r > 127 || r == ' ' || strings.ContainsRune("./-_,:+~", r) || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			out.WriteRune(r)
			continue
		}
		fmt.Fprintf(&out, "#%d;", r)
	}
	return out.String()
}
