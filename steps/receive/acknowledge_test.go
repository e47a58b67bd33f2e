package receive

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/wal"
)

// synchronous makes commits wait for the receiver.
func synchronous(t *testing.T, s *pgtest.Server) {
	t.Helper()
	s.Exec(t, "alter system set synchronous_standby_names = '"+slotName+"'")
	s.Reload(t)
}

func TestADeadRepositoryDelaysNoCommit(t *testing.T) {
	t.Parallel()
	s := startServer(t, pgtest.Options{SegmentMB: 1})
	r := newRig(t, s, mib, 2)
	stop := r.start()
	busy(t, s, "one")
	r.awaitArchived(flushed(t, s))
	synchronous(t, s)
	release := r.archives[1].stall()
	defer release()
	began := time.Now()
	s.Exec(t, "create table committed as select 1") // several segments' worth follow, all waiting for our flush
	busy(t, s, "two")
	busy(t, s, "three")
	t.Logf("commits took %s with one repository dead, which answers no sooner than they ended", time.Since(began))
	await(t, "the living repository has all", func() bool { return r.archives[0].end().To >= flushed(t, s) })
	if f := r.look(); len(f.Spool.Pending) == 0 {
		t.Error("nothing waits in the spool for the dead repository")
	}
	s.Exec(t, "alter system reset synchronous_standby_names")
	s.Reload(t)
	release()
	r.awaitArchived(flushed(t, s))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	r.compare(s)
	if f := r.look(); len(f.Spool.Pending) > 0 {
		t.Errorf("still pending: %v", f.Spool.Pending)
	}
}

