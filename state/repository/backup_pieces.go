package repository

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"

	"github.com/zeebo/xxh3"
	"golang.org/x/sync/errgroup"

	"github.com/pgkeep/pgkeep/state/repository/seal"
)

// PieceOptions say what to read and with how much.
type PieceOptions struct {
	Workers int              // 0: one for each CPU
	Want    func(*File) bool // nil: every file
	Budget  *Budget          // nil: one of its own, DefaultBudget bytes
	// Have tells whether whoever reads has n bytes of a wanted file at off already, as they lie in the volumes of the backup
	// that the page names; these are not read. It is asked once for every page, by one goroutine. nil: nothing is there.
	Have func(f *File, at PageOrigin) bool
	// Gap is how many bytes between two wanted frames are read along rather than asked for apart; 0: 4 MiB, the right size for
	// a whole backup.
	Gap int64
	// Fetched is told of bytes that were read from volumes, by several goroutines; nil: nobody listens.
	Fetched func(n int64)
}

// PageOrigin is one page of a file, or what there is of one at its end, and the backup in whose volumes it lies.
type PageOrigin struct {
	Backup string // empty: the backup that is read
	Offset int64
	Length int
}

// Piece is a stretch of a file's bytes. File and Data are valid during the call only.
type Piece struct {
	File   *File
	Offset int64
	Data   []byte
}

// joinGap is how many unwanted bytes between two wanted frames are read along rather than asked for apart.
const joinGap = 4 << 20

