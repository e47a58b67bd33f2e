package wal_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestEveryRecordIsAsPostgresReadsIt makes WAL of every kind, a few megabytes by default and PGKEEP_WAL_MB when that is
// set, and compares what is read record by record with pg_waldump (15) and pg_walinspect (15 to 18), and the commits with
// what the server remembers of them (all).
func TestEveryRecordIsAsPostgresReadsIt(t *testing.T) {
	mb := comparedMB(t)
	for _, v := range pgtest.SomeVersions(t, 13, 15, 18) {
		t.Run(strconv.Itoa(v), func(t *testing.T) {
			if mb <= 100 {
				t.Parallel()
			}
			compareRecords(t, v, mb)
		})
	}
}

// TestSegmentsOfEverySizeAreAsPostgresReadsThem does the same with a little WAL in segments of other sizes: of 2 and 64 MiB
// by default, and of every size that PostgreSQL has with PGKEEP_WAL_SIZES=all, which makes gigabytes.
func TestSegmentsOfEverySizeAreAsPostgresReadsThem(t *testing.T) {
	sizes := []int{2, 64}
	if os.Getenv("PGKEEP_WAL_SIZES") == "all" {
		sizes = []int{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024}
	}
	for _, v := range pgtest.SomeVersions(t, 15) {
		for _, segmentMB := range sizes {
			t.Run(fmt.Sprintf("%d_%dMiB", v, segmentMB), func(t *testing.T) {
				l := newLoad(t, v, segmentMB, segmentMB > 100)
				from := l.switched(t)
				l.round(t, 1, false)
				l.compareAll(t, from, l.switched(t))
			})
		}
	}
}

func compareRecords(t *testing.T, version, mb int) {
	segmentMB := 1
	if mb > 100 {
		segmentMB = 16
	}
	l := newLoad(t, version, segmentMB, mb > 100)
	from := l.switched(t)
	end := from
	for n, made := 0, 0; made < mb || n < len(l.methods); n++ {
		l.round(t, n, mb > 100)
		read := l.read(t, end, l.switched(t), nil)
		end, made = read.end, made+int(read.bytes>>20)
	}
	if methods := l.compareAll(t, from, end); len(methods) != len(l.methods) {
		t.Errorf("images of %v, not of %v", methods, l.methods)
	}
}

// compareAll compares a stretch, and gives the methods that its images are compressed with.
func (l *load) compareAll(t *testing.T, from, end wal.LSN) map[string]int {
	t.Helper()
	version := l.Version
	var images []string
	whole := l.read(t, from, end, func(_ string, block []string) { images = append(images, block...) })
	if whole.switches < 2 || whole.points == 0 || whole.prepared < 4 || len(images) == 0 {
		t.Errorf("the load has %d switches, %d restore points, %d prepared, %d images", whole.switches, whole.points, whole.prepared, len(images))
	}
	t.Logf("PostgreSQL %d: %d records of %d MiB in %d MiB of WAL, %d with images %v, the longest %d bytes; %d restore points, %d switches, %d prepared",
		version, whole.records, whole.bytes>>20, (end-from)>>20, len(images), whole.methods, whole.longest, whole.points, whole.switches, whole.prepared)
	l.checkLedger(t, whole.commits)
	if version == 15 {
		l.compare(t, "pg_waldump", from, end, l.waldump(t, from, end))
	}
	if version >= 15 {
		l.Exec(t, "create extension pg_walinspect")
		l.compare(t, "pg_walinspect", from, end, l.walinspect(t, from, end))
	}
	switch {
	case version == 15:
		l.compareImages(t, images, l.images15(t, from, end))
	case version >= 16:
		l.compareImages(t, images, l.images16(t, from, end))
	}
	return whole.methods
}

// wholeRead is what was read of a stretch.
type wholeRead struct {
	end                       wal.LSN
	bytes, longest            int64
	records, points, switches int
	prepared                  int
	methods                   map[string]int    // of images
	commits                   map[uint32]string // times by xid, subtransactions included
}

