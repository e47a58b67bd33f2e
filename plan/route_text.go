package plan

import (
	"fmt"
	"strings"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
)

// targetText writes a recovery target as an operator says it.
func targetText(t hclspec.Target) string {
	text := "the latest moment"
	switch {
	case !t.Time.IsZero():
		text = "time " + t.Time.UTC().Format("2006-01-02 15:04:05.999999 UTC")
	case t.LSN != 0:
		text = "position " + t.LSN.String()
	case t.XID != 0:
		text = fmt.Sprintf("transaction %d", t.XID)
	case t.Restore != "":
		text = fmt.Sprintf("restore point %q", t.Restore)
	case t.Immediate:
		text = "the first consistent moment"
	}
	if !t.Latest && !t.Immediate && !t.Inclusive {
		text += ", exclusive"
	}
	if t.Timeline != 0 {
		text += fmt.Sprintf(" on timeline %d", t.Timeline)
	}
	return text
}

// routeText says how the recovery gets to its target.
func routeText(r *Route) string {
	var stretches []string
	for _, p := range r.Path {
		stretches = append(stretches, p.String())
	}
	return fmt.Sprintf("backup %s in repository %s, then %s, all archived", r.Backup, r.Repository, strings.Join(stretches, "; "))
}

// recoverEffect says what the recovered server will hold, and how much is moved for it.
func recoverEffect(r *Route) string {
	var out []string
	if chosen := r.Destination.Databases; len(chosen) > 0 {
		out = append(out, databasesText(r))
	} else if r.DataBytes > 0 {
		out = append(out, Size(r.DataBytes)+" restored into "+r.Destination.Path)
	} else {
		out = append(out, "restored into "+r.Destination.Path)
	}
	out = append(out, Size(r.WALBytes)+" of WAL replayed")
	out = append(out, around(r.Before, r.After)...)
	if r.AtEnd {
		out = append(out, "it goes to the end of the archived WAL at "+r.End.String())
	}
	atEnd := r.AtEnd || r.Target.Latest
	switch {
	case r.Destination.PrimaryConninfo != "":
		out = append(out, standbyText(r))
	case r.Target.Action == "promote":
		out = append(out, "then it is promoted")
	case r.Target.Action == "shutdown" && !atEnd:
		out = append(out, "then it shuts down")
	case atEnd && (!r.Target.Latest || r.Target.Action == "shutdown"):
		out = append(out, "then it is promoted: at the end of the WAL PostgreSQL does nothing else")
	case !atEnd:
		out = append(out, "then it pauses and can be read")
	}
	return strings.Join(out, "; ")
}

// standbyText says whom a standby follows.
func standbyText(r *Route) string {
	text := "then it is a standby that follows " + r.Destination.PrimaryConninfo
	if r.Destination.PrimarySlot != "" {
		text += fmt.Sprintf(" with slot %q, which must be there", r.Destination.PrimarySlot)
	}
	return text + ", on whichever timeline that writes, and takes from the archive what that has no more"
}

// nearby says which moments can be reached instead, each as the command line asks for it.
func nearby(all []state.Nearest) string {
	var near []string
	for _, n := range all {
		text := "--to-lsn " + n.LSN.String()
		if n.Timeline != 0 {
			text += fmt.Sprintf(" --timeline %d", n.Timeline)
		}
		if !n.Time.IsZero() {
			text = fmt.Sprintf("%s at %s", Moment(n.Time), text)
		}
		if n.Note != "" {
			text += " (" + n.Note + ")"
		}
		near = append(near, text)
	}
	return strings.Join(near, ", ")
}

// againText says which other moments have the name that is recovered to; empty: none has.
func againText(name string, fact state.TargetFact) string {
	if len(fact.Again) == 0 {
		return ""
	}
	const most = 5
	var others []string
	for i, n := range fact.Again {
		if i == most {
			others = append(others, fmt.Sprintf("and %d more", len(fact.Again)-most))
			break
		}
		text := fmt.Sprintf("%s at --to-lsn %s --exclusive", Moment(n.Time), n.LSN)
		if n.Timeline != 0 {
			text += fmt.Sprintf(" --timeline %d", n.Timeline)
		}
		others = append(others, text)
	}
	return fmt.Sprintf("the name %q was given more than once: recovery stops at %s, and others are %s", name, fact.End, strings.Join(others, ", "))
}

// TargetText says what the archived WAL proves about a target: the transactions on both sides of it, or why it cannot be
// reached; the hint names the nearest moments that can, and is empty where none is known.
func TargetText(t hclspec.Target, fact state.TargetFact) (text, hint string) {
	switch {
	case fact.Unknown != nil:
		return "Whether " + targetText(t) + " can be recovered is unknown: " + fact.Unknown.Because, fact.Unknown.Hint
	case !fact.Reachable:
		if near := nearby(fact.Nearest); near != "" {
			hint = "reachable nearby: " + near
		}
		return targetText(t) + " cannot be reached: " + fact.Why, hint
	}
	return strings.Join(append([]string{targetText(t) + " can be recovered"}, around(fact.Before, fact.After)...), "; "), ""
}

// around says between which transactions a recovery ends.
func around(before, after *state.Commit) []string {
	var out []string
	if before != nil {
		out = append(out, fmt.Sprintf("the last transaction it holds is %d, committed at %s", before.XID, Moment(before.Time)))
	}
	if after != nil {
		out = append(out, fmt.Sprintf("the first that it does not is %d, of %s", after.XID, Moment(after.Time)))
	}
	return out
}

// databasesText says what is restored of some databases, and what becomes of the others.
func databasesText(r *Route) string {
	return fmt.Sprintf("databases %s restored into %s, beside postgres and the templates: of %s what is theirs; the others get empty files, cannot be used, and are to be dropped after recovery",
		strings.Join(r.Destination.Databases, ", "), r.Destination.Path, Size(r.DataBytes))
}
