package receive

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/wal"
)

var errAway = errors.New("away")

// holds gives the end of the stretch of WAL from a position on that an archive holds, parts of segments included.
func (m *memoryArchive) holds(t wal.Timeline, from wal.LSN) wal.LSN {
	m.mu.Lock()
	defer m.mu.Unlock()
	for {
		seg := m.z.SegmentAt(t, from)
		if _, whole := m.whole[seg]; !whole {
			return max(from, seg.Start(m.z)+wal.LSN(len(m.partial[seg])))
		}
		from = seg.End(m.z)
	}
}

// TestAStopPushesTheTail has a receiver that would not push for an hour be stopped.
func TestAStopPushesTheTail(t *testing.T) {
	t.Parallel()
	s := startServer(t, pgtest.Options{SegmentMB: 1})
	r := newRig(t, s, mib, 2)
	r.o.PushEvery = time.Hour
	stop := r.start()
	busy(t, s, "one")
	end := flushed(t, s)
	await(t, "the spool has it", func() bool { return r.look().Receiver.Flushed >= end })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	f := r.look()
	for i, a := range r.archives {
		if to := a.end().To; to < end || to < f.Receiver.Archived {
			t.Errorf("archive %d holds WAL up to %s of %s; the report says %s", i, to, end, f.Receiver.Archived)
		}
	}
}

// TestABrokenStreamArchivesNothing breaks the stream of an idle server whose last WAL the repository has not taken.
func TestABrokenStreamArchivesNothing(t *testing.T) {
	t.Parallel()
	s := startServer(t, pgtest.Options{SegmentMB: 1, Settings: map[string]string{"autovacuum": "off"}})
	r := newRig(t, s, mib, 1)
	r.o.Acknowledge = Repository
	a := r.archives[0]
	stop := r.start()
	busy(t, s, "one")
	r.awaitArchived(flushed(t, s))
	a.breakWith(errAway)
	s.Exec(t, "create table two as select 1")
	end := flushed(t, s)
	await(t, "the spool has it", func() bool { return r.look().Receiver.Flushed >= end })
	truth := func() {
		t.Helper()
		if f := r.look(); f.Receiver.Archived > a.end().To {
			t.Fatalf("the report says that WAL up to %s is archived; the archive ends at %s", f.Receiver.Archived, a.end().To)
		}
	}
	home := r.conninfo
	r.mu.Lock()
	r.conninfo = "host=" + t.TempDir() + " dbname=postgres user=nobody"
	r.mu.Unlock()
	s.Exec(t, "select pg_terminate_backend(pid) from pg_stat_replication")
	await(t, "the stream is away", func() bool { return !r.look().Receiver.Streaming })
	tried := a.tries.Load()
	await(t, "the archive was asked again", func() bool { truth(); return a.tries.Load() >= tried+2 })
	r.mu.Lock()
	r.conninfo = home
	r.mu.Unlock()
	await(t, "it streams", func() bool { return r.look().Receiver.Streaming })
	tried = a.tries.Load()
	await(t, "the archive was asked again", func() bool {
		truth()
		if told := s.SQL(t, "select coalesce(max(flush_lsn), '0/0') > '"+a.end().To.String()+"' from pg_stat_replication"); told != "f" {
			t.Fatalf("the server was told that WAL is flushed which no repository holds: %s", told)
		}
		return a.tries.Load() >= tried+2
	})
	a.breakWith(nil)
	r.awaitArchived(end)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	r.compare(s)
}

