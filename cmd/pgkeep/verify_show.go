package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

// showVerified prints what was found, for each cluster in each repository.
func (a *app) showVerified(all []verifiedCluster) {
	if len(all) == 0 {
		fmt.Fprintln(a.out, "Nothing is there to be verified.\n→ pgkeep plan")
		return
	}
	damaged, clusters := 0, 0
	for _, c := range all {
		switch {
		case c.Skipped != "":
			fmt.Fprintf(a.out, "%s: not looked at: %s\n", c.Repository, c.Skipped)
		case c.Result == nil && c.Error == "":
		case c.Result == nil:
			a.showFailed(c)
		default:
			clusters++
			damaged += c.Result.Wrong
			a.showResult(c)
		}
	}
	verdict := a.paint(a.outTerminal, "32", "no damage")
	if damaged > 0 {
		verdict = a.paint(a.outTerminal, "31", counted(damaged, "damaged object"))
	}
	fmt.Fprintf(a.out, "Verified %s: %s.\n", counted(clusters, "cluster"), verdict)
}

func (a *app) showFailed(c verifiedCluster) {
	name := c.Repository
	if c.Server != "" {
		name = c.Server + " in " + c.Repository
	}
	fmt.Fprintf(a.out, "%s %s: %s\n", a.paint(a.outTerminal, "31", "ERROR ["+string(c.Code)+"]"), name, c.Error)
	if c.Hint != "" {
		fmt.Fprintf(a.out, "  → %s\n", c.Hint)
	}
}

// showResult prints one cluster: its backups, how far the WAL goes, and what is wrong.
func (a *app) showResult(c verifiedCluster) {
	v := c.Result
	how := string(v.Level)
	if v.Sample > 0 {
		how += fmt.Sprintf(", a sample of %d %%", v.Sample)
	}
	looked := slices.DeleteFunc(slices.Clone(v.Backups), func(b state.VerifiedBackup) bool { return len(v.Only) > 0 && !slices.Contains(v.Only, b.ID) })
	fmt.Fprintf(a.out, "%s in repository %s (%s): %s, %s read in %s\n", c.Server, c.Repository, how, counted(len(looked), "backup"), plan.Size(v.Bytes), plan.Span(v.Ended.Sub(v.Began)))
	for _, b := range looked {
		a.showVerifiedBackup(b, v.Chains)
	}
	for _, f := range v.Damage {
		a.showDamage(f)
	}
	if more := v.Wrong - len(v.Damage); more > 0 {
		fmt.Fprintf(a.out, "  and %d more\n", more)
	}
	if c.Next != "" {
		fmt.Fprintf(a.out, "  → %s\n", c.Next)
	}
	if c.Error != "" {
		a.showFailed(c)
	}
}

func (a *app) showVerifiedBackup(b state.VerifiedBackup, chains []state.Chain) {
	verdict := "can be restored"
	if !b.Restorable {
		verdict = a.paint(a.outTerminal, "31", "cannot be restored: ") + oneLine(b.Why)
	}
	fmt.Fprintf(a.out, "  %s %s%s\n", b.ID, verdict, carried(b, chains))
}

// carried says how far the WAL carries a backup.
func carried(b state.VerifiedBackup, chains []state.Chain) string {
	for _, c := range chains {
		switch {
		case c.Backup != b.ID:
		case c.Whole():
			return fmt.Sprintf("; its WAL is whole to %s on timeline %d, the end of what is archived", c.Reaches, c.Timeline)
		case c.Recorded:
			return fmt.Sprintf("; its WAL is whole to %s, where a recorded gap begins", c.Reaches)
		default:
			missing := make([]string, 0, 4)
			for _, m := range c.Missing[:min(len(c.Missing), 3)] {
				missing = append(missing, m.String())
			}
			if more := len(c.Missing) - len(missing) + c.MoreMissing; more > 0 {
				missing = append(missing, fmt.Sprintf("and %d more", more))
			}
			return fmt.Sprintf("; its WAL is whole only to %s of %s: missing or damaged is %s", c.Reaches, c.Tip, strings.Join(missing, "; "))
		}
	}
	return ""
}

