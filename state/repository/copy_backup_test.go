package repository

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store"
)

// twoRepositories gives the same cluster in two repositories.
func twoRepositories(t testing.TB, a, b store.Store) (from, to *Cluster) {
	t.Helper()
	return newArchive(t, a, 16<<20), newArchive(t, b, 16<<20)
}

func copyIntent(id string) CopyIntent {
	return CopyIntent{ID: id, Host: "backup2", Program: "pgkeep test", Now: func() time.Time { return testNow.Add(100 * time.Hour) }}
}

func healthy(t testing.TB, c *Cluster, ids ...string) {
	t.Helper()
	for _, id := range ids {
		check(t, c.VerifyBackup(t.Context(), id, true, func(f Finding) { t.Errorf("backup %s: %s: %s", id, f.Object, f.Text) }))
	}
}

func TestCopyBackup(t *testing.T) {
	from, to := twoRepositories(t, newMemory(), newMemory())
	random := rand.New(rand.NewPCG(1, 7))
	members := randomMembers(random, 30, 300_000)
	full := testIntent(1)
	takeBackup(t, full, seal.Codec{}, members, 60_000, from)
	var told int64
	in := copyIntent(full.ID)
	in.Report = func(done, total int64) {
		if done > total || done < told {
			t.Errorf("%d of %d bytes after %d", done, total, told)
		}
		told = done
	}
	got := must(CopyBackup(t.Context(), from, to, in))(t)
	if got.Already || got.Alone || got.Bytes == 0 || told == 0 {
		t.Errorf("copied %+v, told of %d bytes", got, told)
	}
	holdsMembers(t, must(to.OpenBackup(t.Context(), full.ID))(t), members)
	healthy(t, to, full.ID)
	if again := must(CopyBackup(t.Context(), from, to, in))(t); !again.Already || again.Bytes != 0 {
		t.Errorf("a second copy: %+v", again)
	}
	a, b := must(from.Backups(t.Context()))(t)[0], must(to.Backups(t.Context()))(t)[0]
	if a.Hold != nil {
		t.Errorf("the original is held for ever: %+v", a.Hold)
	}
	if b.Host != "backup2" || a.Stop != b.Stop || !a.Began.Equal(b.Began) || !a.Ended.Equal(b.Ended) || a.Redo != b.Redo || b.State != state.BackupCommitted {
		t.Errorf("copied %+v\nfrom %+v", b, a)
	}
	if x, y := must(from.InspectParent(t.Context(), full.ID))(t), must(to.InspectParent(t.Context(), full.ID))(t); x.Copy != y.Copy {
		t.Error("the copy is not byte for byte the original")
	}

	members = change(random, members, 2)
	child := childIntent(2, full.ID)
	takeIncremental(t, child, seal.Codec{}, members, from)
	if got := must(CopyBackup(t.Context(), from, to, copyIntent(child.ID)))(t); got.Alone {
		t.Errorf("the copy of an incremental stands alone although its parent is there: %+v", got)
	}
	holdsMembers(t, must(to.OpenBackup(t.Context(), child.ID))(t), members)
	healthy(t, to, full.ID, child.ID)
	grandchild := childIntent(3, child.ID)
	members = change(random, members, 3)
	takeIncremental(t, grandchild, seal.Codec{}, members, from, to)
	holdsMembers(t, must(to.OpenBackup(t.Context(), grandchild.ID))(t), members)
}

