package export

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

// wal writes the segments from the backup's start to its end, and the history of its timeline, as pg_basebackup -X does:
// each marked as archived, so that the copy does not archive them again.
func (e *export) wal(ctx context.Context) error {
	facts, err := e.Archive.Facts(ctx)
	if err != nil {
		return err
	}
	info, size := e.Backup.Info(), facts.SegmentSize
	if info.Timeline > 1 {
		content, err := e.Archive.History(ctx, info.Timeline)
		if errors.Is(err, store.ErrNotExist) {
			return e.lacks(info.Timeline.HistoryName())
		}
		if err != nil {
			return err
		}
		if err := e.walFile(info.Timeline.HistoryName(), content); err != nil {
			return err
		}
	}
	for seg := size.SegmentAt(info.Timeline, info.Redo); seg.Start(size) < info.Stop; seg = seg.Next() {
		if err := e.segment(ctx, seg, size); err != nil {
			return err
		}
		e.result.WALSegments++
	}
	return nil
}

func (e *export) lacks(name string) error {
	return &state.Error{
		Code: state.CodeGap, Text: "the repository does not have " + name + ", which the backup needs to become consistent",
		Hint: "pgkeep backups show " + e.Backup.Info().ID + " says whether it is still to come; without --wal the files alone are exported",
	}
}

// segment writes one segment; of one that is not finished what is there, with zeros to its full size.
func (e *export) segment(ctx context.Context, seg wal.Segment, size wal.SegmentSize) error {
	name := seg.Name(size)
	r, err := e.openSegment(ctx, seg, size)
	if errors.Is(err, store.ErrNotExist) {
		return e.lacks(name)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	defer r.Close()
	w, end, err := e.to.wal(name, size.Bytes())
	if err != nil {
		return err
	}
	n, err := io.Copy(w, r)
	if err == nil && n < size.Bytes() {
		_, err = io.CopyN(w, zeros{}, size.Bytes()-n)
	}
	if err = errors.Join(err, end()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return e.walFile("archive_status/"+name+".done", nil)
}

func (e *export) openSegment(ctx context.Context, seg wal.Segment, size wal.SegmentSize) (io.ReadCloser, error) {
	whole, err := e.Archive.OpenSegment(ctx, seg)
	if err == nil {
		return whole, nil
	}
	if !errors.Is(err, store.ErrNotExist) {
		return nil, err
	}
	part, upTo, err := e.Archive.OpenPartial(ctx, seg)
	if err != nil {
		return nil, err
	}
	if stop := min(e.Backup.Info().Stop, seg.End(size)); upTo < stop {
		return nil, errors.Join(part.Close(), fmt.Errorf("it ends at %s: %w", upTo, store.ErrNotExist))
	}
	return part, nil
}

// walFile writes a small member of pg_wal.
func (e *export) walFile(name string, content []byte) error {
	w, end, err := e.to.wal(name, int64(len(content)))
	if err != nil {
		return err
	}
	_, err = w.Write(content)
	return errors.Join(err, end())
}

// zeros is a reader without end.
type zeros struct{}

// Read gives zeros.
func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
