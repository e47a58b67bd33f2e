package repository

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
)

// copyWorkers is how many objects of a backup are copied at once. None is longer than maxVolume by much.
const copyWorkers = 4

// choose decides whether the copy can refer to what the original refers to: backups that stand in the other repository, are
// not known to be damaged, and list each of these volumes with the same bytes.
func (c *backupCopy) choose(ctx context.Context) error {
	c.total = c.original.decided.StoredBytes
	left := make(map[volumeKey]sumLine, len(c.reads))
	for k, l := range c.reads {
		left[k] = l
	}
	for _, id := range c.original.decided.RefersTo {
		if err := c.to.strike(ctx, id, left); err != nil {
			return err
		}
	}
	if len(left) == 0 {
		return nil
	}
	c.copied.Alone = true
	for _, l := range c.reads {
		c.total += l.size
	}
	return nil
}

// strike takes out of left the volumes that a sound backup of this repository has alike.
func (c *Cluster) strike(ctx context.Context, id string, left map[volumeKey]sumLine) error {
	r, err := c.readBackup(ctx, id)
	if err != nil {
		return err
	}
	if b, _ := r.describe(); !r.visible() || b.State != state.BackupCommitted {
		return nil
	}
	if why, err := c.knownDamage(ctx, id); err != nil || why != "" {
		return err
	}
	err = c.readSums(ctx, id, sumsDir, r.decided.Sums, func(l sumLine) error {
		folder, n, err := splitVolume(l.name)
		k := volumeKey{id, folder, n}
		if want, asked := left[k]; err == nil && asked && want.sum == l.sum && want.size == l.size {
			delete(left, k)
		}
		return nil
	})
	if isCorrupt(err) || isAbsent(err) {
		return nil //nolint:nilerr // what cannot be read is referred to by nobody new
	}
	return err
}

// fill copies everything but START and COMMIT, and gives what COMMIT will say. What lies below backup_manifest/ comes after
// all data, as in every backup: it tells that the data is complete.
func (c *backupCopy) fill(ctx context.Context) (decision, error) {
	d := *c.original.decided
	if c.copied.Alone {
		return c.fillAlone(ctx, d)
	}
	for _, last := range []bool{false, true} {
		err := c.each(ctx, func(l sumLine) *transfer {
			if strings.HasPrefix(l.name, manifestDir) != last {
				return nil
			}
			return c.own(l)
		})
		if err != nil {
			return d, err
		}
	}
	for dir, shards := range map[string][]shardSum{sumsDir: d.Sums, refsDir: d.Refs} {
		for n, want := range shards {
			if err := c.list(ctx, shardName(dir, n), want); err != nil {
				return d, err
			}
		}
	}
	return d, nil
}

// transfer is one object on its way: the line that proves it, where it lies and what it is called in the copy.
type transfer struct {
	line sumLine
	key  string // in the original's repository
	name string // below the copy's prefix
}

// own is the transfer of an object of the original itself.
func (c *backupCopy) own(l sumLine) *transfer {
	return &transfer{line: l, key: c.from.key.backupDir(c.in.ID) + l.name, name: l.name}
}

// each copies the objects of the original that pick picks; nil: this one is not.
func (c *backupCopy) each(ctx context.Context, pick func(sumLine) *transfer) error {
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(copyWorkers)
	err := c.from.readSums(ctx, c.in.ID, sumsDir, c.original.decided.Sums, func(l sumLine) error {
		if t := pick(l); t != nil {
			group.Go(func() error { return c.transfer(inner, t) })
		}
		return context.Cause(inner)
	})
	if wait := group.Wait(); wait != nil {
		return wait
	}
	return err
}

// check refuses what no writer of a backup puts and lists: where an object goes to is the word of another repository, which must
// neither decide, delete or hold the copy nor fill the memory.
func (t *transfer) check() error {
	most := int64(maxShard)
	switch {
	case checkVolumeName(t.name) == nil:
		most = 2 * maxVolume
	case strings.HasPrefix(t.name, filesDir), strings.HasPrefix(t.name, hashDir), strings.HasPrefix(t.name, manifestDir):
	default:
		return corrupt(t.key, fmt.Errorf("%.100q is not the name of an object that a backup lists", t.name))
	}
	if t.line.size > most {
		return corrupt(t.key, fmt.Errorf("it has %d bytes; no writer puts more than %d", t.line.size, most))
	}
	return nil
}