// TestCopyAlone: what an incremental reads of others comes along where those are not there, lie there otherwise, or are
// damaged or being deleted there. The copy needs none of them.
func TestCopyAlone(t *testing.T) {
	random := rand.New(rand.NewPCG(2, 7))
	for name, prepare := range map[string]func(t *testing.T, to *Cluster, full Intent, members []member){
		"absent": func(*testing.T, *Cluster, Intent, []member) {},
		"another codec": func(t *testing.T, to *Cluster, full Intent, members []member) {
			takeBackup(t, full, seal.Codec{Algorithm: seal.Gzip}, members, 60_000, to)
		},
		"being deleted": func(t *testing.T, to *Cluster, full Intent, members []member) {
			takeBackup(t, full, seal.Codec{}, members, 60_000, to)
			check(t, to.Tomb(t.Context(), full.ID, testNow))
		},
		"damaged": func(t *testing.T, to *Cluster, full Intent, members []member) {
			takeBackup(t, full, seal.Codec{}, members, 60_000, to)
			bad := state.Verification{Kind: state.VerificationKind, Backups: []state.VerifiedBackup{{ID: full.ID, Damaged: true, Why: "a test says so"}}}
			check(t, to.PutEvidence(t.Context(), testNow, bad))
		},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := twoRepositories(t, newMemory(), newMemory())
			first := randomMembers(random, 30, 300_000)
			full, child, grandchild := testIntent(1), childIntent(2, testIntent(1).ID), childIntent(3, childIntent(2, testIntent(1).ID).ID)
			takeBackup(t, full, seal.Codec{}, first, 60_000, from)
			second := change(random, first, 2)
			takeIncremental(t, child, seal.Codec{}, second, from)
			third := change(random, second, 3)
			takeIncremental(t, grandchild, seal.Codec{}, third, from)
			prepare(t, to, full, first)

			if got := must(CopyBackup(t.Context(), from, to, copyIntent(grandchild.ID)))(t); !got.Alone {
				t.Fatalf("copied %+v", got)
			}
			for _, b := range must(to.Backups(t.Context()))(t) {
				if b.ID != grandchild.ID {
					_ = to.repo.Store().Delete(t.Context(), backupKeys(t, to, b.ID)...)
				}
			}
			b := must(to.OpenBackup(t.Context(), grandchild.ID))(t)
			holdsMembers(t, b, third)
			healthy(t, to, grandchild.ID)
			if info := b.Info(); len(info.Refs) > 0 || info.Chain == nil || info.Chain.ReferredBytes != 0 || info.Chain.Depth != 2 {
				t.Errorf("it is %+v, chain %+v", info, info.Chain)
			}

			fourth := change(random, third, 4) // one pass into both, each built on its own copy of the parent
			in := childIntent(4, grandchild.ID)
			for _, c := range []*Cluster{from, to} {
				takeIncremental(t, in, seal.Codec{}, fourth, c)
				holdsMembers(t, must(c.OpenBackup(t.Context(), in.ID))(t), fourth)
			}
			healthy(t, to, in.ID)
		})
	}
}

func backupKeys(t testing.TB, c *Cluster, id string) []string {
	t.Helper()
	var keys []string
	for info, err := range c.repo.Store().List(t.Context(), c.key.backupDir(id), "", false) {
		check(t, err)
		keys = append(keys, info.Key)
	}
	return keys
}

// TestCopyRefuses: damage is not copied, and nothing of it is listed.
func TestCopyRefuses(t *testing.T) {
	members := randomMembers(rand.New(rand.NewPCG(3, 7)), 10, 100_000)
	in := testIntent(1)
	for name, tc := range map[string]struct {
		break_ func(t *testing.T, from, to *Cluster)
		code   state.Code
		left   state.BackupState
	}{
		"a volume is damaged": {func(t *testing.T, from, _ *Cluster) { flip(t, from, from.key.backupDir(in.ID)+"v/base/000000") }, state.CodeCorrupt, state.BackupAborted},
		"a list is damaged":   {func(t *testing.T, from, _ *Cluster) { flip(t, from, from.key.backupDir(in.ID)+"files/000000") }, state.CodeCorrupt, state.BackupAborted},
		"a sum is damaged":    {func(t *testing.T, from, _ *Cluster) { flip(t, from, from.key.backupDir(in.ID)+"sums/000000") }, state.CodeCorrupt, ""},
		"an object is gone": {func(t *testing.T, from, _ *Cluster) {
			check(t, from.repo.Store().Delete(t.Context(), from.key.backupDir(in.ID)+"v/base/000000"))
		}, state.CodeCorrupt, state.BackupAborted},
		"the original is being deleted": {func(t *testing.T, from, _ *Cluster) { check(t, from.Tomb(t.Context(), in.ID, testNow)) }, state.CodeStale, ""},
		"evidence says that it is damaged": {func(t *testing.T, from, _ *Cluster) {
			bad := state.Verification{Kind: state.VerificationKind, Backups: []state.VerifiedBackup{{ID: in.ID, Damaged: true, Why: "a test says so"}}}
			check(t, from.PutEvidence(t.Context(), testNow, bad))
		}, state.CodeCorrupt, ""},
		"what an aborted try left is there": {func(t *testing.T, _, to *Cluster) {
			w := must(to.BeginBackup(t.Context(), in))(t)
			check(t, w.Abort(t.Context(), "a test", testNow))
		}, state.CodeStale, state.BackupAborted},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := twoRepositories(t, newMemory(), newMemory())
			takeBackup(t, in, seal.Codec{}, members, 60_000, from)
			tc.break_(t, from, to)
			_, err := CopyBackup(t.Context(), from, to, copyIntent(in.ID))
			if state.CodeOf(err) != tc.code {
				t.Errorf("error %v, want code %s", err, tc.code)
			}
			got := must(to.Backups(t.Context()))(t)
			if tc.left == "" && len(got) != 0 || tc.left != "" && (len(got) != 1 || got[0].State != tc.left) {
				t.Errorf("left %+v", got)
			}
		})
	}
}

