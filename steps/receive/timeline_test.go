package receive

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/wal"
)

const mib = 1 << 20

// busy makes the server write some WAL that differs from call to call.
func busy(t *testing.T, s *pgtest.Server, name string) {
	t.Helper()
	s.Exec(t, fmt.Sprintf("create table %s as select g, md5(g::text || '%s') as h from generate_series(1, 20000) g", name, name))
}

func standbyOptions() pgtest.Options {
	return pgtest.Options{Settings: map[string]string{"wal_keep_size": "4GB", "wal_retrieve_retry_interval": "100ms"}}
}

func TestFollowsPromotions(t *testing.T) {
	t.Parallel()
	s := startServer(t, pgtest.Options{SegmentMB: 1})
	r := newRig(t, s, mib, 1)
	stop := r.start()
	busy(t, s, "first")
	servers := []*pgtest.Server{s}
	for tli := wal.Timeline(2); tli <= 4; tli++ {
		now := servers[len(servers)-1]
		standby := now.Standby(t, standbyOptions())
		busy(t, now, fmt.Sprintf("before_%d", tli))
		standby.AwaitReplay(t, now)
		r.awaitArchived(flushed(t, now))
		now.Stop(t, "immediate")
		standby.Promote(t)
		r.leadTo(standby)
		busy(t, standby, fmt.Sprintf("on_%d", tli))
		end := flushed(t, standby)
		await(t, "the new timeline is archived", func() bool {
			e := r.archives[0].end()
			return e.Timeline == tli && e.To >= end
		})
		servers = append(servers, standby)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	r.compare(servers...)
	a := r.archives[0]
	for tli := wal.Timeline(2); tli <= 4; tli++ {
		history := slices.Index(a.order, tli.HistoryName())
		first := slices.IndexFunc(a.order, func(n string) bool { return strings.HasPrefix(n, tli.Hex()) && n != tli.HistoryName() })
		if history < 0 || first < history {
			t.Errorf("timeline %d: its history was archived at %d, its WAL began at %d:\n%s", tli, history, first, strings.Join(a.order, "\n"))
		}
		h, err := wal.ParseHistory(tli, a.histories[tli])
		if err != nil {
			t.Fatal(err)
		}
		at := h.Parents[len(h.Parents)-1].Switch
		left := wal.SegmentSize(mib).SegmentAt(tli-1, at)
		if got := left.Start(mib) + wal.LSN(len(a.partial[left])); got != at {
			t.Errorf("timeline %d was left at %s; its unfinished segment is archived up to %s", tli-1, at, got)
		}
	}
	if len(r.look().Spool.Diverged) > 0 {
		t.Errorf("nothing diverged: %v", r.look().Spool.Diverged)
	}
}

func TestGoesBackWhereThePromotedServerHadLess(t *testing.T) {
	t.Parallel()
	s := startServer(t, pgtest.Options{SegmentMB: 1})
	r := newRig(t, s, mib, 1)
	stop := r.start()
	standby := s.Standby(t, standbyOptions())
	busy(t, s, "in_common")
	standby.AwaitReplay(t, s)
	standby.Stop(t, "fast")
	busy(t, s, "only_here")
	ahead := flushed(t, s)
	r.awaitArchived(ahead)
	s.Stop(t, "immediate")
	standby.StartAgain(t)
	standby.Promote(t)
	r.leadTo(standby)
	busy(t, standby, "after")
	end := flushed(t, standby)
	await(t, "the new timeline is archived", func() bool {
		e := r.archives[0].end()
		return e.Timeline == 2 && e.To >= end
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if f := r.look(); len(f.Spool.Diverged) == 0 || !strings.HasPrefix(f.Spool.Diverged[0], "00000001") {
		t.Errorf("the WAL that only the old server had is not under diverged: %v", f.Spool.Diverged)
	}
	r.compare(s, standby)
	stop = r.start() // and it goes on from there
	busy(t, standby, "again")
	r.awaitArchived(flushed(t, standby))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// TestGoesBackFurtherThanTheSpoolReaches has the receiver ahead by more segments than the spool keeps, and a slot on the
// promoted server that keeps only what came long after the switch.
func TestGoesBackFurtherThanTheSpoolReaches(t *testing.T) {
	t.Parallel()
	s := startServer(t, pgtest.Options{SegmentMB: 1})
	r := newRig(t, s, mib, 1)
	stop := r.start()
	standby := s.Standby(t, standbyOptions())
	busy(t, s, "in_common")
	standby.AwaitReplay(t, s)
	standby.Stop(t, "fast")
	for i := range 4 {
		busy(t, s, fmt.Sprintf("only_here_%d", i))
	}
	s.Exec(t, "select pg_switch_wal()")
	busy(t, s, "only_here")
	r.awaitArchived(flushed(t, s))
	await(t, "the spool has let it go", func() bool { return len(r.look().Spool.Pending) == 0 })
	s.Stop(t, "immediate")
	standby.StartAgain(t)
	standby.Promote(t)
	for i := range 3 {
		busy(t, standby, fmt.Sprintf("before_the_slot_%d", i))
	}
	standby.Exec(t, "select pg_switch_wal()")
	standby.Exec(t, "checkpoint")
	r.leadTo(standby)
	busy(t, standby, "after")
	end := flushed(t, standby)
	a := r.archives[0]
	await(t, "the new timeline is archived", func() bool { return a.end().Timeline == 2 && a.end().To >= end })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	r.compare(s, standby)
	h, err := wal.ParseHistory(2, a.histories[2])
	if err != nil {
		t.Fatal(err)
	}
	first := wal.SegmentSize(mib).SegmentAt(2, h.Parents[0].Switch)
	if _, have := a.whole[first]; !have {
		t.Errorf("the segment of the switch at %s is not archived of timeline 2, and nothing tells of a gap: %v", h.Parents[0].Switch, a.order)
	}
	if len(a.gaps) > 0 {
		t.Errorf("gaps: %+v", a.gaps)
	}
}

// TestLeavesADamagedSegmentBehind has a segment in quarantine that the promoted server's timeline left in its middle.
func TestLeavesADamagedSegmentBehind(t *testing.T) {
	t.Parallel()
	s := startServer(t, pgtest.Options{SegmentMB: 1})
	r := newRig(t, s, mib, 1)
	stop := r.start()
	standby := s.Standby(t, standbyOptions())
	busy(t, s, "in_common")
	standby.AwaitReplay(t, s)
	standby.Stop(t, "fast")
	r.awaitArchived(flushed(t, s))
	r.archives[0].breakWith(errors.New("away"))
	busy(t, s, "only_here")
	ahead := flushed(t, s)
	await(t, "the spool has it", func() bool { return r.look().Spool.Durable >= ahead })
	s.Stop(t, "immediate")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	standby.StartAgain(t)
	standby.Promote(t)
	busy(t, standby, "after")
	f := r.look()
	dir := filepath.Join(f.Spool.Path, f.Spool.SystemID)
	content, err := os.ReadFile(filepath.Join(standby.DataDir, "pg_wal", "00000002.history"))
	if err != nil {
		t.Fatal(err)
	}
	h, err := wal.ParseHistory(2, content)
	if err != nil {
		t.Fatal(err)
	}
	name := wal.SegmentSize(mib).SegmentAt(1, h.Parents[0].Switch).Name(mib)
	if err := os.Rename(filepath.Join(dir, name), filepath.Join(dir, "quarantine", name+".open.1")); err != nil {
		t.Fatal(err)
	}
	r.archives[0].breakWith(nil)
	r.leadTo(standby)
	stop = r.start()
	end := flushed(t, standby)
	await(t, "the new timeline is archived", func() bool { e := r.archives[0].end(); return e.Timeline == 2 && e.To >= end })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if f := r.look(); len(f.Spool.Quarantined) != 1 || !strings.Contains(f.Spool.Quarantined[0], ".closed") {
		t.Errorf("quarantine holds %v", f.Spool.Quarantined)
	}
	if n := len(r.archives[0].gaps); n > 0 {
		t.Errorf("%d gaps were recorded of WAL that is no part of the line of history", n)
	}
	z, at := wal.SegmentSize(mib), h.Parents[0].Switch
	if n := wal.LSN(len(r.archives[0].partial[z.SegmentAt(1, at)])); z.Floor(at)+n < at {
		t.Errorf("timeline 1 is archived up to %s, and was left at %s", z.Floor(at)+n, at)
	}
}

func TestRefusesAForkOnTheSameTimeline(t *testing.T) {
	t.Parallel()
	s := startServer(t, pgtest.Options{SegmentMB: 1})
	one := s.Standby(t, standbyOptions())
	two := s.Standby(t, standbyOptions())
	r := newRig(t, s, mib, 1)
	stop := r.start()
	busy(t, s, "shared")
	one.AwaitReplay(t, s)
	two.AwaitReplay(t, s)
	r.awaitArchived(flushed(t, s))
	s.Stop(t, "immediate")
	one.Promote(t)
	two.Promote(t)
	r.leadTo(one)
	busy(t, one, "on_one")
	await(t, "timeline 2 of the first is archived", func() bool { return r.archives[0].end().To >= flushed(t, one) })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	order := len(r.archives[0].order)
	r.leadTo(two)
	two.Exec(t, "select pg_create_physical_replication_slot('"+slotName+"', true)")
	busy(t, two, "on_two")
	busy(t, two, "more_on_two")
	err := r.result()
	if state.CodeOf(err) != state.CodeFork || state.HintOf(err) == "" {
		t.Fatalf("the second server of timeline 2: %v", err)
	}
	t.Log(err)
	for _, name := range r.archives[0].order[order:] {
		if name != "00000002.history" && !strings.HasSuffix(name, ".partial") { // the same content was put again
			t.Errorf("archived from the fork: %s", name)
		}
	}
	r.compare(s, one)
}

// TestRefusesAForkOfAParent has a server whose timeline 3 comes from another timeline 2 than the one that was received.
func TestRefusesAForkOfAParent(t *testing.T) {
	t.Parallel()
	r, one, two := twoPromoted(t)
	busy(t, two, "on_two")
	three := two.Standby(t, standbyOptions())
	three.AwaitReplay(t, two)
	two.Stop(t, "immediate")
	three.Promote(t)
	busy(t, three, "on_three")
	r.leadTo(three)
	err := r.result()
	if state.CodeOf(err) != state.CodeFork || state.HintOf(err) == "" {
		t.Errorf("timeline 3 of another timeline 2: %v", err)
	}
	r.refusedStranger(three)
	r.compare(one)
}

// TestRefusesAStranger has a server whose timeline 3 does not come from the timeline 2 that was received.
func TestRefusesAStranger(t *testing.T) {
	t.Parallel()
	r, one, two := twoPromoted(t, "00000002.history")
	busy(t, two, "on_two")
	if at := two.SQL(t, "select left(pg_walfile_name(pg_current_wal_lsn()), 8)"); at != "00000003" {
		t.Fatalf("the other server is on timeline %s", at)
	}
	r.leadTo(two)
	stop := r.start()
	await(t, "it is refused", func() bool { return r.saw(state.CodeIdentity) })
	r.leadTo(one)
	busy(t, one, "on_one_again")
	r.awaitArchived(flushed(t, one))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	r.refusedStranger(two)
	r.compare(one)
}

// twoPromoted gives a rig that has received timeline 2 of one of two servers, which were promoted at different points.
// The other one has files of the first one's pg_wal when it is promoted.
func twoPromoted(t *testing.T, files ...string) (r *rig, one, two *pgtest.Server) {
	t.Helper()
	o := standbyOptions()
	o.Settings["recovery_target_timeline"] = "current"
	s := startServer(t, pgtest.Options{SegmentMB: 1})
	one, two = s.Standby(t, standbyOptions()), s.Standby(t, o)
	r = newRig(t, s, mib, 1)
	busy(t, s, "shared")
	two.AwaitReplay(t, s)
	two.Stop(t, "fast")
	busy(t, s, "more")
	one.AwaitReplay(t, s)
	s.Stop(t, "immediate")
	one.Promote(t)
	one.Exec(t, "select pg_create_physical_replication_slot('"+slotName+"', true)")
	r.leadTo(one)
	stop := r.start()
	busy(t, one, "on_one")
	r.awaitArchived(flushed(t, one))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		content, err := os.ReadFile(filepath.Join(one.DataDir, "pg_wal", name))
		if err != nil {
			t.Fatal(err)
		}
		two.WriteFile(t, "pg_wal/"+name, string(content))
	}
	two.StartAgain(t)
	two.Promote(t)
	return r, one, two
}

// refusedStranger checks that nothing of a server was kept, and that it got no slot.
func (r *rig) refusedStranger(s *pgtest.Server) {
	r.t.Helper()
	a := r.archives[0]
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, name := range a.order {
		if strings.HasPrefix(name, "00000003") {
			r.t.Errorf("archived: %s", name)
		}
	}
	f := r.look()
	if _, err := os.Stat(filepath.Join(f.Spool.Path, f.Spool.SystemID, "00000003.history")); err == nil {
		r.t.Error("its history is in the spool")
	}
	if n := s.SQL(r.t, "select count(*) from pg_replication_slots"); n != "0" {
		r.t.Errorf("%s slots were made there", n)
	}
}

func TestRefusesAServerThatStayedBehind(t *testing.T) {
	t.Parallel()
	s := startServer(t, pgtest.Options{SegmentMB: 1})
	standby := s.Standby(t, standbyOptions())
	r := newRig(t, s, mib, 1)
	busy(t, s, "shared")
	standby.AwaitReplay(t, s)
	standby.Promote(t)
	standby.Exec(t, "select pg_create_physical_replication_slot('"+slotName+"', true)")
	r.leadTo(standby)
	stop := r.start()
	busy(t, standby, "on_the_new_one")
	await(t, "timeline 2 is archived", func() bool {
		return r.archives[0].end().Timeline == 2 && r.archives[0].end().To >= flushed(t, standby)
	})
	r.leadTo(s)
	standby.Stop(t, "fast")
	await(t, "the old server is refused", func() bool { return r.saw(state.CodeIdentity) })
	standby.StartAgain(t)
	r.leadTo(standby)
	busy(t, standby, "later")
	r.awaitArchived(flushed(t, standby))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	r.compare(s, standby)
}
