package recovery

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/pgkeep/pgkeep/state/wal"
)

// recordAfter gives the start of the first whole record of the route's WAL that begins after a position; zero: there is
// none. scratch is a directory for one segment.
func (f *routeFile) recordAfter(ctx context.Context, last wal.LSN, scratch string) (wal.LSN, error) {
	system, err := strconv.ParseUint(f.SystemID, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read system identifier %q: %w", f.SystemID, err)
	}
	into := filepath.Join(scratch, "replayed")
	defer os.Remove(into)
	from := f.open(ctx)
	from.guard = guard{} // what was replayed is only read
	var scan *wal.Scanner
	for _, r := range f.Path {
		if r.To <= last {
			continue
		}
		if scan == nil || r.From > last {
			scan = wal.NewScanner(f.SegmentSize, system, r.Timeline)
			scan.EveryRecord()
		}
		for seg := f.SegmentSize.SegmentAt(r.Timeline, max(r.From, last)); seg.Start(f.SegmentSize) < r.To; seg = seg.Next() {
			if err := from.segment(ctx, seg, into); err != nil {
				return 0, fmt.Errorf("read segment %s: %w", seg.Name(f.SegmentSize), err)
			}
			later, err := scanAfter(scan, seg, into, wal.Range{From: last, To: r.To})
			if later != 0 || err != nil {
				return later, err
			}
		}
	}
	return 0, nil
}

// scanAfter gives the first record that begins after in.From and ends by in.To.
func scanAfter(scan *wal.Scanner, seg wal.Segment, path string, in wal.Range) (later wal.LSN, err error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	_, err = scan.Segment(seg, file, func(e wal.Event) error {
		if e.Start > in.From && e.End <= in.To && later == 0 {
			later = e.Start
		}
		return nil
	})
	if err != nil {
		return later, fmt.Errorf("read %s: %w", path, err)
	}
	return later, nil
}