func TestADeadRepositoryHoldsUpNoStart(t *testing.T) {
	t.Parallel()
	s := startServer(t, pgtest.Options{SegmentMB: 1})
	r := newRig(t, s, mib, 2)
	stop := r.start()
	busy(t, s, "one")
	r.awaitArchived(flushed(t, s))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	release := r.archives[1].stall()
	defer release()
	began := time.Now()
	stop = r.start()
	await(t, "it streams", func() bool { return r.look().Receiver.Streaming })
	t.Logf("it took %s, with a repository that answers no sooner", time.Since(began))
	release()
	busy(t, s, "two")
	r.awaitArchived(flushed(t, s))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

func TestAcknowledgesWhatTheRepositoriesHold(t *testing.T) {
	t.Parallel()
	s := startServer(t, pgtest.Options{SegmentMB: 1})
	r := newRig(t, s, mib, 3)
	r.o.Acknowledge, r.o.Quorum = Repository, 2
	stop := r.start()
	busy(t, s, "one")
	r.awaitArchived(flushed(t, s))
	synchronous(t, s)
	release := r.archives[0].stall()
	defer release()
	for range 3 { // a quorum is there: commits end, and are in two repositories when they do
		s.Exec(t, "create table if not exists t (n int); insert into t values (1)")
		at, err := wal.ParseLSN(s.SQL(t, "select flush_lsn from pg_stat_replication where application_name = '"+slotName+"'"))
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range r.archives[1:] {
			if a.end().To < at {
				t.Errorf("acknowledged %s, a repository ends at %s", at, a.end().To)
			}
		}
	}
	releaseToo := r.archives[1].stall()
	defer releaseToo()
	committed := make(chan error, 1)
	go func() { _, err := s.Try("insert into t values (2)"); committed <- err }()
	await(t, "a commit waits, and its WAL is received", func() bool {
		end := flushed(t, s)
		return s.SQL(t, "select count(*) from pg_stat_activity where wait_event = 'SyncRep'") == "1" && r.look().Receiver.Flushed >= end
	})
	select {
	case err := <-committed:
		t.Errorf("a commit ended with one repository of three: %v", err)
	case <-time.After(1500 * time.Millisecond): // as long as it might be acknowledged too early
	}
	flush := s.SQL(t, "select flush_lsn < sent_lsn from pg_stat_replication where application_name = '"+slotName+"'")
	if flush != "t" {
		t.Errorf("one repository of three holds the WAL, yet it was acknowledged")
	}
	releaseToo()
	if err := <-committed; err != nil {
		t.Errorf("the commit that waited: %v", err)
	}
	release()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

func TestAFastShutdownTakesNoLonger(t *testing.T) {
	t.Parallel()
	took := func(t *testing.T, s *pgtest.Server) time.Duration {
		began := time.Now()
		s.Stop(t, "fast")
		return time.Since(began)
	}
	s := startServer(t, pgtest.Options{SegmentMB: 1})
	busy(t, s, "alone")
	alone := took(t, s)
	s.StartAgain(t)
	r := newRig(t, s, mib, 1)
	stop := r.start()
	busy(t, s, "attached")
	await(t, "it streams", func() bool { return r.look().Receiver.Streaming })
	attached := took(t, s)
	end := r.look().Spool.Durable
	s.StartAgain(t)
	busy(t, s, "again")
	r.awaitArchived(flushed(t, s))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	r.o.Acknowledge = Repository
	stop = r.start()
	await(t, "it streams", func() bool { return r.look().Receiver.Streaming })
	release := r.archives[0].stall()
	busy(t, s, "not_archived")
	dead := took(t, s)
	release()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	t.Logf("alone %s, attached %s, with a dead repository that is waited for %s; durable at the first shutdown %s", alone, attached, dead, end)
	if slow := 10*alone + time.Minute; attached > slow || dead > slow { // without a farewell it takes for ever
		t.Errorf("alone %s, attached %s, with a dead repository %s", alone, attached, dead)
	}
}

func TestFetchesADamagedSegmentAgain(t *testing.T) {
	t.Parallel()
	s := startServer(t, pgtest.Options{SegmentMB: 1})
	r := newRig(t, s, mib, 1)
	stop := r.start()
	s.Exec(t, "create table small as select generate_series(1, 500)")
	at := flushed(t, s)
	await(t, "it is received", func() bool { return r.look().Spool.Durable >= at })
	seg := wal.SegmentSize(mib).SegmentAt(1, at)
	f := r.look()
	path := filepath.Join(f.Spool.Path, f.Spool.SystemID, seg.Name(mib))
	t.Logf("at %s of %s, durable %s", at, seg.Name(mib), f.Spool.Durable)
	flip(t, path+".partial", wal.SegmentSize(mib).Offset(at)/2)
	busy(t, s, "more")
	r.awaitArchived(flushed(t, s))
	if !r.saw(state.CodeCorrupt) {
		t.Error("the damage was not reported")
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if f := r.look(); len(f.Spool.Quarantined) != 1 || !strings.HasPrefix(f.Spool.Quarantined[0], seg.Name(mib)) {
		t.Errorf("quarantine holds %v", f.Spool.Quarantined)
	}
	r.compare(s)
}

func TestRepositoryWithOtherBytesStopsTheReceiver(t *testing.T) {
	t.Parallel()
	s := startServer(t, pgtest.Options{SegmentMB: 1})
	r := newRig(t, s, mib, 1)
	at := flushed(t, s)
	seg := wal.SegmentSize(mib).SegmentAt(1, at)
	foreign := bytes.Repeat([]byte{7}, mib)
	stop := r.start()
	await(t, "it streams", func() bool { return r.look().Receiver.Streaming })
	r.archives[0].mu.Lock()
	r.archives[0].whole[seg] = foreign // written by the other server after we looked
	r.archives[0].mu.Unlock()
	busy(t, s, "ours")
	await(t, "it stops", func() bool { return !r.look().Receiver.Running })
	if err := stop(); state.CodeOf(err) != state.CodeFork {
		t.Fatalf("it ended with %v", err)
	}
	if !bytes.Equal(r.archives[0].whole[seg], foreign) {
		t.Error("the archived segment was overwritten")
	}
	if f := r.look(); len(f.Spool.Diverged) != 1 {
		t.Errorf("diverged holds %v", f.Spool.Diverged)
	}
	if err := r.result(); state.CodeOf(err) != state.CodeFork {
		t.Errorf("started again: %v", err)
	}
}

func TestAFailingRepositoryIsTriedAgain(t *testing.T) {
	t.Parallel()
	s := startServer(t, pgtest.Options{SegmentMB: 1})
	r := newRig(t, s, mib, 1)
	stop := r.start()
	await(t, "it streams", func() bool { return r.look().Receiver.Streaming })
	r.archives[0].breakWith(&state.Error{Code: state.CodeDiskFull, Text: "no space", Err: errors.New("ENOSPC"), Hint: "free some"})
	busy(t, s, "one")
	await(t, "it is reported", func() bool { return r.saw(state.CodeDiskFull) })
	await(t, "the report names the repository", func() bool {
		p := r.look().Receiver.Problem
		return p != nil && strings.Contains(p.Text, "repository main")
	})
	r.archives[0].breakWith(nil)
	r.awaitArchived(flushed(t, s))
	await(t, "the problem is gone", func() bool { return r.look().Receiver.Problem == nil })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	r.compare(s)
}

// flip inverts a byte of a file in place.
func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0xff
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}
