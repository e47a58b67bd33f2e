package recovery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/cenkalti/backoff/v5"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

// errTooShort says that a partial ends before what recovery needs.
var errTooShort = fmt.Errorf("part of the segment only: %w", store.ErrNotExist)

// server hands out the WAL of one route.
type server struct {
	route   *routeFile
	sources []source
	broken  []error // sources that could not be opened
	guard   guard
}

// open opens every source of the route. One that cannot be opened is remembered: until it answers nothing is absent.
func (f *routeFile) open(ctx context.Context) *server {
	s := &server{route: f, sources: []source{local{dir: f.Local, size: f.SegmentSize}}, guard: guardOf(f.Local)}
	for _, p := range f.Repositories {
		src, _, err := openPlace(ctx, p, f.Server, f.SystemID)
		if err != nil {
			s.broken = append(s.broken, err)
			continue
		}
		s.sources = append(s.sources, src)
	}
	return s
}

// segment writes one segment, padded to its full length. The error wraps store.ErrNotExist only when every source has
// answered that it has none.
func (s *server) segment(ctx context.Context, seg wal.Segment, into string) error {
	upTo, _ := s.route.needs(seg)
	if s.route.Standby && upTo < seg.End(s.route.SegmentSize) { // it goes on behind its route: a part is the second best
		if err := s.archives().whole(ctx, seg, into); err == nil || isPermanent(err) {
			return err
		}
	}
	var failed []error
	for _, src := range s.sources {
		err := s.from(ctx, src, seg, upTo, into)
		if err == nil || isPermanent(err) {
			return err
		}
		failed = append(failed, err)
	}
	return s.verdict(failed)
}

// archives leaves out what was copied beside the data directory, where a segment that was archived in part then is padded.
func (s *server) archives() *server {
	only := *s
	only.sources = slices.DeleteFunc(slices.Clone(s.sources), func(src source) bool {
		_, copied := src.(local)
		return copied
	})
	return &only
}

// isPermanent tells whether asking again, or elsewhere, gives the same.
func isPermanent(err error) bool {
	var permanent *backoff.PermanentError
	return errors.As(err, &permanent)
}

// from tries one source: the whole segment, or a beginning that is long enough.
func (s *server) from(ctx context.Context, src source, seg wal.Segment, upTo wal.LSN, into string) error {
	r, err := src.segment(ctx, seg)
	if err == nil {
		return s.write(ctx, piece{r, seg, seg.End(s.route.SegmentSize), true}, into)
	}
	if !errors.Is(err, store.ErrNotExist) {
		return err
	}
	r, end, err := src.partial(ctx, seg)
	if err != nil {
		return err
	}
	if end < upTo {
		return errors.Join(errTooShort, r.Close())
	}
	return s.write(ctx, piece{r, seg, end, false}, into)
}

// write copies a segment into a file. It is read to its end even where its rest is withheld, because only the end proves
// its SHA-256.
func (s *server) write(ctx context.Context, p piece, into string) (err error) {
	z, r, seg := s.route.SegmentSize, p.content, p.seg
	f, err := create(into)
	if err != nil {
		return errors.Join(err, r.Close())
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			_ = os.Remove(into)
			if !isPermanent(err) && state.CodeOf(err) != state.CodeCorrupt { // which are of what was read
				err = writeError(into, err)
			}
		}
	}()
	n, err := io.Copy(f, io.LimitReader(r, z.Bytes()+1))
	if err = errors.Join(err, r.Close()); err != nil {
		return err
	}
	want := int64(p.end - seg.Start(z))
	if p.whole && n != want || n < want || n > z.Bytes() {
		return &state.Error{Code: state.CodeCorrupt, Text: fmt.Sprintf("segment %s has %d bytes, not %d", seg.Name(z), n, want)}
	}
	if cut := s.route.CutAt; cut != 0 && cut < seg.End(z) {
		if err := f.Truncate(int64(max(cut, seg.Start(z)) - seg.Start(z))); err != nil {
			return err
		}
	}
	if err := f.Truncate(z.Bytes()); err != nil {
		return err
	}
	return s.look(ctx, seg, f)
}

// piece is what a source gives of a segment.
type piece struct {
	content io.ReadCloser
	seg     wal.Segment
	end     wal.LSN
	whole   bool // nothing may follow
}

// history writes a history file that any source has.
func (s *server) history(ctx context.Context, t wal.Timeline, into string) error {
	var failed []error
	for _, src := range s.sources {
		content, err := src.history(ctx, t)
		if err == nil {
			_, err = wal.ParseHistory(t, content)
		}
		if err == nil {
			return writeWhole(into, content)
		}
		failed = append(failed, err)
	}
	return s.verdict(failed)
}

// verdict joins what the sources said: absent when all have answered so, else what failed.
func (s *server) verdict(failed []error) error {
	all := append([]error{}, s.broken...)
	for _, err := range failed {
		if !errors.Is(err, store.ErrNotExist) {
			all = append(all, err)
		}
	}
	if len(all) == 0 {
		return store.ErrNotExist
	}
	return hard{errors.Join(all...)}
}

// hard hides what an error wraps from errors.Is: one source's "absent" is not everybody's.
type hard struct{ error }

// onlyCorrupt tells whether what keeps a segment from being had is that it is not what was written, and nothing else.
func (e hard) onlyCorrupt() bool {
	all, ok := e.error.(interface{ Unwrap() []error })
	return ok && !slices.ContainsFunc(all.Unwrap(), func(err error) bool { return state.CodeOf(err) != state.CodeCorrupt })
}