// transfer copies one object, once its bytes are proved.
func (c *backupCopy) transfer(ctx context.Context, t *transfer) error {
	if err := t.check(); err != nil {
		return err
	}
	if kept, err := c.kept(ctx, t); kept || err != nil {
		return err
	}
	body, err := c.from.provedObject(ctx, t.key, t.line)
	if err != nil {
		return err
	}
	return c.put(ctx, t.name, body)
}

// maxAbsent is how many objects in a row may be missing of what an earlier copier left before the others are not looked for: it put
// them in this order. What is there all the same is compared when it is put.
const maxAbsent = 16

// kept tells whether an earlier copier has put the object, and proves it. Where data cannot be read, put compares what its writer has signed.
func (c *backupCopy) kept(ctx context.Context, t *transfer) (bool, error) {
	if c.begun == nil || !c.to.repo.ReadsData() || c.absent.Load() > maxAbsent {
		return false, nil
	}
	_, err := c.to.provedObject(ctx, c.to.key.backupDir(c.in.ID)+t.name, t.line)
	if isAbsent(err) {
		c.absent.Add(1)
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("go on with what an earlier copy stored: %w", err)
	}
	c.absent.Store(0)
	c.tell(t.line.size, true)
	return true, nil
}

// provedObject reads a whole object that a list of sums names. The error is of CodeCorrupt where it is not as it was written.
func (c *Cluster) provedObject(ctx context.Context, key string, l sumLine) ([]byte, error) {
	body, err := c.readObject(ctx, key, l.size)
	if err != nil {
		return nil, missing(key, err)
	}
	if err := l.check(body); err != nil {
		return nil, corrupt(key, err)
	}
	return body, nil
}

func (c *backupCopy) put(ctx context.Context, name string, body []byte) error {
	if err := c.to.putObject(ctx, c.to.key.backupDir(c.in.ID)+name, body); err != nil {
		return err
	}
	c.tell(int64(len(body)), false)
	return nil
}

// tell counts what has come into the copy.
func (c *backupCopy) tell(bytes int64, kept bool) {
	c.telling.Lock()
	defer c.telling.Unlock()
	c.done += bytes
	if kept {
		c.copied.Kept += bytes
	} else {
		c.copied.Bytes += bytes
	}
	if c.in.Report != nil {
		c.in.Report(min(c.done, c.total), c.total)
	}
}

// list copies a shard of sums/ or refs/, proved by the original's decision.
func (c *backupCopy) list(ctx context.Context, name string, want shardSum) error {
	key := c.from.key.backupDir(c.in.ID) + name
	body, err := c.from.readObject(ctx, key, want.Size)
	if err != nil {
		return missing(key, err)
	}
	if err := want.check(body); err != nil {
		return corrupt(key, err)
	}
	return c.put(ctx, name, body)
}

// relaying makes a copy that stands alone: volumes of others become its own, under numbers that its own leave free, and the
// lists of files and of sums are written anew.
type relaying struct {
	*backupCopy
	next   map[uint32]int // the first free number of each folder
	moved  map[volumeKey]int
	sums   sumWriter
	framer *seal.Framer
}

