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

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/seal/keyfile"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/open"
	"github.com/pgkeep/pgkeep/state/wal"
)

// source gives WAL. Its errors wrap store.ErrNotExist only where the source has answered that it has no such thing.
type source interface {
	segment(ctx context.Context, seg wal.Segment) (io.ReadCloser, error)
	// partial gives the longest beginning of a segment and where it ends.
	partial(ctx context.Context, seg wal.Segment) (io.ReadCloser, wal.LSN, error)
	history(ctx context.Context, t wal.Timeline) ([]byte, error)
}

// openPlace opens the repository of a place and gives its identity. Another repository at the same path is refused: its
// "absent" would end a recovery early.
func openPlace(ctx context.Context, p Place, server, systemID string) (source, string, error) {
	keys, err := keyfile.Ring(ctx, p.Encryption)
	if err != nil {
		return nil, "", fmt.Errorf("open repository %q: %w", p.Label, err)
	}
	st, err := open.Open(p.Path + p.URL) // exactly one is set
	if err != nil {
		return nil, "", fmt.Errorf("open repository %q: %w", p.Label, err)
	}
	r, err := repository.OpenWith(ctx, st, keys)
	if err != nil {
		return nil, "", fmt.Errorf("open repository %q: %w", p.Label, err)
	}
	if p.ID != "" && r.ID() != p.ID {
		return nil, "", &state.Error{
			Code: state.CodeIdentity, Text: fmt.Sprintf("%s holds repository %s, and the route was made from %s", p.Path+p.URL, r.ID(), p.ID),
			Hint: "mount the right one",
		}
	}
	return archived{r.Cluster(server, systemID)}, r.ID(), nil
}

// archived is a cluster's WAL in a repository.
type archived struct{ c *repository.Cluster }

func (a archived) segment(ctx context.Context, seg wal.Segment) (io.ReadCloser, error) {
	w, err := a.c.OpenSegment(ctx, seg)
	if err != nil {
		return nil, err
	}
	return w, nil
}

func (a archived) partial(ctx context.Context, seg wal.Segment) (io.ReadCloser, wal.LSN, error) {
	w, upTo, err := a.c.OpenPartial(ctx, seg)
	if err != nil {
		return nil, 0, err
	}
	return w, upTo, nil
}

func (a archived) history(ctx context.Context, t wal.Timeline) ([]byte, error) {
	return a.c.History(ctx, t)
}

// settings gives the largest settings that the WAL of the path asks for, as far as the archive knows: a server that was
// restarted with higher ones after the backup demands them of its copy. What is not known is found out by PostgreSQL,
// which then says so in its log.
func (a archived) settings(ctx context.Context, path []wal.Range) wal.Settings {
	var out wal.Settings
	for _, r := range path {
		for _, sum := range a.c.Summaries(ctx, r) {
			out = out.Max(sum.Settings)
		}
	}
	if len(path) == 0 {
		return out
	}
	last := path[len(path)-1]
	facts, err := a.c.Facts(ctx)
	if err != nil {
		return out
	}
	if sum, err := a.c.SegmentSummary(ctx, facts.SegmentSize.SegmentAt(last.Timeline, last.To-1)); err == nil {
		out = out.Max(sum.Settings)
	}
	return out
}

// local is a directory of plain segments: WAL that was copied beforehand, or a receiver's spool.
type local struct {
	dir    string
	size   wal.SegmentSize
	system string // system identifier, decimal; only of a spool, whose unfinished segments are asked for
}

// spooled is the WAL in the spool of the receiver on this machine.
func (r *restore) spooled() local {
	return local{dir: r.Spool, size: r.Route.SegmentSize, system: r.Route.SystemID}
}

func (l local) open(name string) (*os.File, error) {
	f, err := os.Open(filepath.Join(l.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open %s: %w", name, store.ErrNotExist)
	}
	return f, err
}

func (l local) segment(_ context.Context, seg wal.Segment) (io.ReadCloser, error) {
	f, err := l.open(seg.Name(l.size))
	if errors.Is(err, store.ErrNotExist) {
		f, err = l.open(seg.Name(l.size) + ".done")
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (l local) partial(_ context.Context, seg wal.Segment) (io.ReadCloser, wal.LSN, error) {
	f, err := l.open(seg.Name(l.size) + ".partial")
	if err != nil {
		return nil, 0, err
	}
	end, err := l.written(f, seg)
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("look how far %s reaches: %w", f.Name(), err), f.Close())
	}
	return f, end, nil
}

// written tells up to where an unfinished segment was received: a file that has its full length was prepared with zeros. A record
// may end with zeros of its own, and one that has not come whole counts as far as it came.
func (l local) written(f *os.File, seg wal.Segment) (wal.LSN, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if info.Size() < l.size.Bytes() {
		return seg.Start(l.size) + wal.LSN(info.Size()), nil
	}
	system, err := strconv.ParseUint(l.system, 10, 64)
	if err != nil {
		return 0, err
	}
	whole, err := wal.ValidEnd(l.size, system, seg, f, l.size.Bytes())
	if err != nil {
		return 0, err
	}
	some, err := writtenUpTo(f.Name(), seg.Start(l.size))
	return max(whole, some), err
}

func (l local) history(_ context.Context, t wal.Timeline) ([]byte, error) {
	f, err := l.open(t.HistoryName())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 1<<20))
}
