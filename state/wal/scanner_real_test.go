package wal_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/wal"
)

// source is a stopped or running server whose pg_wal is read.
type source struct {
	*pgtest.Server
	size     wal.SegmentSize
	systemID uint64
}

func newSource(tb testing.TB, version, segmentMB int, compression string) source {
	tb.Helper()
	s := pgtest.Start(tb, pgtest.Options{Version: version, SegmentMB: segmentMB, Settings: map[string]string{
		"max_prepared_transactions": "10", "track_commit_timestamp": "on", "wal_level": "logical", "wal_compression": compression,
		"autovacuum": "off", "max_wal_size": "4GB", "wal_keep_size": "2GB",
	}})
	id, err := strconv.ParseUint(s.SQL(tb, "select system_identifier from pg_control_system()"), 10, 64)
	if err != nil {
		tb.Fatal(err)
	}
	return source{Server: s, size: wal.SegmentSize(segmentMB << 20), systemID: id}
}

func (s source) path(seg wal.Segment) string {
	return filepath.Join(s.DataDir, "pg_wal", seg.Name(s.size))
}

func (s source) lsn(tb testing.TB, q string) wal.LSN {
	tb.Helper()
	l, err := wal.ParseLSN(s.SQL(tb, q))
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// switched ends the segment and gives the border.
func (s source) switched(tb testing.TB) wal.LSN {
	tb.Helper()
	return s.size.Ceil(s.lsn(tb, "select pg_switch_wal()"))
}

// scan reads the segments from first up to the one that holds end.
func (s source) scan(tb testing.TB, t wal.Timeline, end wal.LSN) ([]wal.Event, []wal.Summary) {
	tb.Helper()
	scanner := wal.NewScanner(s.size, s.systemID, t)
	scanner.EveryRecord()
	var events []wal.Event
	var sums []wal.Summary
	for seg := s.oldest(tb, t); seg.Start(s.size) < end; seg = seg.Next() {
		b, err := os.ReadFile(s.path(seg))
		if err != nil {
			tb.Fatal(err)
		}
		if seg.End(s.size) > end {
			b = b[:s.size.Offset(end)] // a recycled file may hold old WAL behind the end
		}
		sum, err := scanner.Segment(seg, bytes.NewReader(b), func(e wal.Event) error {
			events = append(events, e)
			return nil
		})
		if err != nil {
			tb.Fatalf("scan %s: %v", seg.Name(s.size), err)
		}
		if seg.End(s.size) <= end && sum.End != seg.End(s.size) {
			tb.Fatalf("segment %s ends at %s", seg.Name(s.size), sum.End)
		}
		sums = append(sums, sum)
	}
	return events, sums
}

func (s source) oldest(tb testing.TB, t wal.Timeline) wal.Segment {
	tb.Helper()
	entries, err := os.ReadDir(filepath.Join(s.DataDir, "pg_wal"))
	if err != nil {
		tb.Fatal(err)
	}
	for _, e := range entries {
		if seg, err := wal.ParseSegmentName(e.Name(), s.size); err == nil && seg.Timeline == t {
			return seg
		}
	}
	tb.Fatalf("no segment of timeline %d", t)
	return wal.Segment{}
}

// work commits, aborts and prepares in every way that changes the shape of a transaction's end, and writes a ledger of
// what became of each transaction.
func (s source) work(tb testing.TB) (ledger map[uint32]wal.EventKind) {
	tb.Helper()
	ledger = map[uint32]wal.EventKind{}
	note := func(kind wal.EventKind, statements ...string) {
		if last := statements[len(statements)-1]; strings.Contains(last, "prepared") {
			statements = statements[:len(statements)-1]
			defer s.Exec(tb, last) // never inside a transaction
		}
		s.Exec(tb, strings.Join(statements, ";"))
		xid, err := strconv.ParseUint(s.SQL(tb, "select last_value from last_xid"), 10, 32)
		if err != nil {
			tb.Fatal(err)
		}
		ledger[uint32(xid)] = kind
	}
	s.Exec(tb, `create sequence last_xid; create table t (i int primary key, s text);
		insert into t select i, repeat('x', 100) from generate_series(1, 2000) i`)
	const xid = "select setval('last_xid', pg_current_xact_id()::text::bigint)"
	for i := range 3 {
		name := fmt.Sprintf("p%d", i)
		note(wal.Commit, "begin", xid, "update t set s = s || 'a' where i % 7 = 0", "commit")
		note(wal.Abort, "begin", xid, "update t set s = s || 'b' where i % 11 = 0", "rollback")
		note(wal.Commit, "begin", xid, "savepoint a; insert into t values (-1-"+name[1:]+", 'sub'); release a", "savepoint b; delete from t where i = 5; rollback to b", "commit")
		note(wal.Commit, "begin", xid, "create table "+name+" (i int); savepoint a; drop table "+name+"; create table "+name+" (j int)", "commit")
		note(wal.Commit, "begin", xid, "drop table "+name+"; insert into t values (-100-"+name[1:]+", 'p')", "prepare transaction '"+name+"'", "commit prepared '"+name+"'")
		note(wal.Abort, "begin", xid, "create table x"+name+" (i int); insert into x"+name+" values (1); savepoint q; drop table x"+name, "prepare transaction '"+name+"'", "rollback prepared '"+name+"'")
		note(wal.Abort, "begin", xid, "create table y"+name+" (i int); insert into y"+name+" values (1)", "rollback")
		s.SQL(tb, "select pg_create_restore_point('point "+name+"')")
		s.Exec(tb, "checkpoint")
		s.SQL(tb, "select pg_logical_emit_message(true, 'x', repeat('0123456789', 350000))") // over three segments of 1 MiB
		s.SQL(tb, "select pg_switch_wal()")
	}
	s.Exec(tb, "truncate t; insert into t select i, md5(i::text) from generate_series(1, 20000) i")
	s.Exec(tb, "vacuum t")
	return ledger
}

func TestScannerReadsWhatServersWrite(t *testing.T) {
	for _, version := range pgtest.Versions(t) {
		sizes := []int{1}
		if version == 15 && !testing.Short() {
			sizes = []int{1, 16, 64}
		}
		for _, mb := range sizes {
			t.Run(fmt.Sprintf("%d-%dMiB", version, mb), func(t *testing.T) {
				t.Parallel()
				readWhatItWrites(t, version, mb)
			})
		}
	}
}

func readWhatItWrites(t *testing.T, version, mb int) {
	compression := "on"
	if mb != 1 {
		compression = "off"
	}
	s := newSource(t, version, mb, compression)
	ledger := s.work(t)
	end := s.switched(t)
	times := s.commitTimes(t)
	s.Stop(t, "fast")
	events, sums := s.scan(t, 1, end)
	s.checkLedger(t, ledger, times, events)
	checkSummaries(t, events, sums)
	checkPoints(t, events)
	if version == 15 {
		s.compareWithWaldump(t, end, events)
	}
}

// commitTimes asks the server for the time of every commit it remembers.
func (s source) commitTimes(tb testing.TB) map[uint32]time.Time {
	tb.Helper()
	rows := s.SQL(tb, `select i || ' ' || (extract(epoch from pg_xact_commit_timestamp(i::text::xid)) * 1000000)::bigint
		from generate_series((select last_value - 200 from last_xid), (select last_value from last_xid)) i
		where i > 2 and pg_xact_commit_timestamp(i::text::xid) is not null`)
	out := map[uint32]time.Time{}
	for _, row := range strings.Split(rows, "\n") {
		var xid uint32
		var micros int64
		if _, err := fmt.Sscan(row, &xid, &micros); err != nil {
			tb.Fatalf("row %q: %v", row, err)
		}
		out[xid] = time.UnixMicro(micros).UTC()
	}
	return out
}

func (s source) checkLedger(t *testing.T, ledger map[uint32]wal.EventKind, times map[uint32]time.Time, events []wal.Event) {
	t.Helper()
	got := map[uint32]wal.EventKind{}
	compared := 0
	for _, e := range events {
		if e.Kind != wal.Commit && e.Kind != wal.Abort {
			continue
		}
		if _, ours := ledger[e.XID]; ours {
			got[e.XID] = e.Kind
		}
		if want, ok := times[e.XID]; ok && e.Kind == wal.Commit {
			compared++
			if !e.Time.Equal(want) {
				t.Errorf("transaction %d: WAL says %s, the server %s", e.XID, e.Time, want)
			}
		}
	}
	if diff := cmp.Diff(ledger, got); diff != "" {
		t.Errorf("ends of transactions (-ledger +WAL):\n%s", diff)
	}
	if compared < 12 {
		t.Errorf("only %d commit times were compared", compared)
	}
}

func checkPoints(t *testing.T, events []wal.Event) {
	t.Helper()
	var names []string
	checkpoints, switches := 0, 0
	for _, e := range events {
		switch e.Kind {
		case wal.RestorePointRecord:
			names = append(names, e.Name)
		case wal.OnlineCheckpoint, wal.ShutdownCheckpoint:
			checkpoints++
			if time.Since(e.Time) < 0 || e.Time.Year() < 2025 || e.Timeline != 1 { // the first are as old as the template of the cluster
				t.Errorf("checkpoint of timeline %d at %s", e.Timeline, e.Time)
			}
		case wal.Switch:
			switches++
		default:
		}
	}
	if diff := cmp.Diff([]string{"point p0", "point p1", "point p2"}, names); diff != "" {
		t.Errorf("restore points: %s", diff)
	}
	if checkpoints < 3 || switches < 3 {
		t.Errorf("%d checkpoints, %d switches", checkpoints, switches)
	}
}

// checkSummaries adds the events up once more.
func checkSummaries(t *testing.T, events []wal.Event, sums []wal.Summary) {
	t.Helper()
	commits, points := 0, 0
	var latest time.Time
	for _, e := range events {
		if e.Kind == wal.Commit {
			commits++
			if e.Time.After(latest) {
				latest = e.Time
			}
		}
	}
	var maxCommit time.Time
	for _, s := range sums {
		commits -= s.Commits
		points += len(s.RestorePoints)
		if s.MaxCommit.After(maxCommit) {
			maxCommit = s.MaxCommit
		}
		if s.First > s.LastStart && s.LastStart != 0 && s.Last != 0 && s.First < s.Last {
			t.Errorf("first %s, last %s to %s", s.First, s.LastStart, s.Last)
		}
	}
	if commits != 0 || points != 3 || !maxCommit.Equal(latest) {
		t.Errorf("the summaries differ by %d commits, have %d points, newest %s of %s", commits, points, maxCommit, latest)
	}
}

var waldumpLine = regexp.MustCompile(`^rmgr: (\S+) .*tx: +(\d+), lsn: ([0-9A-F]+/[0-9A-F]+), prev \S+, desc: (\S+)(?: \d+:)? ?([-0-9]+ [0-9:.]+ UTC)?`)

// compareWithWaldump compares every record with what PostgreSQL's own reader says.
func (s source) compareWithWaldump(t *testing.T, end wal.LSN, events []wal.Event) {
	t.Helper()
	first := s.oldest(t, 1)
	cmd := exec.Command("/usr/lib/postgresql/15/bin/pg_waldump", "-p", filepath.Join(s.DataDir, "pg_wal"),
		"-s", first.Start(s.size).String(), "-e", end.String())
	cmd.Env = []string{"TZ=UTC", "LC_ALL=C"}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if len(out) == 0 {
		t.Fatalf("pg_waldump: %v: %s", err, stderr.String())
	}
	var want, got []string
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		m := waldumpLine.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("pg_waldump says %q", line)
		}
		l, err := wal.ParseLSN(m[3])
		if err != nil {
			t.Fatal(err)
		}
		text := l.String() + " " + m[2]
		if m[1] == "Transaction" && (strings.HasPrefix(m[4], "COMMIT") || strings.HasPrefix(m[4], "ABORT")) {
			text = l.String() + " end " + m[5]
		}
		want = append(want, text)
	}
	for _, e := range events {
		text := fmt.Sprintf("%s %d", e.Start, e.XID)
		if e.Kind == wal.Commit || e.Kind == wal.Abort {
			text = e.Start.String() + " end " + e.Time.Format("2006-01-02 15:04:05.000000 UTC")
		}
		got = append(got, text)
	}
	if len(want) > len(got) {
		want = want[:len(got)] // the shutdown checkpoint was written after end
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%d records (-pg_waldump +ours):\n%.4000s", len(want), diff)
	}
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	s := newSource(t, 15, 1, "off")
	s.work(t)
	end := s.switched(t)
	s.Stop(t, "fast")
	seg := s.size.SegmentAt(1, end-1-2*wal.LSN(s.size))
	before, err := os.ReadFile(s.path(wal.Segment{Timeline: 1, Number: seg.Number - 1}))
	if err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(s.path(seg))
	if err != nil {
		t.Fatal(err)
	}
	sum := scanTwo(t, s, seg, before, good)
	if sum.Switched || sum.End != seg.End(s.size) {
		t.Fatalf("segment %s is not a full one: %+v", seg.Name(s.size), sum)
	}
	missed := 0
	for at := 0; at < len(good); at += 2503 {
		bad := slices.Clone(good)
		bad[at] ^= 1 << (at % 8)
		scanner := wal.NewScanner(s.size, s.systemID, 1)
		_, _ = scanner.Segment(wal.Segment{Timeline: 1, Number: seg.Number - 1}, bytes.NewReader(before), nil)
		sum, err := scanner.Segment(seg, bytes.NewReader(bad), nil)
		var c *wal.CorruptError
		if err != nil && !errors.As(err, &c) {
			t.Fatal(err)
		}
		if err == nil && sum.End == seg.End(s.size) && !padding(good, at) {
			missed++
			t.Errorf("a flipped bit at %s was not found", seg.Start(s.size)+wal.LSN(at))
		}
	}
	t.Logf("%d bits flipped, %d missed", len(good)/2503, missed)
}

