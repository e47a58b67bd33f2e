package steps

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// recordGap writes the gap into every repository of the server, one after the other; a gap object is named by its
// range, so writing it again is nothing new.
type recordGap struct {
	servers      Servers
	repositories Repositories
	spools       Spools
	action       plan.RecordGap
	now          func() time.Time
}

func (s *recordGap) Done(ctx context.Context) (bool, error) {
	for _, label := range s.repositories.Of(s.action.Server) {
		recorded, err := s.recorded(ctx, label)
		if err != nil || !recorded {
			return false, err
		}
	}
	return true, nil
}

func (s *recordGap) recorded(ctx context.Context, label string) (bool, error) {
	cluster, err := s.repositories.Cluster(ctx, label, s.action.Server, s.action.SystemID)
	if err != nil {
		return false, fmt.Errorf("open repository %q: %w", label, err)
	}
	gaps, err := cluster.Gaps(ctx)
	if err != nil {
		return false, fmt.Errorf("read gaps in repository %q: %w", label, err)
	}
	have := make([]wal.Range, 0, len(gaps))
	for _, g := range gaps {
		have = append(have, g.Range)
	}
	return len(wal.Missing(s.action.Range, have)) == 0, nil
}

func (s *recordGap) Holds(ctx context.Context, c plan.Condition) (verdict, error) {
	switch c.Code {
	case plan.NeedLoss:
		return s.stillMissing(ctx)
	}
	return unknownCondition(c), nil
}

// stillMissing: a gap is evidence of loss, so it is never written over WAL that arrived meanwhile, nor while the server
// still has it. Repositories, spool and server are asked again, and each must answer.
func (s *recordGap) stillMissing(ctx context.Context) (verdict, error) {
	for _, label := range s.repositories.Of(s.action.Server) {
		cluster, err := s.repositories.Cluster(ctx, label, s.action.Server, s.action.SystemID)
		if err != nil {
			return verdict{}, fmt.Errorf("open repository %q: %w", label, err)
		}
		ranges, err := cluster.WALRanges(ctx)
		if err != nil {
			return verdict{}, fmt.Errorf("read WAL of repository %q: %w", label, err)
		}
		for _, r := range ranges {
			if overlap(r.Range, s.action.Range) {
				return isStale("repository %q holds WAL of %s now", label, r.Range), nil
			}
		}
	}
	if sp, err := s.spools.Look(ctx, s.action.Server); err != nil {
		return verdict{kind: blocked, because: "what the spool holds is not known: " + err.Error()}, nil
	} else if sp.SystemID == s.action.SystemID && spooled(sp, s.action.Range) {
		return isStale("the spool %s holds WAL of %s now", sp.Path, s.action.Range), nil
	}
	serves, err := s.servers.Serves(ctx, s.action.Server, s.action.Range.Timeline, s.action.Range.From)
	if err != nil {
		return verdict{}, fmt.Errorf("ask %s for WAL from %s on: %w", s.action.Server, s.action.Range.From, err)
	}
	if serves {
		return isStale("%s has WAL from %s of timeline %d on: nothing is lost", s.action.Server, s.action.Range.From, s.action.Range.Timeline), nil
	}
	return holds(), nil
}

// spooled tells whether a spool holds something of a range.
func spooled(sp state.Spool, r wal.Range) bool {
	if sp.Timeline == r.Timeline && sp.Durable > r.From {
		return true
	}
	return slices.ContainsFunc(sp.Pending, func(p wal.Range) bool { return overlap(p, r) })
}

func overlap(a, b wal.Range) bool {
	return a.Timeline == b.Timeline && a.From < b.To && b.From < a.To
}

func (s *recordGap) Run(ctx context.Context, _ func(done, total int64)) error {
	gap := state.Gap{Range: s.action.Range, Reason: s.action.Reason, Recorded: s.now().UTC()}
	for _, label := range s.repositories.Of(s.action.Server) {
		recorded, err := s.recorded(ctx, label)
		if err != nil {
			return err
		}
		if recorded {
			continue
		}
		cluster, err := s.repositories.Cluster(ctx, label, s.action.Server, s.action.SystemID)
		if err != nil {
			return fmt.Errorf("open repository %q: %w", label, err)
		}
		if err := cluster.RecordGap(ctx, gap); err != nil {
			return fmt.Errorf("record the gap in repository %q: %w", label, err)
		}
	}
	return nil
}