// create opens a file to be written. The directory is the owner's and this process may be root: a link there is not followed.
func create(into string) (*os.File, error) {
	return os.OpenFile(into, os.O_RDWR|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW, 0o600)
}

// writeWhole writes a small file, or nothing.
func writeWhole(into string, content []byte) error {
	f, err := create(into)
	if err != nil {
		return writeError(into, err)
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(into)
		return writeError(into, err)
	}
	return nil
}

// copyWAL brings WAL beside the data directory: all of the route with wal = "copy", and in any case what only the
// receiver's spool has.
func (r *restore) copyWAL(ctx context.Context) error {
	if err := r.openPlaces(ctx); err != nil {
		return err
	}
	dir := filepath.Join(stateDir(r.places[0]), walDir)
	route := &routeFile{
		Version: 1, Server: r.Route.Server, SystemID: r.Route.SystemID, SegmentSize: r.Route.SegmentSize,
		Timeline: r.Route.TargetTimeline, Path: r.Route.Path, Repositories: r.Places, Local: dir,
	}
	if !r.copies && r.Spool == "" {
		return nil
	}
	root, err := r.directory(dir)
	if err != nil {
		return fmt.Errorf("make the directory for WAL: %w", err)
	}
	defer root.Close()
	s := route.open(ctx)
	if r.copies {
		if err := r.copyEverything(ctx, s, dir); err != nil {
			return err
		}
		r.Places = nil
	} else if err := r.copySpooled(ctx, s, dir); err != nil {
		return err
	}
	return syncName(root, ".")
}

// openPlaces notes the identity of each repository that wal-get may ask, and leaves out those that are not here.
func (r *restore) openPlaces(ctx context.Context) error {
	var open []Place
	var failed []error
	for _, p := range r.Places {
		src, id, err := openPlace(ctx, p, r.Route.Server, r.Route.SystemID)
		if err != nil {
			failed = append(failed, err)
			r.note(fmt.Sprintf("WAL is not fetched from repository %q: %s", p.Label, err))
			continue
		}
		p.ID = id
		open = append(open, p)
		if a, ok := src.(archived); ok {
			r.settings = r.settings.Max(a.settings(ctx, r.Route.Path))
		}
	}
	if len(open) == 0 && len(r.Places) > 0 {
		return fmt.Errorf("look for WAL: %w", errors.Join(failed...))
	}
	r.Places = open
	return nil
}

// copyEverything fetches every segment and history of the route.
func (r *restore) copyEverything(ctx context.Context, s *server, dir string) error {
	if r.Spool != "" {
		s.sources = append(s.sources, r.spooled())
	}
	for _, seg := range s.route.segments() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.fetch(ctx, s, seg, dir); err != nil {
			return err
		}
	}
	// PostgreSQL asks for higher numbers than the target's, one after another, to find one that nobody used.
	for t := wal.Timeline(2); ; t++ {
		err := s.history(ctx, t, filepath.Join(dir, t.HistoryName()))
		if errors.Is(err, store.ErrNotExist) && t > r.Route.TargetTimeline {
			break
		}
		if err != nil && !errors.Is(err, store.ErrNotExist) {
			return fmt.Errorf("fetch %s: %w", t.HistoryName(), err)
		}
	}
	return r.ownAll(dir)
}

// chooseCopy decides whether the WAL is brought beside the data directory: when that was asked for, and when PostgreSQL,
// which runs as the owner, may not read a repository that this process can.
func (r *restore) chooseCopy(ctx context.Context) {
	r.copies = r.Route.Destination.WAL == "copy"
	if r.copies || os.Geteuid() != 0 || r.owner.UID == 0 {
		return
	}
	for _, p := range r.Places {
		if object := r.unreadable(ctx, p); object != "" {
			r.copies = true
			r.note(fmt.Sprintf("user %s may not read repository %q (%s): the WAL of the route was copied to %s", r.owner.Name, p.Label, object, filepath.Join(stateDir(r.places[0]), walDir)))
			return
		}
	}
}

func (r *restore) fetch(ctx context.Context, s *server, seg wal.Segment, dir string) error {
	name := seg.Name(r.Route.SegmentSize)
	into := filepath.Join(dir, name)
	if _, err := os.Stat(into); err == nil {
		return nil // of an earlier try; it got its name when it was whole
	}
	if err := s.segment(ctx, seg, into+".new"); err != nil {
		return &state.Error{
			Code: state.CodeTarget, Text: fmt.Sprintf("segment %s is needed by the recovery and cannot be had", name),
			Hint: "pgkeep wal gaps " + r.Route.Server, Err: err,
		}
	}
	r.written.Add(r.Route.SegmentSize.Bytes())
	return errors.Join(os.Rename(into+".new", into))
}

// copySpooled copies the segments of the route that no repository holds far enough.
func (r *restore) copySpooled(ctx context.Context, s *server, dir string) error {
	spool := &server{route: s.route, sources: []source{r.spooled()}}
	scratch := filepath.Join(dir, "probe")
	segments := s.route.segments()
	for i := len(segments) - 1; i >= 0; i-- {
		err := s.segment(ctx, segments[i], scratch)
		_ = os.Remove(scratch)
		if err == nil {
			break // what is older is archived too: segments go up in order
		}
		if err := r.fetch(ctx, spool, segments[i], dir); err != nil {
			return err
		}
	}
	return r.ownAll(dir)
}

// ownAll gives what was copied to the owner, whose PostgreSQL reads it.
func (r *restore) ownAll(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, e := range entries {
		if err := r.own(root, e.Name()); err != nil {
			return err
		}
		if err := syncName(root, e.Name()); err != nil {
			return err
		}
	}
	return nil
}