// Pieces reads the data of every wanted file, from this backup's volumes and from those of the backups that it refers
// to. Reads are grouped by volume and joined into long ranges; each frame is proved by its checksum before write sees a
// byte of it. write is called by several goroutines, in no order; its error ends the read.
func (b *BackupReader) Pieces(ctx context.Context, o PieceOptions, write func(Piece) error) error {
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Budget == nil {
		o.Budget = NewBudget(DefaultBudget)
	}
	group, ctx := errgroup.WithContext(ctx)
	jobs := make(chan readJob)
	for range o.Workers {
		group.Go(func() error { return b.readJobs(ctx, jobs, o, write) })
	}
	group.Go(func() error {
		defer close(jobs)
		for n := range b.rec.decided.FileShards {
			files, err := b.fileShard(ctx, n)
			if err != nil {
				return err
			}
			for _, j := range planReads(files, o) {
				select {
				case <-ctx.Done():
					return context.Cause(ctx)
				case jobs <- j:
				}
			}
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return fmt.Errorf("read backup %s: %w", b.rec.id, err)
	}
	return nil
}

// readJob is one range of one volume.
type readJob struct {
	frames []wantedFrame // by offset, of one volume
	off, n int64
}

// wantedFrame is a frame with what is wanted of it.
type wantedFrame struct {
	frameAt
	parts []wantedPart
}

type wantedPart struct {
	file   *File
	extent Extent
}

// planReads groups the wanted extents of one shard by volume, and joins frames into ranges.
func planReads(files []File, o PieceOptions) []readJob {
	byFrame := map[frameAt]int{}
	var frames []wantedFrame
	for i := range files {
		f := &files[i]
		if len(f.Extents) == 0 || o.Want != nil && !o.Want(f) {
			continue
		}
		for _, x := range f.missing(o.Have) {
			at := f.frames[x.frame]
			n, ok := byFrame[at]
			if !ok {
				n = len(frames)
				byFrame[at] = n
				frames = append(frames, wantedFrame{frameAt: at})
			}
			frames[n].parts = append(frames[n].parts, wantedPart{file: f, extent: x})
		}
	}
	slices.SortStableFunc(frames, func(a, b wantedFrame) int { return a.compare(b.frameAt) })
	gap := o.Gap
	if gap <= 0 {
		gap = joinGap
	}
	var jobs []readJob
	for _, f := range frames {
		end := f.offset + int64(f.stored)
		if n := len(jobs); n > 0 && f.joins(jobs[n-1], gap) {
			j := &jobs[n-1]
			j.frames = append(j.frames, f)
			j.n = max(j.n, end-j.off)
			continue
		}
		jobs = append(jobs, readJob{frames: []wantedFrame{f}, off: f.offset, n: int64(f.stored)})
	}
	return jobs
}

func (f frameAt) compare(o frameAt) int {
	switch {
	case f.backup != o.backup:
		if f.backup < o.backup {
			return -1
		}
		return 1
	case f.folder != o.folder:
		return int(int64(f.folder) - int64(o.folder))
	case f.volume != o.volume:
		return f.volume - o.volume
	}
	return int(f.offset - o.offset)
}

// missing gives the extents of a file that are not there already, cut at the borders of pages.
func (f *File) missing(have func(*File, PageOrigin) bool) []Extent {
	if have == nil {
		return f.Extents
	}
	var out []Extent
	for _, x := range f.Extents {
		open := false // the last of out ends where the page begins
		for done := 0; done < x.Length; {
			off := x.Offset + int64(done)
			n := min(x.Length-done, pageSize-int(off%pageSize))
			switch {
			case have(f, PageOrigin{Backup: f.frames[x.frame].backup, Offset: off, Length: n}):
				open = false
			case open:
				out[len(out)-1].Length += n
			default:
				out = append(out, Extent{Offset: off, Length: n, frame: x.frame, in: x.in + done})
				open = true
			}
			done += n
		}
	}
	return out
}

// joins tells whether f is read in one range with what j has.
func (f wantedFrame) joins(j readJob, gap int64) bool {
	first := j.frames[0]
	return f.backup == first.backup && f.folder == first.folder && f.volume == first.volume && f.offset-(j.off+j.n) <= gap
}

// readJobs reads ranges until there are no more.
func (b *BackupReader) readJobs(ctx context.Context, jobs <-chan readJob, o PieceOptions, write func(Piece) error) error {
	d, err := seal.NewDeframer()
	if err != nil {
		return err
	}
	defer d.Close()
	r := pieceJob{b: b, d: d, write: write}
	for j := range jobs {
		release, err := o.Budget.Acquire(ctx, j.n+maxFrame)
		if err != nil {
			return err
		}
		err = r.run(ctx, j)
		release()
		if err != nil {
			return err
		}
		if o.Fetched != nil {
			o.Fetched(j.n)
		}
	}
	return nil
}

// pieceJob is what one worker uses again and again.
type pieceJob struct {
	b      *BackupReader
	d      *seal.Deframer
	write  func(Piece) error
	stored []byte
	raw    []byte
}

func (r *pieceJob) run(ctx context.Context, j readJob) error {
	first := j.frames[0]
	id := first.backup
	if id == "" {
		id = r.b.rec.id
	}
	key := r.b.c.key.backupDir(id) + volumeName(first.folder, first.volume)
	left := j.frames
	read := func(c *Cluster) (err error) {
		left, err = r.read(ctx, c, key, j, left)
		return err
	}
	err := read(r.b.c)
	var refused *refusedPiece
	if err != nil && len(r.b.others) > 0 && !errors.As(err, &refused) {
		err = r.b.elsewhere(ctx, r.b.others, key, err, read)
	}
	if err != nil && len(r.b.unlike) > 0 && !errors.As(err, &refused) && ctx.Err() == nil {
		err = r.otherwise(ctx, key, err, left)
	}
	if errors.As(err, &refused) {
		return refused.error
	}
	return err
}

// refusedPiece is an error of whoever takes the pieces: reading elsewhere mends nothing.
type refusedPiece struct{ error }

// Unwrap gives the error itself.
func (e *refusedPiece) Unwrap() error { return e.error }

// read reads the range of a job from one repository, and gives the frames that were not handed out.
func (r *pieceJob) read(ctx context.Context, c *Cluster, key string, j readJob, frames []wantedFrame) ([]wantedFrame, error) {
	r.stored = slices.Grow(r.stored[:0], int(j.n))[:j.n]
	if err := c.readRange(ctx, key, j.off, r.stored); err != nil {
		return frames, err
	}
	for i, f := range frames {
		at := f.offset - j.off
		if err := r.frame(f, r.stored[at:at+int64(f.stored)], key); err != nil {
			return frames[i:], err
		}
	}
	return nil, nil
}

// frame proves one frame and hands out its parts.
func (r *pieceJob) frame(f wantedFrame, stored []byte, key string) error {
	raw, err := r.d.Frame(r.raw[:0], stored, f.raw)
	if err != nil {
		return corrupt(key, f.damaged(err))
	}
	r.raw = raw
	if len(raw) != f.raw || xxh3.Hash(raw) != f.sum {
		return corrupt(key, f.damaged(errors.New("its content is not what was written")))
	}
	return r.handOut(f, raw)
}

func (r *pieceJob) handOut(f wantedFrame, raw []byte) error {
	for _, p := range f.parts {
		x := p.extent
		if err := r.write(Piece{File: p.file, Offset: x.Offset, Data: raw[x.in : x.in+x.Length]}); err != nil {
			return &refusedPiece{err}
		}
	}
	return nil
}

// readRange fills p from a volume.
func (c *Cluster) readRange(ctx context.Context, key string, off int64, p []byte) error {
	r, err := c.repo.Store().Get(ctx, key, off, int64(len(p)))
	if err != nil {
		return missing(key, fmt.Errorf("get %s: %w", key, err))
	}
	_, err = io.ReadFull(r, p)
	if closeErr := r.Close(); err == nil {
		err = closeErr
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return corrupt(key, fmt.Errorf("it ends before byte %d", off+int64(len(p))))
	}
	if err != nil {
		return fmt.Errorf("get %s: %w", key, err)
	}
	return nil
}