// read reads every record from one segment's start to another's, and tells each as a line with the images of its pages.
func (l *load) read(tb testing.TB, from, end wal.LSN, line func(string, []string)) wholeRead {
	tb.Helper()
	out := wholeRead{end: end, methods: map[string]int{}, commits: map[uint32]string{}}
	scanner := wal.NewScanner(l.size, l.systemID, 1)
	scanner.EveryRecord()
	scanner.EveryChange(func(wal.Change) error { return nil })
	scanner.Follow(wal.FollowOptions{})
	var images []string
	scanner.EveryBlock(func(start wal.LSN, b wal.Block) error {
		if b.Image.Compression == 0 {
			return nil
		}
		method := b.Image.Compression.String()
		out.methods[method]++
		images = append(images, fmt.Sprintf("%s %d/%d/%d %d %d %d %s", start, b.Tablespace, b.Database, b.Relation, b.Fork, b.Number, b.Image.Bytes, method))
		return nil
	})
	var counted wal.Images
	for seg := l.size.SegmentAt(1, from); seg.Start(l.size) < end; seg = seg.Next() {
		f, err := os.Open(l.path(seg))
		if err != nil {
			tb.Fatal(err)
		}
		sum, err := scanner.Segment(seg, f, func(e wal.Event) error {
			out.add(e)
			if line != nil {
				line(lineOf(e), images)
			}
			images = images[:0]
			return nil
		})
		_ = f.Close()
		if err != nil || !sum.Followed || sum.End != seg.End(l.size) {
			tb.Fatalf("segment %s: %v, %+v", seg.Name(l.size), err, sum)
		}
		counted.Plain, counted.PGLZ, counted.LZ4, counted.Zstd = counted.Plain+sum.Images.Plain, counted.PGLZ+sum.Images.PGLZ, counted.LZ4+sum.Images.LZ4, counted.Zstd+sum.Images.Zstd
		out.prepared += sum.PreparedCount
	}
	if counted.Plain != out.methods["off"] || counted.PGLZ != out.methods["pglz"] || counted.LZ4 != out.methods["lz4"] || counted.Zstd != out.methods["zstd"] {
		tb.Errorf("the summaries count %+v, the records have %v", counted, out.methods)
	}
	return out
}

func (w *wholeRead) add(e wal.Event) {
	w.records++
	n := int64(e.End - e.Start)
	w.bytes, w.longest = w.bytes+n, max(w.longest, n)
	switch e.Kind {
	case wal.RestorePointRecord:
		w.points++
	case wal.Switch:
		w.switches++
	case wal.Commit:
		at := e.Time.Format("2006-01-02 15:04:05.000000")
		for _, xid := range append(e.Subxacts, e.XID) {
			if xid != 0 {
				w.commits[xid] = at
			}
		}
	default:
	}
}

// lineOf says of a record what PostgreSQL's readers say as well.
func lineOf(e wal.Event) string {
	at := e.Time.Format("2006-01-02 15:04:05.000000 UTC")
	var relations []string
	for _, r := range e.Dropped {
		relations = append(relations, strconv.Itoa(int(r.Number)))
	}
	var subxacts []string
	for _, x := range e.Subxacts {
		subxacts = append(subxacts, strconv.Itoa(int(x)))
	}
	switch e.Kind {
	case wal.Commit, wal.Abort:
		return fmt.Sprintf("%s %s %t %d %s rels %v subxacts %v", e.Start, e.Kind, e.Prepared, e.XID, at, relations, subxacts)
	case wal.Prepare:
		return fmt.Sprintf("%s %s %d %s %q subxacts %v", e.Start, e.Kind, e.XID, at, e.GID, subxacts)
	case wal.RestorePointRecord:
		return fmt.Sprintf("%s %s %q", e.Start, e.Kind, e.Name)
	default:
		return fmt.Sprintf("%s %d", e.Start, e.XID)
	}
}

// theirs is a record as PostgreSQL's readers show it.
type theirs struct{ start, xid, kind, description string }

var (
	preparedEnd = regexp.MustCompile(`^(\d+): `)
	stamped     = regexp.MustCompile(`(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?:\.(\d+))?(?: UTC|\+00)`)
	relsPart    = regexp.MustCompile(`; rels:((?: [^ ;]+)+)`)
	subxactPart = regexp.MustCompile(`; subxacts:((?: \d+)+)`)
	gidPart     = regexp.MustCompile(`gid ([^:]*): `)
)