func flip(t testing.TB, c *Cluster, key string) {
	t.Helper()
	m := c.repo.times.Store.(*memory)
	m.mu.Lock()
	defer m.mu.Unlock()
	b := append([]byte(nil), m.objects[key]...)
	if len(b) == 0 {
		t.Fatalf("no object %s", key)
	}
	b[len(b)/2] ^= 1
	m.objects[key] = b
}

// TestCopyLateWriter: a writer that slept while its backup was aborted, removed and copied here finds START of the copy when it
// decides. Neither its decision makes the half copy a backup, nor does it take the copy's away.
func TestCopyLateWriter(t *testing.T) {
	from, to := twoRepositories(t, newMemory(), newMemory())
	in := testIntent(1)
	takeBackup(t, in, seal.Codec{}, randomMembers(rand.New(rand.NewPCG(4, 7)), 10, 100_000), 60_000, from)
	late := must(to.BeginBackup(t.Context(), in))(t)
	must(to.AbortBackup(t.Context(), in.ID, "its writer died", testNow))(t)
	must(to.RemoveAborted(t.Context(), in.ID))(t)

	m := to.repo.times.Store.(*memory)
	d := must(from.readDecision(t.Context(), in.ID))(t)
	woken := false
	var mu sync.Mutex
	m.step = func(call string) (error, error) {
		if !mu.TryLock() {
			return nil, nil
		}
		defer mu.Unlock()
		if woken || !strings.Contains(call, "put ") || !strings.Contains(call, "/v/base/") {
			return nil, nil
		}
		woken = true
		if err := late.commit(t.Context(), d); state.CodeOf(err) != state.CodeStale {
			t.Errorf("the late writer: %v", err)
		}
		return nil, nil
	}
	must(CopyBackup(t.Context(), from, to, copyIntent(in.ID)))(t)
	m.step = nil
	if !woken {
		t.Fatal("the writer did not wake")
	}
	if err := late.commit(t.Context(), d); state.CodeOf(err) != state.CodeStale {
		t.Errorf("the late writer, after the copy: %v", err)
	}
	healthy(t, to, in.ID)
	if got := must(to.Backups(t.Context()))(t); len(got) != 1 || got[0].State != state.BackupCommitted {
		t.Errorf("listed %+v", got)
	}

	// one that dies right after its decision
	to2 := newArchive(t, newMemory(), 16<<20)
	dead := must(to2.BeginBackup(t.Context(), in))(t)
	start := *dead
	must(to2.AbortBackup(t.Context(), in.ID, "its writer died", testNow))(t)
	must(to2.RemoveAborted(t.Context(), in.ID))(t)
	c := &backupCopy{from: from, to: to2, in: copyIntent(in.ID)}
	check(t, c.look(t.Context()))
	check(t, c.announce(t.Context()))
	d.StartSum = start.startSum
	must(to2.decide(t.Context(), d))(t)
	if got := must(to2.Backups(t.Context()))(t); len(got) != 1 || got[0].State != state.BackupCorrupt {
		t.Errorf("half a copy that another has decided is listed as %+v", got)
	}
}

// TestCopyCrash kills a copy before and after each of its calls, in both repositories: whatever is listed as committed is
// whole, nothing is lost in either, and the next try ends where the first would have.
func TestCopyCrash(t *testing.T) {
	calls := copyCrashAt(t, -1, false)
	for n := range calls {
		for _, after := range []bool{false, true} {
			copyCrashAt(t, n, after)
		}
		if t.Failed() {
			t.Fatalf("killed at call %d of %d", n, calls)
		}
	}
	if calls < 60 {
		t.Errorf("%d calls", calls)
	}
}

