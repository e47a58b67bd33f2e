package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// Buffers of a Scanner. Memory is bounded whatever a record says of its own length.
const (
	readBuffer = 256 << 10
	keptBody   = 16 << 20 // of a transaction's end with millions of subtransactions only the front is kept
)

// Scanner reads WAL segment by segment, checks every page header, record checksum and back link, and tells the records
// that matter to recovery. A record that crosses pages or segments is followed. A Scanner belongs to one timeline of one
// cluster and to one goroutine.
type Scanner struct {
	size     SegmentSize
	systemID uint64
	timeline Timeline
	table    *crc32.Table
	buffer   []byte
	every    bool
	blocks   func(LSN, Block) error // nil: nobody asks for them
	changes  func(Change) error     // nil: nobody asks for them
	spaces   func(Tablespace) error // nil: nobody asks for them
	follow   *follower              // nil: transactions are not followed
	torn     bool                   // see Torn

	next         Segment  // the one that may continue what is open; zero: none
	major        int      // of PostgreSQL, from the page magic; 0: no page seen
	pageTimeline Timeline // of the latest page
	prev         LSN      // start of the latest record; 0: not known
	skip         uint32   // bytes still to leave out of a record whose beginning was not seen
	open         partRecord

	sum      Summary
	visit    func(Event) error
	first    bool  // no page of this segment was read yet, and nothing before it is known
	switched bool  // what follows is padding, zeros as well
	ended    bool  // what follows must be zeros
	suspect  error // why the WAL ended where it did; an error only when something follows

	unchecked LSN // see Unchecked
}

// partRecord is a record of which the end was not seen yet.
type partRecord struct {
	start  LSN
	need   uint32 // xl_tot_len; 0: no record is open
	got    uint32
	header [recordHeader]byte
	crc    uint32
	keep   int // bytes of the body
	body   []byte
}

// NewScanner gives a Scanner for timeline t of the cluster with this segment size and system identifier.
func NewScanner(z SegmentSize, systemID uint64, t Timeline) *Scanner {
	return &Scanner{size: z, systemID: systemID, timeline: t, table: crc32.MakeTable(crc32.Castagnoli)}
}

// Torn tells whether the segments read from now on may be unfinished ones, of which the bytes behind what was received are zeros, or
// noise. The bytes that align records must be zeros then, for they are in no checksum; and of a segment that is read to its end
// Summary.End is the end of the last record that was seen whole, as some may be missing of one that crosses the segment's end, or
// began before what was read.
func (s *Scanner) Torn(torn bool) { s.torn = torn }

// EveryRecord lets visit be told of all records; those that mean nothing to recovery have the kind Other.
func (s *Scanner) EveryRecord() { s.every = true }

// Segment reads one segment from r, which may end early. A call for the segment after the previous call's goes on with a
// record that crosses the border; any other call starts afresh and leaves the rest of such a record out. visit is told
// each event in order and may be nil; its error ends the call. r is read to its end, or to the segment's length, unless
// there is an error.
//
// The error is a *CorruptError for bytes that cannot be WAL. The end of WAL, which is zeros to the end of what was read or
// a record that is cut off, is no error: Summary.End tells, and is below Segment.End. After an error or an early end the
// next call starts afresh.
func (s *Scanner) Segment(seg Segment, r io.Reader, visit func(Event) error) (Summary, error) {
	if err := s.size.Check(); err != nil {
		return Summary{}, err
	}
	if seg.Timeline != s.timeline {
		return Summary{}, fmt.Errorf("scan segment %s: it is not of timeline %d", seg.Name(s.size), s.timeline)
	}
	if s.next != seg || seg.Number == 0 {
		s.forget()
	}
	s.next = Segment{}
	s.begin(seg, visit)
	at, err := s.read(seg, r)
	s.visit = nil
	if err != nil {
		return s.sum, err
	}
	s.sum.Followed = s.follow != nil && !s.follow.lost
	if at == seg.End(s.size) && !s.ended {
		s.sum.End, s.next = at, seg.Next()
		if s.torn && !s.switched {
			s.sum.End = max(s.sum.Last, seg.Start(s.size))
		}
		return s.sum, nil
	}
	if s.switched {
		s.sum.End = at
	}
	s.sum.End = min(s.sum.End, at)
	return s.sum, nil
}

