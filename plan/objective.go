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
		b.promise(s, "rpo", want, o.RPO, "pgkeep receiver status "+s.Name)
	}
	if want := s.Objective.RTO; want > 0 {
		o.RTO = b.rto(s, want)
		hint := "take backups more often, so that there is less WAL to replay, or restore to a faster machine"
		if !o.RTO.Known {
			hint = "measure it: pgkeep drill --server " + s.Name
			for i := range b.spec.Drills {
				if b.spec.Drills[i].Server == s.Name {
					hint = "measure it: pgkeep drill " + b.spec.Drills[i].Name
				}
			}
		}
		b.promise(s, "rto", want, o.RTO, hint)
	}
	b.plan.Objectives = append(b.plan.Objectives, o)
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
		_, c := drillTarget(h.archive, &hclspec.Drill{Target: hclspec.DrillTarget{Latest: true}}, b.now)
		if c == nil {
			continue
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
