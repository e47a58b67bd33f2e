package recovery

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"

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
//
// Each segment is looked for, for an archive can have a hole: what a receiver missed, or somebody removed. Of the newest of a timeline the
// bytes are compared, too, up to where they end. That they are the same says that the timeline is, and so what came before.
func (r *restore) checkArchived(ctx context.Context, copied bool) error {
	dir := filepath.Join(r.places[0], "pg_wal")
	found, err := r.segmentsIn(dir)
	if err != nil || len(found) == 0 {
		return err
	}
	sources := r.walSources(ctx)
	for _, t := range slices.Sorted(maps.Keys(found)) {
		if copied && !sameHistory(ctx, sources, dir, t) {
			continue
		}
		if err := r.checkTimeline(ctx, sources, dir, found[t]); err != nil {
			return err
		}
	}
	return nil
}

// lookers bounds how many segments are looked for beside each other.
const lookers = 8

// checkTimeline is checkArchived for the segments of one timeline, newest first.
func (r *restore) checkTimeline(ctx context.Context, sources []source, dir string, segments []wal.Segment) error {
	z := r.Route.SegmentSize
	newest := true
	missing := make([]bool, len(segments))
	g, inner := errgroup.WithContext(ctx)
	g.SetLimit(lookers)
	for n, seg := range segments {
		end, err := writtenUpTo(filepath.Join(dir, seg.Name(z)), seg.Start(z))
		if err != nil {
			return errors.Join(err, g.Wait())
		}
		if end == seg.Start(z) {
			continue // made for later, or used again
		}
		if newest {
			newest = false
			if err := r.checkNewest(ctx, sources, dir, seg, end); err != nil {
				return err
			}
			continue
		}
		g.Go(func() error {
			has, err := archivedUpTo(inner, sources, seg, z)
			missing[n] = has < seg.End(z)
			if err != nil && missing[n] {
				return fmt.Errorf("look whether segment %s is archived: %w", seg.Name(z), err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return holeIn(dir, segments, missing, z)
}

// holeIn refuses where older segments are missing in all sources.
func holeIn(dir string, segments []wal.Segment, missing []bool, z wal.SegmentSize) error {
	last, first := slices.Index(missing, true), -1
	if last < 0 {
		return nil
	}
	n := 0
	for i, m := range missing {
		if m {
			first, n = i, n+1
		}
	}
	what := "segment " + segments[last].Name(z)
	if n > 1 {
		what = fmt.Sprintf("%d segments from %s to %s", n, segments[first].Name(z), segments[last].Name(z))
	}
	return refuse(fmt.Sprintf("move %s elsewhere, and keep it: what is in it is removed", dir),
		"%s holds WAL that no repository has: %s, before later ones that are archived", dir, what)
}

// checkNewest refuses where no source holds the newest segment of a timeline as far as it was written, or all that do hold other bytes.
func (r *restore) checkNewest(ctx context.Context, sources []source, dir string, seg wal.Segment, end wal.LSN) error {
	z := r.Route.SegmentSize
	has, err := archivedUpTo(ctx, sources, seg, z)
	if err != nil && has < end {
		return fmt.Errorf("look whether segment %s is archived: %w", seg.Name(z), err)
	}
	if has < end {
		return refuse(fmt.Sprintf("start the server, so that its receiver takes it; or move %s elsewhere, and keep it: what is in it is removed", dir),
			"%s holds WAL that no repository has: segment %s up to %s, archived is up to %s", dir, seg.Name(z), end, has)
	}
	same, err := archivedAlike(ctx, sources, filepath.Join(dir, seg.Name(z)), seg, int64(end-seg.Start(z)))
	if err != nil || same {
		return err
	}
	return refuse(fmt.Sprintf("move %s elsewhere, and keep it: what is in it is removed", dir),
		"%s holds WAL that no repository has: the bytes of segment %s up to %s are others than those that are archived, or these are damaged", dir, seg.Name(z), end)
}

// archivedAlike tells whether any source holds the first n bytes of a segment's file.
func archivedAlike(ctx context.Context, sources []source, file string, seg wal.Segment, n int64) (bool, error) {
	for _, s := range sources {
		r, err := s.segment(ctx, seg)
		if errors.Is(err, store.ErrNotExist) {
			r, _, err = s.partial(ctx, seg)
		}
		if err != nil {
			continue // another may have it
		}
		same, err := beginsAlike(r, file, n)
		if err = errors.Join(err, r.Close()); err == nil && same {
			return true, nil
		}
	}
	return false, ctx.Err()
}

// beginsAlike tells whether the first n bytes of a file are those that are read.
func beginsAlike(r io.Reader, file string, n int64) (bool, error) {
	f, err := os.Open(file)
	if err != nil {
		return false, fmt.Errorf("look into pg_wal: %w", err)
	}
	defer f.Close()
	mine, theirs := make([]byte, walPage), make([]byte, walPage)
	for ; n > 0; n -= walPage {
		some := min(n, walPage)
		if _, err := io.ReadFull(f, mine[:some]); err != nil {
			return false, fmt.Errorf("look into pg_wal: %w", err)
		}
		if _, err := io.ReadFull(r, theirs[:some]); err != nil {
			return false, err
		}
		if !bytes.Equal(mine[:some], theirs[:some]) {
			return false, nil
		}
	}
	return true, nil
}

// segmentsIn lists by timeline the segments of a pg_wal that end after the backup begins, newest first.
func (r *restore) segmentsIn(dir string) (map[wal.Timeline][]wal.Segment, error) {
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
		out = append(out, r.spooled())
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

// archivedUpTo gives how far any source holds a segment; its start: none holds anything of it. The error is of sources that did not
// answer: one of them may hold more.
func archivedUpTo(ctx context.Context, sources []source, seg wal.Segment, z wal.SegmentSize) (wal.LSN, error) {
	most := seg.Start(z)
	var failed []error
	for _, s := range sources {
		whole, err := s.segment(ctx, seg)
		if err == nil {
			return seg.End(z), whole.Close()
		}
		if !errors.Is(err, store.ErrNotExist) {
			failed = append(failed, err)
			continue
		}
		part, upTo, err := s.partial(ctx, seg)
		switch {
		case err == nil:
			most = max(most, upTo)
			failed = append(failed, part.Close())
		case !errors.Is(err, store.ErrNotExist):
			failed = append(failed, err)
		}
	}
	return most, errors.Join(failed...)
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
