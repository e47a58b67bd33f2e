package wal

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
)

// Lead reads what leads to a segment: the segment before it, from the one on in which the record began that crosses their border. A call of
// Segment for seg then goes on with that record and checks it. open gives a segment, or fs.ErrNotExist where it is not at hand. Lead tells
// whether all of that is at hand and was read; where it was not, the rest of such a record is left out unchecked. A record has at most a gigabyte, and not much more is read, twice.
//
// The error is one of opening or reading: a segment that cannot be WAL is none.
func (s *Scanner) Lead(seg Segment, open func(Segment) (io.ReadCloser, error)) (bool, error) {
	torn := s.torn
	s.torn = false
	defer func() { s.torn = torn }()
	from, scans := seg, 0
	for begins := false; !begins && from.Number > 0 && scans <= s.size.LongestRecord(); {
		scans++
		prev := Segment{Timeline: seg.Timeline, Number: from.Number - 1}
		whole, first, err := s.lead(prev, open)
		if err != nil {
			return false, err
		}
		if !whole {
			break
		}
		from, begins = prev, first
	}
	carried := from != seg
	if scans == 1 {
		return carried, nil // the segment before was read last
	}
	for ; from != seg; from = from.Next() {
		if whole, _, err := s.lead(from, open); err != nil || !whole {
			return false, err
		}
	}
	return carried && s.skip == 0, nil // else a record crosses whose beginning was not seen
}

// lead tells whether a segment is at hand and was read to its end, and whether a record begins in it.
func (s *Scanner) lead(seg Segment, open func(Segment) (io.ReadCloser, error)) (whole, begins bool, err error) {
	r, err := open(seg)
	if errors.Is(err, fs.ErrNotExist) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	defer r.Close()
	sum, err := s.Segment(seg, r, nil)
	if isCorrupt(err) {
		return false, false, nil
	}
	return sum.End == seg.End(s.size), sum.First > 0, err
}

// LongestRecord gives in how many segments one record can lie.
func (z SegmentSize) LongestRecord() int { return int(maxRecord/z.Bytes()) + 2 }

// Within tells whether a whole segment lies within one record, which its first page says: the record began before, and goes on
// behind the segment's end. Bytes that are not WAL may say so too.
func Within(z SegmentSize, segment io.ReaderAt) bool {
	var head [shortHeader]byte
	if _, err := segment.ReadAt(head[:], 0); err != nil {
		return false
	}
	pages := z.Bytes() / PageSize
	room := z.Bytes() - pages*shortHeader - (longHeader - shortHeader)
	return binary.LittleEndian.Uint16(head[2:])&pageContinues != 0 && int64(binary.LittleEndian.Uint32(head[16:])) > room
}

// Unchecked gives where a record ended in the segment that was read last, of which nothing but that rest was read, so that nothing checked it;
// zero: there is none such.
func (s *Scanner) Unchecked() LSN { return s.unchecked }