// forget drops what earlier segments left open.
func (s *Scanner) forget() {
	s.major, s.pageTimeline, s.prev, s.skip, s.first = 0, 0, 0, 0, true
	s.open.need = 0
	if s.follow != nil {
		s.follow.reset()
	}
}

func (s *Scanner) begin(seg Segment, visit func(Event) error) {
	if s.buffer == nil {
		s.buffer = make([]byte, readBuffer)
	}
	s.sum = Summary{End: seg.Start(s.size)}
	s.visit = visit
	s.switched, s.ended, s.suspect, s.unchecked = false, false, nil, 0
}

// read takes the segment page by page and tells where r ended.
func (s *Scanner) read(seg Segment, r io.Reader) (LSN, error) {
	at, end := seg.Start(s.size), seg.End(s.size)
	for at < end {
		n, err := io.ReadFull(r, s.buffer[:min(LSN(len(s.buffer)), end-at)])
		for b := s.buffer[:n]; len(b) > 0; {
			p := b[:min(PageSize, len(b))]
			if err := s.page(at, p); err != nil {
				return at, err
			}
			b, at = b[len(p):], at+LSN(len(p))
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return at, fmt.Errorf("read segment %s: %w", seg.Name(s.size), err)
		}
	}
	return at, nil
}

// page takes the page at l; b is short when the reader ended in it.
func (s *Scanner) page(l LSN, b []byte) error {
	switch {
	case s.switched, s.ended:
		return s.zeros(l, b)
	}
	n := s.size.headerLength(l)
	if len(b) < n || zero(b[:n]) {
		return s.end(l, nil, b[min(n, len(b)):])
	}
	p, err := s.pageHeader(l, b)
	if err != nil {
		if foreign := (*CorruptError)(nil); errors.As(err, &foreign) && foreign.Foreign {
			return err
		}
		return s.end(l, err, b[n:])
	}
	s.major, s.pageTimeline = p.major, p.timeline
	at, err := s.continued(p, b)
	if err != nil || at < 0 {
		return err
	}
	return s.records(l, b, at)
}

// continued takes what the page holds of a record that began earlier and gives the offset where new records begin, or
// -1 when none does.
func (s *Scanner) continued(p page, b []byte) (int, error) {
	first := s.first
	s.first = false
	rest := b[p.header:]
	if p.info&pageOverwritten != 0 {
		s.open.need, s.skip = 0, 0
		return p.header, nil
	}
	if s.open.need == 0 && first && p.info&pageContinues != 0 {
		s.skip = p.remaining
	}
	want := s.skip
	if s.open.need > 0 {
		want = s.open.need - s.open.got
	}
	if (p.info&pageContinues != 0) != (want > 0) || want > 0 && p.remaining != want {
		return -1, s.end(p.address, corrupt(p.address, "%d bytes of an earlier record were to follow, the page says %d", want, p.remaining), rest)
	}
	n := uint32(min(uint64(want), uint64(len(rest))))
	after := p.header + int(align(uint64(n)))
	if s.open.need == 0 {
		s.skip -= n
		if s.skip > 0 || after > len(b) {
			return -1, nil
		}
		if want > 0 {
			s.unchecked = p.address + LSN(after)
		}
		return after, nil
	}
	if err := s.feed(rest[:n]); err != nil {
		return -1, s.end(s.open.start, err, rest[n:])
	}
	if s.open.got < s.open.need {
		return -1, nil
	}
	s.open.need = 0
	err := s.finish(record{start: s.open.start, end: p.address + LSN(after), body: s.open.body}, &s.open.header, s.open.crc)
	if isCorrupt(err) {
		return -1, s.end(s.open.start, err, rest[n:])
	}
	if err == nil {
		err = s.gap(p.address, b, p.header+int(n), after)
	}
	return after, err
}

// gap checks, where the segment may be torn, the bytes that align the next record on the page at l: they are in no
// checksum, and garbage in them would be kept as received.
func (s *Scanner) gap(l LSN, b []byte, from, to int) error {
	if !s.torn || zero(b[min(from, len(b)):min(to, len(b))]) {
		return nil
	}
	s.sum.End = l + LSN(from)
	return corrupt(l+LSN(from), "the bytes that align the next record are not zero")
}