func (c *backupCopy) fillAlone(ctx context.Context, d decision) (decision, error) {
	framer, err := seal.NewFramer(c.to.repo.Compression())
	if err != nil {
		return d, err
	}
	r := &relaying{backupCopy: c, next: map[uint32]int{}, moved: map[volumeKey]int{}, sums: sumWriter{dir: sumsDir}, framer: framer}
	note := func(l sumLine) error {
		return r.sums.add(l, func(name string, b []byte) error { return c.put(ctx, name, b) })
	}
	var failed error
	for _, last := range []bool{false, true} {
		err := c.each(ctx, func(l sumLine) *transfer {
			again := strings.HasPrefix(l.name, filesDir) || l.name == folderListName
			if again || strings.HasPrefix(l.name, manifestDir) != last {
				return nil
			}
			if folder, n, err := splitVolume(l.name); err == nil {
				r.next[folder] = max(r.next[folder], n+1)
			}
			if err := note(l); err != nil {
				failed = err
			}
			return c.own(l)
		})
		if err == nil {
			err = failed
		}
		if err == nil && !last {
			err = r.others(ctx, note)
		}
		if err == nil && !last {
			err = r.files(ctx, d.FileShards, note)
		}
		if err != nil {
			return d, err
		}
	}
	if err := r.folders(ctx, note); err != nil {
		return d, err
	}
	if err := r.sums.flush(func(name string, b []byte) error { return c.put(ctx, name, b) }); err != nil {
		return d, err
	}
	d.Sums, d.Refs, d.RefersTo, d.StoredBytes = r.sums.shards, nil, nil, c.done
	if d.Chain != nil {
		chain := *d.Chain
		chain.Referred, chain.Live = 0, 0
		d.Chain = &chain
	}
	return d, nil
}

// others copies the volumes of other backups that the original reads, in the order of its lists.
func (r *relaying) others(ctx context.Context, note func(sumLine) error) error {
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(copyWorkers)
	err := r.from.readSums(ctx, r.in.ID, refsDir, r.original.decided.Refs, func(l sumLine) error {
		id, volume, err := splitReference(l.name)
		if err != nil {
			return corrupt(r.from.key.backupDir(r.in.ID)+refsDir, err)
		}
		folder, n, err := splitVolume(volume)
		if err != nil {
			return err
		}
		number := r.next[folder]
		r.next[folder]++
		r.moved[volumeKey{id, folder, n}] = number
		t := &transfer{line: l, key: r.from.key.backupDir(id) + volume, name: volumeName(folder, number)}
		group.Go(func() error { return r.transfer(inner, t) })
		l.name = t.name
		return note(l)
	})
	if wait := group.Wait(); wait != nil {
		return wait
	}
	return err
}

// files writes the lists of files anew: every frame lies in a volume of the copy.
func (r *relaying) files(ctx context.Context, shards int, note func(sumLine) error) error {
	b, err := r.from.OpenBackup(ctx, r.in.ID)
	if err != nil {
		return err
	}
	for n := range shards {
		name := shardName(filesDir, n)
		raw, err := b.shard(ctx, name)
		if err != nil {
			return err
		}
		if raw, err = r.relaid(raw, n); err != nil {
			return corrupt(b.key(name), err)
		}
		stored, err := r.framer.Frame(nil, raw)
		if err != nil {
			return err
		}
		if err := r.write(ctx, name, stored, note); err != nil {
			return err
		}
	}
	return nil
}

func (r *relaying) relaid(raw []byte, n int) ([]byte, error) {
	if _, err := decodeFileShard(raw, r.in.ID, n); err != nil {
		return nil, err
	}
	var s fileShard
	if err := s.read(raw); err != nil {
		return nil, err
	}
	for i := range s.Frames {
		f := &s.Frames[i]
		if f.Other == 0 {
			continue
		}
		number, ok := r.moved[volumeKey{s.Others[f.Other-1], f.Folder, f.Volume}]
		if !ok {
			return nil, fmt.Errorf("a frame lies in volume %d of backup %s, which no list names", f.Volume, s.Others[f.Other-1])
		}
		f.Other, f.Volume = 0, number
	}
	s.Others = nil
	return json.Marshal(&s)
}

// folders writes folders.json anew.
func (r *relaying) folders(ctx context.Context, note func(sumLine) error) error {
	b, err := r.from.OpenBackup(ctx, r.in.ID)
	if err != nil {
		return err
	}
	list := folderList{Format: backupFormat, Backup: r.in.ID}
	for _, f := range b.Folders() {
		f.Volumes = r.next[f.OID]
		list.Folders = append(list.Folders, f)
	}
	body, err := encodeRecord(list)
	if err != nil {
		return err
	}
	return r.write(ctx, folderListName, body, note)
}

func (r *relaying) write(ctx context.Context, name string, body []byte, note func(sumLine) error) error {
	if err := r.put(ctx, name, body); err != nil {
		return err
	}
	return note(sumLine{name: name, size: int64(len(body)), sum: sha256.Sum256(body)})
}