func copyCrashAt(t *testing.T, n int, after bool) int {
	t.Helper()
	a, b := newMemory(), newMemory()
	from, to := twoRepositories(t, a, b)
	members := randomMembers(rand.New(rand.NewPCG(5, 7)), 4, 20_000)
	in := testIntent(1)
	takeBackup(t, in, seal.Codec{}, members, 1000, from)
	child := childIntent(2, in.ID)
	takeIncremental(t, child, seal.Codec{}, change(rand.New(rand.NewPCG(6, 7)), members, 2), from)
	var mu sync.Mutex
	calls, dead := 0, false
	step := func(string) (error, error) {
		mu.Lock()
		defer mu.Unlock()
		c, still := asStored(from, a)
		lookForLoss(t, c, still, nil)
		c, still = asStored(to, b)
		lookForLoss(t, c, still, nil)
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
	a.step, b.step = step, step
	err := copyLife(t.Context(), from, to, in.ID, child.ID)
	first := calls
	if n < 0 && err != nil || n >= 0 && !dead {
		t.Fatalf("first life: %v", err)
	}
	a.step, b.step = nil, nil
	check(t, copyLife(t.Context(), from, to, in.ID, child.ID))
	healthy(t, to, in.ID, child.ID)
	for _, k := range must(to.Backups(t.Context()))(t) {
		if k.State != state.BackupCommitted {
			t.Errorf("killed at %d (after: %v): %s is %s", n, after, k.ID, k.State)
		}
	}
	return first
}

// copyLife is what plans make of it: what a dead writer left is removed, and then it is copied.
func copyLife(ctx context.Context, from, to *Cluster, ids ...string) error {
	backups, err := to.Backups(ctx)
	if err != nil {
		return err
	}
	for _, b := range backups {
		if b.State != state.BackupRunning && b.State != state.BackupAborted {
			continue
		}
		if _, err := to.AbortBackup(ctx, b.ID, "dead", testNow); err != nil {
			return err
		}
		if _, err := to.RemoveAborted(ctx, b.ID); err != nil {
			return err
		}
	}
	for _, id := range ids {
		if _, err := CopyBackup(ctx, from, to, copyIntent(id)); err != nil {
			return fmt.Errorf("copy %s: %w", id, err)
		}
	}
	return nil
}

// asStored looks at a cluster's objects as they lie, without counting as its process's calls.
func asStored(c *Cluster, m *memory) (*Cluster, *memory) {
	m.mu.Lock()
	defer m.mu.Unlock()
	still := &memory{objects: maps.Clone(m.objects)}
	repo := *c.repo
	repo.st = still
	return &Cluster{repo: &repo, key: c.key}, still
}

// TestCopyHostile: what another repository lists decides neither where in this one something is put nor how much memory it takes.
func TestCopyHostile(t *testing.T) {
	in := testIntent(1)
	for name, size := range map[string]int{"HOLD-000007.json": 10, "VERIFY-x.json": 10, "sums/000009": 10, "v/base/99": 10, "v/base/000099": 20 << 20} {
		from, to := twoRepositories(t, newMemory(), newMemory())
		takeBackup(t, in, seal.Codec{}, randomMembers(rand.New(rand.NewPCG(4, 7)), 3, 10_000), 60_000, from)
		dir, m := from.key.backupDir(in.ID), from.repo.times.Store.(*memory)
		d := must(from.readDecision(t.Context(), in.ID))(t)
		body := make([]byte, size)
		list := sumLine{name: name, size: int64(size), sum: sha256.Sum256(body)}.appendTo(plainObject(t, from, dir+"sums/000000"))
		sum := sha256.Sum256(list)
		d.Sums[0] = shardSum{Size: int64(len(list)), SHA256: hex.EncodeToString(sum[:])}
		for key, body := range map[string][]byte{dir + name: body, dir + "sums/000000": list, from.key.commitFile(in.ID): must(encodeRecord(d))(t)} {
			delete(m.objects, key)
			check(t, from.putObject(t.Context(), key, body))
		}

		_, err := CopyBackup(t.Context(), from, to, copyIntent(in.ID))
		if !isCorrupt(err) {
			t.Errorf("%s: %v", name, err)
		}
		if there := must(to.exists(t.Context(), to.key.backupDir(in.ID)+name))(t); there {
			t.Errorf("%s was put", name)
		}
	}
}
