package repository

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest"
)

// leased is a repository whose store has a clock that the test moves.
type leased struct {
	st  *storetest.Memory
	now time.Time
	c   *Cluster
}

func newLeased(t *testing.T) *leased {
	l := &leased{now: testNow}
	l.st = storetest.NewMemory(func() time.Time { return l.now })
	r := must(Create(t.Context(), l.st, CreateOptions{Now: testNow, Keys: suiteKeys()}))(t)
	l.c = r.Cluster("orders.eu", "7335180256203400928")
	check(t, l.c.Ensure(t.Context(), ClusterFacts{Major: 15, SegmentSize: 16 << 20, PageSize: 8192}))
	return l
}

// pass lets the store's clock go on, and somebody else put something.
func (l *leased) pass(t *testing.T, d time.Duration) {
	t.Helper()
	l.now = l.now.Add(d)
	newest := NewBackupID(testNow.Add(1000*time.Hour), KindFull, 9)
	check(t, l.c.RecordVerification(t.Context(), Verification{ID: newest, At: l.now}))
}

// seen is the backup as another machine sees it, in a process of its own.
func (l *leased) seen(t *testing.T, id string) state.Backup {
	t.Helper()
	r := must(OpenWith(t.Context(), l.st, suiteKeys()))(t)
	for _, b := range must(r.Cluster(l.c.key.Name, l.c.key.SystemID).Writers(t.Context(), nil, time.Time{}))(t) {
		if b.ID == id {
			return b
		}
	}
	t.Fatalf("backup %s is not listed", id)
	return state.Backup{}
}

func leasedIntent(n int) Intent {
	in := testIntent(n)
	in.Machine, in.Lock, in.Leased = "m1", "/run/pgkeep/lock@66:12", true
	return in
}

// TestALeaseTellsAnotherMachine: alive, dead or unknown, by the store's clock alone.
func TestALeaseTellsAnotherMachine(t *testing.T) {
	l := newLeased(t)
	w := must(l.c.BeginBackup(t.Context(), leasedIntent(1)))(t)
	old := must(l.c.BeginBackup(t.Context(), testIntent(2)))(t)
	lease := w.Lease()
	expect := func(what, id string, want state.BackupState, evidence string) {
		t.Helper()
		b := l.seen(t, id)
		if b.State != want || !strings.Contains(b.Evidence, evidence) || evidence == "" && b.Evidence != "" {
			t.Errorf("%s: %s, %q", what, b.State, b.Evidence)
		}
	}
	expect("just begun", w.ID(), state.BackupRunning, "renewed")
	for range 10 {
		l.pass(t, 9*time.Minute)
		check(t, lease.Renew(t.Context(), l.now))
		expect("renewed", w.ID(), state.BackupRunning, "was renewed from backup1")
	}
	if n := len(l.leases(t)); n != 1 {
		t.Errorf("%d lease objects stay", n)
	}
	l.now = l.now.Add(time.Hour)
	expect("a store in which nothing happens tells no time", w.ID(), state.BackupRunning, "was renewed")
	l.now = l.now.Add(-time.Hour)
	l.pass(t, LeaseExpiry-time.Second)
	expect("almost", w.ID(), state.BackupRunning, "was renewed")
	l.pass(t, time.Second)
	expect("not renewed for ten minutes", w.ID(), state.BackupAbandoned, "not renewed from backup1 after "+l.now.Add(-LeaseExpiry).Format(time.RFC3339))
	expect("a writer without lease", old.ID(), state.BackupRunning, "")
	check(t, lease.Renew(t.Context(), l.now))
	expect("it was only slow", w.ID(), state.BackupRunning, "was renewed")
	check(t, w.Abort(t.Context(), "done", l.now))
	must(l.c.RemoveAborted(t.Context(), w.ID()))(t)
	if left := l.leases(t); len(left) != 0 {
		t.Errorf("the removal left %v", left)
	}
}

func (l *leased) leases(t *testing.T) (keys []string) {
	t.Helper()
	for info, err := range l.st.List(t.Context(), leasesDir, "", false) {
		check(t, err)
		keys = append(keys, info.Key)
	}
	return keys
}

