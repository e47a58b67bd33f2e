package repository

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store"
)

// The real implementation under a scheduler that decides whose store call goes next, and kills processes before and
// after calls. The model proves the rules in every order; this proves that the code keeps to them.

var errDead = errors.New("killed")

// gated is one process's view of the shared store: every call waits for its turn.
type gated struct {
	*memory
	turn func() error // before a call; an error is the process's death
}

func (g gated) PutIfAbsent(ctx context.Context, key string, body io.ReaderAt, size int64, o store.PutOptions) error {
	if err := g.turn(); err != nil {
		return err
	}
	return g.memory.PutIfAbsent(ctx, key, body, size, o)
}

func (g gated) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if err := g.turn(); err != nil {
		return nil, err
	}
	return g.memory.Get(ctx, key, off, n)
}

func (g gated) Stat(ctx context.Context, key string) (store.Info, error) {
	if err := g.turn(); err != nil {
		return store.Info{}, err
	}
	return g.memory.Stat(ctx, key)
}

func (g gated) List(ctx context.Context, prefix, after string, delimited bool) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		if err := g.turn(); err != nil {
			yield(store.Info{}, err)
			return
		}
		g.memory.List(ctx, prefix, after, delimited)(yield)
	}
}

// Delete removes one key at a turn: a batch is not atomic.
func (g gated) Delete(ctx context.Context, keys ...string) error {
	for _, k := range keys {
		if err := g.turn(); err != nil {
			return err
		}
		if err := g.memory.Delete(ctx, k); err != nil {
			return err
		}
	}
	return nil
}

// actor is one process of a race.
type actor struct {
	name string
	run  func(c *Cluster) error
	ask  chan chan error
	done chan error
	held string // backup that a holder was told it holds
}

// race runs actors to their ends in a random order of calls, each killed with some chance, and looks after every call.
func race(t *testing.T, random *rand.Rand, shared *memory, actors []*actor) {
	t.Helper()
	judge := testCluster(shared)
	for _, a := range actors {
		a.ask, a.done = make(chan chan error), make(chan error, 1)
		st := gated{memory: shared, turn: func() error {
			granted := make(chan error)
			a.ask <- granted
			return <-granted
		}}
		go func() { a.done <- a.run(testCluster(st)) }()
	}
	waiting := map[*actor]chan error{}
	live := slices.Clone(actors)
	killAt := random.IntN(400)
	for call := 0; ; call++ {
		live = settleActors(live, waiting)
		if len(live) == 0 {
			return
		}
		a := live[random.IntN(len(live))]
		granted := waiting[a]
		delete(waiting, a)
		if call == killAt {
			granted <- errDead
			for { // the dead make no further call
				select {
				case g := <-a.ask:
					g <- errDead
					continue
				case <-a.done:
				}
				break
			}
			live = slices.DeleteFunc(live, func(x *actor) bool { return x == a })
			continue
		}
		granted <- nil
		live = settleActors(live, waiting)
		lookForLoss(t, judge, shared, actors)
		if t.Failed() {
			t.Fatalf("lost after call %d, of %s", call, a.name)
		}
	}
}

// settleActors waits until each live actor waits for its turn or has ended, and gives those that wait.
func settleActors(live []*actor, waiting map[*actor]chan error) []*actor {
	return slices.DeleteFunc(live, func(a *actor) bool {
		if waiting[a] != nil {
			return false
		}
		select {
		case waiting[a] = <-a.ask:
			return false
		case <-a.done:
			return true
		}
	})
}

// lookForLoss makes sure that what a visible or held backup needs is there.
func lookForLoss(t *testing.T, c *Cluster, shared *memory, actors []*actor) {
	t.Helper()
	held := map[string]bool{}
	for _, a := range actors {
		held[a.held] = true
	}
	ids := must(c.backupIDs(t.Context()))(t)
	for _, id := range ids {
		r := must(c.readBackup(t.Context(), id))(t)
		if !r.visible() && !(held[id] && r.committed()) {
			if held[id] {
				t.Errorf("the held backup %s has no START", id)
			}
			continue
		}
		need := func(l sumLine) error {
			key := c.key.backupDir(id) + l.name
			if other, volume, err := splitReference(l.name); err == nil {
				key = c.key.backupDir(other) + volume
			}
			if _, err := shared.Stat(t.Context(), key); err != nil {
				t.Errorf("backup %s needs %s", id, key)
			}
			return nil
		}
		check(t, c.readSums(t.Context(), id, sumsDir, r.decided.Sums, need))
		check(t, c.readSums(t.Context(), id, refsDir, r.decided.Refs, need))
	}
}

