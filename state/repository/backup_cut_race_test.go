package repository

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
)

// killedBehindATablespace leaves a backup without decision, of which a tablespace is there.
func killedBehindATablespace(t testing.TB, c *Cluster, in Intent, more ...*Cluster) {
	t.Helper()
	s := beginAgain(t, c, in, seal.Codec{}, more...)
	writeFolder(t, s.Folder(16385, "/srv/fast"), goldenTablespace(), 50_000)
	sendPart(t, s.Folder(0, ""), goldenMembers(), 5000)
	for _, c := range append(more, c) {
		for !marksHold(t, c, in.ID) { // a mark may come before what it lists
			time.Sleep(time.Millisecond)
		}
	}
	s.cancel(errors.New("killed"))
	_ = s.group.Wait()
	s.fan.stop()
	s.fan.group.Wait()
}

// goOnWith takes a backup that goes on with a cut one, which it takes for dead.
func goOnWith(t testing.TB, c *Cluster, in Intent) error {
	id := in.Cut[0]
	if got, err := c.CutBackup(t.Context(), id, "taken for dead", in.Now); err != nil || got != state.BackupCut {
		return errors.Join(err, fmt.Errorf("it is %s", got))
	}
	p, err := c.OpenCut(t.Context(), id)
	if err != nil {
		return err
	}
	w, err := c.BeginBackup(t.Context(), in)
	if err != nil {
		return err
	}
	s, err := NewBackupStream(t.Context(), []*BackupWriter{w}, StreamOptions{Workers: 1, Continued: true, Cut: []*Parent{p}, Marks: 1})
	if err != nil {
		return err
	}
	writeFolder(t, s.Folder(16385, "/srv/fast"), goldenTablespace(), 50_000)
	writeFolder(t, s.Folder(0, ""), goldenMembers(), 50_000)
	out, err := s.Commit(t.Context(), commitFacts())
	if err != nil {
		return err
	}
	return out[0].Err
}

// TestRacesAroundACutBackupLoseNothing: two writers go on with a backup that was killed, while others remove it as a cut one, clean it up as an aborted
// one, sweep with clocks that are far ahead, and delete what one of the writers has committed; one of all is killed. What is committed
// has all its volumes at any time.
func TestRacesAroundACutBackupLoseNothing(t *testing.T) {
	base := newMemory()
	killed := testIntent(1)
	killedBehindATablespace(t, testCluster(base), killed)
	late := testNow.Add(1000 * time.Hour)
	outcomes := &tally{n: map[string]int{}}
	for seed := range uint64(rounds(t, 150)) {
		random := rand.New(rand.NewPCG(seed, 19))
		shared := newMemory()
		for k, v := range base.objects {
			shared.objects[k] = v
		}
		var actors []*actor
		for n := range 2 {
			in := continuing(2+n, killed.ID)
			actors = append(actors, &actor{name: "writer of " + in.ID, run: func(c *Cluster) error {
				err := goOnWith(t, c, in)
				if err == nil {
					outcomes.add("committed")
				} else {
					outcomes.add("refused")
				}
				return err
			}})
		}
		idle := random.IntN(3)
		actors = append(actors, &actor{name: "remover", run: func(c *Cluster) error {
			if idle == 0 {
				return nil
			}
			_, err := c.RemoveCut(t.Context(), killed.ID, testNow)
			if err == nil {
				outcomes.add("removed")
			}
			return err
		}}, &actor{name: "cleaner", run: func(c *Cluster) error {
			if idle == 1 {
				return nil
			}
			if got, err := c.AbortBackup(t.Context(), killed.ID, "taken for dead", testNow); err != nil || got != state.BackupAborted {
				return err
			}
			outcomes.add("aborted")
			_, err := c.RemoveAborted(t.Context(), killed.ID)
			return err
		}}, &actor{name: "sweeper", run: func(c *Cluster) error {
			if idle == 2 {
				if err := c.Tomb(t.Context(), continuing(2, killed.ID).ID, testNow); err != nil {
					return err
				}
			}
			_, err := c.Sweep(t.Context(), late)
			return err
		}})
		race(t, random, shared, actors)
		c := testCluster(shared)
		for _, b := range must(c.Backups(t.Context()))(t) {
			if b.State == state.BackupCommitted {
				check(t, c.VerifyBackup(t.Context(), b.ID, true, func(f Finding) { t.Errorf("%d: %+v", seed, f) }))
			}
		}
		for range 2 { // those that go on name the other one
			for _, b := range must(c.Backups(t.Context()))(t) {
				if b.State == state.BackupCut {
					continue
				}
				if got := must(c.AbortBackup(t.Context(), b.ID, "aftermath", late))(t); got == state.BackupAborted {
					must(c.RemoveAborted(t.Context(), b.ID))(t)
				} else {
					check(t, c.Tomb(t.Context(), b.ID, testNow))
				}
			}
			must(c.Sweep(t.Context(), late))(t)
		}
		if b := must(c.Backups(t.Context()))(t); len(b) == 1 && b[0].State == state.BackupCut {
			must(c.RemoveCut(t.Context(), killed.ID, testNow))(t)
		}
		if left := memoryKeys(c); len(left) > 0 {
			t.Errorf("%d: left %v", seed, left)
		}
	}
	for _, want := range []string{"committed", "refused", "removed", "aborted"} {
		if outcomes.n[want] == 0 {
			t.Errorf("no race ended in %q: %v", want, outcomes.n)
		}
	}
	t.Logf("%v", outcomes.n)
}
