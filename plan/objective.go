package plan

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
)

// Objective says how a server stands to what is promised of it.
type Objective struct {
	Server string   `json:"server"`
	RPO    *Promise `json:"rpo,omitempty"` // nil: nothing is promised
	RTO    *Promise `json:"rto,omitempty"`
}

// Promise is one objective with what was measured.
type Promise struct {
	Promised float64 `json:"promised"`      // seconds
	Now      float64 `json:"now,omitempty"` // seconds, of one that is known
	Known    bool    `json:"known"`         // false: nothing was seen or measured that would tell
	Met      bool    `json:"met"`           // false of one that is not known
	Text     string  `json:"text"`          // the arithmetic, or why it is not known
}

// objective compares what is promised of a server with what was measured, and warns where it is missed or not proven.
func (b *builder) objective(s *server) {
	if s.Objective == (hclspec.Objective{}) {
		return
	}
	o := Objective{Server: s.Name}
	if want := s.Objective.RPO; want > 0 {
		o.RPO = b.rpo(s, want)
		hint := "pgkeep receiver status " + s.Name
		_, usable := usableAnywhere(s)
		if r, ok := b.reportOf(s); ok && !r.Running || !usable {
			hint = "pgkeep apply"
		}
		b.promise(s, "rpo", want, o.RPO, hint)
	}
	if want := s.Objective.RTO; want > 0 {
		o.RTO = b.rto(s, want)
		b.promise(s, "rto", want, o.RTO, b.rtoHint(s, o.RTO))
	}
	b.plan.Objectives = append(b.plan.Objectives, o)
}

// rtoHint says what helps where the promise is not kept.
func (b *builder) rtoHint(s *server, p *Promise) string {
	if p.Known {
		return "take backups more often, so that there is less WAL to replay, or restore to a faster machine"
	}
	if _, usable := usableAnywhere(s); !usable {
		return "take one, then measure it with a drill: pgkeep apply"
	}
	for _, h := range s.homes {
		if h.archive == nil {
			continue
		}
		if c := newestUsable(h.archive); c != nil && failedOn(h.archive, c.backup.ID) != nil {
			return "pgkeep drill show " + failedOn(h.archive, c.backup.ID).Drill
		}
	}
	for i := range b.spec.Drills {
		if b.spec.Drills[i].Server == s.Name {
			return "measure it: pgkeep drill " + b.spec.Drills[i].Name
		}
	}
	return "measure it: pgkeep drill --server " + s.Name
}

// promise warns of one that is not met.
func (b *builder) promise(s *server, name string, want time.Duration, p *Promise, hint string) {
	if p.Met {
		return
	}
	b.finding(Finding{
		Severity: Warning, Code: state.CodeObjective, Subject: s.Address, Text: p.sentence(name, want), Hint: hint, Range: rangeOf(s.Where.Of("objective." + name)),
	})
}

func (p *Promise) sentence(name string, want time.Duration) string {
	verdict := "is missed"
	switch {
	case p.Met:
		verdict = "is met"
	case !p.Known:
		verdict = "is not proven"
	}
	return fmt.Sprintf("objective.%s of %s %s: %s", name, hclspec.FormatDuration(want), verdict, p.Text)
}

// Sentences says of each promise that is kept how it is, with the arithmetic. Of one that is not, a Finding of the plan tells.
func (o Objective) Sentences() []string {
	var out []string
	for _, x := range []struct {
		name string
		p    *Promise
	}{{"rpo", o.RPO}, {"rto", o.RTO}} {
		if x.p != nil && x.p.Met {
			out = append(out, o.Server+": "+x.p.sentence(x.name, time.Duration(x.p.Promised*float64(time.Second))))
		}
	}
	return out
}

func (p *Promise) set(now time.Duration, text string) *Promise {
	p.Now, p.Known, p.Met, p.Text = now.Seconds(), true, now.Seconds() <= p.Promised, text
	return p
}

