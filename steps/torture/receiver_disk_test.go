package torture_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/host/hosttest"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/spool"
	"github.com/pgkeep/pgkeep/steps/receive"
)

func (x *site) write(rows int) {
	x.t.Helper()
	x.server.Exec(x.t, "create table if not exists filler (h text)")
	x.server.Exec(x.t, fmt.Sprintf("insert into filler select md5(g::text) from generate_series(1, %d) g", rows))
}

// hasProblem tells whether the receiver reports a problem of this code, with a text that says these words.
func (x *site) hasProblem(code state.Code, words ...string) bool {
	p := x.look().Receiver.Problem
	if p == nil || p.Code != code || p.Hint == "" {
		return false
	}
	for _, w := range words {
		if !strings.Contains(p.Text, w) {
			return false
		}
	}
	return true
}

// Fault A5, at the limit that the configuration sets: the stream stops before the disk is full, nothing that is not
// durable is acknowledged, and it goes on by itself.
func TestSpoolAtItsLimit(t *testing.T) {
	t.Parallel()
	x := newSite(t, pgtest.Options{SegmentMB: 1})
	x.o.Limit = spool.Limit{Bytes: 4 << 20}
	dir := hosttest.Tmpfs(t, 1<<10) // the repository is full soon
	x.o.Repository = filepath.Join(dir, "repository")
	x.createRepository()
	spoolFull(t, x, func() func() { return func() { hosttest.Grow(t, dir, 64<<10) } })
}

// The same when write(2) itself finds no room.
func TestSpoolDiskFull(t *testing.T) {
	t.Parallel()
	x := newSite(t, pgtest.Options{SegmentMB: 1})
	x.o.Spool = filepath.Join(hosttest.Tmpfs(t, 6<<10), "spool") // less than a second of what follows
	x.o.Limit = spool.Limit{Bytes: 1 << 40, Percent: 100}
	spoolFull(t, x, func() func() {
		filler := filepath.Join(filepath.Dir(x.o.Spool), "filler")
		space, err := host.SpaceAt(filepath.Dir(x.o.Spool))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filler, make([]byte, max(0, space.Free-1<<20)), 0o600); err != nil && !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err) // a full disk is what was wanted
		}
		return func() {
			if err := os.Remove(filler); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func spoolFull(t *testing.T, x *site, fill func() (cure func())) {
	stop := x.run()
	x.write(100)
	x.awaitArchived(x.flushed())
	cure := fill()
	x.write(150_000)
	end := x.flushed()
	await(t, "it says that the spool is full", func() bool { return x.hasProblem(state.CodeDiskFull, x.o.Spool) })
	time.Sleep(time.Second)
	if at := x.refuseLoss("with a full spool"); at >= end {
		t.Errorf("acknowledged %s, the server's end %s", at, end)
	}
	cure()
	began := time.Now()
	x.awaitArchived(end)
	took := time.Since(began)
	t.Logf("went on and caught up %s after the fault ended", took)
	if took > 5*time.Minute { // it looks every second: the rest is the machine's
		t.Errorf("it took %s", took)
	}
	stop()
	x.compare()
}

// With on_spool_full = "gap" the server comes first: the slot lets go, and what the server then removes is recorded.
func TestSpoolFullWithGap(t *testing.T) {
	t.Parallel()
	x := newSite(t, pgtest.Options{SegmentMB: 1, Settings: map[string]string{"wal_keep_size": "0", "max_wal_size": "4MB", "min_wal_size": "2MB"}})
	x.o.Limit, x.o.OnFull = spool.Limit{Bytes: 2 << 20}, receive.Gap
	dir := hosttest.Tmpfs(t, 1<<10)
	x.o.Repository = filepath.Join(dir, "repository")
	x.createRepository()
	stop := x.run()
	for range 3 {
		x.write(80_000)
	}
	await(t, "it says that the spool is full", func() bool { return x.hasProblem(state.CodeDiskFull, x.o.Spool) })
	end := x.flushed()
	await(t, "the slot lets go", func() bool { return x.acknowledged() >= end })
	for range 4 {
		x.server.Exec(t, "select pg_switch_wal(); checkpoint")
		x.write(10)
	}
	hosttest.Grow(t, dir, 64<<10)
	gaps := func() []state.Gap {
		g, err := x.cluster(x.systemID()).Gaps(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	await(t, "the gap is recorded", func() bool { return len(gaps()) > 0 })
	x.write(80_000)
	x.awaitArchived(x.flushed())
	stop()
	g := gaps()
	ranges, err := x.cluster(x.systemID()).WALRanges(t.Context())
	if err != nil || len(g) != 1 || len(ranges) != 2 {
		t.Fatalf("gaps %+v, archived %+v, %v", g, ranges, err)
	}
	if held := max(ranges[0].To, ranges[0].Partial); g[0].From != held || g[0].To != ranges[1].From {
		t.Errorf("gap %s, archived up to %s and from %s", g[0].Range, held, ranges[1].From)
	}
}

// A full repository is reported, does not stop the stream, and is filled when there is room again.
func TestRepositoryDiskFull(t *testing.T) {
	t.Parallel()
	x := newSite(t, pgtest.Options{SegmentMB: 1})
	dir := hosttest.Tmpfs(t, 1<<10)
	x.o.Repository = filepath.Join(dir, "repository")
	x.createRepository()
	stop := x.run()
	x.write(100)
	await(t, "it streams", func() bool { return x.look().Receiver.Streaming })
	x.write(150_000)
	end := x.flushed()
	await(t, "it says that the repository is full", func() bool { return x.hasProblem(state.CodeDiskFull, "main") })
	await(t, "the stream goes on", func() bool { return x.acknowledged() >= end })
	hosttest.Grow(t, dir, 64<<10)
	began := time.Now()
	x.awaitArchived(end)
	t.Logf("archived %s after the fault ended", time.Since(began))
	await(t, "the problem is gone", func() bool { return x.look().Receiver.Problem == nil })
	stop()
	x.compare()
}
