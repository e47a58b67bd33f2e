package repository

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/pgkeep/pgkeep/state"
)

const (
	maxMeasuredRead = 40 // pieces of evidence that are read, newest first: most are of verifications
	maxMeasured     = 8  // measurements that are told
)

// Measured gives how long the newest recoveries and drills took, newest first and at most eight. It looks at every
// drill and at the newest forty other pieces of evidence; one that cannot be read is passed over. A restore that was cut short and resumed measured nothing.
func (c *Cluster) Measured(ctx context.Context) ([]state.Measured, error) {
	keys, err := c.noteKeys(ctx, c.key.evidenceDir(), time.Time{})
	if err != nil {
		return nil, err
	}
	var out []state.Measured
	others := 0
	for _, key := range slices.Backward(keys) {
		if len(out) == maxMeasured {
			break
		}
		if !isDrill(key) { // a drill's name tells it: it is found behind any number of others
			if others++; others > maxMeasuredRead {
				continue
			}
		}
		n, err := c.readNote(ctx, key)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("read evidence: %w", context.Cause(ctx))
		}
		if err != nil {
			continue // an estimate is for people: nothing is decided by it
		}
		if m := measuredIn(n); !m.Empty() {
			out = append(out, m)
		}
	}
	return out, nil
}

// timed is what the evidence of recoveries and drills has in common.
type timed struct {
	Kind    string `json:"kind"`
	Backup  string `json:"backup"`
	Resumed bool   `json:"resumed"`
	Phases  []struct {
		Name    string  `json:"name"`
		Seconds float64 `json:"seconds"`
		Bytes   int64   `json:"bytes"`
	} `json:"phases"`
}

// measuredIn adds up the phases of a piece of evidence: "wal" is WAL that was copied, "replay" and "start" are of the
// server, and the others are of the restore.
func measuredIn(n Note) state.Measured {
	var e timed
	if json.Unmarshal(n.Entry, &e) != nil || e.Resumed || e.Kind == state.VerificationKind {
		return state.Measured{}
	}
	m := state.Measured{At: n.At, What: e.Kind, Backup: e.Backup}
	if m.What == "" {
		m.What = "recovery"
	}
	for _, p := range e.Phases {
		of := &m.Restore
		switch p.Name {
		case "wal":
			of = &m.CopyWAL
		case "replay":
			of = &m.Replay
		case "start":
			of = &m.Start
		case "checks", "remove": // of a drill
			continue
		}
		of.Bytes += max(p.Bytes, 0)
		of.Seconds += max(p.Seconds, 0)
	}
	return m
}
