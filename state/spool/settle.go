package spool

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/pgkeep/pgkeep/state/wal"
)

// settle makes what a kill or a power cut left behind true: everything durable, nothing torn.
func (s *Spool) settle() error {
	v, err := list(s.dir, s.o.SegmentSize)
	if err != nil {
		return err
	}
	for _, name := range v.leftovers {
		if err := os.Remove(filepath.Join(s.dir, name)); err != nil {
			return err
		}
	}
	for _, name := range v.misplaced { // no crash makes one; a person or a bad disk may
		if err := os.Rename(filepath.Join(s.dir, name), s.freeName(s.quarantineDir(), name)); err != nil {
			return err
		}
	}
	for seg := range v.partial {
		x, err := s.settlePartial(&v, seg)
		if err != nil {
			return err
		}
		v.partial[seg] = x
	}
	s.files = v
	for _, d := range []string{s.quarantineDir(), s.divergedDir(), s.dir, s.home} {
		if err := syncDir(d); err != nil {
			return err
		}
	}
	return nil
}

// settlePartial cuts a partial back to its last whole record and makes the rest durable, as a copy in a new file: where
// an fsync failed before the restart, the kernel takes the pages for clean although they are not on disk, and another
// fsync of the same file succeeds. A full disk, which has no room for a copy, must not keep the repositories from
// emptying the spool: then the file itself is cut and fsynced.
func (s *Spool) settlePartial(v *inventory, seg wal.Segment) (extent, error) {
	path := s.path(seg, partialSuffix)
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return extent{}, err
	}
	defer f.Close()
	x, err := inspect(f, seg, s.scanParts(v))
	if err != nil {
		return extent{}, err
	}
	n := int64(max(x.valid, x.kept) - seg.Start(s.o.SegmentSize))
	err = s.install(path, io.NewSectionReader(f, 0, n), n)
	if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
		return x, err
	}
	if err := f.Truncate(n); err != nil {
		return extent{}, err
	}
	return x, f.Sync()
}

// scanParts is what inspect needs besides the partial.
type scanParts struct {
	size   wal.SegmentSize
	system uint64
	open   func(wal.Segment) (io.ReadCloser, error) // a complete segment; os.ErrNotExist when the spool has it not
}

func (s *Spool) scanParts(v *inventory) scanParts {
	return partsOf(s.dir, s.o.SegmentSize, s.system, v)
}

func partsOf(dir string, z wal.SegmentSize, system uint64, v *inventory) scanParts {
	return scanParts{size: z, system: system, open: func(seg wal.Segment) (io.ReadCloser, error) {
		done, have := v.complete[seg]
		if !have {
			return nil, os.ErrNotExist
		}
		return os.Open(filepath.Join(dir, seg.Name(z)+ending(done)))
	}}
}

// inspect tells how much of a partial is WAL: whole records, for an unfinished one may lack bytes that are zeros in the
// file. Where the segment before is at hand, a record that crosses the border counts; where it is not, a partial that begins
// with such a record is valid, but not proven. The record is checked if the segments back to its beginning are at hand. Where what
// they lead to fails, the fault may lie in one of them: what follows is kept, not proven either. Of a record that nothing checks it is
// not known that it has come whole: it does not count, and is kept all the same.
func inspect(f *os.File, seg wal.Segment, p scanParts) (extent, error) {
	start := seg.Start(p.size)
	fi, err := f.Stat()
	if err != nil {
		return extent{}, err
	}
	size := min(fi.Size(), p.size.Bytes())
	sc := wal.NewScanner(p.size, p.system, seg.Timeline)
	carried, err := sc.Lead(seg, p.open)
	if err != nil {
		return extent{}, err
	}
	sc.Torn(true)
	sum, err := sc.Segment(seg, io.NewSectionReader(f, 0, size), nil)
	var c *wal.CorruptError
	if err != nil && !errors.As(err, &c) {
		return extent{}, err
	}
	if err != nil && c.Foreign {
		return extent{valid: start, known: start}, nil // not WAL of this cluster: all of it comes again
	}
	alone := carried && sum.Last == 0
	if alone {
		sc = wal.NewScanner(p.size, p.system, seg.Timeline)
		sc.Torn(true)
		sum, err = sc.Segment(seg, io.NewSectionReader(f, 0, size), nil)
		if err != nil && !errors.As(err, &c) {
			return extent{}, err
		}
	}
	if alone || !carried && continues(f) {
		return extent{valid: min(sum.End, start+wal.LSN(size)), known: start, kept: min(sc.Unchecked(), start+wal.LSN(size))}, nil
	}
	end := min(sum.End, start+wal.LSN(size))
	return extent{valid: end, known: min(max(sum.Last, start), end)}, nil
}

// continues tells whether the first page says that it begins with the rest of an earlier record.
func continues(r io.ReaderAt) bool {
	var head [4]byte
	n, _ := r.ReadAt(head[:], 0)
	return n == len(head) && head[2]&1 != 0 // xlp_info, XLP_FIRST_IS_CONTRECORD
}
