package spool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pgkeep/pgkeep/state/wal"
)

const lacksName = "lacks.json"

// Lacks gives what repositories were known to lack when PutLacks was called last, by their labels.
func (s *Spool) Lacks() (map[string]wal.Range, error) {
	content, err := os.ReadFile(filepath.Join(s.dir, lacksName))
	if errors.Is(err, os.ErrNotExist) {
		return map[string]wal.Range{}, nil
	}
	if err != nil {
		return nil, problem("read what repositories lack", err)
	}
	out := map[string]wal.Range{}
	if err := json.Unmarshal(content, &out); err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(s.dir, lacksName), err)
	}
	return out, nil
}

// PutLacks keeps durably, in place of what was kept before, which WAL repositories do not hold although the stream went
// on behind it: Seed lets it go on where another repository ends. It is called before that.
func (s *Spool) PutLacks(lacks map[string]wal.Range) error {
	content, err := json.Marshal(lacks)
	if err != nil {
		return fmt.Errorf("keep what repositories lack: %w", err)
	}
	return problem("keep what repositories lack", s.install(filepath.Join(s.dir, lacksName), bytes.NewReader(content), int64(len(content))))
}
