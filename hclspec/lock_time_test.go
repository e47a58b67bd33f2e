package hclspec

import (
	"testing"
	"time"
)

// TestLockTimes: how long what is put is locked, WAL for its own window, and how far a lock is extended at most.
func TestLockTimes(t *testing.T) {
	const day = 24 * time.Hour
	locking := []Repository{{Name: "r", ObjectLock: ObjectLock{Mode: "governance", Margin: 2 * day}}, {Name: "free"}}
	for name, c := range map[string]struct {
		rules             []Retention
		all, ofWAL, reach time.Duration
	}{
		"no rule":             {nil, 2 * day, 2 * day, 4 * day},
		"a window":            {[]Retention{{RecoveryWindow: 7 * day}}, 9 * day, 9 * day, 9 * day},
		"a window of WAL":     {[]Retention{{RecoveryWindow: 7 * day, WALWindow: 3 * day}}, 9 * day, 5 * day, 9 * day},
		"of another server":   {[]Retention{{RecoveryWindow: 7 * day, Servers: []string{"b"}}}, 2 * day, 2 * day, 4 * day},
		"elsewhere":           {[]Retention{{RecoveryWindow: 7 * day, Repositories: []string{"free"}}}, 2 * day, 2 * day, 4 * day},
		"backups by number":   {[]Retention{{Redundancy: 3, WALWindow: day}}, 3 * day, 3 * day, 4 * day},
		"a very short window": {[]Retention{{RecoveryWindow: time.Hour}}, 2*day + time.Hour, 2*day + time.Hour, 4 * day},
	} {
		for i := range c.rules {
			if c.rules[i].Servers == nil {
				c.rules[i].Servers = []string{"a"}
			}
		}
		s := &Spec{Repositories: locking, Retentions: c.rules}
		if a, b, r := s.LockTime("r", "a"), s.WALLockTime("r", "a"), s.LockReach("r", "a"); a != c.all || b != c.ofWAL || r != c.reach {
			t.Errorf("%s: %s, WAL %s, extended for %s; want %s, %s, %s", name, a, b, r, c.all, c.ofWAL, c.reach)
		}
		if a, b, r := s.LockTime("free", "a"), s.WALLockTime("free", "a"), s.LockReach("free", "a"); a+b+r != 0 {
			t.Errorf("%s: without a lock: %s, WAL %s, extended for %s", name, a, b, r)
		}
	}
}
