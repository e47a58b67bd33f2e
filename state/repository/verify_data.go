package repository

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store"
)

// verifyWorkers is how many volumes are read at once, and verifyStep how many between two looks at how far it is.
const (
	verifyWorkers = 2
	verifyStep    = 16
)

// data reads the volumes in the order of the files, a volume once, and proves its frames with what a restore proves them
// with. Where nothing is read and nothing is wrong it does nothing; where something is wrong it finds out whether the
// backup can still be restored, by trying.
func (v *verification) data(ctx context.Context) error {
	if !v.depth.full && v.found == 0 && !v.doubted() {
		return nil
	}
	b, err := v.open(ctx)
	if err != nil {
		return v.cannot(ctx, err)
	}
	for n := range v.d.FileShards {
		files, err := b.fileShard(ctx, n)
		if err != nil {
			if err := v.cannot(ctx, err); err != nil {
				return err
			}
			continue
		}
		if err := v.shard(ctx, b, n, byVolume(planReads(files, PieceOptions{}))); err != nil {
			return err
		}
	}
	return nil
}

// doubted tells whether anything of this backup was damaged when it was looked at before.
func (v *verification) doubted() bool {
	for key := range v.depth.doubt {
		if strings.HasPrefix(key, v.c.key.backupDir(v.id)) {
			return true
		}
		for _, id := range v.refersTo {
			if strings.HasPrefix(key, v.c.key.backupDir(id)) {
				return true
			}
		}
	}
	return false
}

// open reads what a restore reads before it writes a file.
func (v *verification) open(ctx context.Context) (*BackupReader, error) {
	b, err := v.c.OpenBackup(ctx, v.id)
	if err != nil {
		return nil, err
	}
	for _, read := range []func(context.Context) ([]byte, error){b.BackupLabel, b.Captured} {
		if _, err := read(ctx); err != nil && !errors.Is(err, store.ErrNotExist) { // not written, or not allowed to be read
			return nil, err
		}
	}
	return b, nil
}

// cannot notes that a restore would fail, and says it where nothing else was found that tells why.
func (v *verification) cannot(ctx context.Context, why error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if unanswered(why) {
		return why
	}
	v.mu.Lock()
	if v.restore.why == nil {
		v.restore.why = why
	}
	said := v.found > 0
	v.mu.Unlock()
	if said {
		return nil
	}
	return v.reportOr(ctx, v.c.key.backupDir(v.id), why)
}

// byVolume puts the reads of a shard together that are of one volume. planReads has sorted them.
func byVolume(jobs []readJob) [][]wantedFrame {
	var out [][]wantedFrame
	for _, j := range jobs {
		if n := len(out); n > 0 && volumeOf(out[n-1][0].frameAt) == volumeOf(j.frames[0].frameAt) {
			out[n-1] = append(out[n-1], j.frames...)
			continue
		}
		out = append(out, slices.Clone(j.frames))
	}
	return out
}

// shard reads the volumes of one list of files.
func (v *verification) shard(ctx context.Context, b *BackupReader, n int, volumes [][]wantedFrame) error {
	for first := 0; first < len(volumes); first += v.depth.stride() {
		last := min(first+v.depth.stride(), len(volumes))
		group, inner := errgroup.WithContext(ctx)
		group.SetLimit(verifyWorkers)
		read := false
		for i := first; i < last; i++ {
			wants, err := v.wants(ctx, volumes[i][0].frameAt, n, i)
			if err != nil {
				return err
			}
			if !wants {
				continue
			}
			read = true
			group.Go(func() error { return v.volume(inner, b, volumes[i]) })
		}
		if err := group.Wait(); err != nil {
			return err
		}
		if !read {
			continue
		}
		if err := v.from.tell(ctx, n, last); err != nil {
			return err
		}
	}
	return nil
}

// wants tells whether a volume that files lie in has to be read.
func (v *verification) wants(ctx context.Context, at frameAt, shard, n int) (bool, error) {
	name := volumeOf(at)
	if !v.table.holds(name) {
		return false, nil
	}
	l, key := v.table.lines[name], v.keyOf(name)
	switch {
	case l == nil:
		return false, v.cannot(ctx, corrupt(v.c.key.backupDir(v.id)+filesDir, fmt.Errorf("it reads %s, which no list of sums names", name)))
	case l.bad:
		return true, nil
	case v.from.passed(shard, n) && !v.depth.doubt[key]:
		l.read = true
		return false, nil
	}
	return v.depth.reads(key) && (at.backup == "" || !v.depth.known(key, l.sum)), nil
}

// volume reads one volume whole, and proves its bytes and the frames that files lie in.
func (v *verification) volume(ctx context.Context, b *BackupReader, frames []wantedFrame) error {
	name := volumeOf(frames[0].frameAt)
	l, key := v.table.lines[name], v.keyOf(name)
	if v.c.closed(key) {
		return v.sealedVolume(ctx, key, l)
	}
	body, err := v.c.readVolume(ctx, key, l.size)
	l.read = true
	if err == nil {
		sum := sha256.Sum256(body)
		v.depth.remember(key, sum)
		if sum != l.sum && !l.bad {
			l.bad = true
			v.find(key, "%s", errSum)
		}
		err = prove(b, frames, body, key)
	} else if !l.bad {
		l.bad = true
		if err := v.reportOr(ctx, key, err); err != nil {
			return err
		}
	}
	if err != nil && v.c.repo.box != nil && isCorrupt(err) {
		err = v.c.proveRanges(ctx, b, frames, key) // a restore reads no more than these
	}
	if err == nil {
		return nil
	}
	v.mu.Lock()
	if len(v.restore.volumes) < maxFindings && !slices.Contains(v.restore.volumes, key) {
		v.restore.volumes = append(v.restore.volumes, key)
	}
	v.mu.Unlock()
	return v.cannot(ctx, missing(key, err))
}

// prove decodes frames of a volume as a restore does.
func prove(b *BackupReader, frames []wantedFrame, body []byte, key string) error {
	d, err := seal.NewDeframer()
	if err != nil {
		return err
	}
	defer d.Close()
	r := pieceJob{b: b, d: d, write: func(Piece) error { return nil }}
	for _, f := range frames {
		end := f.offset + int64(f.stored)
		if end > int64(len(body)) {
			return corrupt(key, fmt.Errorf("it ends before byte %d", end))
		}
		if err := r.frame(f, body[f.offset:end], key); err != nil {
			return err
		}
	}
	return nil
}

// proveRanges is prove for a volume that does not prove itself as a whole.
func (c *Cluster) proveRanges(ctx context.Context, b *BackupReader, frames []wantedFrame, key string) error {
	d, err := seal.NewDeframer()
	if err != nil {
		return err
	}
	defer d.Close()
	r := pieceJob{b: b, d: d, write: func(Piece) error { return nil }}
	for _, f := range frames {
		stored := make([]byte, f.stored)
		if err := c.readRange(ctx, key, f.offset, stored); err != nil {
			return err
		}
		if err := r.frame(f, stored, key); err != nil {
			return err
		}
	}
	return nil
}

// readVolume reads a volume of about size bytes; of one that grew beyond what any has, only so much.
func (c *Cluster) readVolume(ctx context.Context, key string, size int64) ([]byte, error) {
	r, err := c.repo.Store().Get(ctx, key, 0, -1)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	var b bytes.Buffer
	b.Grow(int(min(size, maxVolume)) + bytes.MinRead)
	_, err = b.ReadFrom(io.LimitReader(r, maxVolume+1))
	if closeErr := r.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	return b.Bytes(), nil
}
