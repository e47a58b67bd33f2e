package torture_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// Fault A1: the receiver is killed again and again under load. The archive must be the server's WAL, byte for byte, with
// no gap, and nobody lends a hand.
func TestKilledReceiver(t *testing.T) {
	t.Parallel()
	random := dice(t)
	x := newSite(t, pgtest.Options{SegmentMB: 1})
	x.server.Bench(t, "-i", "-q", "-s", "2")
	n := rounds(t, 8)
	load := x.server.BenchCommand(t, "-n", "-c", "2", "-T", fmt.Sprint(n*2+30))
	if err := load.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kill(load) })
	for range n {
		cmd := x.start()
		time.Sleep(time.Duration(100+random.IntN(700)) * time.Millisecond) // how long it lives is the fault, not a wait
		kill(cmd)
	}
	kill(load)
	x.server.Exec(t, "select pg_switch_wal()")
	cmd := x.start()
	x.awaitArchived(x.flushed())
	x.end(cmd)
	x.compare()
	t.Logf("%d kills", n)
}

// Fault A3: a partial torn to any length, or with anything behind its end, heals by itself.
func TestTornPartial(t *testing.T) {
	t.Parallel()
	random := dice(t)
	x := newSite(t, pgtest.Options{SegmentMB: 16})
	x.server.Exec(t, "create table filler (h text)")
	n := rounds(t, 8)
	for i := range n {
		stop := x.run()
		x.server.Exec(t, fmt.Sprintf("insert into filler select repeat(md5(g::text), 20) from generate_series(1, %d) g", 10+random.IntN(5000)))
		x.awaitArchived(x.flushed())
		stop()
		length := x.tear(random.Int64N(x.z.Bytes()+1), random.IntN(3))
		if i < 3 {
			t.Logf("torn to %d bytes", length)
		}
	}
	stop := x.run()
	x.server.Exec(t, "insert into filler select 'the end'; select pg_switch_wal()")
	x.server.Exec(t, "insert into filler select 'after it'")
	x.awaitArchived(x.flushed())
	stop()
	x.compare()
	t.Logf("%d torn partials", n)
}

// tear cuts the newest partial to a length (or lengthens it), or writes zeros or noise behind a length.
func (x *site) tear(length int64, how int) int64 {
	x.t.Helper()
	found, err := filepath.Glob(filepath.Join(x.o.Spool, "orders", "*", "*.partial"))
	if err != nil || len(found) == 0 {
		return -1 // the last byte ended a segment
	}
	path := found[len(found)-1]
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		x.t.Fatal(err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		x.t.Fatal(err)
	}
	switch how {
	case 0:
		err = f.Truncate(length)
	case 1: // as PostgreSQL's receivers leave it: the rest of a full-length file is zero
		if err = f.Truncate(min(length, fi.Size())); err == nil {
			err = f.Truncate(x.z.Bytes())
		}
	default:
		noise := strings.Repeat("torn", 4096)
		_, err = f.WriteAt([]byte(noise[:min(int64(len(noise)), x.z.Bytes()-min(length, fi.Size()))]), min(length, fi.Size()))
	}
	if err != nil {
		x.t.Fatal(err)
	}
	return length
}
