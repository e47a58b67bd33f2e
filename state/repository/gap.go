package repository

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

// gapFile is one object of gap/.
type gapFile struct {
	Format   int          `json:"format"`
	SystemID string       `json:"system_id"`
	Timeline wal.Timeline `json:"timeline"`
	From     wal.LSN      `json:"from"`
	To       wal.LSN      `json:"to"`
	Reason   string       `json:"reason"`
	Recorded time.Time    `json:"recorded"`
}

// RecordGap keeps the knowledge that WAL is lost. Who records the same range first gives the reason.
func (c *Cluster) RecordGap(ctx context.Context, g state.Gap) error {
	if err := c.key.Check(); err != nil {
		return fmt.Errorf("record gap: %w", err)
	}
	if g.Timeline == 0 || g.Empty() {
		return fmt.Errorf("record gap: %s is no range", g.Range)
	}
	body, err := encodeRecord(gapFile{
		Format: 1, SystemID: c.key.SystemID, Timeline: g.Timeline, From: g.From, To: g.To, Reason: g.Reason, Recorded: g.Recorded.UTC(),
	})
	if err != nil {
		return err
	}
	if err := c.putObject(ctx, c.key.gapFile(g.Range), body); err != nil && !errors.Is(err, store.ErrExists) {
		return fmt.Errorf("record gap: %w", err)
	}
	return nil
}

// Gaps lists the recorded gaps, by timeline and position.
func (c *Cluster) Gaps(ctx context.Context) ([]state.Gap, error) {
	if err := c.key.Check(); err != nil {
		return nil, fmt.Errorf("list gaps: %w", err)
	}
	var out []state.Gap
	for info, err := range c.repo.st.List(ctx, c.key.gapDir(), "", false) {
		if err != nil {
			return nil, fmt.Errorf("list gaps: %w", err)
		}
		r, ok := c.key.parseGapFile(info.Key)
		if !ok {
			continue
		}
		g, err := c.readGap(ctx, info.Key, r)
		if err != nil {
			return nil, err
		}
		out = append(out, g)
	}
	slices.SortFunc(out, func(a, b state.Gap) int { return compareRanges(a.Range, b.Range) })
	return out, nil
}

func (c *Cluster) readGap(ctx context.Context, key string, r wal.Range) (state.Gap, error) {
	b, err := readAll(ctx, c.repo.st, key, maxRecord)
	if err != nil {
		return state.Gap{}, err
	}
	var f gapFile
	if err := decodeRecord(b, &f); err != nil {
		return state.Gap{}, corrupt(key, err)
	}
	if (wal.Range{Timeline: f.Timeline, From: f.From, To: f.To}) != r || f.SystemID != c.key.SystemID {
		return state.Gap{}, corrupt(key, fmt.Errorf("it is of timeline %d, %s to %s, of system %s", f.Timeline, f.From, f.To, f.SystemID))
	}
	return state.Gap{Range: r, Reason: f.Reason, Recorded: f.Recorded}, nil
}

func compareRanges(a, b wal.Range) int {
	switch {
	case a.Timeline != b.Timeline:
		return int(int64(a.Timeline) - int64(b.Timeline))
	case a.From < b.From:
		return -1
	case a.From > b.From:
		return 1
	}
	return 0
}
