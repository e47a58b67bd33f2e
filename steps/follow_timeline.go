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
	_, history, err := s.history(ctx)
	if err != nil {
		return verdict{}, err
	}
	if left := leftAt(history, c.Value); left != "" {
		return isStale("%s", left), nil
	}
	lacking, err := s.lacking(ctx)
	if err != nil {
		return verdict{}, err
	}
	for _, cluster := range lacking {
		if err := descends(ctx, cluster, history); err != nil {
			return isRefused("%s", err), nil
		}
	}
	return holds(), nil
}

// leftAt compares the switch that the plan saw, "TIMELINE@POSITION", with the history; empty: it is the same, or the
// plan could not see it.
func leftAt(h wal.History, want string) string {
	if want == "" {
		return ""
	}
	for _, p := range h.Parents {
		if fmt.Sprintf("%d@%s", p.Timeline, p.Switch) == want {
			return ""
		}
	}
	return fmt.Sprintf("timeline %d did not leave its ancestor where the plan saw it, at %s", h.Timeline, want)
}

// history fetches the new timeline's history file.
func (s *followTimeline) history(ctx context.Context) ([]byte, wal.History, error) {
	content, err := s.servers.History(ctx, s.action.Server, s.action.Timeline)
	if err != nil {
		return nil, wal.History{}, fmt.Errorf("fetch %s: %w", s.action.Timeline.HistoryName(), err)
	}
	history, err := wal.ParseHistory(s.action.Timeline, content)
	if err != nil {
		return nil, history, fmt.Errorf("read %s: %w", s.action.Timeline.HistoryName(), err)
	}
	return content, history, nil
}

func (s *followTimeline) Run(ctx context.Context, _ func(done, total int64)) error {
	lacking, err := s.lacking(ctx)
	if err != nil {
		return err
	}
	content, history, err := s.history(ctx)
	if err != nil {
		return err
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

// descends refuses a timeline that does not come from the newest one archived here, or that tells the past otherwise than
// the histories archived here: that is another cluster's line. Archived WAL beyond the switch is no objection: the branch
// that was left keeps it.
func descends(ctx context.Context, cluster Cluster, h wal.History) error {
	ranges, err := cluster.WALRanges(ctx)
	if err != nil {
		return fmt.Errorf("read WAL: %w", err)
	}
	histories, err := cluster.Histories(ctx)
	if err != nil {
		return fmt.Errorf("read histories: %w", err)
	}
	var newest wal.Timeline
	for _, r := range ranges {
		if r.Timeline < h.Timeline {
			newest = max(newest, r.Timeline)
		}
	}
	fork := func(format string, args ...any) error {
		return &state.Error{Code: state.CodeFork, Text: fmt.Sprintf(format, args...), Hint: "look at both histories: pgkeep wal list"}
	}
	if newest != 0 && !slices.ContainsFunc(h.Parents, func(p wal.HistoryLine) bool { return p.Timeline == newest }) {
		return fork("timeline %d does not descend from timeline %d, the newest that is archived", h.Timeline, newest)
	}
	for _, known := range histories {
		if mine, theirs, differ := forked(h, known); differ {
			return fork("timeline %d left timeline %d at %s, and the archived history of timeline %d, from which it comes, says %s: two servers made a timeline of that number",
				h.Timeline, mine.Timeline, mine.Switch, known.Timeline, theirs.Switch)
		}
	}
	return nil
}

// forked compares what two histories say of their common past: when h comes from known's timeline, its lines begin with
// known's.
func forked(h, known wal.History) (mine, theirs wal.HistoryLine, differ bool) {
	if !slices.ContainsFunc(h.Parents, func(p wal.HistoryLine) bool { return p.Timeline == known.Timeline }) {
		return mine, theirs, false
	}
	for i, line := range known.Parents {
		if i >= len(h.Parents) || h.Parents[i].Timeline != line.Timeline || h.Parents[i].Switch != line.Switch {
			return h.Parents[min(i, len(h.Parents)-1)], line, true
		}
	}
	return mine, theirs, false
}