// records takes the records that begin on the page at l, from offset at on.
func (s *Scanner) records(l LSN, b []byte, at int) error {
	for at < len(b) && !s.switched {
		rest, start := b[at:], l+LSN(at)
		if len(rest) < 4 {
			return s.end(start, nil, nil)
		}
		length := binary.LittleEndian.Uint32(rest)
		switch {
		case length == 0:
			return s.end(start, nil, rest)
		case length < recordHeader || length > maxRecord:
			return s.end(start, corrupt(start, "a record of %d bytes cannot be", length), rest[min(recordHeader, len(rest)):])
		}
		if s.sum.First == 0 {
			s.sum.First = start
		}
		if int64(length) > int64(len(rest)) {
			return s.opens(start, length, rest)
		}
		if err := s.whole(start, rest[:length]); err != nil {
			if !isCorrupt(err) {
				return err
			}
			return s.end(start, err, rest[length:])
		}
		next := at + int(align(uint64(length)))
		if err := s.gap(l, b, at+int(length), next); err != nil {
			return err
		}
		at = next
	}
	if s.switched && at < len(b) {
		return s.zeros(l+LSN(at), b[at:])
	}
	return nil
}

// whole takes a record that lies on one page: nothing is copied.
func (s *Scanner) whole(start LSN, b []byte) error {
	header := (*[recordHeader]byte)(b)
	if err := s.checkLink(start, header); err != nil {
		return err
	}
	end := start + LSN(align(uint64(len(b))))
	return s.finish(record{start: start, end: end, body: b[recordHeader:]}, header, crc32.Update(0, s.table, b[recordHeader:]))
}

// opens begins a record that runs off the page.
func (s *Scanner) opens(start LSN, length uint32, b []byte) error {
	s.open = partRecord{start: start, need: length, body: s.open.body[:0]}
	if err := s.feed(b); err != nil {
		return s.end(start, err, nil)
	}
	return nil
}

// feed takes the next bytes of the open record.
func (s *Scanner) feed(b []byte) error {
	o := &s.open
	if o.got < recordHeader {
		n := copy(o.header[o.got:], b)
		o.got += uint32(n)
		b = b[n:]
		if o.got < recordHeader {
			return nil
		}
		if err := s.checkLink(o.start, &o.header); err != nil {
			return err
		}
		o.keep = s.keeps(o.header[17], o.header[16])
	}
	o.got += uint32(len(b))
	o.crc = crc32.Update(o.crc, s.table, b)
	if more := o.keep - len(o.body); more > 0 {
		o.body = append(o.body, b[:min(len(b), more)]...)
	}
	return nil
}

// keeps tells how much of the body of a record is kept that runs off its page.
func (s *Scanner) keeps(resource, info uint8) int {
	switch {
	case told(resource, info), s.blocks != nil, s.changes != nil && changes(resource), s.spaces != nil && resource == resourceTablespace:
		return keptBody
	case s.follow != nil:
		return s.follow.keeps(resource)
	}
	return 0
}

// told tells whether records of this resource manager and info are decoded.
func told(resource, info uint8) bool {
	switch resource {
	case resourceXact:
		return true
	case resourceXLOG:
		switch info & infoMask {
		case infoCheckpointShutdown, infoCheckpointOnline, infoSwitch, infoParameterChange, infoRestorePoint,
			infoEndOfRecovery:
			return true
		}
	}
	return false
}

// checkLink checks that the record points back to the one before it.
func (s *Scanner) checkLink(start LSN, header *[recordHeader]byte) error {
	prev := LSN(binary.LittleEndian.Uint64(header[8:]))
	if s.prev != 0 && prev != s.prev {
		return corrupt(start, "the record says that %s is before it, but %s is", prev, s.prev)
	}
	if prev >= start {
		return corrupt(start, "the record says that %s is before it", prev)
	}
	return nil
}