// TestAStoreWithoutClockTellsNothing: where objects carry no times, a lease says nothing.
func TestAStoreWithoutClockTellsNothing(t *testing.T) {
	c := testCluster(newMemory())
	w := must(c.BeginBackup(t.Context(), leasedIntent(1)))(t)
	check(t, w.Lease().Renew(t.Context(), testNow))
	b := must(c.Writers(t.Context(), nil, time.Time{}))(t)[0]
	if b.State != state.BackupRunning {
		t.Errorf("%+v", b)
	}
}

// TestTheLockIsAskedFirst: it is certain, and needs no clock.
func TestTheLockIsAskedFirst(t *testing.T) {
	l := newLeased(t)
	w := must(l.c.BeginBackup(t.Context(), leasedIntent(1)))(t)
	l.pass(t, time.Hour)
	for _, says := range []Liveness{WriterAlive, WriterKilled, WriterEnded, WriterUnknown} {
		local := func(x Writer, key ClusterKey, id string) (Liveness, string) {
			if x != (Writer{Host: "backup1", Machine: "m1", Lock: "/run/pgkeep/lock@66:12"}) || key != l.c.key || id != w.ID() {
				t.Errorf("asked of %+v", x)
			}
			return says, "the lock: " + string(says)
		}
		want := state.BackupAbandoned
		if says == WriterAlive {
			want = state.BackupRunning
		}
		for _, b := range must(l.c.Writers(t.Context(), local, time.Time{}))(t) {
			if b.ID == w.ID() && (b.State != want || strings.HasPrefix(b.Evidence, "the lock") != (says != WriterUnknown)) {
				t.Errorf("the lock says %q: %+v", says, b)
			}
		}
	}
}

