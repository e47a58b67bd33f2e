package repository

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/pgkeep/pgkeep/state/repository/seal"
)

// unlike is the same backup in a repository where it lies otherwise: a copy that stands alone, or one in another codec. Its volumes
// are others and its files are the same, so what cannot be read of a frame is read there by file and position. That a file is the same
// is told by its CRC32C; where it has none, because the server sent only a part of it, by the checksum of the frame, which then must be
// the same frame in another place.
type unlike struct {
	Alternate
	reading sync.Mutex // one shard of it is kept, and one file of it is read, at a time
	shard   int        // whose files are kept
	files   map[fileName]*File
}

type fileName struct {
	folder uint32
	path   string
}

// sameBackup tells whether two repositories hold one backup, byte for byte alike or not: an id is drawn once, and what the two
// decisions say of the data must agree.
func (b *BackupReader) sameBackup(o *BackupReader) bool {
	mine, its := b.rec.decided, o.rec.decided
	return b.rec.id == o.rec.id && b.c.key == o.c.key && mine.Stop == its.Stop && mine.Timeline == its.Timeline && mine.Ended.Equal(its.Ended) &&
		mine.Files == its.Files && mine.DataBytes == its.DataBytes && b.rec.start.Redo == o.rec.start.Redo
}

// otherwise reads frames, which failed with why, from those that hold the backup otherwise; the error is why where all fail.
func (r *pieceJob) otherwise(ctx context.Context, key string, why error, frames []wantedFrame) error {
	for _, u := range r.b.unlike {
		for len(frames) > 0 {
			if err := r.rebuild(ctx, u, frames[0]); err != nil {
				var refused *refusedPiece
				if ctx.Err() != nil || errors.As(err, &refused) {
					return err
				}
				break
			}
			frames = frames[1:]
		}
		if len(frames) == 0 {
			if r.b.told != nil {
				r.b.told(key, u.Name, why)
			}
			return nil
		}
	}
	return why
}

// rebuild reads what is wanted of one frame by file and position, and hands it out once all of it is there.
func (r *pieceJob) rebuild(ctx context.Context, u *unlike, f wantedFrame) error {
	raw := make([]byte, f.raw)
	for _, p := range f.parts {
		if err := u.read(ctx, p, f.frameAt, raw); err != nil {
			return err
		}
	}
	return r.handOut(f, raw)
}

// read puts a part of a frame where it lies in it.
func (u *unlike) read(ctx context.Context, p wantedPart, at frameAt, raw []byte) error {
	u.reading.Lock()
	defer u.reading.Unlock()
	its, err := u.find(ctx, p.file)
	if err != nil {
		return err
	}
	part, x := *its, p.extent
	part.Extents = clip(its.Extents, x.Offset, int64(x.Length))
	if its.NoCRC || p.file.NoCRC {
		for _, y := range part.Extents {
			if f := its.frames[y.frame]; f.raw != at.raw || f.sum != at.sum || y.in-x.in != int(y.Offset-x.Offset) {
				return fmt.Errorf("nothing proves that %q of repository %q is the same file", its.Path, u.Name)
			}
		}
	}
	d, err := seal.NewDeframer()
	if err != nil {
		return err
	}
	defer d.Close()
	job := pieceJob{b: u.Backup, d: d, write: func(got Piece) error {
		copy(raw[x.in+int(got.Offset-x.Offset):], got.Data)
		return nil
	}}
	for _, j := range planReads([]File{part}, PieceOptions{}) {
		if err := job.run(ctx, j); err != nil {
			return err
		}
	}
	return nil
}

// clip gives the stretches of a file's extents, which lie in its order and without holes, between two positions.
func clip(extents []Extent, off, n int64) []Extent {
	var out []Extent
	for _, x := range extents {
		from, to := max(x.Offset, off), min(x.Offset+int64(x.Length), off+n)
		if from < to {
			out = append(out, Extent{Offset: from, Length: int(to - from), frame: x.frame, in: x.in + int(from-x.Offset)})
		}
	}
	return out
}

// find looks for a file: most of all in the shard of the same number, then in the others, of which one is kept.
func (u *unlike) find(ctx context.Context, f *File) (*File, error) {
	shards := u.Backup.rec.decided.FileShards
	for _, n := range append([]int{u.shard, f.shard}, upTo(shards)...) {
		if n >= shards {
			continue
		}
		if u.files == nil || n != u.shard {
			if err := u.load(ctx, n); err != nil {
				return nil, err
			}
		}
		its, ok := u.files[fileName{f.Folder, f.Path}]
		switch {
		case !ok:
			continue
		case its.Type != f.Type || its.Size != f.Size || !its.NoCRC && !f.NoCRC && its.CRC32C != f.CRC32C:
			return nil, fmt.Errorf("%q is another file in repository %q", f.Path, u.Name)
		}
		return its, nil
	}
	return nil, fmt.Errorf("%q is not in repository %q", f.Path, u.Name)
}

func upTo(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

func (u *unlike) load(ctx context.Context, n int) error {
	files, err := u.Backup.fileShard(ctx, n)
	if err != nil {
		return err
	}
	u.shard, u.files = n, make(map[fileName]*File, len(files))
	for i := range files {
		u.files[fileName{files[i].Folder, files[i].Path}] = &files[i]
	}
	return nil
}
