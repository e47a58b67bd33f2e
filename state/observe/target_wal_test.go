package observe

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"time"

	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

const (
	testSize   = wal.SegmentSize(1 << 20)
	testSystem = 42
)

// line writes the WAL of PostgreSQL 15 on one line of history, record by record, so that a test chooses what servers
// seldom do: times that go back, names that come twice, records of any length.
type line struct {
	timeline wal.Timeline
	first    wal.LSN // a segment's start
	out      []byte
	prev     wal.LSN
	records  []wal.Event
}

func newLine(t wal.Timeline, segment uint64) *line {
	return &line{timeline: t, first: wal.LSN(segment) * wal.LSN(testSize)}
}

func (l *line) at() wal.LSN { return l.first + wal.LSN(len(l.out)) }

// page writes a page header where one belongs.
func (l *line) page(remaining int) {
	if l.at()%wal.PageSize != 0 {
		return
	}
	h := make([]byte, 24)
	info := uint16(0)
	if remaining > 0 {
		info = 1
	}
	if testSize.Offset(l.at()) == 0 {
		h = make([]byte, 40)
		info |= 2
		binary.LittleEndian.PutUint64(h[24:], testSystem)
		binary.LittleEndian.PutUint32(h[32:], uint32(testSize))
		binary.LittleEndian.PutUint32(h[36:], wal.PageSize)
	}
	binary.LittleEndian.PutUint16(h, 0xD110)
	binary.LittleEndian.PutUint16(h[2:], info)
	binary.LittleEndian.PutUint32(h[4:], uint32(l.timeline))
	binary.LittleEndian.PutUint64(h[8:], uint64(l.at()))
	binary.LittleEndian.PutUint32(h[16:], uint32(remaining))
	l.out = append(l.out, h...)
}

// record writes one record and remembers it.
func (l *line) record(e wal.Event, resource, info byte, data []byte) {
	l.page(0)
	e.Start = l.at()
	body := append(binary.LittleEndian.AppendUint32([]byte{254}, uint32(len(data))), data...)
	b := make([]byte, 24)
	binary.LittleEndian.PutUint32(b, uint32(24+len(body)))
	binary.LittleEndian.PutUint32(b[4:], e.XID)
	binary.LittleEndian.PutUint64(b[8:], uint64(l.prev))
	b[16], b[17] = info, resource
	table := crc32.MakeTable(crc32.Castagnoli)
	binary.LittleEndian.PutUint32(b[20:], crc32.Update(crc32.Update(0, table, body), table, b[:20]))
	b = append(b, body...)
	for len(b) > 0 {
		l.page(len(b))
		n := min(len(b), int(wal.PageSize-l.at()%wal.PageSize))
		l.out, b = append(l.out, b[:n]...), b[n:]
	}
	for l.at()%8 != 0 {
		l.out = append(l.out, 0)
	}
	e.End = l.at()
	l.prev = e.Start
	l.records = append(l.records, e)
}

func stamp(t time.Time) []byte {
	epoch := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	return binary.LittleEndian.AppendUint64(nil, uint64(t.Sub(epoch).Microseconds()))
}

func (l *line) commit(xid uint32, at time.Time) {
	l.record(wal.Event{Kind: wal.Commit, XID: xid, Time: at}, 1, 0x00, stamp(at))
}

func (l *line) abort(xid uint32, at time.Time) {
	l.record(wal.Event{Kind: wal.Abort, XID: xid, Time: at}, 1, 0x20, stamp(at))
}

func (l *line) point(name string, at time.Time) {
	data := append(stamp(at), make([]byte, 64)...)
	copy(data[8:], name)
	l.record(wal.Event{Kind: wal.RestorePointRecord, Name: name, Time: at}, 0, 0x70, data)
}

func (l *line) checkpoint(at time.Time) {
	data := make([]byte, 88)
	binary.LittleEndian.PutUint32(data[8:], uint32(l.timeline))
	binary.LittleEndian.PutUint32(data[12:], uint32(l.timeline))
	binary.LittleEndian.PutUint64(data[64:], uint64(at.Unix()))
	l.record(wal.Event{Kind: wal.OnlineCheckpoint, Time: at}, 0, 0x10, data)
}

func (l *line) other(n int) {
	l.record(wal.Event{Kind: wal.Other}, 10, 0, make([]byte, n))
}

// child goes on with the line on another timeline: a copy of the segment in which it was left, up to here.
func (l *line) child(t wal.Timeline) *line {
	start := testSize.Floor(l.at())
	c := &line{timeline: t, first: start, out: bytes.Clone(l.out[start-l.first:]), prev: l.prev}
	return c
}

// archive is a fake of a cluster's WAL.
type archive struct {
	segments map[wal.Segment][]byte
	unknown  map[wal.Segment]bool // of which the index knows nothing
	opened   int
}

// put archives the line's segments, the last one as a partial.
func (a *archive) put(l *line) {
	if a.segments == nil {
		a.segments, a.unknown = map[wal.Segment][]byte{}, map[wal.Segment]bool{}
	}
	for at := 0; at < len(l.out); at += int(testSize) {
		seg := testSize.SegmentAt(l.timeline, l.first+wal.LSN(at))
		a.segments[seg] = l.out[at:min(len(l.out), at+int(testSize))]
	}
}

func (a *archive) Segment(_ context.Context, seg wal.Segment) (io.ReadCloser, error) {
	b, ok := a.segments[seg]
	if !ok {
		return nil, fmt.Errorf("segment %s: %w", seg.Name(testSize), store.ErrNotExist)
	}
	a.opened++
	return io.NopCloser(bytes.NewReader(b)), nil
}

// Summary scans the segment with the one before it, as a receiver does.
func (a *archive) Summary(_ context.Context, seg wal.Segment) (wal.Summary, error) {
	b, ok := a.segments[seg]
	if !ok {
		return wal.Summary{}, store.ErrNotExist
	}
	first := seg
	for first.Number > 0 && a.has(wal.Segment{Timeline: seg.Timeline, Number: first.Number - 1}) {
		first.Number--
	}
	s := wal.NewScanner(testSize, testSystem, seg.Timeline)
	for ; first != seg; first = first.Next() {
		if _, err := s.Segment(first, bytes.NewReader(a.segments[first]), nil); err != nil {
			return wal.Summary{}, err
		}
	}
	return s.Segment(seg, bytes.NewReader(b), nil)
}

func (a *archive) has(seg wal.Segment) bool { _, ok := a.segments[seg]; return ok }

func (a *archive) Summaries(ctx context.Context, r wal.Range) iter.Seq2[wal.Segment, wal.Summary] {
	return func(yield func(wal.Segment, wal.Summary) bool) {
		for seg := testSize.SegmentAt(r.Timeline, r.From); seg.Start(testSize) < r.To; seg = seg.Next() {
			if !a.has(seg) || a.unknown[seg] || len(a.segments[seg]) < int(testSize) {
				continue
			}
			sum, err := a.Summary(ctx, seg)
			if err == nil && !yield(seg, sum) {
				return
			}
		}
	}
}