// padding tells whether the byte may belong to no record: the bytes that align records are in no checksum, nor are those
// two in a record's header behind xl_rmid.
func padding(page []byte, at int) bool {
	return page[at] == 0
}

func scanTwo(t *testing.T, s source, seg wal.Segment, before, good []byte) wal.Summary {
	t.Helper()
	scanner := wal.NewScanner(s.size, s.systemID, 1)
	if _, err := scanner.Segment(wal.Segment{Timeline: 1, Number: seg.Number - 1}, bytes.NewReader(before), nil); err != nil {
		t.Fatal(err)
	}
	sum, err := scanner.Segment(seg, bytes.NewReader(good), nil)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func TestValidEndOfTornPartials(t *testing.T) {
	s := newSource(t, 15, 1, "off")
	s.work(t)
	end := s.switched(t)
	s.Stop(t, "fast")
	events, _ := s.scan(t, 1, end)
	ends := map[wal.LSN]bool{}
	for _, e := range events {
		ends[e.End] = true
	}
	seg := s.size.SegmentAt(1, end-1)
	for range 5 {
		b, err := os.ReadFile(s.path(seg))
		if err != nil {
			t.Fatal(err)
		}
		for length := 0; length <= len(b); length += 9973 {
			checkTorn(t, s, seg, b, length, ends)
		}
		seg.Number--
	}
}

// checkTorn cuts the segment, once as a short file, once followed by zeros, once by what an earlier use left.
func checkTorn(t *testing.T, s source, seg wal.Segment, b []byte, length int, ends map[wal.LSN]bool) {
	t.Helper()
	start := seg.Start(s.size)
	zeros := append(slices.Clone(b[:length]), make([]byte, len(b)-length)...)
	garbage := append(slices.Clone(b[:length]), bytes.Repeat([]byte{0xA5}, len(b)-length)...)
	var first wal.LSN
	for i, content := range [][]byte{b[:length], zeros, garbage} {
		got, err := wal.ValidEnd(s.size, s.systemID, seg, bytes.NewReader(content), int64(len(content)))
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = got
		}
		if bytes.Equal(content, b) {
			continue // only padding was cut
		}
		cut := start + wal.LSN(length)
		aligned := got == cut || got == (cut+7)&^7 // the cut is in the bytes that align the next record
		n := min(int(got-start), len(content))
		if !bytes.Equal(content[:n], b[:n]) {
			t.Errorf("%s cut at %d: valid to %s, but the bytes are not those that were written", seg.Name(s.size), length, got)
		}
		if got != start && !aligned && !ends[(got+7)&^7] {
			t.Errorf("%s cut at %d: valid to %s, which is no record's end", seg.Name(s.size), length, got)
		}
		if ends[first] && got < first {
			t.Errorf("%s cut at %d: valid to %s, but %s when only the bytes are there", seg.Name(s.size), length, got, first)
		}
	}
}