// TestALostDecisionIsNoGarbage takes COMMIT away, as a disk may. A writer that let go had decided: its backup is told,
// kept, and goes only by name. One that was killed before its decision left garbage.
func TestALostDecisionIsNoGarbage(t *testing.T) {
	for _, c := range []struct {
		name   string
		lease  bool // the writer was killed: its lease is there
		manual bool // it was killed in the middle of the data
		want   state.BackupState
	}{
		{"the writer had let go", false, false, state.BackupCorrupt},
		{"the writer was killed before its decision", true, false, state.BackupAbandoned},
		{"the writer let go in the middle of the data", false, true, state.BackupAbandoned},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLeased(t)
			id := testIntent(1).ID
			takeBackup(t, leasedIntent(1), seal.Codec{}, randomMembers(rand.New(rand.NewPCG(5, 5)), 3, 9000), 1000, l.c)
			l.st.Set(l.c.key.commitFile(id), nil)
			if c.lease {
				check(t, l.c.putObject(t.Context(), leaseFile(l.c.key.backupLease(id), 1, 1), []byte("anything")))
			}
			if c.manual {
				for _, key := range keysBelow(t, l.st, l.c.key.backupDir(id)+manifestDir) {
					l.st.Set(key, nil)
				}
			}
			l.pass(t, time.Hour)
			b := l.seen(t, id)
			if b.State != c.want || b.Evidence == "" {
				t.Fatalf("%+v", b)
			}
			if c.want != state.BackupCorrupt {
				return
			}
			if !strings.Contains(b.Failure, "COMMIT.json") {
				t.Errorf("why: %q", b.Failure)
			}
			var found []string
			check(t, must(OpenWith(t.Context(), l.st, suiteKeys()))(t).Verify(t.Context(), true, func(f Finding) { found = append(found, f.Object) }))
			if len(found) != 1 || found[0] != l.c.key.commitFile(id) {
				t.Errorf("verification finds %v", found)
			}
			must(l.c.Sweep(t.Context(), muchLater))(t)
			if len(keysBelow(t, l.st, l.c.key.backupDir(id)+volumeDir)) == 0 {
				t.Fatal("a sweep took a backup whose decision was lost")
			}
			check(t, l.c.Tomb(t.Context(), id, l.now)) // by name
			if b := l.seen(t, id); b.State != state.BackupAborted {
				t.Errorf("given up by name: %+v", b)
			}
			must(l.c.RemoveAborted(t.Context(), id))(t)
			if left := keysBelow(t, l.st, l.c.key.backupDir(id)); len(left) != 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func keysBelow(t *testing.T, st *storetest.Memory, prefix string) (keys []string) {
	t.Helper()
	for info, err := range st.List(t.Context(), prefix, "", false) {
		check(t, err)
		keys = append(keys, info.Key)
	}
	return keys
}

func TestLeaseNames(t *testing.T) {
	dir := ClusterKey{Name: "orders.eu", SystemID: "7335180256203400928"}.backupLease(testIntent(1).ID)
	if want := "lease/orders.eu-7335180256203400928-" + testIntent(1).ID + "/"; dir != want {
		t.Errorf("%s, want %s", dir, want)
	}
	for _, c := range []struct {
		name string
		ok   bool
	}{
		{"000001-000001", true}, {"000012-1000000", true}, {"1-1", false}, {"000001-000000", false}, {"000001", false}, {"000001-00001x", false}, {"-00001-000001", false},
	} {
		g, n, ok := parseLeaseFile(dir, dir+c.name)
		if ok != c.ok || ok && fmt.Sprintf("%06d-%06d", g, n) != c.name {
			t.Errorf("%s: %d, %d, %v", c.name, g, n, ok)
		}
	}
}

// TestTheFutureKillsNobody: one object with a time far ahead, or a clock that runs ahead, does not make the living look dead.
func TestTheFutureKillsNobody(t *testing.T) {
	l := newLeased(t)
	w := must(l.c.BeginBackup(t.Context(), leasedIntent(1)))(t)
	check(t, w.Lease().Renew(t.Context(), l.now))
	began := l.now
	l.pass(t, 365*24*time.Hour) // somebody's clock was set wrong for a moment
	l.now = began
	year := began.Add(365 * 24 * time.Hour)
	for _, c := range []struct {
		what string
		now  time.Time
		want state.BackupState
	}{
		{"an object from the future", began.Add(time.Minute), state.BackupRunning},
		{"and this clock is slow", began.Add(-time.Hour), state.BackupRunning},
		{"dead by both", began.Add(LeaseExpiry), state.BackupAbandoned},
		{"both are ahead", year, state.BackupAbandoned},
	} {
		if b := must(l.c.Writers(t.Context(), nil, c.now))(t)[0]; b.State != c.want {
			t.Errorf("%s: %+v", c.what, b)
		}
	}
	other := newLeased(t)
	must(other.c.BeginBackup(t.Context(), leasedIntent(1)))(t)
	if b := must(other.c.Writers(t.Context(), nil, year))(t)[0]; b.State != state.BackupRunning {
		t.Errorf("this clock is a year ahead: %+v", b)
	}
}

// TestALeaseThatCannotBeReadHidesNothing: it only prevents wasted work.
func TestALeaseThatCannotBeReadHidesNothing(t *testing.T) {
	m := newMemory()
	c := testCluster(m)
	must(c.BeginBackup(t.Context(), leasedIntent(1)))(t)
	m.step = func(call string) (error, error) {
		if strings.HasPrefix(call, "list "+leasesDir) {
			return errors.New("permission denied"), nil
		}
		return nil, nil
	}
	b := must(c.Writers(t.Context(), nil, testNow))(t)[0]
	if b.State != state.BackupRunning || !strings.Contains(b.Evidence, "not known") {
		t.Errorf("%+v", b)
	}
}

// TestLeasesOfNobodyAreSwept: a writer that woke up after its backup was removed leaves a lease without a backup.
func TestLeasesOfNobodyAreSwept(t *testing.T) {
	l := newLeased(t)
	gone := must(l.c.BeginBackup(t.Context(), leasedIntent(1)))(t)
	lives := must(l.c.BeginBackup(t.Context(), leasedIntent(2)))(t)
	must(l.c.AbortBackup(t.Context(), gone.ID(), "its writer seemed dead", l.now))(t)
	must(l.c.RemoveAborted(t.Context(), gone.ID()))(t)
	for _, w := range []*BackupWriter{gone, lives} {
		check(t, w.Lease().Renew(t.Context(), l.now))
	}
	must(l.c.Sweep(t.Context(), l.now))(t)
	if left := l.leases(t); len(left) != 1 || !strings.Contains(left[0], lives.ID()) {
		t.Errorf("left: %v", left)
	}
}
