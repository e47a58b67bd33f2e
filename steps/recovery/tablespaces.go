package recovery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cenkalti/backoff/v5"

	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

// PostgreSQL replays CREATE TABLESPACE at the location that the origin had: it removes what it finds there of the cluster's
// version, and makes it anew. On the origin's machine that is the origin's data. So every segment is looked through before
// PostgreSQL gets it, and one that would do so is not handed out.

// guard looks for tablespaces in segments; the zero value lets everything pass.
type guard struct {
	dataDir string // that is recovered
}

// guardOf gives the guard of the recovery whose copied WAL lies in a directory of its state directory.
func guardOf(local string) guard {
	data, ok := strings.CutSuffix(filepath.Dir(local), stateSuffix)
	if !ok {
		return guard{}
	}
	return guard{dataDir: data}
}

// look refuses a segment in f with a tablespace that may not be made here.
func (s *server) look(ctx context.Context, seg wal.Segment, f *os.File) error {
	system, err := strconv.ParseUint(s.route.SystemID, 10, 64)
	if err != nil {
		return fmt.Errorf("read system identifier %q: %w", s.route.SystemID, err)
	}
	var refused error
	scan := wal.NewScanner(s.route.SegmentSize, system, seg.Timeline)
	scan.EachTablespace(func(t wal.Tablespace) error {
		if !s.route.replays(seg.Timeline, t) {
			return nil
		}
		refused = s.guard.allows(t, seg.Name(s.route.SegmentSize))
		return refused
	})
	if err := s.lookBefore(ctx, scan, seg, f); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	// What cannot be read is PostgreSQL's to refuse: the segment is as it was archived.
	_, _ = scan.Segment(seg, f, nil)
	if refused != nil {
		return backoff.Permanent(refused)
	}
	return nil
}

// replays tells whether a recovery on the route comes past a record: not when it is older than the backup, or lies beyond the
// target. One that begins where the route ends counts: PostgreSQL replays the record at which a position is reached.
func (f *routeFile) replays(on wal.Timeline, t wal.Tablespace) bool {
	for _, r := range f.Path {
		if r.Timeline == on && r.From < t.End && t.Start <= r.To {
			return true
		}
	}
	return f.Standby && len(f.Path) > 0 && t.End > f.Path[0].From // it goes on for ever
}

// lookBefore reads the segment before where its last record ends in this one and may be of a tablespace.
func (s *server) lookBefore(ctx context.Context, scan *wal.Scanner, seg wal.Segment, f *os.File) error {
	begin := make([]byte, wal.PageSize)
	if _, err := f.ReadAt(begin, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	before := wal.Segment{Timeline: seg.Timeline, Number: seg.Number - 1}
	if _, needed := s.route.needs(before); !needed && !s.route.Standby || seg.Number == 0 || !wal.EndsInName(begin, s.route.SegmentSize) {
		return nil
	}
	var failed []error
	for _, src := range s.sources {
		r, err := src.segment(ctx, before)
		if err == nil {
			_, _ = scan.Segment(before, r, nil) // as above
			return r.Close()
		}
		if !errors.Is(err, store.ErrNotExist) {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// allows tells whether a tablespace may be made: in a directory that is there and empty, or where an earlier run of this very
// recovery made it.
func (g guard) allows(t wal.Tablespace, segment string) error {
	if !filepath.IsAbs(t.Location) {
		return nil // in the data directory
	}
	link := filepath.Join(g.dataDir, "pg_tblspc", strconv.FormatUint(uint64(t.OID), 10))
	if made, err := os.Readlink(link); err == nil && filepath.Clean(made) == filepath.Clean(t.Location) {
		return nil
	}
	entries, err := os.ReadDir(t.Location)
	what := fmt.Sprintf("segment %s creates tablespace %d in %q, at %s", segment, t.OID, t.Location, t.Start)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return refuse("make that directory, empty, for the user who runs the server, and start it again", "%s, which is not there", what)
	case err != nil:
		return refuse("", "%s, which cannot be looked at: %s", what, err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "PG_") {
			return refuse("recover from a backup that was taken after it, or on a machine where nothing is in that directory",
				"%s, where there is %s: its replay would remove that, which may be the origin's", what, e.Name())
		}
	}
	return nil
}