func TestForeignSegmentsAreRefused(t *testing.T) {
	s := newSource(t, 15, 1, "off")
	end := s.switched(t)
	seg := s.size.SegmentAt(1, end-1)
	b, err := os.ReadFile(s.path(seg))
	if err != nil {
		t.Fatal(err)
	}
	for name, scanner := range map[string]*wal.Scanner{
		"system":       wal.NewScanner(s.size, s.systemID+1, 1),
		"segment size": wal.NewScanner(2*s.size, s.systemID, 1),
	} {
		other := seg
		if name == "segment size" {
			other.Number /= 2
		}
		_, err := scanner.Segment(other, bytes.NewReader(b), nil)
		var c *wal.CorruptError
		if !errors.As(err, &c) || name == "system" && !c.Foreign {
			t.Errorf("another %s: %v", name, err)
		}
	}
	if _, err := wal.ValidEnd(s.size, s.systemID+1, seg, bytes.NewReader(b), int64(len(b))); err == nil {
		t.Error("ValidEnd takes another system's segment")
	}
}

func TestScannerFollowsAPromotion(t *testing.T) {
	for _, version := range pgtest.Versions(t) {
		t.Run(strconv.Itoa(version), func(t *testing.T) {
			t.Parallel()
			s := newSource(t, version, 1, "off")
			b := source{Server: s.Standby(t, pgtest.Options{Version: version}), size: s.size, systemID: s.systemID}
			s.Exec(t, "create table t (i int); insert into t values (1)")
			b.AwaitReplay(t, s.Server)
			b.Promote(t)
			b.Exec(t, "insert into t values (2)")
			end := b.switched(t)
			content, err := os.ReadFile(filepath.Join(b.DataDir, "pg_wal", wal.Timeline(2).HistoryName()))
			if err != nil {
				t.Fatal(err)
			}
			h, err := wal.ParseHistory(2, content)
			if err != nil || len(h.Parents) != 1 {
				t.Fatalf("history %q: %v", content, err)
			}
			events, _ := b.scan(t, 2, end)
			i := slices.IndexFunc(events, func(e wal.Event) bool { return e.Kind == wal.EndOfRecovery })
			if i < 0 {
				t.Fatal("no end of recovery")
			}
			if e := events[i]; e.Start != h.Parents[0].Switch || e.Timeline != 2 || e.PrevTimeline != 1 || h.TimelineAt(e.Start) != 2 || time.Since(e.Time) > time.Hour {
				t.Errorf("end of recovery %+v, history %+v", e, h)
			}
			if i == 0 || h.TimelineAt(events[i-1].Start) != 1 {
				t.Error("the child's first segment holds nothing of the parent")
			}
		})
	}
}