// line gives what lineOf gives.
func (r theirs) line() string {
	at := ""
	if m := stamped.FindStringSubmatch(r.description); m != nil {
		at = m[1] + "." + (m[2] + "000000")[:6] + " UTC" // pg_walinspect leaves zeros out
	}
	var relations, subxacts []string
	if m := relsPart.FindStringSubmatch(r.description); m != nil {
		for _, path := range strings.Fields(m[1]) {
			relations = append(relations, filepath.Base(path))
		}
	}
	if m := subxactPart.FindStringSubmatch(r.description); m != nil {
		subxacts = strings.Fields(m[1])
	}
	xid := r.xid
	if m := preparedEnd.FindStringSubmatch(r.description); m != nil {
		xid = m[1]
	}
	switch r.kind {
	case "COMMIT", "ABORT", "COMMIT_PREPARED", "ABORT_PREPARED":
		kind, rest, _ := strings.Cut(strings.ToLower(r.kind), "_")
		return fmt.Sprintf("%s %s %t %s %s rels %v subxacts %v", r.start, kind, rest != "", xid, at, relations, subxacts)
	case "PREPARE":
		gid := ""
		if m := gidPart.FindStringSubmatch(r.description); m != nil {
			gid = m[1]
		}
		return fmt.Sprintf("%s prepare %s %s %q subxacts %v", r.start, xid, at, gid, subxacts)
	case "RESTORE_POINT":
		return fmt.Sprintf("%s restore point %q", r.start, r.description)
	default:
		return r.start + " " + r.xid
	}
}

// compare compares line by line.
func (l *load) compare(t *testing.T, with string, from, end wal.LSN, next func() (theirs, bool)) {
	t.Helper()
	records, wrong := 0, 0
	l.read(t, from, end, func(got string, _ []string) {
		want, more := next()
		records++
		if !more || want.line() != got {
			if wrong++; wrong < 5 {
				t.Errorf("%s says %q (there is more: %t)\nwe read %q", with, want.line(), more, got)
			}
		}
	})
	if _, more := next(); more || wrong > 0 {
		t.Errorf("%s: %d of %d records differ; there are others: %t", with, wrong, records, more)
	}
	t.Logf("%d records compared with %s, %d differ", records, with, wrong)
}

var waldumpRecord = regexp.MustCompile(`^rmgr: (\S+) .*?tx: +(\d+), lsn: ([0-9A-F]+/[0-9A-F]+), prev \S+, desc: (\S+) ?(.*)$`)

// waldump reads with PostgreSQL's own program. It takes the segment size from the file that it is told to begin with; from
// any other it could be one that the server made beforehand, which is empty.
func (l *load) waldump(t *testing.T, from, end wal.LSN) func() (theirs, bool) {
	t.Helper()
	cmd := exec.Command(pgtest.Client(t, "pg_waldump"), "-p", filepath.Join(l.DataDir, "pg_wal"), "-s", from.String(), "-e", end.String(), l.size.SegmentAt(1, from).Name(l.size), l.size.SegmentAt(1, end-1).Name(l.size))
	lines := l.output(t, cmd, "TZ=UTC", "LC_ALL=C")
	return func() (theirs, bool) {
		if !lines.Scan() {
			return theirs{}, false
		}
		m := waldumpRecord.FindStringSubmatch(lines.Text())
		if m == nil {
			t.Fatalf("pg_waldump says %q", lines.Text())
		}
		if m[1] != "Transaction" && m[4] != "RESTORE_POINT" {
			m[4] = ""
		}
		return theirs{start: lsnText(t, m[3]), xid: m[2], kind: m[4], description: m[5]}, true
	}
}

// lsnText writes a position as we write it: PostgreSQL's programs fill the second half with zeros.
func lsnText(t *testing.T, s string) string {
	t.Helper()
	l, err := wal.ParseLSN(s)
	if err != nil {
		t.Fatal(err)
	}
	return l.String()
}

// output gives the lines of a program that runs beside the test.
func (l *load) output(t *testing.T, cmd *exec.Cmd, env ...string) *bufio.Scanner {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Env, cmd.Stderr = append(os.Environ(), env...), &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil && !strings.Contains(stderr.String(), "invalid record length") {
			t.Logf("%s: %v: %s", cmd.Path, err, stderr.String())
		}
	})
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 64<<20)
	return lines
}