// TestASegmentThatOnlyLacksItsName has a kill come between the last fsync of a segment and its final name.
func TestASegmentThatOnlyLacksItsName(t *testing.T) {
	t.Parallel()
	s := startServer(t, pgtest.Options{SegmentMB: 1})
	r := newRig(t, s, mib, 1)
	stop := r.start()
	busy(t, s, "archived")
	r.awaitArchived(flushed(t, s))
	a := r.archives[0]
	a.breakWith(errAway)
	busy(t, s, "spooled")
	end := flushed(t, s)
	await(t, "the spool has it", func() bool { return r.look().Receiver.Flushed >= end })
	s.Stop(t, "immediate")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	z := wal.SegmentSize(mib)
	last := wal.Segment{Timeline: 1, Number: z.SegmentAt(1, end).Number - 1}
	f := r.look()
	path := filepath.Join(f.Spool.Path, f.Spool.SystemID, last.Name(z))
	if err := errors.Join(os.Remove(filepath.Join(filepath.Dir(path), last.Next().Name(z)+".partial")), os.Rename(path, path+".partial")); err != nil {
		t.Fatal(err)
	}
	a.breakWith(nil)
	held, err := r.drain(patience)
	if err != nil || held > a.end().To || held <= last.Start(z) {
		t.Errorf("drained up to %s, the archive ends at %s, the segment begins at %s: %v", held, a.end().To, last.Start(z), err)
	}
}

// TestNothingCountsThatNoArchiveHolds writes, breaks streams, ends timelines and lets a repository fail at any moment.
func TestNothingCountsThatNoArchiveHolds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a := newMemoryArchive(mib)
		f := scripted(t, &script{}, func(o *Options) {
			o.Archives = []Archive{a.archive("main")}
			o.Acknowledge, o.PushEvery = Repository, time.Nanosecond
		})
		defer func() { f.w.Close(); f.s.spool.Close() }()
		u := f.s.uploads[0]
		u.unindexed, u.indexedAt = map[wal.Timeline]bool{}, time.Now()
		var jobs []job // found, and not checked yet
		upload := func(last bool) {
			u.nudge() // it need not sleep
			if j, some, _ := f.s.queue.next(0); some {
				_ = u.do(rt.Context(), a, j)
				return
			}
			_, _ = u.rest(rt.Context(), a, last)
		}
		check := func() {
			for _, j := range jobs {
				f.s.queue.add(j)
				f.s.queue.expect(-1)
			}
			jobs = nil
		}
		take := func() {
			ctx, done := context.WithCancel(rt.Context())
			done()
			for len(f.s.work.values) > 0 {
				j, _ := f.s.work.take(ctx)
				jobs = append(jobs, j)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"write": func(rt *rapid.T) {
				n := rapid.SampledFrom([]int{100, 8192, mib / 3, mib - 8192}).Draw(rt, "bytes")
				if err := f.w.Write(f.w.Written(), make([]byte, n)); err != nil {
					rt.Fatal(err)
				}
				for f.w.Flushed() < wal.SegmentSize(mib).Floor(f.w.Written()) { // completed beside the stream
					runtime.Gosched()
				}
			},
			"sync":   func(*rapid.T) { _ = f.sync(time.Now()) },
			"check":  func(*rapid.T) { check() },
			"away":   func(*rapid.T) { a.breakWith(errAway) },
			"back":   func(*rapid.T) { a.breakWith(nil) },
			"upload": func(*rapid.T) { upload(false) },
			"break": func(rt *rapid.T) {
				_ = f.end(errAway)
				if rapid.Bool().Draw(rt, "upload meanwhile") {
					upload(false)
				}
				at := f.s.spool.Position().Resume
				w, err := f.s.spool.Writer(1, max(at, mib), func(seg wal.Segment) { f.s.found(job{segment: seg}) })
				if err != nil {
					rt.Fatal(err)
				}
				f.w = w
			},
			"": func(rt *rapid.T) {
				take()
				if held, real := f.s.tail.held(1), a.holds(1, mib); held > real {
					rt.Fatalf("WAL up to %s counts as archived; the archive holds it up to %s", held, real)
				}
			},
		})
		a.breakWith(nil)
		_ = f.end(errAway)
		take()
		check()
		for range 64 {
			upload(true)
		}
		if held := f.s.tail.held(1); held < f.w.Flushed() {
			rt.Fatalf("after the end the archive holds WAL up to %s of %s", held, f.w.Flushed())
		}
	})
}