func TestRacesLoseNothing(t *testing.T) {
	base := newMemory()
	full, child := testIntent(1), childIntent(2, testIntent(1).ID)
	takeBackup(t, full, seal.Codec{}, randomMembers(rand.New(rand.NewPCG(5, 5)), 4, 20_000), 1000, testCluster(base))
	check(t, streamedChild(t, testCluster(base), child))
	outcomes := &tally{n: map[string]int{}}
	for seed := range uint64(rounds(t, 100)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 9))
			shared := newMemory()
			for k, v := range base.objects {
				shared.objects[k] = v
			}
			actors := cast(t, random, full.ID, child.ID, outcomes)
			race(t, random, shared, actors)
			for _, a := range actors {
				a.held = ""
			}
			aftermath(t, testCluster(shared))
		})
	}
	for _, want := range []string{"committed", "refused", "held", "not held"} {
		if outcomes.n[want] == 0 {
			t.Errorf("no race ended in %q: %v", want, outcomes.n)
		}
	}
}

// streamedChild writes a child as a backup does: through a stream, with the parent's hashes, here of files of which the first page is new.
func streamedChild(t testing.TB, c *Cluster, in Intent) error {
	if _, err := c.InspectParent(t.Context(), in.Parent); err != nil {
		return err
	}
	parent, err := c.OpenParent(t.Context(), in.Parent)
	if err != nil {
		return err
	}
	w, err := c.BeginBackup(t.Context(), in)
	if err != nil {
		return err
	}
	s, err := NewBackupStream(t.Context(), []*BackupWriter{w}, StreamOptions{Parent: parent, Workers: 1})
	if err != nil {
		return err
	}
	members := randomMembers(rand.New(rand.NewPCG(5, 5)), 4, 20_000)
	for _, m := range members {
		if len(m.data) >= pageSize {
			copy(m.data, bytes.Repeat([]byte{byte(in.Now.Hour())}, pageSize))
		}
	}
	writeFolder(t, s.Folder(0, ""), members, 20_000)
	out, err := s.Commit(t.Context(), commitFacts())
	if err != nil {
		return err
	}
	return out[0].Err
}

// tally counts how races ended.
type tally struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *tally) add(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[what]++
}

// cast makes two writers, two expirers with clocks that are far ahead, a cleaner and a holder.
func cast(t *testing.T, random *rand.Rand, full, child string, outcomes *tally) []*actor {
	t.Helper()
	parents := []string{full, child}
	late := testNow.Add(1000 * time.Hour)
	var actors []*actor
	for n := range 2 {
		in := childIntent(3+n, parents[random.IntN(2)])
		write := streamedChild
		if n == 0 && random.IntN(2) == 0 {
			write = func(t testing.TB, c *Cluster, in Intent) error { _, err := referBackup(t, c, in); return err }
		}
		actors = append(actors, &actor{name: "writer of " + in.ID, run: func(c *Cluster) error {
			err := write(t, c, in)
			if err == nil {
				outcomes.add("committed")
			} else if state.CodeOf(err) == state.CodeStale {
				outcomes.add("refused")
			}
			return err
		}})
	}
	for range 2 {
		victim := parents[random.IntN(2)]
		actors = append(actors, &actor{name: "expirer of " + victim, run: func(c *Cluster) error {
			if err := c.Tomb(t.Context(), victim, testNow); err != nil {
				return err
			}
			_, err := c.Sweep(t.Context(), late)
			return err
		}})
	}
	suspect, idle := childIntent(3, full).ID, random.IntN(2) == 0
	actors = append(actors, &actor{name: "cleaner of " + suspect, run: func(c *Cluster) error {
		if idle {
			return nil
		}
		if got, err := c.AbortBackup(t.Context(), suspect, "taken for dead", testNow); err != nil || got != state.BackupAborted {
			return err
		}
		_, err := c.RemoveAborted(t.Context(), suspect)
		return err
	}})
	h := &actor{name: "holder of " + child}
	h.run = func(c *Cluster) error {
		err := c.Hold(t.Context(), child, state.Hold{Holder: "restore"}, testNow)
		if err == nil {
			h.held = child
			outcomes.add("held")
		} else if state.CodeOf(err) == state.CodeStale {
			outcomes.add("not held")
		}
		return err
	}
	return append(actors, h)
}

