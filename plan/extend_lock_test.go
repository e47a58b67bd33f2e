package plan_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// extendLocks is what the step does to what is seen.
func extendLocks(c *state.Cluster, a plan.ExtendLock) {
	for _, n := range a.Locks {
		for i := range c.Backups {
			if slices.Contains(n.Backups, c.Backups[i].ID) && c.Backups[i].LockedUntil.Before(n.Until) {
				c.Backups[i].LockedUntil = n.Until
			}
		}
		for i, w := range c.Locks.WAL {
			if slices.Contains(n.WAL, w.Range) && w.Until.Before(n.Until) {
				c.Locks.WAL[i].Until = n.Until
			}
		}
		if n.Opening {
			c.Locks.Opening = n.Until
		}
	}
}

// lockedHistory is a server of which a backup is taken every so often into a repository that locks, and an agent that looks every six
// hours but for some days on which it is down.
type lockedHistory struct {
	window, margin, every time.Duration
	rules                 plan.Rules
	spec                  *hclspec.Spec
	seen                  state.Observation
	now                   time.Time
	n                     int
}

const lockedHCL = `
repository "main" {
  url = "s3://bucket/pg"

  object_lock {
    mode   = "compliance"
    margin = "%dh"
  }
}

server "orders" {
  conninfo     = "host=10.0.1.1 user=pgkeep dbname=postgres sslmode=verify-full"
  repositories = [repository.main]
}

retention "standard" {
  servers            = [server.orders]
  recovery_window    = "%dh"
  redundancy         = %d
  max_delete         = 1000

  keep {
    weekly  = %d
    monthly = 2
  }
}
`

func newLockedHistory(tb testing.TB, t *rapid.T) *lockedHistory {
	draw := func(name string, from, to int) int { return rapid.IntRange(from, to).Draw(t, name) }
	h := &lockedHistory{now: baseTime}
	margin, window := draw("margin in days", 1, 3), draw("window in days", 1, 12)
	h.margin, h.window = time.Duration(margin)*24*time.Hour, time.Duration(window)*24*time.Hour
	h.every = time.Duration(draw("hours between backups", 1, 40)) * 6 * time.Hour
	h.spec = loadHCL(tb, fmt.Appendf(nil, lockedHCL, margin*24, window*24, draw("redundancy", 1, 12), draw("weekly", 1, 5)))
	h.rules = plan.Join([]*hclspec.Retention{&h.spec.Retentions[0]})
	h.seen = loadObservation(tb, []byte(`{"repositories": {"main": {"location": "s3://bucket/pg", "clusters": {"orders": [
		{"name": "orders", "system_id": "7335180256203400928", "major": 15, "segment_size": 16777216, "locks": {"opening": "2026-02-12T00:00:00Z"}}]}}}}`))
	return h
}

// TestWhatStaysIsLocked lives through half a year of backups, rules and days on which no agent runs: whatever the rules keep is locked all the
// time, nothing is locked further than it may be, a second plan has nothing to lock, and nothing that is locked is to be deleted.
func TestWhatStaysIsLocked(tb *testing.T) {
	rapid.Check(tb, func(t *rapid.T) {
		h := newLockedHistory(tb, t)
		const pace = 6 * time.Hour
		down, next := time.Time{}, h.now
		for range rapid.IntRange(40, 200).Draw(t, "turns") {
			if !h.now.Before(next) {
				h.backup(t)
				next = h.now.Add(h.every)
			}
			h.check(t)
			if h.now.Before(down) {
				h.now = h.now.Add(pace)
				continue
			}
			if k := h.cluster().Backups; rapid.IntRange(0, 30).Draw(t, "hold") == 0 {
				k[rapid.IntRange(0, len(k)-1).Draw(t, "of")].Hold = &state.Hold{Expires: h.now.Add(time.Duration(rapid.IntRange(1, 60).Draw(t, "for days")) * 24 * time.Hour)}
			}
			h.turn(t)
			if rapid.IntRange(0, 20).Draw(t, "accident") == 0 {
				down = h.now.Add(h.margin - pace)
			}
			h.now = h.now.Add(pace)
		}
	})
}

func (h *lockedHistory) cluster() *state.Cluster {
	return &h.seen.Repositories["main"].Clusters["orders"][0]
}