func (a *app) showDamage(f state.Damage) {
	fmt.Fprintf(a.out, "  %s %s: %s\n", a.paint(a.outTerminal, "31", "ERROR ["+string(f.Code)+"]"), f.Object, oneLine(f.Text))
	if len(f.Hurts) > 0 {
		fmt.Fprintf(a.out, "    cannot be restored: %s\n", strings.Join(f.Hurts, ", "))
	}
	for _, l := range f.Lost {
		fmt.Fprintf(a.out, "    lost: %s\n", lostMoments(l))
	}
	if len(f.Hurts) == 0 && len(f.Lost) == 0 {
		fmt.Fprintln(a.out, "    nothing is unrecoverable because of it")
	}
}

// lostMoments says which moments cannot be recovered.
func lostMoments(l state.Lost) string {
	at := func(t time.Time, lsn string) string {
		if t.IsZero() {
			return lsn
		}
		return plan.Moment(t) + " (" + lsn + ")"
	}
	if l.ToLSN == 0 {
		return fmt.Sprintf("every moment after %s on timeline %d", at(l.From, l.FromLSN.String()), l.Timeline)
	}
	return fmt.Sprintf("every moment after %s and before %s on timeline %d", at(l.From, l.FromLSN.String()), at(l.To, l.ToLSN.String()), l.Timeline)
}

// verifiedBackup gives what the newest verification of a cluster found of one backup; nil: nothing.
func verifiedBackup(c state.Cluster, id string) *state.VerifiedBackup {
	if c.Verified == nil {
		return nil
	}
	for i := range c.Verified.Backups {
		if c.Verified.Backups[i].ID == id {
			return &c.Verified.Backups[i]
		}
	}
	return nil
}

// verifiedText says when a backup was last looked at, and what came of it; empty: never.
func verifiedText(v *state.VerifiedBackup) string {
	if v == nil {
		return ""
	}
	text := "quickly on " + plan.Moment(v.Quick) + ", never in full"
	if !v.Full.IsZero() {
		text = "in full on " + plan.Moment(v.Full)
		if v.Quick.After(v.Full) {
			text += ", quickly on " + plan.Moment(v.Quick)
		}
	}
	if v.Restorable {
		return text + ": it can be restored"
	}
	return text + ": it cannot be restored: " + oneLine(v.Why)
}

// showVerifications says when what each repository holds was last proved, and what was found.
func (a *app) showVerifications(seen state.Observation, names []string) {
	first := true
	for _, label := range sorted(seen.Repositories) {
		clusters := seen.Repositories[label].Clusters
		for _, name := range sorted(clusters) {
			if len(names) > 0 && !slices.Contains(names, name) {
				continue
			}
			for _, c := range clusters[name] {
				if c.Verified == nil {
					continue
				}
				if first {
					fmt.Fprintln(a.out)
				}
				first = false
				fmt.Fprintf(a.out, "%s in %s was verified %s\n", name, label, verificationText(c.Verified))
			}
		}
	}
}

func verificationText(v *state.Verification) string {
	var looks []string
	if !v.Full.Began.IsZero() {
		text := "in full on " + plan.Moment(v.Full.Began)
		if v.Full.Sample > 0 {
			text = fmt.Sprintf("by a sample of %d %% on %s", v.Full.Sample, plan.Moment(v.Full.Began))
		}
		looks = append(looks, text)
	}
	if v.Quick.Began.After(v.Full.Began) {
		looks = append(looks, "quickly on "+plan.Moment(v.Quick.Began))
	}
	if v.Ended.IsZero() {
		looks = append(looks, "and is not through with a look that began "+plan.Moment(v.Began))
	} else if len(v.Only) > 0 {
		looks = append(looks, "in part on "+plan.Moment(v.Began))
	}
	found := "no damage"
	if v.Wrong > 0 {
		found = counted(v.Wrong, "damaged object")
	}
	return strings.Join(looks, ", ") + ": " + found
}
