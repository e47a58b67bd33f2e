package torture_test

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store/file"
	"github.com/pgkeep/pgkeep/state/spool"
	"github.com/pgkeep/pgkeep/state/wal"
	"github.com/pgkeep/pgkeep/steps/receive"
)

// BenchmarkIndexing tells which part of the receiver's CPU time goes into the index. A receiver takes half a dozen segments of
// pgbench from a real server into a repository (zstd 1), and its CPU time is that of this process. Then the same segments
// are read with and without following their transactions: index-% is the difference, reading-% all of it, which checks
// every record's checksum too.
func BenchmarkIndexing(b *testing.B) {
	s := pgtest.Start(b, pgtest.Options{OnDisk: true, Settings: map[string]string{"wal_keep_size": "4GB", "max_wal_size": "4GB", "max_replication_slots": "40", "synchronous_commit": "off"}})
	s.Exec(b, "select pg_switch_wal()")
	system, err := strconv.ParseUint(s.SQL(b, "select system_identifier from pg_control_system()"), 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	const most = 40
	rounds := min(b.N, most)
	for i := range rounds {
		s.Exec(b, "select pg_create_physical_replication_slot('"+slotName+strconv.Itoa(i)+"', true)")
	}
	size := wal.DefaultSegmentSize
	position := func() wal.LSN {
		l, err := wal.ParseLSN(s.SQL(b, "select pg_current_wal_flush_lsn()"))
		if err != nil {
			b.Fatal(err)
		}
		return l
	}
	first := size.SegmentAt(1, position())
	s.Bench(b, "-i", "-q", "-s", "4")
	for first.Number+6 > size.SegmentAt(1, position()).Number {
		s.Bench(b, "-n", "-c", "4", "-t", "2000")
	}
	end := size.Floor(position())
	s.Exec(b, "select pg_switch_wal()")

	var received, plain, followed time.Duration
	b.SetBytes(int64(end - first.Start(size)))
	b.ResetTimer()
	for i := range rounds {
		received += cpuOf(b, func() { receiveAll(b, s, i, end) })
		for _, follow := range []bool{false, true} {
			took := cpuOf(b, func() { scanAll(b, scanned{s, size, system, first, end}, follow) })
			if follow {
				followed += took
			} else {
				plain += took
			}
		}
	}
	b.ReportMetric(float64(received.Milliseconds())/float64(rounds), "receiver-cpu-ms")
	b.ReportMetric(100*float64(followed-plain)/float64(received), "index-%")
	b.ReportMetric(100*float64(followed)/float64(received), "reading-%")
}

// cpuOf gives the CPU time that this process takes for something.
func cpuOf(b *testing.B, do func()) time.Duration {
	b.Helper()
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	do()
	return used() - before
}

// receiveAll runs a receiver with a slot, spool and repository of its own until the repository holds what the server wrote.
func receiveAll(b *testing.B, s *pgtest.Server, round int, end wal.LSN) {
	b.Helper()
	dir := b.TempDir()
	o := orders{Conninfo: s.Conninfo(), Spool: filepath.Join(dir, "spool"), Repository: filepath.Join(dir, "repository"), Limit: spool.Limit{Bytes: 1 << 40}}
	st, err := file.Open(o.Repository, file.Options{})
	if err != nil {
		b.Fatal(err)
	}
	r, err := repository.Create(b.Context(), st, repository.CreateOptions{Now: time.Now(), Compression: seal.Codec{Algorithm: seal.Zstd, Level: 1}})
	if err != nil {
		b.Fatal(err)
	}
	options := o.options(slog.New(slog.NewTextHandler(io.Discard, nil)))
	options.Slot += strconv.Itoa(round)
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- receive.Run(ctx, options) }()
	cluster := r.Cluster("orders", s.SQL(b, "select system_identifier from pg_control_system()"))
	last := wal.DefaultSegmentSize.SegmentAt(1, end-1)
	for {
		if opened, err := cluster.OpenSegment(ctx, last); err == nil {
			_ = opened.Close()
			break
		}
		select {
		case err := <-done:
			b.Fatalf("the receiver ended: %v", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

// scanned is a stretch of a server's WAL.
type scanned struct {
	server *pgtest.Server
	size   wal.SegmentSize
	system uint64
	first  wal.Segment
	end    wal.LSN
}

func scanAll(b *testing.B, x scanned, follow bool) {
	b.Helper()
	scanner := wal.NewScanner(x.size, x.system, 1)
	if follow {
		scanner.Follow(wal.FollowOptions{})
	}
	for seg := x.first; seg.Start(x.size) < x.end; seg = seg.Next() {
		f, err := os.Open(filepath.Join(x.server.DataDir, "pg_wal", seg.Name(x.size)))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := scanner.Segment(seg, f, nil); err != nil {
			b.Fatal(err)
		}
		_ = f.Close()
	}
}