func (h *lockedHistory) backup(t *rapid.T) {
	c := h.cluster()
	redo := wal.LSN(h.n+1) << 24
	h.n++
	kind, refs := "full", []string(nil)
	if len(c.Backups) > 0 && rapid.Bool().Draw(t, "incremental") {
		kind, refs = "incremental", []string{c.Backups[len(c.Backups)-1].ID}
	}
	until := h.now.Add(h.window + h.margin)
	c.Backups = append(c.Backups, state.Backup{
		ID: h.now.Format("20060102T150405Z") + fmt.Sprintf("-F-%04x", h.n), State: state.BackupCommitted, Kind: kind, Version: 150018, Timeline: 1, Refs: refs,
		Redo: redo + 0x28, Stop: redo + 0x100, Began: h.now, Ended: h.now.Add(10 * time.Minute), LockedUntil: until,
	})
	c.WAL = []state.WALRange{{Range: wal.Range{Timeline: 1, From: firstOf(c, redo), To: redo + 1<<24}, LastCommit: h.now}}
	c.Locks.WAL = append(c.Locks.WAL, state.LockedWAL{Range: wal.Range{Timeline: 1, From: redo, To: redo + 1<<24}, Until: until})
}

func firstOf(c *state.Cluster, redo wal.LSN) wal.LSN {
	if len(c.WAL) > 0 {
		return c.WAL[0].From
	}
	return redo
}

// turn plans, checks what is locked and what is not, and does what was planned of locks and deletions.
func (h *lockedHistory) turn(t *rapid.T) {
	reach := max(h.window, h.margin) + h.margin
	build := func() *plan.Plan {
		h.seen.At = h.now
		r := h.seen.Repositories["main"]
		r.Now = h.now
		h.seen.Repositories["main"] = r
		s := h.seen.Servers["orders"]
		s.Now = h.now
		h.seen.Servers["orders"] = s
		out, _ := plan.Build(h.spec, h.seen, h.now, plan.Options{IgnoreDue: true})
		return out
	}
	for _, s := range build().Steps {
		switch a := s.Action.(type) {
		case plan.ExtendLock:
			for _, n := range a.Locks {
				if n.Until.After(h.now.Add(reach)) || !n.Until.After(h.now) {
					t.Fatalf("at %s a lock is extended to %s", h.now, n.Until)
				}
			}
			extendLocks(h.cluster(), a)
		case plan.Prune:
			for _, id := range a.Backups {
				i := slices.IndexFunc(h.cluster().Backups, func(b state.Backup) bool { return b.ID == id })
				if h.cluster().Backups[i].LockedUntil.After(h.now) {
					t.Fatalf("%s goes and is locked", id)
				}
				h.cluster().Backups = slices.Delete(h.cluster().Backups, i, i+1)
			}
		case plan.PruneWAL:
			c := h.cluster()
			for _, w := range c.Locks.WAL {
				if w.Until.After(h.now) && len(wal.Missing(w.Range, a.Ranges)) == 0 {
					t.Fatalf("%s goes and is locked until %s", w.Range, w.Until)
				}
			}
			*c = withoutWAL(*c, a.Ranges)
			c.Locks.WAL = slices.DeleteFunc(c.Locks.WAL, func(w state.LockedWAL) bool { return len(wal.Missing(w.Range, a.Ranges)) == 0 })
		}
	}
	for _, s := range build().Steps {
		if _, again := s.Action.(plan.ExtendLock); again {
			t.Fatalf("at %s locks are extended once more: %s", h.now, s.Because[0].Text)
		}
	}
}

// check: what the rules keep now is locked, by this very moment, with the WAL that it needs.
func (h *lockedHistory) check(t *rapid.T) {
	c := *h.cluster()
	c.Backups = slices.Clone(c.Backups)
	ends := map[string]time.Time{}
	for i := range c.Backups {
		ends[c.Backups[i].ID] = c.Backups[i].LockedUntil
		c.Backups[i].LockedUntil = time.Time{}
	}
	r := plan.Retain(&c, h.rules, h.now, 1)
	for _, f := range r.Fates {
		if !f.Goes && !ends[f.Backup.ID].After(h.now) {
			t.Fatalf("at %s %s stays (%s), and was locked until %s only", h.now, f.Backup.ID, f.Cause, ends[f.Backup.ID])
		}
	}
	for _, w := range c.Locks.WAL {
		if needed := len(wal.Missing(w.Range, r.NeedlessLater())) > 0; needed && !w.Until.After(h.now) {
			t.Fatalf("at %s WAL %s is needed, and was locked until %s only", h.now, w.Range, w.Until)
		}
	}
}
