package plan

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
)

// drills plans to recover the server for real where that was not done for longer than a drill block says, and tells of drills
// that failed.
func (b *builder) drills(s *server) {
	for i := range b.spec.Drills {
		d := &b.spec.Drills[i]
		if d.Server != s.Name {
			continue
		}
		known, _ := newestDrill(s, d.Name)
		if known != nil && !known.Passed {
			b.drillFailed(s, known, d.Where.Block, "pgkeep drill "+d.Name)
		}
		since, why, next := b.drillDue(s, d, known)
		if !next.IsZero() {
			b.plan.NextDue = append(b.plan.NextDue, Due{At: next, What: "drill", Subject: s.Name})
		}
		if why != "" && !b.opt.IgnoreDue {
			b.drill(s, d, since, because("drill-due", why, d.Where.Block))
		}
	}
	b.failedByHand(s)
}

// failedByHand tells of a drill without a block that failed, for as long as its backup is there and nothing passed since.
func (b *builder) failedByHand(s *server) {
	var newest *state.Drill // that says anything
	there := false
	for _, h := range s.homes {
		if h.archive == nil {
			continue
		}
		for i := range h.archive.Drills {
			if d := &h.archive.Drills[i]; newest == nil || d.Ended.After(newest.Ended) {
				newest = d
				there = slices.ContainsFunc(h.archive.Backups, func(k state.Backup) bool { return k.ID == d.Backup })
			}
		}
	}
	if newest == nil || newest.Passed || !there || slices.ContainsFunc(b.spec.Drills, func(d hclspec.Drill) bool { return d.Name == newest.Drill && d.Server == s.Name }) {
		return
	}
	b.drillFailed(s, newest, s.Where.Block, "pgkeep drill --server "+s.Name)
}

// drillFailed tells what a drill has shown, and what drills again, after which it is told no more.
func (b *builder) drillFailed(s *server, d *state.Drill, where hcl.Range, again string) {
	b.finding(Finding{
		Severity: Error, Code: state.CodeDrill, Subject: s.Address, Text: failedDrill(d), Range: rangeOf(where),
		Hint: "pgkeep drill show " + d.Drill + "; then restore from another backup, or take a new one of a mended server: pgkeep backup " + s.Name + "; and drill again: " + again,
	})
}

// newestDrill gives the newest evidence of a drill in any repository of the server, and the newest of one that passed; nil: there is
// none.
func newestDrill(s *server, name string) (newest, passed *state.Drill) {
	for _, h := range s.homes {
		if h.archive == nil {
			continue
		}
		for i := range h.archive.Drills {
			d := &h.archive.Drills[i]
			if d.Drill != name {
				continue
			}
			if newest == nil || d.Ended.After(newest.Ended) {
				newest = d
			}
			if d.Passed && (passed == nil || d.Ended.After(passed.Ended)) {
				passed = d
			}
		}
	}
	return newest, passed
}

// failedDrill says what a drill has shown.
func failedDrill(d *state.Drill) string {
	text := fmt.Sprintf("the drill %s of %s failed: backup %s in repository.%s", d.Drill, Moment(d.Ended), d.Backup, d.Repository)
	if len(d.Failures) > 0 {
		text += ": " + d.Failures[0]
	}
	if n := len(d.Failures) - 1; n > 0 {
		text += fmt.Sprintf("; and %d more", n)
	}
	return text
}

// drillDue tells since when a drill is due, and when it will be next; why is empty when it is not. What was never drilled is as old as
// its oldest backup.
func (b *builder) drillDue(s *server, d *hclspec.Drill, known *state.Drill) (since time.Time, why string, next time.Time) {
	var last time.Time
	was := ""
	if known != nil {
		last, was = known.Began, "the newest drill began "+Moment(known.Began)
	} else {
		for _, h := range s.homes {
			if h.archive != nil {
				if oldest := oldestBackup(h.archive.Cluster); !oldest.IsZero() && (last.IsZero() || oldest.Before(last)) {
					last = oldest
				}
			}
		}
		was = "no drill was ever made; the oldest backup is of " + Moment(last)
	}
	if last.IsZero() {
		return since, "", next
	}
	return b.dueAgain(periodic{d.Address, d.Cron, d.Timezone, d.MaxAge}, last, was)
}