func TestADamagedSegmentThatWasLeftBehindCountsForNothing(t *testing.T) {
	tl := newTail(1)
	tl.reached(0, 1, 9000)
	tl.hole(1, 4000)
	tl.reached(0, 1, 9000)
	if held := tl.held(1); held != 4000 {
		t.Errorf("WAL from 4000 on is missing, and it counts up to %s", held)
	}
	tl.hole(1, 6000)
	if tl.reached(0, 1, 9000); tl.held(1) != 4000 {
		t.Errorf("a later hole fills an earlier one: %s", tl.held(1))
	}
	if tl.reached(0, 2, 5000); tl.held(1) != 5000 {
		t.Errorf("the next timeline is archived up to 5000, and counts up to %s", tl.held(1))
	}
}

// TestABorderAloneIsNoProof has an uploader find a tail without a segment.
func TestABorderAloneIsNoProof(t *testing.T) {
	a := newMemoryArchive(mib)
	u, j := oneSegment(t, a)
	u.s.queue.expect(-1) // its check
	u.s.tail.set(1, wal.Segment{}, 2*mib+500)
	if err := u.do(t.Context(), a, j); err != nil {
		t.Fatal(err)
	}
	if _, err := u.rest(t.Context(), a, true); err != nil || u.s.tail.held(1) != 2*mib {
		t.Errorf("nothing of the second segment was put, and the archive counts up to %s, %v", u.s.tail.held(1), err)
	}
	u.s.tail.set(1, wal.Segment{}, 3*mib)
	if _, err := u.rest(t.Context(), a, true); err != nil || u.s.tail.held(1) != 3*mib {
		t.Errorf("with all jobs done a border counts up to %s, %v", u.s.tail.held(1), err)
	}
}

// TestAForkElsewhereArchivesNothing has one archive refuse a segment while it waits for another.
func TestAForkElsewhereArchivesNothing(t *testing.T) {
	a := newMemoryArchive(mib)
	u, j := oneSegment(t, a)
	if err := u.s.spool.Fork(j.segment); err != nil {
		t.Fatal(err)
	}
	err := u.do(t.Context(), a, j)
	if err == nil || !strings.Contains(err.Error(), "two servers") || u.s.queue.settled(0) || slices.Contains(a.order, j.segment.Name(mib)) {
		t.Errorf("the job is done: %v, archived %v", err, a.order)
	}
}

// TestABrokenStreamPushesOnceItIsKnownWhose has a stream break: whether another receiver took over is not known then.
func TestABrokenStreamPushesOnceItIsKnownWhose(t *testing.T) {
	a := newMemoryArchive(mib)
	f := scripted(t, &script{}, func(o *Options) { o.Archives, o.PushEvery = []Archive{a.archive("main")}, time.Nanosecond })
	s, u := f.s, f.s.uploads[0]
	u.unindexed = map[wal.Timeline]bool{}
	if err := f.w.Write(mib, make([]byte, 500)); err != nil {
		t.Fatal(err)
	}
	s.parkTail(t.Context(), errAway)
	_ = f.end(errAway)
	pushed := func() wal.LSN {
		if _, err := u.rest(t.Context(), a, true); err != nil {
			t.Fatal(err)
		}
		return a.end().To
	}
	if to := pushed(); to != 0 {
		t.Errorf("pushed up to %s before anything was known", to)
	}
	s.unparkTail(&state.Error{Code: state.CodeSlotInUse})
	if to := pushed(); to != 0 || s.tail.held(1) > mib {
		t.Errorf("pushed up to %s, counted up to %s, while another receiver has the slot", to, s.tail.held(1))
	}
	s.unparkTail(&state.Error{Code: state.CodeUnreachable})
	if to := pushed(); to != mib+500 {
		t.Errorf("pushed up to %s of a server that is gone", to)
	}
}
