package wal

import "io"

// filler gives two segments without holding them: a commit, records of zeros up to the end of the first segment and over
// it, and another commit.
type filler struct {
	w      *writer
	given  int // of w.out
	border LSN // the end of the first segment
	end    LSN // of the WAL
	done   bool
}

func newFiller(z SegmentSize) *filler {
	f := &filler{w: newWriter(z, 0xD118), border: 2 * LSN(z)}
	f.w.record(resourceXact, xactCommit, 8, short(make([]byte, 8)))
	return f
}

// Read gives what is written, and writes on when that is used up: most of the segment in records of 512 KiB.
func (f *filler) Read(b []byte) (int, error) {
	for f.given == len(f.w.out) {
		if f.done {
			return 0, io.EOF
		}
		f.w.base, f.w.out, f.given = f.w.at(), f.w.out[:0], 0
		left := int64(f.border) - int64(f.w.at())
		f.w.record(10, 0, 1, long(make([]byte, 1<<19)))
		if left < 1<<19 {
			_, f.end = f.w.record(resourceXact, xactCommit, 9, short(make([]byte, 8)))
			f.done = true
		}
	}
	n := copy(b, f.w.out[f.given:])
	f.given += n
	return n, nil
}
