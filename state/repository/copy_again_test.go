package repository

import (
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
)

// ours is a copy by a process of this machine, under its lock.
func ours(id string) CopyIntent {
	in := copyIntent(id)
	in.Machine, in.Lock = "m1", "/run/pgkeep/lock@66:12"
	return in
}

// dieAfter lets a store answer nothing any more once it has taken n objects of backups, as for a process that is killed.
func dieAfter(st *memory, n int64) (revive func()) {
	var puts atomic.Int64
	dead := errors.New("killed")
	st.step = func(call string) (before, after error) {
		if puts.Load() >= n {
			return dead, nil
		}
		if strings.HasPrefix(call, "put ") && strings.Contains(call, "/b/") && puts.Add(1) > n {
			return dead, nil
		}
		return nil, nil
	}
	return func() { st.step = nil }
}

// TestCopyGoesOn kills copiers after each number of objects, once and again. What comes after goes on: nothing of what was stored and is
// whole is put again, and the copy is the backup.
func TestCopyGoesOn(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 7))
	members := randomMembers(random, 30, 300_000)
	full, child := testIntent(1), childIntent(2, testIntent(1).ID)
	for _, id := range []string{full.ID, child.ID} { // the copy of the child stands alone
		for n := int64(0); ; n++ {
			source, target := newMemory(), newMemory()
			from, to := twoRepositories(t, source, target)
			takeBackup(t, full, seal.Codec{}, members, 60_000, from)
			changed := change(random, members, 2)
			takeIncremental(t, child, seal.Codec{}, changed, from)
			whole := must(CopyBackup(t.Context(), from, newArchive(t, newMemory(), 16<<20), ours(id)))(t)

			revive := dieAfter(target, n)
			_, err := CopyBackup(t.Context(), from, to, ours(id))
			revive()
			if err == nil {
				break // it was done before its end
			}
			decided := false // its answer was lost
			for _, b := range must(to.Backups(t.Context()))(t) {
				if decided = b.State == state.BackupCommitted; !decided && b.State != state.BackupRunning {
					t.Fatalf("after %d objects the copy is %s", n, b.State)
				}
			}
			got := must(CopyBackup(t.Context(), from, to, ours(id)))(t)
			if got.Already != decided || !decided && (n > 3 && got.Kept == 0 || got.Kept+got.Bytes != whole.Bytes) {
				t.Fatalf("after %d objects: %+v, of %d bytes", n, got, whole.Bytes)
			}
			healthy(t, to, id)
			want := members
			if id == child.ID {
				want = changed
			}
			holdsMembers(t, must(to.OpenBackup(t.Context(), id))(t), want)
		}
	}
}

// TestCopyGoesOnWithNothingBad: what was left is of another machine, or not what it should be: it is not gone on with, and the copy that
// is made once it was removed is the backup.
func TestCopyGoesOnWithNothingBad(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 7))
	members := randomMembers(random, 30, 300_000)
	full := testIntent(1)
	for name, spoil := range map[string]func(t *testing.T, to *Cluster, st *memory, in *CopyIntent){
		"another machine": func(_ *testing.T, _ *Cluster, _ *memory, in *CopyIntent) { in.Machine = "m2" },
		"another lock":    func(_ *testing.T, _ *Cluster, _ *memory, in *CopyIntent) { in.Lock += "0" },
		"another program": func(_ *testing.T, _ *Cluster, _ *memory, in *CopyIntent) { in.Program = "pgkeep 99" },
		"decided": func(t *testing.T, to *Cluster, _ *memory, _ *CopyIntent) {
			must(to.AbortBackup(t.Context(), full.ID, "by another", testNow))(t)
		},
		"other bytes": func(t *testing.T, _ *Cluster, st *memory, _ *CopyIntent) {
			for key, body := range st.objects {
				if strings.Contains(key, "/v/") {
					body[len(body)/2] ^= 1
					return
				}
			}
			t.Error("no volume was stored")
		},
	} {
		t.Run(name, func(t *testing.T) {
			target := newMemory()
			from, to := twoRepositories(t, newMemory(), target)
			takeBackup(t, full, seal.Codec{}, members, 60_000, from)
			revive := dieAfter(target, 5)
			if _, err := CopyBackup(t.Context(), from, to, ours(full.ID)); err == nil {
				t.Fatal("the copier was not killed")
			}
			revive()
			in := ours(full.ID)
			spoil(t, to, target, &in)
			if got, err := CopyBackup(t.Context(), from, to, in); err == nil || got.Already {
				t.Fatalf("it went on: %+v", got)
			}
			if b := must(to.Backups(t.Context()))(t); len(b) != 1 || b[0].State == state.BackupCommitted {
				t.Errorf("there is %+v", b)
			}
			must(to.AbortBackup(t.Context(), full.ID, "its writer died", testNow))(t)
			must(to.RemoveAborted(t.Context(), full.ID))(t)
			if got := must(CopyBackup(t.Context(), from, to, in))(t); got.Kept != 0 {
				t.Errorf("%+v", got)
			}
			healthy(t, to, full.ID)
		})
	}
}

// TestCopiersRace lets a copier of another machine come while one is at work: it fails, and the original stays held for the one that copies.
func TestCopiersRace(t *testing.T) {
	target := newMemory()
	from, to := twoRepositories(t, newMemory(), target)
	full := testIntent(1)
	takeBackup(t, full, seal.Codec{}, randomMembers(rand.New(rand.NewPCG(5, 7)), 30, 300_000), 60_000, from)
	held := func() bool { return must(from.Backups(t.Context()))(t)[0].Hold != nil }
	var once sync.Once
	target.step = func(call string) (before, after error) {
		if strings.HasPrefix(call, "put ") && strings.Contains(call, "/v/") {
			once.Do(func() {
				other := ours(full.ID)
				other.Host, other.Machine = "backup3", "m3"
				c := &backupCopy{from: from, to: to, in: other}
				release := must(c.hold(t.Context()))(t) // it looked before our START was put
				if err := c.look(t.Context()); err != nil {
					t.Error(err)
				}
				if err := c.announce(t.Context()); state.CodeOf(err) != state.CodeStale {
					t.Errorf("two copiers: %v", err)
				}
				release()
				if !held() {
					t.Error("the one that lost has released the hold of the one that copies")
				}
			})
		}
		return nil, nil
	}
	must(CopyBackup(t.Context(), from, to, ours(full.ID)))(t)
	if held() {
		t.Error("the original is held after the copy")
	}
	healthy(t, to, full.ID)
}
