package steps

import (
	"context"
	"fmt"
	"slices"

	"github.com/pgkeep/pgkeep/plan"
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
	return serverCondition(ctx, s.server, c)
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
	if _, err := wal.ParseHistory(s.action.Timeline, content); err != nil {
		return fmt.Errorf("read %s: %w", s.action.Timeline.HistoryName(), err)
	}
	for _, cluster := range lacking {
		if err := cluster.PutHistory(ctx, s.action.Timeline, content); err != nil {
			return fmt.Errorf("archive %s: %w", s.action.Timeline.HistoryName(), err)
		}
	}
	return nil
}
