package repository

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// ParentFacts are what is known of a backup on which an incremental one may build.
type ParentFacts struct {
	ID       string
	Copy     string // two repositories with one Copy hold the backup byte for byte alike
	Version  int    // server_version_num
	Timeline wal.Timeline
	Start    wal.LSN
	Stop     wal.LSN
	Began    time.Time
	Suspects bool // it has pages of which it is not known whether they are damaged
	Sparse   bool // it has hashes of some pages only, so that nothing can be compared with it
	// Checksums is the server's data_checksums when it was taken; empty: not known.
	Checksums string
}

// InspectParent looks whether an incremental backup can build on a backup of this repository: it is committed, whole, not
// on its way out, and every volume that it reads is there with its length. The error says why it cannot (CodeStale,
// CodeCorrupt), or what kept it from looking. It is a look before the work: BeginBackup decides.
func (c *Cluster) InspectParent(ctx context.Context, id string) (ParentFacts, error) {
	if err := CheckBackupID(id); err != nil {
		return ParentFacts{}, err
	}
	r, err := c.readBackup(ctx, id)
	if err != nil {
		return ParentFacts{}, fmt.Errorf("look at parent %s: %w", id, err)
	}
	switch {
	case r.corrupt():
		return ParentFacts{}, parentGone(id, "cannot be trusted: "+r.why().Error())
	case !r.visible():
		return ParentFacts{}, parentGone(id, "is not there, not committed or being deleted")
	case r.decided.damaged():
		return ParentFacts{}, parentGone(id, "is damaged")
	}
	if why, err := c.knownDamage(ctx, id); err != nil || why != "" {
		if err == nil {
			err = parentGone(id, "was found damaged: "+why)
		}
		return ParentFacts{}, fmt.Errorf("look at parent %s: %w", id, err)
	}
	f := ParentFacts{
		ID: id, Copy: fmt.Sprint(r.decided.Sums, r.decided.Refs), Version: r.start.Version, Timeline: r.decided.Timeline, Stop: r.decided.Stop, Began: r.start.Began,
		Start: r.start.Start, Checksums: r.start.Checksums, Suspects: len(r.decided.Suspects) > 0, Sparse: r.decided.Chain != nil && r.decided.Chain.Summaries,
	}
	volumes := map[volumeKey]int64{}
	err = c.volumesOf(ctx, r, func(k volumeKey, l sumLine) error {
		volumes[k] = l.size
		return nil
	})
	if err == nil {
		err = c.checkVolumes(ctx, volumes)
	}
	if isAbsent(err) {
		err = corrupt(c.key.backupDir(id), err)
	}
	if err != nil {
		return ParentFacts{}, fmt.Errorf("look at parent %s: %w", id, err)
	}
	return f, nil
}

// knownDamage gives what verification has found to be wrong with what is stored of a backup; empty: nothing.
func (c *Cluster) knownDamage(ctx context.Context, id string) (string, error) {
	v, err := c.Verified(ctx)
	if err != nil || v == nil {
		return "", err
	}
	for _, b := range v.Backups {
		if b.ID == id && b.Damaged {
			return b.Why, nil
		}
	}
	return "", nil
}

// volumeKey names one volume of any backup.
type volumeKey struct {
	backup string
	folder uint32
	volume int
}

func (k volumeKey) compare(o volumeKey) int {
	return cmp.Or(cmp.Compare(k.backup, o.backup), cmp.Compare(k.folder, o.folder), cmp.Compare(k.volume, o.volume))
}

func (f frameAt) key() volumeKey { return volumeKey{f.backup, f.folder, f.volume} }

// volumesOf gives every volume that a committed backup reads, its own and those of others, with its line.
func (c *Cluster) volumesOf(ctx context.Context, r record, visit func(volumeKey, sumLine) error) error {
	err := c.readSums(ctx, r.id, sumsDir, r.decided.Sums, func(l sumLine) error {
		if !strings.HasPrefix(l.name, volumeDir) {
			return nil
		}
		folder, n, err := splitVolume(l.name)
		if err != nil {
			return err
		}
		return visit(volumeKey{r.id, folder, n}, l)
	})
	if err != nil {
		return err
	}
	return c.readSums(ctx, r.id, refsDir, r.decided.Refs, func(l sumLine) error {
		other, name, err := splitReference(l.name)
		if err != nil {
			return err
		}
		folder, n, err := splitVolume(name)
		if err != nil {
			return err
		}
		return visit(volumeKey{other, folder, n}, l)
	})
}

// checkVolumes makes sure that volumes are in the store with their lengths.
func (c *Cluster) checkVolumes(ctx context.Context, want map[volumeKey]int64) error {
	there := 0
	looked := map[string]bool{}
	for k := range want {
		if looked[k.backup] {
			continue
		}
		looked[k.backup] = true
		dir := c.key.backupDir(k.backup)
		for info, err := range c.repo.Store().List(ctx, dir+volumeDir, "", false) {
			if err != nil {
				return fmt.Errorf("list %s: %w", dir+volumeDir, err)
			}
			folder, n, err := splitVolume(strings.TrimPrefix(info.Key, dir))
			if err != nil {
				continue // nothing that anybody refers to
			}
			if size, ok := want[volumeKey{k.backup, folder, n}]; ok && size == info.Size {
				there++
			}
		}
	}
	if there != len(want) {
		return &state.Error{
			Code: state.CodeCorrupt, Hint: "pgkeep check --repository, then take a full backup",
			Text: fmt.Sprintf("of %d volumes that the backup would read, %d are missing or not as long as they were written", len(want), len(want)-there),
		}
	}
	return nil
}

