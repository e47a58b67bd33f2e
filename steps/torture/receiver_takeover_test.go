package torture_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// elsewhere is the same server and repository seen from another machine: a spool of its own.
func (x *site) elsewhere() *site {
	x.t.Helper()
	other := *x
	dir := x.t.TempDir()
	other.o.Spool, other.log = filepath.Join(dir, "spool"), filepath.Join(dir, "receiver.log")
	return &other
}

// streaming lists the process ids of the walsenders that stream to receivers of ours.
func (x *site) streaming() []string {
	x.t.Helper()
	return strings.Fields(x.server.SQL(x.t, "select coalesce(string_agg(pid::text, ' '), '') from pg_stat_replication where application_name = '"+slotName+"' and state in ('streaming', 'catchup')"))
}

// stored lists the objects of the repository with what would change if one were written again.
func (x *site) stored() map[string]string {
	x.t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(filepath.Join(x.o.Repository, "c"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		fi, err := d.Info()
		if err == nil {
			out[path] = fi.ModTime().String()
		}
		return err
	})
	if err != nil {
		x.t.Fatal(err)
	}
	return out
}

// Fault A7: a receiver is stopped for a second, and goes on; then for longer than the server waits for it, while WAL is on
// its way to it, and another one takes over. When it wakes up it says that the slot is another's, moves nothing on the
// server, and leaves the repository as it is.
func TestZombie(t *testing.T) {
	t.Parallel()
	x := newSite(t, pgtest.Options{SegmentMB: 1})
	n := rounds(t, 3)
	for range n {
		x.senderTimeout("1s")
		cmd := x.start()
		pid := cmd.Process.Pid
		x.write(1000)
		x.awaitArchived(x.flushed())
		pause(t, pid, time.Second)
		x.write(1000)
		x.awaitArchived(x.flushed())

		signalTo(t, pid, syscall.SIGSTOP)
		x.write(1000) // into the sockets of one that does not read
		await(t, "the server gives it up", func() bool { return len(x.streaming()) == 0 })
		x.senderTimeout("0") // the successor lives, however slow this machine is
		other := x.elsewhere()
		successor := other.start()
		x.write(5000)
		x.server.Exec(t, "select pg_switch_wal()")
		end := x.flushed()
		other.awaitArchived(end)
		await(t, "the slot is where the successor is", func() bool { return x.acknowledged() >= end })
		holder := x.streaming()
		before := x.stored()
		next := x.z.SegmentAt(1, end).Name(x.z) // from here on it is the successor's: a server that does nothing writes a record now and then

		signalTo(t, pid, syscall.SIGCONT)
		await(t, "the zombie says that it is one", func() bool { return x.hasProblem(state.CodeSlotInUse) })
		for path, at := range x.stored() {
			if before[path] != at && filepath.Base(path) < next {
				t.Errorf("written after the take-over: %s", path)
			}
		}
		if now := x.streaming(); len(now) != 1 || len(holder) != 1 || now[0] != holder[0] {
			t.Errorf("walsenders %v stream after the zombie woke up, before %v", now, holder)
		}
		if at := x.acknowledged(); at < end {
			t.Errorf("the slot went back from %s to %s", end, at)
		}
		kill(cmd)
		x.write(1000)
		other.awaitArchived(x.flushed())
		other.end(successor)
		if err := os.RemoveAll(x.o.Spool); err != nil { // the next round's first machine is a new one
			t.Fatal(err)
		}
	}
	x.server.Exec(t, "select pg_switch_wal()")
	stop := x.run()
	x.awaitArchived(x.flushed())
	stop()
	x.compare()
	t.Logf("%d zombies, 0 objects written after a take-over", n)
}

// senderTimeout sets how long the server waits for a receiver that says nothing.
func (x *site) senderTimeout(d string) {
	x.t.Helper()
	x.server.Exec(x.t, "alter system set wal_sender_timeout = '"+d+"'")
	x.server.Reload(x.t)
}

func signalTo(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
}

func pause(t *testing.T, pid int, d time.Duration) {
	t.Helper()
	signalTo(t, pid, syscall.SIGSTOP)
	time.Sleep(d) // how long it is stopped is the fault
	signalTo(t, pid, syscall.SIGCONT)
}

// Fault A14: two receivers of one server are started at once, on two machines or on one. One of them streams; the other
// says why it does not, and follows when the first dies.
func TestTwoReceivers(t *testing.T) {
	t.Parallel()
	x := newSite(t, pgtest.Options{SegmentMB: 1})
	n := rounds(t, 4)
	took := time.Duration(0)
	for i := range n {
		a, b := x, x.elsewhere()
		if i%2 == 1 {
			b.o.Spool = a.o.Spool
		}
		one, two := a.start(), b.start()
		most := 0
		look := func() int { now := len(x.streaming()); most = max(most, now); return now }
		await(t, "one of them streams", func() bool { return look() == 1 })
		x.write(500)
		at := x.flushed()
		await(t, "its WAL is acknowledged", func() bool { look(); return x.acknowledged() >= at })
		if b.o.Spool == a.o.Spool { // the lock decides, and its loser ends
			await(t, "one of them ends", func() bool { look(); return ended(one) || ended(two) })
			kill(one)
			kill(two)
			await(t, "none streams", func() bool { return len(x.streaming()) == 0 })
		} else {
			// A report may be of a process that was killed before, or not be written yet: its process tells.
			says := func(x *site, cmd *exec.Cmd) bool {
				r := x.look().Receiver
				return r.Streaming && r.PID == cmd.Process.Pid
			}
			await(t, "one of them says that it streams", func() bool { look(); return says(a, one) != says(b, two) })
			winner, loser, follower := one, two, b
			if says(b, two) {
				winner, loser, follower = two, one, a
			}
			await(t, "the other says why it does not", func() bool { look(); return follower.hasProblem(state.CodeSlotInUse) })
			kill(winner)
			began := time.Now()
			x.write(500)
			at := x.flushed()
			await(t, "the other takes over", func() bool { look(); return x.acknowledged() >= at })
			took = max(took, time.Since(began))
			kill(loser)
			await(t, "none streams", func() bool { return len(x.streaming()) == 0 })
		}
		if most != 1 {
			t.Errorf("race %d: %d walsenders streamed at once", i, most)
		}
	}
	x.server.Exec(t, "select pg_switch_wal()")
	stop := x.run()
	x.awaitArchived(x.flushed())
	stop()
	x.compare()
	t.Logf("%d races, one streams in each; hand-over after a kill took at most %s", n, took)
}