// aftermath deletes everything as an operator would, and expects nothing to be left.
func aftermath(t *testing.T, c *Cluster) {
	t.Helper()
	late := testNow.Add(1000 * time.Hour)
	for _, b := range must(c.Backups(t.Context()))(t) {
		if got := must(c.AbortBackup(t.Context(), b.ID, "aftermath", late))(t); got == state.BackupAborted {
			must(c.RemoveAborted(t.Context(), b.ID))(t)
			continue
		}
		check(t, c.ReleaseBy(t.Context(), b.ID, "restore", late))
		check(t, c.Tomb(t.Context(), b.ID, testNow))
	}
	for range 4 { // a chain goes link by link
		must(c.Sweep(t.Context(), late))(t)
	}
	if left := memoryKeys(c); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestCrashBeforeAndAfterEveryCall runs one life of two backups, killed before and after each of its store calls, and
// then again from the start: the invariant holds all along and the second run ends where the first would have.
func TestCrashBeforeAndAfterEveryCall(t *testing.T) {
	members := randomMembers(rand.New(rand.NewPCG(5, 5)), 4, 20_000)
	calls := crashAt(t, members, -1, false)
	for n := range calls {
		for _, after := range []bool{false, true} {
			crashAt(t, members, n, after)
		}
		if t.Failed() {
			t.Fatalf("killed at call %d of %d", n, calls)
		}
	}
	if calls < 50 {
		t.Errorf("%d calls", calls)
	}
}

// life is what is done to a cluster, step by step, each idempotent.
func life(t *testing.T, c *Cluster, try int) error {
	t.Helper()
	full := testIntent(1).ID
	in := childIntent(2+try, full)
	late := testNow.Add(1000 * time.Hour)
	if err := c.Hold(t.Context(), full, state.Hold{Holder: "restore"}, testNow); err != nil && state.CodeOf(err) != state.CodeStale {
		return err
	}
	if err := c.ReleaseBy(t.Context(), full, "restore", testNow); err != nil {
		return err
	}
	if _, err := referBackup(t, c, in); err != nil && state.CodeOf(err) != state.CodeStale {
		return err
	}
	backups, err := c.Backups(t.Context())
	if err != nil {
		return err
	}
	for _, b := range backups {
		switch b.State {
		case state.BackupRunning, state.BackupAborted:
			if _, err := c.AbortBackup(t.Context(), b.ID, "dead", testNow); err != nil {
				return err
			}
			if _, err := c.RemoveAborted(t.Context(), b.ID); err != nil {
				return err
			}
		default:
			if err := c.Tomb(t.Context(), b.ID, testNow); err != nil {
				return err
			}
			if _, err := c.Sweep(t.Context(), late); err != nil {
				return err
			}
		}
	}
	_, err = c.Sweep(t.Context(), late)
	return err
}

// crashAt lives once, killed at the n-th call, and then once more unharmed. It gives the calls of the first life.
func crashAt(t *testing.T, members []member, n int, after bool) int {
	t.Helper()
	m := newMemory()
	takeBackup(t, testIntent(1), seal.Codec{}, members, 1000, testCluster(m))
	calls, dead := 0, false
	judge := &memory{objects: m.objects}
	m.step = func(string) (error, error) {
		lookForLoss(t, testCluster(judge), judge, nil)
		calls++
		switch {
		case dead:
			return errDead, nil
		case calls-1 == n:
			dead = true
			if after {
				return nil, errDead
			}
			return errDead, nil
		}
		return nil, nil
	}
	if err := life(t, testCluster(m), 0); n >= 0 && !dead || n < 0 && err != nil {
		t.Fatalf("first life: %v", err)
	}
	first := calls
	m.step = nil
	check(t, life(t, testCluster(m), 1))
	for range 3 {
		must(testCluster(m).Sweep(t.Context(), testNow.Add(1000*time.Hour)))(t)
	}
	if left := m.keys(); len(left) != 0 {
		t.Errorf("killed at %d (after: %v), left: %v", n, after, left)
	}
	return first
}
