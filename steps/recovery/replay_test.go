package recovery

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestPace: rate and time left are those of the WAL that was replayed since it was first looked.
func TestPace(t *testing.T) {
	route := &plan.Route{SegmentSize: 1 << 20, WALBytes: 10 << 20, End: 0xA80000, Path: []wal.Range{{Timeline: 1, From: 0x100028, To: 0xA80000}}}
	began, commit := moment("2026-11-23T01:00:00Z"), moment("2026-11-23T00:10:00Z")
	var p pace
	for _, x := range []struct {
		at    position
		after time.Duration
		want  Replay
	}{
		{position{}, 0, Replay{}},
		{position{lsn: 0x200000}, time.Minute, Replay{Done: 1 << 20, LSN: 0x200000}},
		{position{lsn: 0x280000, commit: commit}, time.Minute + 2*time.Second, Replay{Done: 3 << 19, LSN: 0x280000, Commit: commit, Rate: 1 << 18, Left: 32 * time.Second}},
		{position{lsn: 0x200000}, time.Minute + 4*time.Second, Replay{Done: 3 << 19, LSN: 0x280000, Commit: commit, Rate: 1 << 17, Left: 64 * time.Second}},
		{position{lsn: 0xA80000}, time.Minute + 34*time.Second, Replay{Done: 0x980000, LSN: 0xA80000, Commit: commit, Rate: 0x880000 / 34.0}},
		{position{lsn: 0xF00000}, time.Minute + 34*time.Second, Replay{Done: 10 << 20, LSN: 0xF00000, Commit: commit, Rate: 0xD00000 / 34.0}},
	} {
		x.want.Total = route.WALBytes
		now := began.Add(x.after)
		p.see(x.at, now)
		if d := cmp.Diff(x.want, p.replay(route, now)); d != "" {
			t.Errorf("%+v: %s", x.at, d)
		}
	}
	still := pace{at: position{lsn: 0x200001}, first: 0x200000, since: began}
	if r := still.replay(route, began.Add(time.Hour)); r.Left != 0 {
		t.Errorf("a replay that stands still ends in %s", r.Left)
	}
}

// TestTheLogTellsHowFar: the segment of the checkpoint is read first, and is not where replay is.
func TestTheLogTellsHowFar(t *testing.T) {
	restored := func(n int) string {
		return fmt.Sprintf(at+`startup: LOG:  restored log file "0000000100000000%08X" from archive`, n)
	}
	var lines []string
	for _, x := range []struct {
		line string
		want wal.LSN
	}{
		{restored(5), 0},
		{at + "startup: LOG:  redo starts at 0/300028", 0x300028},
		{restored(3), 0x300028},
		{restored(4), 0x400000},
		{at + "startup: LOG:  redo in progress, elapsed time: 5.00 s, current LSN: 0/4ABCD0", 0x4ABCD0},
		{at + "startup: LOG:  redo done at 0/4FFFF0", 0x4FFFF0},
	} {
		lines = append(lines, x.line)
		if got := read(lines...).replayedTo(1 << 20); got != x.want {
			t.Errorf("after %q: %s, not %s", x.line, got, x.want)
		}
	}
}

// watching holds a copy at two moments, and lets it go on when it was told that it is there.
type watching struct {
	*testing.T
	dir      string
	first    time.Time // commit at which it is held second
	session  *pgconn.PgConn
	told     []Replay
	held     wal.LSN // where it was held first
	released bool
}

// tell holds the copy by a lock before what comes first is replayed, and lets it go when its commit was told.
func (w *watching) tell(r Replay) {
	w.told = append(w.told, r)
	switch {
	case w.session == nil && r.LSN%(1<<20) > 0x100: // by its log alone it is at the beginning of redo or of a segment
		socket, port := Address(w.dir)
		c, err := pgconn.Connect(w.Context(), fmt.Sprintf("host=%s port=%d user=postgres dbname=postgres sslmode=disable", socket, port))
		if err != nil {
			return // on a slow machine the log has told a position before the copy took connections
		}
		w.session, w.held = c, r.LSN
		w.ask("begin")
		w.ask("lock table ledger in access share mode")
		other, err := pgconn.Connect(w.Context(), fmt.Sprintf("host=%s port=%d user=postgres dbname=postgres sslmode=disable", socket, port))
		check(w, err)
		for _, q := range []string{"alter system set recovery_min_apply_delay = 0", "select pg_reload_conf()"} {
			_, err := other.Exec(w.Context(), q).ReadAll()
			check(w, err)
		}
		check(w, other.Close(w.Context()))
	case w.session != nil && !w.released && r.Commit.Equal(w.first):
		w.released = true
		w.ask("commit")
		check(w, w.session.Close(w.Context()))
	}
}

func (w *watching) ask(q string) {
	w.Helper()
	_, err := w.session.Exec(w.Context(), q).ReadAll()
	check(w, err)
}

// TestStartTellsHowFarItIs: while it replays, position and commit are those that the copy tells, and at the end those of its log. Roles
// that it does not let in are no trouble.
func TestStartTellsHowFarItIs(t *testing.T) {
	w := newWorld(t, 15, nil)
	backup := w.take()
	first := w.commit(1)
	w.Exec(t, "alter table ledger add more text")
	last := w.commit(2)
	w.archive(1)
	target := hclspec.Target{Latest: true}
	o := w.options(w.route(target, w.target(target), backup))
	o.Route.Destination.Port = nobodysPort(t)
	o.Route.Destination.BinDir = w.Bin
	_, err := Restore(t.Context(), o)
	check(t, err)
	watch := &watching{T: t, dir: o.Route.Destination.Path, first: first.Time}
	conf, err := os.OpenFile(filepath.Join(watch.dir, autoConf), os.O_APPEND|os.O_WRONLY, 0)
	check(t, err)
	_, err = conf.WriteString("recovery_min_apply_delay = '20d'\nmax_standby_archive_delay = -1\n")
	check(t, err)
	check(t, conf.Close())
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	t.Cleanup(func() { check(t, endServers(watch.dir)) })
	_, _, err = Start(ctx, StartOptions{Route: o.Route, Major: 15, Now: time.Now, Report: watch.tell, Roles: []string{"nobody_of_this_name", "postgres"}})
	check(t, err)
	rising := slices.IsSortedFunc(watch.told, func(a, b Replay) int { return int(a.LSN) - int(b.LSN) })
	end := watch.told[len(watch.told)-1]
	if !watch.released || !rising || watch.held <= o.Route.Path[0].From || end.LSN <= watch.held || !end.Commit.Equal(last.Time) || end.Rate <= 0 {
		t.Errorf("held at %s, released: %v, rising: %v; at last %+v, of %+v", watch.held, watch.released, rising, end, last)
	}
	log := logFollower{path: LogFile(watch.dir)}
	check(t, log.read())
	if why := log.log.reasons(); strings.Contains(why, "nobody_of_this_name") {
		t.Errorf("what the question for progress left in the log counts as trouble:\n%s", why)
	}
}
