package repository

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/wal"
)

// maxHistory bounds a history file, as wal.ParseHistory does.
const maxHistory = 1 << 20

// historyInfo is the Info of a history file's note.
type historyInfo struct {
	SystemID string       `json:"system_id"`
	Timeline wal.Timeline `json:"timeline"`
}

func (c *Cluster) checkHistory(m seal.Meta, t wal.Timeline) error {
	var i historyInfo
	if err := json.Unmarshal(m.Info, &i); err != nil {
		return fmt.Errorf("its note cannot be read: %w", err)
	}
	if m.Kind != kindHistory || i.SystemID != c.key.SystemID || i.Timeline != t {
		return fmt.Errorf("it is the %s of timeline %d of system %s", m.Kind, i.Timeline, i.SystemID)
	}
	return nil
}

// PutHistory archives a timeline's history file, byte by byte. It must parse. The same bytes again are success; others are CodeFork.
func (c *Cluster) PutHistory(ctx context.Context, t wal.Timeline, content []byte) error {
	if err := c.key.Check(); err != nil {
		return fmt.Errorf("archive history: %w", err)
	}
	if _, err := wal.ParseHistory(t, content); err != nil {
		return fmt.Errorf("archive history of %s: %w", c.key.Name, err)
	}
	s := sealing{
		key: c.key.historyFile(t), kind: kindHistory, what: fmt.Sprintf("history file %s of %s", t.HistoryName(), c.key.Name),
		info:  historyInfo{SystemID: c.key.SystemID, Timeline: t},
		check: func(m seal.Meta) error { return c.checkHistory(m, t) },
	}
	return c.putSealed(ctx, s, bytes.NewReader(content), int64(len(content)))
}

// History reads a timeline's archived history file. The error wraps store.ErrNotExist when the repository answered that it has none.
func (c *Cluster) History(ctx context.Context, t wal.Timeline) ([]byte, error) {
	if err := c.key.Check(); err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	key := c.key.historyFile(t)
	b, m, err := c.readSealed(ctx, key, kindHistory, maxHistory)
	if err != nil {
		return nil, err
	}
	if err := c.checkHistory(m, t); err != nil {
		return nil, corrupt(key, err)
	}
	return b, nil
}

// Histories reads every archived history file, by timeline.
func (c *Cluster) Histories(ctx context.Context) ([]wal.History, error) {
	if err := c.key.Check(); err != nil {
		return nil, fmt.Errorf("read histories: %w", err)
	}
	var out []wal.History
	for info, err := range c.repo.st.List(ctx, c.key.historyDir(), "", false) {
		if err != nil {
			return nil, fmt.Errorf("list histories: %w", err)
		}
		t, ok := c.key.parseHistoryFile(info.Key)
		if !ok {
			continue
		}
		content, err := c.History(ctx, t)
		if isAbsent(err) {
			continue // deleted since it was listed
		}
		if err != nil {
			return nil, err
		}
		h, err := wal.ParseHistory(t, content)
		if err != nil {
			return nil, corrupt(info.Key, err)
		}
		out = append(out, h)
	}
	return out, nil
}