// drillNow plans a drill that was asked for by hand.
func (b *builder) drillNow(now DrillNow) {
	var known []string
	for i := range b.spec.Drills {
		d := &b.spec.Drills[i]
		if d.Name == now.Name {
			if s := b.asked(d.Server); s != nil {
				b.owner = "server." + s.Name
				b.drill(s, d, b.now, Reason{Code: "asked", Text: "asked for by hand"})
			}
			return
		}
		known = append(known, d.Name)
	}
	b.refuseAsked("No such drill", fmt.Sprintf("The configuration has no drill %q. It has %s.", now.Name, names(known)), nil)
}

// drill plans one drill, or says why it cannot be made.
func (b *builder) drill(s *server, d *hclspec.Drill, since time.Time, why Reason) {
	refuse := func(r refusal, host string) {
		b.notDone(NotDone{What: "drill " + d.Name + " of " + s.Name, Why: because("cannot-drill", r.text, d.Where.Block), Hint: r.hint, Host: host})
		if host == "" {
			b.finding(Finding{Severity: Warning, Code: r.code, Subject: s.Address, Text: "the drill " + d.Name + " cannot be made: " + r.text, Hint: r.hint, Range: rangeOf(d.Where.Block)})
		}
	}
	if !b.here(d.Host) {
		refuse(refusal{state.CodeOtherHost, fmt.Sprintf("it runs on %s and this machine is %s", d.Host, b.seen.Host), runOn(d.Host)}, d.Host)
		return
	}
	route, h, not := b.drillRoute(s, d, since)
	if not == nil {
		not = b.scratchRefusal(d, h, route)
	}
	if not != nil {
		refuse(*not, "")
		return
	}
	b.step(Step{
		ID: "server." + s.Name + "/drill/" + d.Name, Change: NoChange, Impact: Safe, Host: d.Host, Because: []Reason{why}, Effect: b.drillEffect(d, h, route),
		Action: Drill{
			Drill: d.Name, Route: *route, Major: h.archive.Major, RepositoryID: h.seen.ID, Amcheck: d.Amcheck, Canaries: d.Canaries, MaxShrink: d.MaxShrink,
			Timeout: d.Timeout.String(), Checks: d.Checks, Since: since.UTC(),
		},
		Requires: []Condition{
			{Code: NeedUndrilled, Text: "nobody else made this drill since " + Moment(since)},
			{Code: NeedBackup, Text: "backup " + route.Backup + " is still there"},
			{Code: NeedWAL, Text: "all WAL of the route is still there"},
			{Code: NeedScratch, Text: d.Scratch + " has room for the copy, and no other drill works there"},
		},
	})
}