// psql asks in pieces of a few segments, so that the server need not hold everything at once.
func (l *load) psql(t *testing.T, from, end wal.LSN, q string) *bufio.Scanner {
	t.Helper()
	var script strings.Builder
	script.WriteString("set timezone = 'UTC';\n")
	for at, next := from, from; at < end; at = next {
		next = l.pieceEnd(t, at, end)
		fmt.Fprintf(&script, strings.ReplaceAll(q, "RANGE", "'%s', '%s'")+";\n", at, next)
	}
	cmd := exec.Command(pgtest.Client(t, "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", l.SocketDir, "-p", strconv.Itoa(l.Port), "-U", "postgres", "postgres")
	cmd.Stdin = strings.NewReader(script.String())
	return l.output(t, cmd)
}

// pieceEnd gives a border about four segments further at which a record ends.
func (l *load) pieceEnd(t *testing.T, at, end wal.LSN) wal.LSN {
	t.Helper()
	scanner := wal.NewScanner(l.size, l.systemID, 1)
	for seg := l.size.SegmentAt(1, at); seg.Start(l.size) < end; seg = seg.Next() {
		f, err := os.Open(l.path(seg))
		if err != nil {
			t.Fatal(err)
		}
		sum, err := scanner.Segment(seg, f, nil)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		if seg.Number >= l.size.SegmentAt(1, at).Number+3 && sum.Switched {
			return seg.End(l.size)
		}
		if seg.Number >= l.size.SegmentAt(1, at).Number+3 && sum.Last > at {
			return sum.Last
		}
	}
	return end
}

// walinspect asks the server itself.
func (l *load) walinspect(t *testing.T, from, end wal.LSN) func() (theirs, bool) {
	t.Helper()
	lines := l.psql(t, from, end, `select start_lsn, xid, record_type, case when resource_manager = 'Transaction' or record_type = 'RESTORE_POINT' then description end,
		resource_manager from pg_get_wal_records_info(RANGE)`)
	return func() (theirs, bool) {
		if !lines.Scan() {
			return theirs{}, false
		}
		f := strings.Split(lines.Text(), "|")
		if len(f) != 5 {
			t.Fatalf("pg_walinspect says %q", lines.Text())
		}
		if f[4] != "Transaction" && f[2] != "RESTORE_POINT" {
			f[2] = ""
		}
		return theirs{start: lsnText(t, f[0]), xid: f[1], kind: f[2], description: f[3]}, true
	}
}

// images16 asks which pages the records carry, how long and how compressed.
func (l *load) images16(t *testing.T, from, end wal.LSN) (want []string) {
	t.Helper()
	lines := l.psql(t, from, end, `select start_lsn, reltablespace || '/' || reldatabase || '/' || relfilenode || ' ' || relforknumber || ' ' || relblocknumber || ' ' || block_fpi_length,
		case when 'COMPRESS_PGLZ' = any(block_fpi_info) then 'pglz' when 'COMPRESS_LZ4' = any(block_fpi_info) then 'lz4' when 'COMPRESS_ZSTD' = any(block_fpi_info) then 'zstd' else 'off' end
		from pg_get_wal_block_info(RANGE, false) where block_fpi_length > 0`)
	for lines.Scan() {
		f := strings.Split(lines.Text(), "|")
		want = append(want, lsnText(t, f[0])+" "+f[1]+" "+f[2])
	}
	return want
}

var blockOf15 = regexp.MustCompile(`blkref #\d+: rel (\d+/\d+/\d+) fork (\w+) blk (\d+) \(FPW[^)]*\); hole: offset: \d+, length: (\d+)(?:, compression saved: (\d+), method: (\w+))?`)

// images15 asks the same of 15, which tells it in words.
func (l *load) images15(t *testing.T, from, end wal.LSN) (want []string) {
	t.Helper()
	lines := l.psql(t, from, end, "select start_lsn, block_ref from pg_get_wal_records_info(RANGE) where fpi_length > 0")
	forks := map[string]int{"main": 0, "fsm": 1, "vm": 2, "init": 3}
	for lines.Scan() {
		at, blocks, _ := strings.Cut(lines.Text(), "|")
		for _, m := range blockOf15.FindAllStringSubmatch(blocks, -1) {
			hole, _ := strconv.Atoi(m[4])
			saved, _ := strconv.Atoi(m[5])
			method := m[6]
			if method == "" {
				method = "off"
			}
			want = append(want, fmt.Sprintf("%s %s %d %s %d %s", lsnText(t, at), m[1], forks[m[2]], m[3], wal.PageSize-hole-saved, method))
		}
	}
	return want
}

// compareImages compares images, whose order may differ.
func (l *load) compareImages(t *testing.T, got, want []string) {
	t.Helper()
	slices.Sort(want)
	got = slices.Sorted(slices.Values(got))
	if !slices.Equal(want, got) {
		t.Errorf("%d images, pg_walinspect knows %d; the first: %q, %q", len(got), len(want), got[:min(3, len(got))], want[:min(3, len(want))])
	}
	t.Logf("%d images compared with pg_walinspect", len(want))
}