// rpo tells how much would be lost if the server were gone now, as time.
func (b *builder) rpo(s *server, want time.Duration) *Promise {
	p := &Promise{Promised: want.Seconds()}
	if !s.known {
		p.Text = s.Name + " was not seen"
		return p
	}
	if seen, usable := usableAnywhere(s); seen && !usable {
		p.Known, p.Text = true, "there is no usable backup of "+s.Name+", without which no WAL brings anything back"
		return p
	}
	if r, ok := b.reportOf(s); ok && r.Running && r.Flushed != 0 && r.Timeline == s.seen.Timeline {
		switch {
		case r.Flushed >= s.seen.FlushLSN:
			return p.set(0, "the receiver has all that "+s.Name+" had written")
		case r.CaughtUpAt.IsZero() || r.CaughtUpAt.After(b.now):
			p.Text = fmt.Sprintf("the receiver has not caught up yet: it is at %s of %s", r.Flushed, s.seen.FlushLSN)
			return p
		}
		lag := b.now.Sub(r.CaughtUpAt)
		return p.set(lag, fmt.Sprintf("the receiver is %s behind: it had everything at %s last, and now lacks %s of WAL", Span(lag), Moment(r.CaughtUpAt), Size(int64(s.seen.FlushLSN-r.Flushed))))
	}
	t, end, complete := b.durable(s)
	if t == s.seen.Timeline && end >= s.seen.FlushLSN {
		return p.set(0, "all that "+s.Name+" had written is held")
	}
	if !complete {
		p.Text = "no receiver of " + s.Name + " was seen here to ask"
		return p
	}
	var at time.Time
	for _, h := range s.homes {
		if h.archive != nil {
			at = later(at, h.archive.lastCommit(end))
		}
	}
	if at.IsZero() || at.After(b.now) {
		p.Known, p.Text = true, "no receiver runs, and nothing tells up to when anything is held"
		return p
	}
	lag := b.now.Sub(at)
	return p.set(lag, fmt.Sprintf("no receiver runs: the newest commit that is held is of %s, %s ago", Moment(at), Span(lag)))
}

// newestUsable gives the backup that a recovery to the newest moment begins with; nil: there is none.
func newestUsable(a *archive) *candidate {
	_, c := drillTarget(a, &hclspec.Drill{Target: hclspec.DrillTarget{Latest: true}}, time.Time{})
	return c
}

// usableAnywhere tells whether every repository of the server was seen, and whether one of them has a usable backup.
func usableAnywhere(s *server) (seen, usable bool) {
	usable = slices.ContainsFunc(s.homes, func(h *home) bool { return h.archive != nil && newestUsable(h.archive) != nil })
	return len(s.homes) == len(s.Repositories), usable
}

// failedOn gives the newest drill of a backup when it failed; nil: it passed, or there was none.
func failedOn(a *archive, backup string) *state.Drill {
	var newest *state.Drill
	for i := range a.Drills {
		d := &a.Drills[i]
		if d.Backup == backup && (newest == nil || d.Ended.After(newest.Ended)) {
			newest = d
		}
	}
	if newest == nil || newest.Passed {
		return nil
	}
	return newest
}

// rto tells how long a recovery to the newest moment takes, by what earlier recoveries and drills took.
func (b *builder) rto(s *server, want time.Duration) *Promise {
	p := &Promise{Promised: want.Seconds()}
	var homes []*home
	for _, h := range s.homes {
		if h.archive != nil {
			homes = append(homes, h)
		}
	}
	slices.SortStableFunc(homes, func(x, y *home) int { return cmp.Compare(far(x), far(y)) })
	for _, h := range homes {
		c := newestUsable(h.archive)
		if c == nil {
			continue
		}
		if d := failedOn(h.archive, c.backup.ID); d != nil {
			p.Text = fmt.Sprintf("the drill %s of %s has shown that %s is no good", d.Drill, Moment(d.Ended), c.backup.ID)
			return p
		}
		r := &Route{DataBytes: c.backup.DataBytes}
		for _, w := range c.line.path(c.backup.Redo, c.end, h.archive.size) {
			r.WALBytes += int64(h.archive.size.Ceil(w.To) - h.archive.size.Floor(w.From)) // as a route counts, by which it was measured
		}
		e := EstimateRecovery(h.archive.Measured, effortOf(r))
		if !e.Known() {
			p.Text = e.Sentence()
			return p
		}
		return p.set(e.Duration(), fmt.Sprintf("from %s, %s", c.backup.ID, e.Sentence()))
	}
	p.Text = "there is no usable backup of " + s.Name
	return p
}
