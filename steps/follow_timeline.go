package steps

import (
	"context"
	"fmt"
	"slices"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// followTimeline archives the new timeline's history, which tells every later reader how to get there. The receiver
// itself goes on by itself when its stream on the old timeline ends.
type followTimeline struct {
	server       Server
	servers      Servers
	repositories Repositories
	action       plan.FollowTimeline
}

func (s *followTimeline) Done(ctx context.Context) (bool, error) {
	lacking, err := s.lacking(ctx)
	return len(lacking) == 0, err
}

// lacking gives the clusters that do not hold the history.
func (s *followTimeline) lacking(ctx context.Context) ([]Cluster, error) {
	facts, err := s.server.Facts(ctx)
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", s.action.Server, err)
	}
	var out []Cluster
	for _, label := range s.repositories.Of(s.action.Server) {
		cluster, err := s.repositories.Cluster(ctx, label, s.action.Server, facts.SystemID)
		if err != nil {
			return nil, fmt.Errorf("open repository %q: %w", label, err)
		}
		histories, err := cluster.Histories(ctx)
		if err != nil {
			return nil, fmt.Errorf("read histories of repository %q: %w", label, err)
		}
		if !slices.ContainsFunc(histories, func(h wal.History) bool { return h.Timeline == s.action.Timeline }) {
			out = append(out, cluster)
		}
	}
	return out, nil
}

func (s *followTimeline) Holds(ctx context.Context, c plan.Condition) (verdict, error) {
	if c.Code != plan.NeedDescent {
		return serverCondition(ctx, s.server, c)
	}
	facts, err := s.server.Facts(ctx)
	if err != nil {
		return verdict{}, err
	}
	if facts.Timeline != s.action.Timeline {
		return isStale("the server is on timeline %d now, not %d", facts.Timeline, s.action.Timeline), nil
	}
	return holds(), nil // Run compares the history with what is archived before it writes
}

func (s *followTimeline) Run(ctx context.Context, _ func(done, total int64)) error {
	lacking, err := s.lacking(ctx)
	if err != nil {
		return err
	}
	content, err := s.servers.History(ctx, s.action.Server, s.action.Timeline)
	if err != nil {
		return fmt.Errorf("fetch %s: %w", s.action.Timeline.HistoryName(), err)
	}
	history, err := wal.ParseHistory(s.action.Timeline, content)
	if err != nil {
		return fmt.Errorf("read %s: %w", s.action.Timeline.HistoryName(), err)
	}
	for _, cluster := range lacking {
		if err := descends(ctx, cluster, history); err != nil {
			return err
		}
		if err := cluster.PutHistory(ctx, s.action.Timeline, content); err != nil {
			return fmt.Errorf("archive %s: %w", s.action.Timeline.HistoryName(), err)
		}
	}
	return nil
}

// descends refuses a timeline that does not come from the newest one archived here: that is another cluster's history.
func descends(ctx context.Context, cluster Cluster, h wal.History) error {
	ranges, err := cluster.WALRanges(ctx)
	if err != nil {
		return fmt.Errorf("read WAL: %w", err)
	}
	var newest wal.Timeline
	for _, r := range ranges {
		if r.Timeline < h.Timeline {
			newest = max(newest, r.Timeline)
		}
	}
	if newest == 0 || slices.ContainsFunc(h.Parents, func(p wal.HistoryLine) bool { return p.Timeline == newest }) {
		return nil
	}
	return &state.Error{
		Code: state.CodeFork,
		Text: fmt.Sprintf("timeline %d does not descend from timeline %d, the newest that is archived", h.Timeline, newest),
		Hint: "look at both histories: pgkeep wal list",
	}
}
