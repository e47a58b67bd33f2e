package plan

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// Recoverability says to which moments a server can be recovered from one repository.
type Recoverability struct {
	Server     string `json:"server"`
	Repository string `json:"repository"`
	SystemID   string `json:"system_id,omitempty"`
	Unknown    string `json:"unknown,omitempty"` // why nothing is known; empty: known
	// Lines are the line of history that the server writes now, then each that was left with moments of its own, newest first.
	Lines []RecoverableLine `json:"lines,omitempty"`
	Waits string            `json:"waits,omitempty"` // what the first backup still waits for; empty: nothing
	Loss  string            `json:"loss,omitempty"`  // what would be lost now, as a sentence
}

// RecoverableLine is one line of history: a timeline with those that it grew out of.
type RecoverableLine struct {
	Timeline  wal.Timeline         `json:"timeline"`
	Parents   []state.Parent       `json:"parents,omitempty"` // oldest first
	Current   bool                 `json:"current"`           // a recovery goes along it unless another timeline is named
	Stretches []RecoverableStretch `json:"stretches"`         // in the order of the WAL, without one in between that is not told
}

// Provability is how sure it is that the moments of a stretch can be recovered.
type Provability string

// The kinds of stretches.
const (
	Provable      Provability = "provable" // a full verification has read backup and WAL, and all was as written
	Present       Provability = "present"  // all that is needed is there, and was not all read since it was written
	Unrecoverable Provability = "gap"      // no moment in it can be recovered
)

// RecoverableStretch is a stretch of moments that can, or cannot, be recovered.
type RecoverableStretch struct {
	Kind Provability `json:"kind"`
	// From and To are moments that are surely in it; of a gap, the ones around it. Inside a stretch of WAL the index is not
	// asked, so that commits after To may be in it too: LSNs are exact. Zero: not known.
	From     time.Time    `json:"from,omitzero"`
	To       time.Time    `json:"to,omitzero"`
	FromLSN  wal.LSN      `json:"from_lsn"`
	ToLSN    wal.LSN      `json:"to_lsn"`
	Timeline wal.Timeline `json:"timeline"`         // at its end
	Backup   string       `json:"backup,omitempty"` // the newest that its first moment is recovered from
	Why      string       `json:"why"`              // the evidence, or the cause of a gap
}

// Recoverable says to which moments a server can be recovered, from each of its repositories: what was proved by reading it
// apart from what is merely there, and why there are gaps. It is pure, as Build is.
func Recoverable(spec *hclspec.Spec, seen state.Observation, now time.Time, server string) []Recoverability {
	b := newBuilder(spec, seen, now, Options{})
	for i := range spec.Repositories { // learns what was seen; its steps are nobody's
		b.repository(&spec.Repositories[i])
	}
	s := b.gather(b.serverNamed(server))
	b.windows(s)
	var out []Recoverability
	for _, w := range b.plan.Windows {
		if w.SystemID == "" {
			out = append(out, Recoverability{Server: s.Name, Repository: w.Repository, SystemID: s.systemID, Unknown: w.Unknown, Waits: w.Waits, Loss: w.Loss})
		}
	}
	for _, h := range s.homes {
		for i := range out {
			if out[i].Repository == h.spec.Name && h.archive != nil {
				out[i].Lines = b.recoverableLines(s, h)
			}
		}
	}
	return out
}

func (b *builder) recoverableLines(s *server, h *home) []RecoverableLine {
	var out []RecoverableLine
	a := h.archive
	var rules Retained // without a block nothing is let go
	if blocks := b.retentionsOf(s.Name, h); len(blocks) > 0 {
		rules = Retain(a.Cluster, Join(blocks), b.deletionClock(s, h), s.seen.Timeline)
	}
	for _, x := range a.lines {
		current := x.timeline == a.current.timeline
		from := wal.LSN(0)
		if !current {
			from = a.parting(x)
		}
		stretches := a.stretchesOn(x, from, rules)
		if current && len(stretches) > 0 {
			b.untilNow(s, &stretches[len(stretches)-1])
		}
		if len(stretches) > 0 {
			out = append(out, RecoverableLine{Timeline: x.timeline, Parents: x.parents, Current: current, Stretches: stretches})
		}
	}
	slices.SortStableFunc(out, func(p, q RecoverableLine) int {
		if p.Current != q.Current {
			return map[bool]int{true: -1, false: 1}[p.Current]
		}
		return cmp.Compare(q.Timeline, p.Timeline)
	})
	return out
}