// drillRoute chooses what is recovered: of the repository that is named, or the nearest with a usable backup.
func (b *builder) drillRoute(s *server, d *hclspec.Drill, since time.Time) (*Route, *home, *refusal) {
	var homes []*home
	for _, h := range s.homes {
		if h.archive != nil && h.create == "" && (d.Repository == "" || d.Repository == h.spec.Name) {
			homes = append(homes, h)
		}
	}
	slices.SortStableFunc(homes, func(x, y *home) int { return cmp.Compare(far(x), far(y)) })
	homes, not := openHomes(s.Name, homes)
	if not != nil {
		not.hint = "run pgkeep drill where an identity of one of the data_recipients is, and name that machine in the block with host"
		return nil, nil, not
	}
	for _, h := range homes {
		target, c := drillTarget(h.archive, d, since)
		if c == nil {
			continue
		}
		r := &Route{
			Server: s.Name, SystemID: h.archive.SystemID, Repository: h.spec.Name, SegmentSize: h.archive.size, Backup: c.backup.ID, Target: target,
			Destination: hclspec.Destination{Host: d.Host, Path: d.Scratch, Owner: d.Owner, BinDir: d.BinDir, WAL: "fetch"}, WALWait: d.WALWait,
			Path: c.line.path(c.backup.Redo, c.end, h.archive.size), TargetTimeline: c.line.timeline, End: c.end, DataBytes: c.backup.DataBytes, AtEnd: target.Latest,
		}
		for _, p := range r.Path {
			r.WALBytes += int64(h.archive.size.Ceil(p.To) - h.archive.size.Floor(p.From))
		}
		return r, h, nil
	}
	return nil, nil, &refusal{state.CodeTarget, "no repository that was seen holds a usable backup of " + s.Name, "pgkeep backups list " + s.Name}
}

// scratchRefusal refuses a scratch directory in which no copy can be restored and started.
func (b *builder) scratchRefusal(d *hclspec.Drill, h *home, r *Route) *refusal {
	at, ok := b.seen.Scratches[d.Name]
	no := func(code state.Code, hint, text string, args ...any) *refusal {
		return &refusal{code, fmt.Sprintf(text, args...), hint}
	}
	need := DrillSpace(*r)
	switch free, told := at.Free[d.Scratch]; {
	case !ok:
		return no(state.CodeDestination, "", "the scratch directory %s was not looked at", d.Scratch)
	case at.Unknown != nil:
		return &refusal{at.Unknown.Code, at.Unknown.Because, at.Unknown.Hint}
	case !at.OwnerExists:
		return no(state.CodeDestination, "create the user, or name another with owner", "the user %q does not exist here", d.Owner)
	case !at.CanOwn:
		return no(state.CodeDestination, "run as root or as that user", "files cannot be given to %q by this user", d.Owner)
	case at.BinVersion == 0 || at.BinVersion != h.archive.Major:
		return no(state.CodeDestination, "install PostgreSQL, or name its bindir", "no programs of PostgreSQL %d were found", h.archive.Major)
	case h.seen.Encryption != nil && !h.seen.Encryption.Writes:
		return no(state.CodeNoKey, "run where the signing_key is", "%s is encrypted and no signing key is here, so the evidence could not be kept", h.spec.Address)
	case told && free < need:
		return no(state.CodeDiskFull, "name a larger scratch directory, or make room there", "%s has %s free, and a copy of %s takes %s", d.Scratch, Size(free), r.Backup, Size(need))
	}
	return nil
}

// DrillSpace is what a copy takes: its data, a tenth more for what replay adds, and WAL on its way, of which at most a gibibyte
// is there at once.
func DrillSpace(r Route) int64 { return r.DataBytes + r.DataBytes/10 + min(r.WALBytes, 1<<30) }

func (b *builder) drillEffect(d *hclspec.Drill, h *home, r *Route) string {
	text := fmt.Sprintf("restores %s into %s for as long as it takes, replays %s of WAL, asks the copy and removes it", Size(r.DataBytes), d.Scratch, Size(r.WALBytes))
	if free, ok := b.seen.Scratches[d.Name].Free[d.Scratch]; ok {
		text += fmt.Sprintf(" (%s are free there)", Size(free))
	}
	if e := EstimateRecovery(h.archive.Measured, effortOf(r)); len(e.Parts) > 0 {
		text += "; the recovery takes about " + Span(e.Duration()) + ", by what earlier ones took"
	}
	return text
}

// effortOf is what a recovery of the route has to do.
func effortOf(r *Route) Effort {
	e := Effort{DataBytes: r.DataBytes, ReplayWAL: r.WALBytes}
	if r.Destination.WAL == "copy" {
		e.CopiedWAL = r.WALBytes
	}
	return e
}