// finish takes a record that was seen whole; crc covers its body.
func (s *Scanner) finish(r record, header *[recordHeader]byte, crc uint32) error {
	crc = crc32.Update(crc, s.table, header[:recordCRC])
	if want := binary.LittleEndian.Uint32(header[recordCRC:]); crc != want {
		return corrupt(r.start, "the record's checksum is %08X, its bytes give %08X", want, crc)
	}
	r.length = binary.LittleEndian.Uint32(header[:]) - recordHeader
	r.xid = binary.LittleEndian.Uint32(header[4:])
	r.info, r.resource = header[16], header[17]
	var e Event
	var err error
	if told(r.resource, r.info) {
		if e, err = r.event(s.major, s.changes != nil || s.follow != nil); err != nil {
			return err
		}
	}
	if err := s.detail(r); err != nil {
		return err
	}
	if s.follow != nil {
		s.follow.record(r, s.major, &s.sum)
	}
	s.prev = r.start
	s.sum.LastStart, s.sum.Last, s.sum.End = r.start, r.end, r.end
	return s.tell(r, e)
}

// detail tells the pages and changes of a record to whoever asks for them.
func (s *Scanner) detail(r record) error {
	if s.blocks != nil {
		if err := r.blocksOf(s.major, s.blocks); err != nil {
			return err
		}
	}
	if s.spaces != nil {
		t, ok, err := r.tablespace(s.major)
		if ok {
			err = s.spaces(t)
		}
		if err != nil {
			return err
		}
	}
	if s.changes == nil || !changes(r.resource) {
		return nil
	}
	x, err := r.change(s.major)
	if err != nil || x.Kind == 0 {
		return err
	}
	return s.changes(x)
}

// tell adds the event to the summary and tells it.
func (s *Scanner) tell(r record, e Event) error {
	if e.Kind == 0 {
		if !s.every || s.visit == nil {
			return nil
		}
		e = Event{Kind: Other, Start: r.start, End: r.end, XID: r.xid}
	}
	s.sum.add(&e)
	s.switched = e.Kind == Switch
	if s.visit != nil {
		if err := s.visit(e); err != nil {
			return err
		}
	}
	if s.follow == nil {
		return nil
	}
	return s.follow.event(&e, &s.sum)
}

// end notes that the WAL ends at l because of why (nil: zeros, or no more bytes). Only zeros may follow: rest is what
// follows on this page.
func (s *Scanner) end(l LSN, why error, rest []byte) error {
	s.ended, s.suspect = true, why
	s.open.need = 0
	return s.zeros(l, rest)
}

// zeros checks that b, found after the end of WAL, says nothing.
func (s *Scanner) zeros(l LSN, b []byte) error {
	switch {
	case zero(b):
		return nil
	case s.suspect != nil:
		return s.suspect
	case s.switched:
		return corrupt(l, "the padding behind a switch record is not zero")
	}
	return corrupt(l, "zeros stand in the middle of the WAL")
}

// zero tells whether every byte is zero.
func zero(b []byte) bool {
	for len(b) >= 8 {
		if binary.LittleEndian.Uint64(b) != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// align gives n rounded up to a multiple of eight, MAXALIGN of every platform that PostgreSQL's packages are built for.
func align(n uint64) uint64 { return (n + 7) &^ 7 }

func isCorrupt(err error) bool {
	var c *CorruptError
	return errors.As(err, &c)
}

// ValidEnd tells up to where the first size bytes of a segment are WAL: the end of its last complete record, or the
// segment's start when there is none. Bytes behind it are torn, not yet received, or left from an earlier use of the file;
// a receiver goes on from there, from the start of the page or segment. A record that began in an earlier segment is left
// out unchecked: a Scanner that reads both segments checks it. The error is one of reading, or a *CorruptError with
// Foreign set when the segment is another cluster's.
func ValidEnd(z SegmentSize, systemID uint64, seg Segment, r io.ReaderAt, size int64) (LSN, error) {
	s := NewScanner(z, systemID, seg.Timeline)
	s.Torn(true)
	sum, err := s.Segment(seg, io.NewSectionReader(r, 0, size), nil)
	var c *CorruptError
	if errors.As(err, &c) && !c.Foreign {
		err = nil
	}
	return sum.End, err
}
