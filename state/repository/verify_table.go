package repository

import (
	"context"
	"fmt"
	"strings"

	"github.com/zeebo/xxh3"
)

// tableLines is how many lines of sums a look holds at a time, about 60 MB of them: 3.2 TB of volumes as stored, however
// many files lie in them. A backup with more is looked at in several parts.
const tableLines = 400_000

// sumTable is one part of what a backup's sums and refs name.
type sumTable struct {
	part, parts uint64
	lines       map[string]*tableLine // by name
}

type tableLine struct {
	sum   [32]byte
	size  int64
	there bool // with its size
	bad   bool // something was found wrong with it
	read  bool // every byte was read in this look, or in the one that it goes on with
}

// partsOf tells in how many parts a backup is looked at: a line has at least 86 bytes.
func partsOf(d decision, most int64) uint64 {
	var size int64
	for _, s := range append(append([]shardSum{}, d.Sums...), d.Refs...) {
		size += s.Size
	}
	return 1 + uint64(size/86/most)
}

// holds tells whether a name belongs to this part.
func (t *sumTable) holds(name string) bool {
	return t.parts == 1 || xxh3.HashString(name)%t.parts == t.part
}

// fill takes the lines of a shard.
func (t *sumTable) fill(body []byte) error {
	return parseSums(body, func(l sumLine) error {
		if t.holds(l.name) {
			t.lines[l.name] = &tableLine{sum: l.sum, size: l.size}
		}
		return nil
	})
}

// volumeOf gives the name under which sums/ or refs/ knows a volume.
func volumeOf(f frameAt) string {
	name := volumeName(f.folder, f.volume)
	if f.backup != "" {
		return referenceName(f.backup, name)
	}
	return name
}

// keyOf gives the key of what a line names.
func (v *verification) keyOf(name string) string {
	if id, volume, err := splitReference(name); err == nil {
		return v.c.key.backupDir(id) + volume
	}
	return v.c.key.backupDir(v.id) + name
}

// look compares the table with what the store lists: the backup's own prefix, and the volumes of those it refers to.
func (v *verification) look(ctx context.Context) error {
	dir := v.c.key.backupDir(v.id)
	if err := v.listed(ctx, dir, "", true); err != nil {
		return err
	}
	for _, id := range v.refersTo {
		if err := v.listed(ctx, v.c.key.backupDir(id)+volumeDir, "../"+id+"/"+volumeDir, false); err != nil {
			return err
		}
	}
	for name, l := range v.table.lines {
		if l.there || l.bad {
			continue
		}
		key := v.keyOf(name)
		info, err := v.c.repo.Store().Stat(ctx, key) // put or listed a moment later, or deleted meanwhile
		if err == nil {
			v.sized(key, l, info.Size)
			continue
		}
		l.bad = true
		if err := v.reportOr(ctx, key, err); err != nil {
			return err
		}
	}
	return nil
}

// listed ticks off what the store has below dir. Names are those in the lists: dir replaced by prefix.
func (v *verification) listed(ctx context.Context, dir, prefix string, own bool) error {
	for info, err := range v.c.repo.Store().List(ctx, dir, "", false) {
		if err != nil {
			return fmt.Errorf("list %s: %w", dir, err)
		}
		name := prefix + strings.TrimPrefix(info.Key, dir)
		if !v.table.holds(name) {
			continue
		}
		if l := v.table.lines[name]; l != nil {
			v.sized(info.Key, l, info.Size)
			continue
		}
		if own {
			if err := v.unlisted(ctx, name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (v *verification) sized(key string, l *tableLine, size int64) {
	l.there = true
	if size != l.size && !l.bad {
		l.bad = true
		v.find(key, "it has %d bytes; %d were written", size, l.size)
	}
}
