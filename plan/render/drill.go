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

func targetOf(d state.Drill) string {
	switch d.Target {
	case "latest":
		return "the newest moment that the repository held"
	case "immediate":
		return "the end of the backup"
	case "random":
		return fmt.Sprintf("a moment by chance: position %s on timeline %d, to which pgkeep recover --server %s --into DIR --to-lsn %s recovers again", d.TargetLSN, d.Timeline, d.Server, d.TargetLSN)
	}
	return d.Target
}

func lastOf(d state.Drill) string {
	switch {
	case !d.LastTime.IsZero():
	case d.RTO == 0:
		return "the recovery did not come to its end"
	default:
		return "none: no transaction was committed behind the backup"
	}
	return plan.Moment(d.LastTime)
}

func versionOf(d state.Drill) string {
	if d.Version == 0 {
		return "not asked: the copy did not answer"
	}
	return fmt.Sprintf("%d.%d", d.Version/10000, d.Version%10000)
}

func amcheckOf(c state.DrillAmcheck) string {
	if c.Indexes+c.Tables == 0 && c.Skipped == "" {
		return "not asked"
	}
	text := fmt.Sprintf("%s: %d indexes and %d tables in %d databases, %d damaged", c.Level, c.Indexes, c.Tables, c.Databases, c.Findings)
	if c.Skipped != "" {
		text += "; " + c.Skipped
	}
	return text
}

// phaseOf says what is done in a part of a recovery.
func phaseOf(name string) string {
	return map[string]string{
		"look": "look at the backup and the directory", "claim": "take the directory", "files": "restore the files", "wal": "fetch WAL beside the copy",
		"configure": "write the configuration of the copy", "sync": "have the disk hold it", "finish": "write pg_control, from which on it can start",
		"start": "start PostgreSQL, and end recovery", "replay": "replay WAL", "checks": "ask the copy: amcheck, rows, checks; no part of the recovery",
	}[name]
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
		{"target", targetOf(d)},
		{"timeline and end", fmt.Sprintf("%d, %s", d.Timeline, d.End)},
		{"last transaction replayed", lastOf(d)},
		{"machine", d.Host},
		{"run by", d.Who},
		{"pgkeep", d.Program},
		{"PostgreSQL", versionOf(d)},
		{"began", plan.Moment(d.Began)},
		{"ended", plan.Moment(d.Ended)},
		{"recovery took", tookSeconds(d.RTO)},
		{"amcheck", amcheckOf(d.Amcheck)},
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
		rows := [][]string{{"part", "seconds", "bytes", "what was done"}}
		for _, p := range d.Phases {
			bytes := ""
			if p.Bytes > 0 {
				bytes = fmt.Sprintf("%d (%s)", p.Bytes, plan.Size(p.Bytes))
			}
			rows = append(rows, []string{p.Name, fmt.Sprintf("%.2f", p.Seconds), bytes, phaseOf(p.Name)})
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
			before := "not counted"
			if r.Before != nil {
				before = fmt.Sprint(*r.Before)
			}
			rows = append(rows, []string{r.Database, r.Table, fmt.Sprint(r.Rows), before})
		}
		out.WriteString("\n")
		markdownTable(out, rows)
	}
}
