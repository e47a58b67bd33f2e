package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// Seed puts WAL that a repository holds into the spool, for the stream to go on from: bytes from the segment's start up
// to upTo, as a partial or, when that is the whole segment, as one that is archived already. What the spool itself has of
// the segment must be the same: where it is not, ours is put under diverged/ and the error has state.CodeFork.
func (s *Spool) Seed(seg wal.Segment, upTo wal.LSN, r io.Reader) error {
	z := s.o.SegmentSize
	doing := "put segment " + seg.Name(z) + " of a repository into the spool"
	n := int64(upTo - seg.Start(z))
	end := partialSuffix
	if upTo == seg.End(z) {
		end = doneSuffix
	}
	arrived := s.path(seg, seedSuffix)
	if err := s.install(arrived, io.LimitReader(r, n), n); err != nil {
		return problem(doing, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.refuseOther(seg, arrived)
	if err == nil {
		err = os.Rename(arrived, s.path(seg, end))
	}
	if err != nil {
		os.Remove(arrived)
		return problem(doing, err)
	}
	if err := syncDir(s.dir); err != nil {
		return problem(doing, err)
	}
	if end == doneSuffix {
		s.files.complete[seg] = true
		delete(s.files.partial, seg)
		return problem(doing, s.remove(s.path(seg, partialSuffix)))
	}
	x, err := s.settlePartial(&s.files, seg)
	if err != nil {
		return problem(doing, err)
	}
	s.files.partial[seg] = x
	return nil
}

// refuseOther compares what the spool has of a segment with the file that came from a repository, as far as both reach.
func (s *Spool) refuseOther(seg wal.Segment, arrived string) error {
	done, complete := s.files.complete[seg]
	x, begun := s.files.partial[seg]
	if !complete && !begun {
		return nil
	}
	ours, valid := s.path(seg, partialSuffix), int64(x.valid-seg.Start(s.o.SegmentSize))
	if complete {
		ours, valid = s.path(seg, ending(done)), s.o.SegmentSize.Bytes()
	}
	same, at, err := sameBytes(ours, arrived, valid)
	if errors.Is(err, os.ErrNotExist) || err == nil && same {
		return nil
	}
	if err != nil {
		return err
	}
	name := seg.Name(s.o.SegmentSize)
	if err := os.Rename(ours, s.freeName(s.divergedDir(), name+forkSuffix)); err != nil {
		return err
	}
	delete(s.files.complete, seg)
	delete(s.files.partial, seg)
	if err := errors.Join(syncDir(s.divergedDir()), syncDir(s.dir)); err != nil {
		return err
	}
	return &state.Error{
		Code: state.CodeFork,
		Text: fmt.Sprintf("a repository holds segment %s with other bytes than the spool had from %s on; ours is kept in %s",
			name, seg.Start(s.o.SegmentSize)+wal.LSN(at), s.divergedDir()),
		Hint: "two servers wrote the same timeline; find out which is the right one before anything is deleted",
	}
}

// sameBytes compares the beginnings of two files, up to n bytes and as far as both reach, and gives where they differ.
func sameBytes(a, b string, n int64) (same bool, at int64, err error) {
	f, err := os.Open(a)
	if err != nil {
		return false, 0, err
	}
	defer f.Close()
	g, err := os.Open(b)
	if err != nil {
		return false, 0, err
	}
	defer g.Close()
	one, two := make([]byte, 256<<10), make([]byte, 256<<10)
	for at < n {
		want := min(n-at, int64(len(one)))
		i, errOne := io.ReadFull(io.NewSectionReader(f, at, want), one[:want])
		j, errTwo := io.ReadFull(io.NewSectionReader(g, at, want), two[:want])
		m := min(i, j)
		if !bytes.Equal(one[:m], two[:m]) {
			for one[0] == two[0] {
				one, two, at = one[1:], two[1:], at+1
			}
			return false, at, nil
		}
		at += int64(m)
		if err := errors.Join(readError(errOne), readError(errTwo)); err != nil || int64(m) < want {
			return true, at, err
		}
	}
	return true, at, nil
}

// readError is err, unless that only tells of the end of a file.
func readError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}