// untilNow moves the end of the newest stretch to the last moment at which the receiver had archived all there was.
func (b *builder) untilNow(s *server, last *RecoverableStretch) {
	if last.Kind == Unrecoverable {
		return
	}
	end := []Interval{{To: last.To, ToLSN: last.ToLSN}}
	b.caughtUp(s, end)
	last.To = end[0].To
}

// parting gives the position from which line x is not the current one any more.
func (a *archive) parting(x line) wal.LSN {
	at := wal.LSN(0)
	for _, s := range x.stretches() {
		left, on := a.current.left(s.Timeline)
		if !on {
			return at
		}
		if at = min(s.To, left); at < s.To {
			return at
		}
	}
	return at
}

// stretchesOn gives what can be recovered of a line from a position on, and the gaps between.
func (a *archive) stretchesOn(x line, from wal.LSN, rules Retained) []RecoverableStretch {
	var out []RecoverableStretch
	for _, i := range a.intervalsOn(x) {
		if i.ToLSN <= from {
			continue
		}
		if n := len(out); n > 0 {
			out = append(out, a.gapBetween(x, out[n-1], i, rules))
		}
		if i.FromLSN < from {
			i.FromLSN, i.From = from, a.timeOn(x, from)
		}
		out = append(out, a.proved(x, i)...)
	}
	if n := len(out); n > 0 {
		if gap, ok := a.gapAfter(x, out[n-1]); ok {
			out = append(out, gap)
		}
	}
	return out
}

// proved parts an interval into what was read and what is only there.
func (a *archive) proved(x line, i Interval) []RecoverableStretch {
	read := a.readOn(x)
	var out []RecoverableStretch
	at := i.FromLSN
	add := func(to wal.LSN, kind Provability, why string) {
		if to <= at && to != i.ToLSN || to < at {
			return
		}
		s := RecoverableStretch{Kind: kind, FromLSN: at, ToLSN: to, From: i.From, To: i.To, Timeline: i.Timeline, Backup: a.newestAt(x, at), Why: why}
		if at != i.FromLSN {
			s.From = a.timeOn(x, at)
		}
		if to != i.ToLSN {
			s.To, s.Timeline = later(s.From, a.timeOn(x, to)), a.timelineOn(x, to)
		}
		out = append(out, s)
		at = to
	}
	for _, r := range read {
		if r.To <= at || r.From >= i.ToLSN {
			continue
		}
		add(max(r.From, at), Present, a.notRead())
		add(min(r.To, i.ToLSN), Provable, a.readText())
	}
	if at < i.ToLSN || len(out) == 0 {
		add(i.ToLSN, Present, a.notRead())
	}
	return out
}

// readOn gives the positions that can be reached from backups that were read, along WAL that was read.
func (a *archive) readOn(x line) []wal.Range {
	v := a.Verified
	if v == nil {
		return nil
	}
	known := *a
	known.have = nil
	for _, h := range a.have {
		known.have = append(known.have, intersect(h, v.ReadWAL)...)
	}
	var out []wal.Range
	for _, k := range v.Backups {
		at := slices.IndexFunc(a.Backups, func(b state.Backup) bool { return b.ID == k.ID })
		if k.Full.IsZero() || !k.Restorable || at < 0 {
			continue
		}
		b := &a.Backups[at]
		if !x.holds(b.Timeline, b.Stop) || a.usability(b) != state.Usable {
			continue
		}
		if end := known.reach(x, b); end > b.Stop {
			out = append(out, wal.Range{Timeline: x.timeline, From: b.Stop, To: end})
		}
	}
	return wal.Merge(out)
}

// intersect gives the parts of a range that one of others holds.
func intersect(r wal.Range, others []wal.Range) []wal.Range {
	var out []wal.Range
	for _, o := range others {
		both := wal.Range{Timeline: r.Timeline, From: max(r.From, o.From), To: min(r.To, o.To)}
		if o.Timeline == r.Timeline && !both.Empty() {
			out = append(out, both)
		}
	}
	return wal.Merge(out)
}

func (a *archive) readText() string {
	return "backup and WAL were read and proved; the newest full verification began at " + Moment(a.Verified.Full.Began)
}

func (a *archive) notRead() string {
	switch v := a.Verified; {
	case v == nil || v.Full.Began.IsZero():
		return "all is there; no full verification has read it yet"
	case v.Full.Sample > 0:
		return fmt.Sprintf("all is there; the full verification of %s read a sample of %d %%", Moment(v.Full.Began), v.Full.Sample)
	default:
		return fmt.Sprintf("all is there; the full verification of %s has not read all of it", Moment(v.Full.Began))
	}
}
