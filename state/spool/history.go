package spool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// PutHistory keeps a timeline's history file as the server sent it. The same content again is no error; other content
// gives state.CodeFork and changes nothing.
func (s *Spool) PutHistory(t wal.Timeline, content []byte) error {
	have, err := s.History(t)
	if err == nil && bytes.Equal(have, content) {
		return nil
	}
	if err == nil {
		return &state.Error{
			Code: state.CodeFork,
			Text: fmt.Sprintf("the server's %s is not the one in %s", t.HistoryName(), s.dir),
			Hint: "two servers were promoted to the same timeline; find out which is the right one before anything is deleted",
		}
	}
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if _, err := wal.ParseHistory(t, content); err != nil {
		return fmt.Errorf("keep %s: %w", t.HistoryName(), err)
	}
	err = s.install(filepath.Join(s.dir, t.HistoryName()), bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return problem("keep "+t.HistoryName(), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files.histories[t] = true
	return nil
}

// History gives a timeline's history file. os.ErrNotExist when the spool has none.
func (s *Spool) History(t wal.Timeline) ([]byte, error) {
	content, err := os.ReadFile(filepath.Join(s.dir, t.HistoryName()))
	return content, problemUnlessAbsent("read "+t.HistoryName(), err)
}

// PutGap keeps, until DoneGap, that WAL is known to be lost.
func (s *Spool) PutGap(g state.Gap) error {
	content, err := json.Marshal(g)
	if err != nil {
		return fmt.Errorf("record gap %s: %w", g.Range, err)
	}
	name := gapName(g.Range)
	err = s.install(filepath.Join(s.dir, name), bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return problem("record gap "+g.Range.String(), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.files.gaps, name) {
		s.files.gaps = append(s.files.gaps, name)
	}
	return nil
}

// DoneGap says that every repository has recorded the gap.
func (s *Spool) DoneGap(r wal.Range) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := gapName(r)
	s.files.gaps = slices.DeleteFunc(s.files.gaps, func(n string) bool { return n == name })
	return problem("remove gap "+r.String(), s.remove(filepath.Join(s.dir, name)))
}

func gapName(r wal.Range) string {
	return fmt.Sprintf("%s%s-%016X-%016X.json", gapPrefix, r.Timeline.Hex(), uint64(r.From), uint64(r.To))
}

func (s *Spool) readGaps() ([]state.Gap, error) {
	var out []state.Gap
	for _, name := range s.files.gaps {
		content, err := os.ReadFile(filepath.Join(s.dir, name))
		if err != nil {
			return nil, err
		}
		var g state.Gap
		if err := json.Unmarshal(content, &g); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		out = append(out, g)
	}
	return out, nil
}

func problemUnlessAbsent(doing string, err error) error {
	if err == nil || errors.Is(err, os.ErrNotExist) {
		return err
	}
	return problem(doing, err)
}
