package render

import (
	"fmt"
	"io"
	"strings"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

// Drills writes the evidence of drills as a Markdown document for auditors: a table of all of them, then each with what was
// recovered, how long each part took, and what was asked and answered.
func Drills(w io.Writer, all []state.Drill) error {
	var out strings.Builder
	out.WriteString("# Recovery drills\n\nEach drill restored a backup from its repository, started PostgreSQL in the copy, let it recover, and asked it.\n\n")
	rows := [][]string{{"ended", "server", "drill", "backup", "recovery took", "verdict"}}
	for _, d := range all {
		rows = append(rows, []string{plan.Moment(d.Ended), d.Server, d.Drill, d.Backup, tookSeconds(d.RTO), verdictOf(d)})
	}
	markdownTable(&out, rows)
	for _, d := range all {
		drillSection(&out, d)
	}
	_, err := io.WriteString(w, out.String())
	return err
}

func verdictOf(d state.Drill) string {
	if d.Passed {
		return "passed"
	}
	return "**failed**"
}

func tookSeconds(s float64) string {
	if s == 0 {
		return "not measured"
	}
	return fmt.Sprintf("%.1f s", s)
}

func markdownTable(out *strings.Builder, rows [][]string) {
	for i, row := range rows {
		cells := make([]string, len(row))
		for n, c := range row {
			cells[n] = strings.ReplaceAll(oneLine(c), "|", `\|`)
		}
		out.WriteString("| " + strings.Join(cells, " | ") + " |\n")
		if i == 0 {
			out.WriteString(strings.Repeat("|---", len(row)) + "|\n")
		}
	}
}

func drillSection(out *strings.Builder, d state.Drill) {
	fmt.Fprintf(out, "\n## %s of %s, %s: %s\n\n", d.Drill, d.Server, plan.Moment(d.Ended), verdictOf(d))
	facts := [][]string{
		{"what", "value"},
		{"system identifier", d.SystemID},
		{"repository", d.Repository},
		{"backup", d.Backup},
		{"target", d.Target},
		{"timeline and end", fmt.Sprintf("%d, %s", d.Timeline, d.End)},
		{"last transaction", plan.Moment(d.LastTime)},
		{"machine", d.Host},
		{"run by", d.Who},
		{"pgkeep", d.Program},
		{"PostgreSQL", fmt.Sprintf("%d.%d", d.Version/10000, d.Version%10000)},
		{"began", plan.Moment(d.Began)},
		{"ended", plan.Moment(d.Ended)},
		{"recovery took", tookSeconds(d.RTO)},
		{"amcheck", fmt.Sprintf("%s: %d indexes and %d tables in %d databases, %d damaged %s", d.Amcheck.Level, d.Amcheck.Indexes, d.Amcheck.Tables, d.Amcheck.Databases, d.Amcheck.Findings, d.Amcheck.Skipped)},
	}
	markdownTable(out, facts)
	listed := func(title string, sentences []string) {
		if len(sentences) == 0 {
			return
		}
		out.WriteString("\n" + title + "\n\n")
		for _, s := range sentences {
			out.WriteString("- " + oneLine(s) + "\n")
		}
	}
	listed("What is wrong:", d.Failures)
	listed("Notes:", d.Notes)
	if len(d.Phases) > 0 {
		rows := [][]string{{"phase", "seconds", "bytes"}}
		for _, p := range d.Phases {
			rows = append(rows, []string{p.Name, fmt.Sprintf("%.2f", p.Seconds), fmt.Sprint(p.Bytes)})
		}
		out.WriteString("\n")
		markdownTable(out, rows)
	}
	if len(d.Checks) > 0 {
		rows := [][]string{{"check", "database", "expected", "answer", "passed"}}
		for _, c := range d.Checks {
			rows = append(rows, []string{c.Name, c.Database, c.Expect, c.Got + c.Error, fmt.Sprint(c.Passed)})
		}
		out.WriteString("\n")
		markdownTable(out, rows)
	}
	if len(d.Rows) > 0 {
		rows := [][]string{{"database", "table", "rows", "in the drill before"}}
		for _, r := range d.Rows {
			before := ""
			if r.Before != nil {
				before = fmt.Sprint(*r.Before)
			}
			rows = append(rows, []string{r.Database, r.Table, fmt.Sprint(r.Rows), before})
		}
		out.WriteString("\n")
		markdownTable(out, rows)
	}
}
