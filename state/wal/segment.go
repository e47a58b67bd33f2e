package wal

import (
	"fmt"
	"strconv"
)

// Timeline numbers a line of history: 1 after initdb, and a higher one after each promotion or recovery to a target.
// The zero value means "no timeline known".
type Timeline uint32

// Hex gives the eight upper-case digits that begin a segment's name.
func (t Timeline) Hex() string { return fmt.Sprintf("%08X", uint32(t)) }

// HistoryName gives the name of the timeline's history file, "00000002.history".
func (t Timeline) HistoryName() string { return t.Hex() + ".history" }

// SegmentSize is the length in bytes of a cluster's WAL segments, a power of two from 1 MiB to 1 GiB, chosen at initdb.
type SegmentSize uint32

// DefaultSegmentSize is what initdb chooses when not told otherwise.
const DefaultSegmentSize SegmentSize = 16 << 20

// Check tells whether the size is one that initdb would accept.
func (z SegmentSize) Check() error {
	if z < 1<<20 || z > 1<<30 || z&(z-1) != 0 {
		return fmt.Errorf("%d bytes is not a WAL segment size: it is a power of two from 1 MiB to 1 GiB", uint32(z))
	}
	return nil
}

// Bytes gives the size as an int64, the type of file lengths.
func (z SegmentSize) Bytes() int64 { return int64(z) }

// Offset gives the position's distance in bytes from the start of its segment.
func (z SegmentSize) Offset(l LSN) int64 { return int64(uint64(l) % uint64(z)) }

// Floor gives the first position of the segment that holds l.
func (z SegmentSize) Floor(l LSN) LSN { return l - LSN(z.Offset(l)) }

// Ceil gives l when it stands at a segment border, else the first position of the next segment.
func (z SegmentSize) Ceil(l LSN) LSN {
	if z.Offset(l) == 0 {
		return l
	}
	return z.Floor(l) + LSN(z)
}

// perLog is the number of segments in four gibibytes, which is what the middle part of a name counts.
func (z SegmentSize) perLog() uint64 { return (1 << 32) / uint64(z) }

// Segment is one WAL file: the Number-th of its timeline, counted from the start of the WAL. A number means nothing
// without the cluster's segment size.
type Segment struct {
	Timeline Timeline
	Number   uint64
}

// SegmentAt gives the segment of timeline t that holds l.
func (z SegmentSize) SegmentAt(t Timeline, l LSN) Segment {
	return Segment{Timeline: t, Number: uint64(l) / uint64(z)}
}

// Start gives the first position in the segment.
func (s Segment) Start(z SegmentSize) LSN { return LSN(s.Number * uint64(z)) }

// End gives the first position after the segment.
func (s Segment) End(z SegmentSize) LSN { return LSN((s.Number + 1) * uint64(z)) }

// Next gives the following segment of the same timeline.
func (s Segment) Next() Segment { return Segment{Timeline: s.Timeline, Number: s.Number + 1} }

// Name gives PostgreSQL's file name, 24 upper-case hexadecimal digits.
func (s Segment) Name(z SegmentSize) string {
	return fmt.Sprintf("%08X%08X%08X", uint32(s.Timeline), s.Number/z.perLog(), s.Number%z.perLog())
}

// ParseSegmentName reads a segment's file name. Names that no server with this segment size could have written are
// errors.
func ParseSegmentName(name string, z SegmentSize) (Segment, error) {
	if err := z.Check(); err != nil {
		return Segment{}, err
	}
	if len(name) != 24 {
		return Segment{}, fmt.Errorf("%q is not a WAL segment name: it has 24 hexadecimal digits", name)
	}
	var part [3]uint64
	for i := range part {
		digits := name[8*i : 8*i+8]
		for _, c := range []byte(digits) {
			if (c < '0' || c > '9') && (c < 'A' || c > 'F') {
				return Segment{}, fmt.Errorf("%q is not a WAL segment name: %q is not an upper-case hexadecimal digit", name, c)
			}
		}
		v, err := strconv.ParseUint(digits, 16, 32)
		if err != nil {
			return Segment{}, fmt.Errorf("parse WAL segment name %q: %w", name, err)
		}
		part[i] = v
	}
	if part[0] == 0 {
		return Segment{}, fmt.Errorf("%q is not a WAL segment name: timelines start at 1", name)
	}
	if part[2] >= z.perLog() {
		return Segment{}, fmt.Errorf("%q is no segment of a cluster with %d-byte segments: its last part is below %X", name, uint32(z), z.perLog())
	}
	return Segment{Timeline: Timeline(part[0]), Number: part[1]*z.perLog() + part[2]}, nil
}
