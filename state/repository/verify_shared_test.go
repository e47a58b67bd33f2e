package repository

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
)

// TestDamageReachesWhoeverReadsIt: a damaged volume makes each backup that reads it one that nobody counts on, also one that the
// look was not asked for or that was read lately, be it older or newer than the one in whose turn the damage came to light.
func TestDamageReachesWhoeverReadsIt(t *testing.T) {
	base := newMemory()
	c := newArchive(t, base, mib)
	members := randomMembers(rand.New(rand.NewPCG(5, 6)), 20, 100_000)
	full, other := testIntent(1), testIntent(4)
	takeBackup(t, full, seal.Codec{}, members, 60_000, c)
	first := childIntent(2, full.ID)
	takeIncremental(t, first, seal.Codec{}, members, c)
	second := childIntent(3, first.ID)
	takeIncremental(t, second, seal.Codec{}, members, c)
	takeBackup(t, other, seal.Codec{}, members, 60_000, c)
	chain := []string{full.ID, first.ID, second.ID}
	for name, look := range map[string]struct{ lately, asked []string }{
		"all":                    {nil, nil},
		"only the full":          {nil, chain[:1]},
		"only the newest":        {nil, chain[2:]},
		"the others read lately": {chain[1:], nil},
		"the older read lately":  {chain[:2], nil},
		"sound ones asked for":   {nil, []string{chain[1], other.ID}},
	} {
		t.Run(name, func(t *testing.T) {
			m := &memory{objects: maps.Clone(base.objects)}
			c := must(OpenWith(t.Context(), m, suiteKeys()))(t).Cluster(archiveName, archiveID)
			now := ticking()
			if look.lately != nil {
				must(c.Examine(t.Context(), VerifyOptions{Level: state.VerifyFull, Backups: look.lately, Now: now}))(t)
			}
			key := c.key.backupDir(full.ID) + volumeName(0, 0)
			volume := append([]byte{}, m.objects[key]...)
			volume[100] ^= 1
			m.objects[key] = volume
			must(c.Examine(t.Context(), VerifyOptions{Level: state.VerifyFull, Backups: look.asked, MaxAge: time.Hour, Now: now}))(t)
			seen := must(c.observe(t.Context(), ObserveOptions{Keys: suiteKeys(), Now: now()}))(t)
			for _, b := range seen.Backups {
				want := state.BackupCorrupt
				if b.ID == other.ID {
					want = state.BackupCommitted
				}
				if b.State != want {
					t.Errorf("backup %s is %s (%s), want %s", b.ID, b.State, b.Failure, want)
				}
			}
			if _, err := c.InspectParent(t.Context(), second.ID); state.CodeOf(err) != state.CodeStale {
				t.Errorf("a damaged parent is refused with %v", err)
			}
			if _, err := c.InspectParent(t.Context(), other.ID); err != nil {
				t.Errorf("a sound parent is refused: %v", err)
			}
		})
	}
}

// TestDamageReachesWhatIsTakenMeanwhile: an incremental backup that is committed while its parent is found damaged is looked at
// before the look ends, and one that would be committed afterwards is not.
func TestDamageReachesWhatIsTakenMeanwhile(t *testing.T) {
	m := newMemory()
	c := newArchive(t, m, mib)
	members := randomMembers(rand.New(rand.NewPCG(5, 6)), 20, 100_000)
	full, during, after := testIntent(1), childIntent(2, testIntent(1).ID), childIntent(3, testIntent(1).ID)
	takeBackup(t, full, seal.Codec{}, members, 60_000, c)
	w := must(c.BeginBackup(t.Context(), after))(t)
	late := must(NewBackupStream(t.Context(), []*BackupWriter{w}, StreamOptions{Parent: must(c.OpenParent(t.Context(), full.ID))(t)}))(t)
	writeFolder(t, late.Folder(0, ""), members, 50_000)
	check(t, late.EndData())
	check(t, late.WriteManifest([]byte("{the manifest}\n")))
	key := c.key.backupDir(full.ID) + volumeName(0, 0)
	volume := slices.Clone(m.objects[key])
	volume[100] ^= 1
	m.objects[key] = volume
	var taken atomic.Bool
	m.step = func(call string) (error, error) {
		if strings.HasPrefix(call, "get ") && strings.HasSuffix(call, key) && taken.CompareAndSwap(false, true) {
			takeIncremental(t, during, seal.Codec{}, members, c)
		}
		return nil, nil
	}
	now := ticking()
	must(c.Examine(t.Context(), VerifyOptions{Level: state.VerifyFull, Now: now}))(t)
	m.step = nil
	out := must(late.Commit(t.Context(), commitFacts()))(t)
	if state.CodeOf(out[0].Err) != state.CodeStale {
		t.Errorf("a backup on a parent that was found damaged ends with %v", out[0].Err)
	}
	want := map[string]state.BackupState{full.ID: state.BackupCorrupt, during.ID: state.BackupCorrupt, after.ID: state.BackupAborted}
	for _, b := range must(c.Trusted(t.Context(), nil, now()))(t) {
		if b.State != want[b.ID] {
			t.Errorf("backup %s is %s (%s), want %s", b.ID, b.State, b.Failure, want[b.ID])
		}
	}
	if !taken.Load() {
		t.Error("no backup was taken during the look")
	}
}

// TestDamageIsSeenAfterAClockWasAhead: evidence of a machine whose clock was ahead does not hide what is found later.
func TestDamageIsSeenAfterAClockWasAhead(t *testing.T) {
	m := newMemory()
	c := newArchive(t, m, mib)
	full := testIntent(1)
	takeBackup(t, full, seal.Codec{}, randomMembers(rand.New(rand.NewPCG(5, 6)), 20, 100_000), 60_000, c)
	now := ticking()
	ahead := func() time.Time { return now().Add(365 * 24 * time.Hour) }
	must(c.Examine(t.Context(), VerifyOptions{Level: state.VerifyFull, Now: ahead}))(t)
	key := c.key.backupDir(full.ID) + volumeName(0, 0)
	volume := slices.Clone(m.objects[key])
	volume[100] ^= 1
	m.objects[key] = volume
	for range 2 {
		must(c.Examine(t.Context(), VerifyOptions{Level: state.VerifyFull, Now: now}))(t)
		if v := must(c.Verified(t.Context()))(t); v.Wrong != 1 || !v.Backups[0].Damaged {
			t.Fatalf("what is known is of %s: %d wrong, %+v", v.Began, v.Wrong, v.Backups)
		}
	}
}
