package recovery

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

// walPage is the length of a page of WAL (XLOG_BLCKSZ), and pageAddress where its header says which one it is (xlp_pageaddr).
const (
	walPage     = 8192
	pageAddress = 8
)

// checkArchived refuses to restore over a pg_wal with WAL that neither a repository nor the spool of this machine has: there is no
// other copy of what was committed in it. Of a directory that was restored and used since only the timelines of the archive count:
// on its own it is a copy. A pg_wal that is a link is left alone by a restore, and so is what it leads to.
func (r *restore) checkArchived(ctx context.Context, copied bool) error {
	dir := filepath.Join(r.places[0], "pg_wal")
	newest, err := r.newestSegments(dir)
	if err != nil || len(newest) == 0 {
		return err
	}
	sources := r.walSources(ctx)
	for _, segments := range newest {
		if copied && !sameHistory(ctx, sources, dir, segments[0].Timeline) {
			continue
		}
		for _, seg := range segments { // newest first: what is older was archived before
			end, err := writtenUpTo(filepath.Join(dir, seg.Name(r.Route.SegmentSize)), seg.Start(r.Route.SegmentSize))
			if err != nil {
				return err
			}
			if end == seg.Start(r.Route.SegmentSize) {
				continue // made for later, or used again
			}
			has, err := archivedUpTo(ctx, sources, seg, r.Route.SegmentSize)
			if err != nil {
				return fmt.Errorf("look whether segment %s is archived: %w", seg.Name(r.Route.SegmentSize), err)
			}
			if has < end {
				return refuse(fmt.Sprintf("start the server, so that its receiver takes it; or move %s elsewhere, and keep it: what is in it is removed", dir),
					"%s holds WAL that no repository has: segment %s up to %s, archived is up to %s", dir, seg.Name(r.Route.SegmentSize), end, has)
			}
			break
		}
	}
	return nil
}

// newestSegments lists by timeline the segments of a pg_wal that end after the backup begins, newest first.
func (r *restore) newestSegments(dir string) (map[wal.Timeline][]wal.Segment, error) {
	if info, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return nil, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("look into pg_wal: %w", err)
	}
	out := map[wal.Timeline][]wal.Segment{}
	for _, e := range entries {
		seg, err := wal.ParseSegmentName(e.Name(), r.Route.SegmentSize)
		if err == nil && e.Type().IsRegular() && seg.End(r.Route.SegmentSize) > r.Backup.Info().Redo {
			out[seg.Timeline] = append(out[seg.Timeline], seg)
		}
	}
	for _, segments := range out {
		slices.SortFunc(segments, func(a, b wal.Segment) int { return int(b.Number) - int(a.Number) })
	}
	return out, nil
}

// walSources opens what WAL is fetched from; what cannot be opened has none, and the restore says so where it needs it.
func (r *restore) walSources(ctx context.Context) []source {
	var out []source
	for _, p := range r.Places {
		if src, _, err := openPlace(ctx, p, r.Route.Server, r.Route.SystemID); err == nil {
			out = append(out, src)
		}
	}
	if r.Spool != "" {
		out = append(out, local{dir: r.Spool, size: r.Route.SegmentSize})
	}
	return out
}

// sameHistory tells whether a source has the timeline of a pg_wal: one of the same number may have left the line elsewhere.
func sameHistory(ctx context.Context, sources []source, dir string, t wal.Timeline) bool {
	if t == 1 {
		return true
	}
	mine, err := os.ReadFile(filepath.Join(dir, t.HistoryName()))
	if err != nil {
		return false
	}
	return slices.ContainsFunc(sources, func(s source) bool {
		theirs, err := s.history(ctx, t)
		return err == nil && string(theirs) == string(mine)
	})
}

// archivedUpTo gives how far any source holds a segment; its start: none holds anything of it.
func archivedUpTo(ctx context.Context, sources []source, seg wal.Segment, z wal.SegmentSize) (wal.LSN, error) {
	most := seg.Start(z)
	for _, s := range sources {
		whole, err := s.segment(ctx, seg)
		if err == nil {
			return seg.End(z), whole.Close()
		}
		if !errors.Is(err, store.ErrNotExist) {
			return 0, err
		}
		part, upTo, err := s.partial(ctx, seg)
		if errors.Is(err, store.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		if err := part.Close(); err != nil {
			return 0, err
		}
		most = max(most, upTo)
	}
	return most, nil
}

// writtenUpTo gives up to where a segment file holds WAL of its own: to the last byte that is not zero of the last page in a row
// whose header says that it belongs there.
func writtenUpTo(file string, start wal.LSN) (wal.LSN, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, fmt.Errorf("look into pg_wal: %w", err)
	}
	defer f.Close()
	page, end := make([]byte, walPage), start
	for at := start; ; at += walPage {
		if _, err := io.ReadFull(f, page); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return end, nil
			}
			return 0, fmt.Errorf("look into pg_wal: %w", err)
		}
		if wal.LSN(binary.NativeEndian.Uint64(page[pageAddress:])) != at || binary.NativeEndian.Uint16(page) == 0 {
			return end, nil
		}
		last := len(page)
		for last > 0 && page[last-1] == 0 {
			last--
		}
		end = at + wal.LSN(last)
	}
}
