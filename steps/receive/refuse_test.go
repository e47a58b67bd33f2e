package receive

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host/hosttest"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/spool"
)

func TestRefusesAnotherClusterBeforeTheFirstByte(t *testing.T) {
	t.Parallel()
	s, stranger := startServer(t, pgtest.Options{SegmentMB: 1}), startServer(t, pgtest.Options{SegmentMB: 1})
	id := func(s *pgtest.Server) string { return s.SQL(t, "select system_identifier from pg_control_system()") }
	refused := func(t *testing.T, r *rig) {
		stop := r.start()
		await(t, "it is refused", func() bool { return r.saw(state.CodeIdentity) })
		if got := stranger.SQL(t, "select count(*) from pg_stat_replication where state <> 'startup'"); got != "0" {
			t.Errorf("%s streams from the stranger", got)
		}
		p := r.look().Receiver.Problem
		if p == nil || !strings.Contains(p.Text, id(stranger)) || !strings.Contains(p.Hint, id(stranger)) {
			t.Errorf("the report does not name the stranger: %+v", p)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		ids, err := spool.SystemIDs(r.o.Spool, "orders")
		if err != nil || len(ids) == 1 && ids[0] == id(stranger) {
			t.Errorf("the spool holds %v, %v", ids, err)
		}
	}
	t.Run("by the pin", func(t *testing.T) {
		r := newRig(t, stranger, mib, 1)
		r.o.Identity = []string{id(s)}
		refused(t, r)
	})
	t.Run("by the repository", func(t *testing.T) {
		r := newRig(t, stranger, mib, 1)
		r.archives[0].ids = []string{id(s)}
		refused(t, r)
	})
	t.Run("by the spool, until it is named", func(t *testing.T) {
		r := newRig(t, s, mib, 1)
		stop := r.start()
		busy(t, s, "ours")
		r.awaitArchived(flushed(t, s))
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		r.leadTo(stranger)
		refused(t, r)
		r.o.Identity = []string{id(s), id(stranger)}
		fresh := newMemoryArchive(mib)
		r.archives, r.o.Archives = []*memoryArchive{fresh}, []Archive{fresh.archive("main")}
		stop = r.start()
		busy(t, stranger, "now_ours")
		stranger.Exec(t, "select pg_switch_wal()")
		r.awaitArchived(flushed(t, stranger))
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		r.compare(stranger)
	})
}

func TestSlots(t *testing.T) {
	t.Parallel()
	s := startServer(t, pgtest.Options{SegmentMB: 1, Settings: map[string]string{"wal_keep_size": "0", "max_slot_wal_keep_size": "2MB", "max_wal_size": "4MB", "min_wal_size": "2MB"}})
	r := newRig(t, s, mib, 1)
	drop := func() { // a walsender outlives its connection by a moment
		s.Exec(t, `do $$ begin
			while exists (select from pg_replication_slots where active) loop perform pg_sleep(0.01); end loop;
			perform pg_drop_replication_slot('`+slotName+`');
		end $$`)
	}
	create := func() { s.Exec(t, "select pg_create_physical_replication_slot('"+slotName+"', true)") }

	t.Run("absent", func(t *testing.T) {
		drop()
		if err := r.result(); state.CodeOf(err) != state.CodeSlotAbsent {
			t.Fatalf("no slot: %v", err)
		}
	})
	t.Run("in use", func(t *testing.T) {
		create()
		stop := r.start()
		busy(t, s, "one")
		r.awaitArchived(flushed(t, s))
		other := newRig(t, s, mib, 1)
		stopOther := other.start()
		await(t, "the second receiver says that the slot is in use", func() bool { return other.saw(state.CodeSlotInUse) })
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		await(t, "the second one takes over", func() bool { return other.look().Receiver.Streaming })
		if err := stopOther(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("lost, and replaced: the gap is recorded", func(t *testing.T) {
		before := r.look().Spool.Durable
		for range 8 {
			busy(t, s, "churn")
			s.Exec(t, "drop table churn; select pg_switch_wal(); checkpoint")
		}
		if err := r.result(); state.CodeOf(err) != state.CodeSlotLost {
			t.Fatalf("lost slot: %v", err)
		}
		drop()
		create()
		stop := r.start()
		busy(t, s, "after_the_gap")
		await(t, "the WAL after the gap is archived", func() bool { return r.archives[0].end().To >= flushed(t, s) })
		await(t, "the gap is recorded", func() bool { return len(r.archives[0].gaps) == 1 })
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		g := r.archives[0].gaps[0]
		if g.From < before || g.From >= g.To || g.Reason == "" || g.Timeline != 1 {
			t.Errorf("gap %+v; we held WAL up to %s", g, before)
		}
		if !r.saw(state.CodeGap) {
			t.Error("the gap was not reported")
		}
		n := len(r.archives[0].gaps)
		stop = r.start()
		busy(t, s, "later")
		await(t, "it goes on", func() bool { return r.archives[0].end().To >= flushed(t, s) })
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if len(r.archives[0].gaps) != n {
			t.Errorf("the gap was recorded again: %+v", r.archives[0].gaps)
		}
	})
	t.Run("logical", func(t *testing.T) {
		drop()
		s.Exec(t, "alter system set wal_level = logical")
		s.Stop(t, "fast")
		s.StartAgain(t)
		s.Exec(t, "select pg_create_logical_replication_slot('"+slotName+"', 'pgoutput')")
		if err := r.result(); state.CodeOf(err) != state.CodeSettings {
			t.Fatalf("logical slot: %v", err)
		}
	})
}

func TestAnEmptySpoolWaitsForEveryRepository(t *testing.T) {
	t.Parallel()
	s := startServer(t, pgtest.Options{SegmentMB: 1})
	r := newRig(t, s, mib, 2)
	r.archives[1].breakWith(&state.Error{Code: state.CodeNotMounted, Text: "not mounted"})
	stop := r.start()
	await(t, "it says why it waits", func() bool { return r.saw(state.CodeNotMounted) })
	if got := s.SQL(t, "select count(*) from pg_stat_replication where state <> 'startup'"); got != "0" {
		t.Errorf("%s streams", got)
	}
	r.archives[1].breakWith(nil)
	busy(t, s, "late")
	r.awaitArchived(flushed(t, s))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

func TestGoesOnWhereARepositoryEnds(t *testing.T) {
	t.Parallel()
	s := startServer(t, pgtest.Options{SegmentMB: 1})
	r := newRig(t, s, mib, 1)
	stop := r.start()
	busy(t, s, "one")
	r.awaitArchived(flushed(t, s))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	for _, round := range []string{"unfinished", "at_a_border"} {
		before := r.archives[0].end()
		if err := os.RemoveAll(r.o.Spool); err != nil { // the machine is gone
			t.Fatal(err)
		}
		stop = r.start()
		busy(t, s, round)
		s.Exec(t, "select pg_switch_wal()")
		r.awaitArchived(flushed(t, s))
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if got := r.archives[0].end(); got.To <= before.To {
			t.Errorf("%s: from %s to %s", round, before, got)
		}
		r.compare(s)
	}
	if len(r.archives[0].gaps) > 0 {
		t.Errorf("gaps: %+v", r.archives[0].gaps)
	}
}

func TestRefusesTmpfsUnlessAsked(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("/dev/shm", "pgkeep")
	if err != nil {
		hosttest.Need(t, fmt.Errorf("no tmpfs at /dev/shm: %w", err))
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := startServer(t, pgtest.Options{SegmentMB: 1})
	r := newRig(t, s, mib, 1)
	r.o.Spool, r.o.AllowVolatileSpool = dir, false
	stop := r.start()
	await(t, "it says why", func() bool {
		p := r.look().Receiver.Problem
		return p != nil && strings.Contains(p.Text, "tmpfs")
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

func TestRefusesToPushHugeSegments(t *testing.T) {
	t.Parallel()
	s := startServer(t, pgtest.Options{SegmentMB: 128, Settings: map[string]string{"min_wal_size": "256MB", "max_wal_size": "512MB"}})
	r := newRig(t, s, 128*mib, 1)
	r.o.Acknowledge = Repository
	if err := r.result(); state.CodeOf(err) != state.CodeSettings || state.HintOf(err) == "" {
		t.Fatalf("it ended with %v", err)
	}
}
