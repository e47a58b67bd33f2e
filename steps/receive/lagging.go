package receive

import (
	"context"
	"fmt"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/spool"
	"github.com/pgkeep/pgkeep/state/wal"
)

// lookEvery is how often an archive with a hole is asked whether somebody filled it.
const lookEvery = 10 * time.Second

func aboutLack(name string) string { return "7 hole of " + name }

// after tells whether a ends behind b, on a later timeline or on the same.
func after(a, b wal.Range) bool {
	return a.Timeline > b.Timeline || a.Timeline == b.Timeline && a.To > b.To
}

// furthest gives the answer that reaches furthest; empty: none holds anything.
func furthest(all []answer) answer {
	var best answer
	for _, a := range all {
		if after(a.newest, best.newest) {
			best = a
		}
	}
	return best
}

// least gives the answer that reaches least, of those that hold anything.
func least(all []answer) answer {
	var out answer
	for _, a := range all {
		if !a.newest.Empty() && (out.newest.Empty() || after(out.newest, a.newest)) {
			out = a
		}
	}
	return out
}

// lackBefore is what an archive lacks when it gets nothing between what it and the spool hold and begins; empty: nothing.
// One that held nothing lacks everything, on no timeline. Where a timeline was left in between, nothing is taken for held.
func lackBefore(a answer, p spool.Position, tli wal.Timeline, begins wal.LSN) wal.Range {
	own := a.newest
	if ours := (wal.Range{Timeline: p.Timeline, To: p.Durable}); after(ours, own) {
		own = ours // it gets that from the spool
	}
	switch {
	case own.Timeline == 0:
		return wal.Range{To: begins}
	case own.Timeline < tli:
		return wal.Range{Timeline: tli, To: begins}
	case own.Timeline > tli || own.To >= begins:
		return wal.Range{}
	default:
		return wal.Range{Timeline: tli, From: own.To, To: begins}
	}
}

// passOver keeps, before the stream goes on from begins, what archives then lack that reach less far or did not answer.
func (s *session) passOver(all []answer, tli wal.Timeline, begins wal.LSN) error {
	byName := map[string]answer{}
	for _, a := range all {
		byName[a.name] = a
	}
	p := s.spool.Position()
	for i, u := range s.uploads {
		if r := lackBefore(byName[u.archive.Name], p, tli, begins); r != (wal.Range{}) {
			s.tail.lacking(i, r)
		}
	}
	return s.keepLacks()
}

func (s *session) keepLacks() error {
	s.lacks.Lock()
	defer s.lacks.Unlock()
	out := map[string]wal.Range{}
	for i, u := range s.uploads {
		if r := s.tail.lack(i); r != (wal.Range{}) {
			out[u.archive.Name] = r
		}
	}
	return s.spool.PutLacks(out)
}

// loadLacks takes over what an earlier run knew of holes.
func (s *session) loadLacks() error {
	known, err := s.spool.Lacks()
	if err != nil {
		return err
	}
	for i, u := range s.uploads {
		if r, ok := known[u.archive.Name]; ok {
			s.tail.lacking(i, r)
		}
	}
	return nil
}

// lookAtLack asks an archive with a hole whether it is filled: until then nothing behind the hole counts as held.
func (u *uploader) lookAtLack(ctx context.Context, c Cluster) error {
	lack := u.s.tail.lack(u.index)
	if lack == (wal.Range{}) || time.Since(u.lookedAt) < lookEvery {
		return nil
	}
	u.lookedAt = time.Now()
	ranges, err := c.WALRanges(ctx)
	if err != nil {
		return u.named("list archived WAL", err)
	}
	if !fills(ranges, lack) {
		if lack.Timeline != 0 {
			u.s.report.problem(aboutLack(u.archive.Name), u.lackError(lack))
		}
		return nil
	}
	if u.s.tail.filled(u.index, lack) {
		u.s.report.solved(aboutLack(u.archive.Name))
	}
	return u.s.keepLacks()
}

// lackError is not of state.CodeGap: the planner takes that for word that nobody has the WAL any more.
func (u *uploader) lackError(lack wal.Range) error {
	return &state.Error{
		Code: state.CodeIO,
		Text: fmt.Sprintf("repository %s lacks WAL of %s before %s that another repository holds, and the server did not send it again: nothing from %s on counts as held there",
			u.archive.Name, u.s.o.Server, lack.To, lack.From),
		Hint: "take a new base backup into it; its WAL counts again once the missing segments are copied from the other repository",
	}
}

// fills tells whether an archive holds what it lacked. Of one that held nothing, WAL from before its first was never due.
func fills(ranges []state.WALRange, lack wal.Range) bool {
	for _, r := range ranges {
		end := max(r.To, r.Partial)
		if lack.Timeline == 0 && end > lack.To || r.Timeline == lack.Timeline && r.From <= lack.From && end >= lack.To {
			return true
		}
	}
	return false
}

// lacking says that archive i lacks r: what it holds behind that does not count. A hole that it has already grows.
func (t *tail) lacking(i int, r wal.Range) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.lacks[i]; old != (wal.Range{}) {
		r.From, r.To = min(old.From, r.From), max(old.To, r.To)
	}
	t.lacks[i] = r
}

// lack gives what archive i lacks; zero: nothing is known.
func (t *tail) lack(i int) wal.Range {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lacks[i]
}

// filled forgets that archive i lacks r, unless the hole has grown meanwhile.
func (t *tail) filled(i int, r wal.Range) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lacks[i] != r {
		return false
	}
	t.lacks[i] = wal.Range{}
	return true
}