// Parent is an open backup on which an incremental one builds: where its files lie and what its pages hash to. It is for
// one goroutine, and holds some 30 bytes for each file beside two shards of each kind.
type Parent struct {
	b      *BackupReader
	seed   uint64
	index  fileIndex
	files  shardCache[*parentFiles]
	hashes shardCache[*parentHashes]

	own   map[volumeKey]sumLine // of a cut backup: its volumes that are there; nil: it is none
	lacks []volumeKey           // of a cut backup: volumes that its marks list and that are not there
	last  *parentFiles          // of a cut backup: the file of which only the beginning had come; nil: none
}

func newParent(b *BackupReader) *Parent {
	d := b.rec.decided
	return &Parent{
		b: b, seed: b.c.repo.HashSeed(),
		files: shardCache[*parentFiles]{loads: 4*d.FileShards + 64}, hashes: shardCache[*parentHashes]{loads: 4*d.HashShards + 64},
	}
}

// OpenParent opens a backup to build on. It reads all its lists of files.
//
// What cannot be read here is read from others that hold the parent byte for byte alike: a repository that dies while the backup
// is taken keeps it out of no other one.
func (c *Cluster) OpenParent(ctx context.Context, id string, others ...*Cluster) (*Parent, error) {
	b, err := c.OpenBackup(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("open parent: %w", err)
	}
	for _, o := range others {
		if alternate, err := o.OpenBackup(ctx, id); err == nil {
			b.Or(nil, Alternate{Name: o.Where(), Backup: alternate})
		}
	}
	p := newParent(b)
	if err := p.load(ctx); err != nil {
		return nil, fmt.Errorf("open parent: %w", err)
	}
	return p, nil
}

// load reads all lists of files, and the seed.
func (p *Parent) load(ctx context.Context) error {
	for n := range p.b.rec.decided.FileShards {
		files, err := p.b.fileShard(ctx, n)
		if err != nil {
			return err
		}
		for i, f := range p.withData(files).files {
			p.index.add(f.folder, f.path, n, i)
		}
	}
	p.index.sort()
	if p.b.rec.decided.HashShards > 0 {
		first, err := p.hashShard(ctx, 0)
		if err != nil {
			return err
		}
		p.seed = first.seed
	}
	return nil
}

// ID gives the backup's id.
func (p *Parent) ID() string { return p.b.rec.id }

// chain gives what a child's COMMIT says of its line.
func (p *Parent) chain() chain {
	if c := p.b.rec.decided.Chain; c != nil {
		return chain{Depth: c.Depth + 1, Full: c.Full, Began: c.Began}
	}
	began := time.Time{}
	if p.b.rec.start != nil {
		began = p.b.rec.start.Began
	}
	return chain{Depth: 1, Full: p.ID(), Began: began}
}

// Files gives every member of the parent. It may be called while nothing else uses the parent.
func (p *Parent) Files(ctx context.Context) iter.Seq2[File, error] { return p.b.Files(ctx) }

// laid gives what a file is rebuilt on. The server was told that the parent has it: that it has not, or cannot be read, is an error.
func (p *Parent) laid(ctx context.Context, folder uint32, path string) (*parentFile, error) {
	shard, at, ok := p.index.find(folder, path)
	if ok {
		p.files.loads = max(p.files.loads, 1) // in whatever order they come
		files, err := p.fileShard(ctx, shard)
		if err != nil {
			return nil, err
		}
		if f := &files.files[at]; f.folder == folder && f.path == path {
			return files.open(f, p.ID()), nil
		}
	}
	return nil, corrupt(p.b.key(filesDir), fmt.Errorf("the server sent changes of %q, which is not there", path))
}

// file finds what the parent has under a name; nil: nothing that can be referred to. A shard that cannot be read now costs
// space and no more: what it would have told is stored anew.
func (p *Parent) file(ctx context.Context, folder uint32, path string) (*parentFile, error) {
	shard, at, ok := p.index.find(folder, path)
	if !ok {
		return nil, nil
	}
	files, err := p.fileShard(ctx, shard)
	if err != nil {
		return nil, p.passOver(ctx, err)
	}
	f := &files.files[at]
	if f.folder != folder || f.path != path {
		return nil, nil
	}
	found := files.open(f, p.ID())
	pages := (f.size + pageSize - 1) / pageSize
	for n := f.hashShard; found.pages < pages && n < p.b.rec.decided.HashShards; n++ {
		hashes, err := p.hashShard(ctx, n)
		if err != nil {
			return nil, p.passOver(ctx, err)
		}
		if !hashes.giveTo(found, f, p.seed) {
			break
		}
	}
	return found, nil
}

// errTooManyLoads says that the server sends its files in an order so unlike the parent's that shards would be read again and
// again.
var errTooManyLoads = errors.New("the parent's lists were read too often")

func (p *Parent) passOver(ctx context.Context, _ error) error { return context.Cause(ctx) }

// shardCache holds the two shards that were used last.
type shardCache[T any] struct {
	number [2]int // plus one; 0: none
	shard  [2]T
	last   int // which of them was used last
	loads  int // how often may still be loaded
}

// get gives a shard that is held, or loads it.
func (c *shardCache[T]) get(n int, load func() (T, error)) (T, error) {
	for i := range c.number {
		if c.number[i] == n+1 {
			c.last = i
			return c.shard[i], nil
		}
	}
	if c.loads == 0 {
		return c.shard[0], errTooManyLoads
	}
	c.loads--
	s, err := load()
	if err == nil {
		c.last = 1 - c.last
		c.number[c.last], c.shard[c.last] = n+1, s
	}
	return s, err
}
