package repository

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// OpenCut opens a backup that was cut (CutBackup) for another one to go on with. Only its own volumes count, and of them those that are
// there with the length that was written; what it had referred to is asked of the other cut ones themselves.
func (c *Cluster) OpenCut(ctx context.Context, id string) (*Parent, error) {
	if err := CheckBackupID(id); err != nil {
		return nil, err
	}
	r, err := c.readBackup(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("open cut backup %s: %w", id, err)
	}
	if !r.continuable() {
		return nil, parentGone(id, "is not one that was cut, or is being deleted")
	}
	b := &BackupReader{c: c, rec: r, sums: map[string]sumLine{}}
	p := newParent(b)
	p.own = map[volumeKey]sumLine{}
	last, err := p.readOwn(ctx)
	if err == nil {
		err = p.dropMissing(ctx)
	}
	if err == nil {
		err = p.load(ctx)
	}
	if err == nil {
		err = p.addUnfinished(last.Open)
	}
	if err != nil {
		return nil, fmt.Errorf("open cut backup %s: %w", id, err)
	}
	return p, nil
}

// readOwn reads what the marks list, proved by the decision, and gives the last mark that counts: the first that cannot be trusted ends them, and so does one
// that names lists that are not there, because a mark may be put before them. From then on the backup has what that one says.
func (p *Parent) readOwn(ctx context.Context) (last mark, err error) {
	d := *p.b.rec.decided
	there, err := p.lists(ctx)
	if err != nil {
		return last, err
	}
	for n, want := range d.Marks {
		m, sum, err := p.b.c.readMark(ctx, p.ID(), n)
		if err == nil && sum != want {
			err = corrupt(p.b.key(shardName(marksDir, n)), errors.New("its SHA-256 is not the one that was written"))
		}
		if err == nil {
			err = p.readLines(m, n)
		}
		if err != nil && !isAbsent(err) && !isCorrupt(err) {
			return last, err
		}
		if err != nil || !there.hold(m) {
			break
		}
		last, d.Marks = m, p.b.rec.decided.Marks[:n+1]
	}
	if last.Backup == "" {
		return last, corrupt(p.b.key(marksDir), errors.New("no mark can be trusted, or the lists that the first one names are not there"))
	}
	d.FileShards, d.HashShards, d.Marks = last.FileShards, last.HashShards, d.Marks[:last.Number+1]
	p.b.rec.decided = &d
	return last, nil
}

// readLines keeps the lines of mark n.
func (p *Parent) readLines(m mark, n int) error {
	err := parseSums([]byte(m.Sums), func(l sumLine) error {
		if !strings.HasPrefix(l.name, volumeDir) {
			p.b.sums[l.name] = l
			return nil
		}
		folder, n, err := splitVolume(l.name)
		p.own[volumeKey{p.ID(), folder, n}] = l
		return err
	})
	if err != nil {
		return corrupt(p.b.key(shardName(marksDir, n)), err)
	}
	return nil
}

// shardNames are the names of the lists of files and hashes that are there.
type shardNames map[string]bool

func (p *Parent) lists(ctx context.Context) (shardNames, error) {
	there := shardNames{}
	dir := p.b.c.key.backupDir(p.ID())
	for _, of := range []string{filesDir, hashDir} {
		for info, err := range p.b.c.repo.Store().List(ctx, dir+of, "", false) {
			if err != nil {
				return nil, fmt.Errorf("list %s: %w", dir+of, err)
			}
			there[strings.TrimPrefix(info.Key, dir)] = true
		}
	}
	return there, nil
}

// hold tells whether all lists that a mark counts are there.
func (l shardNames) hold(m mark) bool {
	for dir, count := range map[string]int{filesDir: m.FileShards, hashDir: m.HashShards} {
		for n := range count {
			if !l[shardName(dir, n)] {
				return false
			}
		}
	}
	return true
}

// dropMissing leaves out the volumes that are not in the store, or not with their lengths.
func (p *Parent) dropMissing(ctx context.Context) error {
	there := map[volumeKey]bool{}
	dir := p.b.c.key.backupDir(p.ID())
	for info, err := range p.b.c.repo.Store().List(ctx, dir+volumeDir, "", false) {
		if err != nil {
			return fmt.Errorf("list %s: %w", dir+volumeDir, err)
		}
		folder, n, err := splitVolume(strings.TrimPrefix(info.Key, dir))
		k := volumeKey{p.ID(), folder, n}
		if l, listed := p.own[k]; err == nil && listed && l.size == info.Size {
			there[k] = true
		}
	}
	for k := range p.own {
		if !there[k] {
			delete(p.own, k)
			p.lacks = append(p.lacks, k)
		}
	}
	slices.SortFunc(p.lacks, volumeKey.compare)
	return nil
}

// addUnfinished adds the file of which only the beginning had come, as a list of its own behind all others.
func (p *Parent) addUnfinished(m *markFile) error {
	if m == nil {
		return nil
	}
	e, frames, err := m.entry()
	if err != nil {
		return corrupt(p.b.key(marksDir), err)
	}
	s := &parentFiles{frames: frames, live: make([]int64, len(frames))}
	e.extents = p.readable(e.extents, frames)
	for _, x := range e.extents {
		s.live[x.frame] += int64(x.Length)
	}
	s.files = append(s.files, e)
	p.last = s
	p.index.add(e.folder, e.path, p.b.rec.decided.FileShards, 0)
	p.index.sort()
	return nil
}

// readable leaves of the extents of a cut backup's file those that lie in its own volumes that are there.
func (p *Parent) readable(extents []Extent, frames []frameAt) []Extent {
	if p.own == nil {
		return extents
	}
	return slices.DeleteFunc(extents, func(x Extent) bool {
		k := frames[x.frame].key()
		k.backup = p.ID()
		_, there := p.own[k]
		return frames[x.frame].backup != "" || !there
	})
}

// Copy tells what of a cut backup can be referred to here: two repositories with one Copy hold the same bytes.
func (p *Parent) Copy() string { return fmt.Sprint(p.ID(), p.b.rec.decided.Marks, p.lacks) }

// Seed gives the secret seed of the hashes: parents of different seeds cannot be compared with at once.
func (p *Parent) Seed() uint64 { return p.seed }

// Reusable gives how many bytes of volumes of a cut backup are there.
func (p *Parent) Reusable() (n int64) {
	for _, l := range p.own {
		n += l.size
	}
	return n
}

// checkCut looks, after START was put, whether a cut backup that it names still stands.
func (c *Cluster) checkCut(ctx context.Context, id string) error {
	stands, err := c.stands(ctx, id)
	if err != nil {
		return err
	}
	if !stands {
		return parentGone(id, "is being deleted")
	}
	d, err := c.readDecision(ctx, id)
	switch {
	case errors.Is(err, store.ErrNotExist):
		return parentGone(id, "is gone")
	case err != nil:
		return err
	case d.Decision != decidedCut:
		return parentGone(id, "is "+string(d.state()))
	}
	return nil
}
