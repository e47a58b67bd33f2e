package render

import (
	"fmt"
	"strings"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state/wal"
)

// table draws the summary: one line a step.
func (t *text) table(steps []plan.Step) {
	rows := [][]string{{"", "ACTION", "STEP", "IMPACT"}}
	widths := []int{1, len("ACTION"), len("STEP")}
	for _, s := range steps {
		mark, _ := sign(s.Change)
		row := []string{mark, plan.Verb(s.Action), s.ID, string(s.Impact)}
		rows = append(rows, row)
		for i := range widths {
			widths[i] = max(widths[i], visible(row[i]))
		}
	}
	for i, row := range rows {
		line := row[0] + strings.Repeat(" ", 2-visible(row[0])) + pad(row[1], widths[1]+2) + pad(row[2], widths[2]+2) + row[3]
		line = strings.TrimRight(line, " ")
		if i == 0 {
			line = t.paint(faint, line)
		} else if _, color := sign(steps[i-1].Change); color != "" {
			line = t.paint(color, line)
		}
		t.line(0, line)
	}
}

// detail is one line of a step's particulars.
type detail struct{ name, value string }

// details gives what a step does beyond its name: the objects of destructive steps are named one by one.
func details(a plan.Action) []detail {
	switch a := a.(type) {
	case plan.CreateSlot:
		return []detail{{"slot", a.Slot}}
	case plan.ReplaceSlot:
		return []detail{{"slot", a.Slot + ", dropped and created anew"}}
	case plan.DropSlot:
		return []detail{{"slot", a.Slot}}
	case plan.RecordGap:
		return []detail{{"gap", a.Range.String() + ", " + plan.Size(a.Range.Bytes())}}
	case plan.TakeBackup:
		kind := a.Kind
		if a.Parent != "" {
			kind += " on " + a.Parent
		}
		if a.Schedule != "" {
			kind += ", schedule " + a.Schedule
		}
		if a.Fast {
			kind += ", fast checkpoint"
		}
		return []detail{{"backup", kind + ", into " + strings.Join(a.Repositories, ", ")}}
	case plan.RemoveIncomplete:
		return []detail{{"removes", strings.Join(a.Backups, ", ")}}
	case plan.Prune:
		if a.Sweep {
			return []detail{{"removes", "what is left of " + strings.Join(a.Backups, ", ")}}
		}
		return []detail{{"deletes", strings.Join(a.Backups, ", ")}}
	case plan.PruneWAL:
		if len(a.Ranges) == 0 {
			return []detail{{"deletes", "unfinished parts of whole segments"}}
		}
		return []detail{{"deletes", ranges(a.Ranges)}}
	case plan.Verify:
		return []detail{{"verifies", verified(a)}}
	case plan.ExtendLock:
		return lockedAnew(a)
	case plan.Repair:
		return []detail{{"heals", fmt.Sprintf("what is damaged in %s, from %s", a.Repository, strings.Join(a.From, " or "))}}
	case plan.Drill:
		return drilled(a)
	case plan.CopyBackup:
		return []detail{{"copies", fmt.Sprintf("%s from %s into %s", a.Backup, a.From, a.Repository)}}
	case plan.CopyWAL:
		return []detail{{"copies", copiedWAL(a)}}
	case plan.RecoverTo:
		return []detail{
			{"backup", a.Route.Backup + " in repository " + a.Route.Repository},
			{"into", a.Route.Destination.Path},
			{"wal", ranges(a.Route.Path) + fmt.Sprintf("; recovery ends on timeline %d", a.Route.TargetTimeline)},
		}
	}
	return nil
}

func verified(a plan.Verify) string {
	text := a.Level + ", of what " + a.Repository + " holds of " + a.Server
	if a.Sample > 0 {
		text = fmt.Sprintf("%s, a sample of %d %%, of what %s holds of %s", a.Level, a.Sample, a.Repository, a.Server)
	}
	if a.MaxRate > 0 {
		text += ", at most " + plan.Size(a.MaxRate) + " a second"
	}
	return text
}

// lockedAnew says what is locked until when, a line for each moment.
func lockedAnew(a plan.ExtendLock) []detail {
	var out []detail
	for _, n := range a.Locks {
		var what []string
		if len(n.Backups) > 0 {
			what = append(what, strings.Join(n.Backups, ", "))
		}
		if len(n.WAL) > 0 {
			what = append(what, ranges(wal.Merge(n.WAL)))
		}
		if n.Opening {
			what = append(what, "what opens the repository")
		}
		out = append(out, detail{"locks", "until " + plan.Moment(n.Until) + ": " + strings.Join(what, "; ")})
	}
	return out
}

func drilled(a plan.Drill) []detail {
	target := "the newest moment"
	switch t := a.Route.Target; {
	case t.Immediate:
		target = "its end"
	case t.LSN != 0:
		target = "a moment by chance, " + t.LSN.String()
	}
	asks := []string{"amcheck " + a.Amcheck}
	if a.Amcheck == "off" {
		asks = nil
	}
	if a.Canaries > 0 {
		asks = append(asks, fmt.Sprintf("the rows of the %d largest tables of each database", a.Canaries))
	}
	for _, c := range a.Checks {
		asks = append(asks, "check "+c.Name)
	}
	if len(asks) == 0 {
		asks = []string{"whether it answers"}
	}
	return []detail{
		{"recovers", a.Route.Backup + " in repository " + a.Route.Repository + " to " + target},
		{"into", a.Route.Destination.Path},
		{"wal", ranges(a.Route.Path)},
		{"asks", strings.Join(asks, ", ")},
	}
}

func copiedWAL(a plan.CopyWAL) string {
	what := ranges(a.Ranges)
	for _, t := range a.Histories {
		if what != "" {
			what += "; "
		}
		what += t.HistoryName()
	}
	return what + fmt.Sprintf(" from %s into %s", a.From, a.Repository)
}

func ranges(list []wal.Range) string {
	out := make([]string, len(list))
	for i, r := range list {
		out[i] = r.String()
	}
	return strings.Join(out, "; ")
}
