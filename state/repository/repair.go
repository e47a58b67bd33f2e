package repository

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

// Repaired says what became of one object that verification found damaged.
type Repaired struct {
	Object string
	Healed bool
	Sound  bool // it is whole, or needed by nobody, by now
	From   string
	Why    string // it is neither
}

// RepairSource is where whole objects may be.
type RepairSource struct {
	Name    string // in messages
	Cluster *Cluster
}

// Repair heals objects from other repositories, in an order in which each can be judged by what was healed before it. An
// object that proves itself here is left as it is. One that does not, or is missing, is replaced only by bytes that are in hand
// and proved: by the SHA-256 that this repository's own lists have of it, or where none names it, by themselves and by
// what they say of whose they are. Then the bad one is deleted, the good one is put, and read back. A repair that is killed
// in between leaves the object missing, and the next one heals that.
//
// The error is for what kept it from working; what cannot be healed is said in the answer. What was healed is to be
// verified again.
func (c *Cluster) Repair(ctx context.Context, damage []state.Damage, from []RepairSource) ([]Repaired, error) {
	sorted := slices.Clone(damage)
	slices.SortStableFunc(sorted, func(a, b state.Damage) int { return cmp.Compare(c.key.rank(a.Object), c.key.rank(b.Object)) })
	var out []Repaired
	for _, f := range sorted {
		h, err := c.healing(ctx, f)
		if err != nil {
			return out, fmt.Errorf("repair %s: %w", f.Object, err)
		}
		r := Repaired{Object: f.Object}
		if h == nil {
			r.Why = "no other repository can have it"
		} else if err := h.run(ctx, from, &r); err != nil {
			return out, fmt.Errorf("repair %s: %w", f.Object, err)
		}
		out = append(out, r)
	}
	return out, nil
}

// rank orders damage: what says how others are to be judged comes first.
func (k ClusterKey) rank(key string) int {
	_, name := k.splitBackup(key)
	switch {
	case key == k.clusterFile():
		return 0
	case name == startName:
		return 1
	case strings.HasPrefix(name, sumsDir), strings.HasPrefix(name, refsDir):
		return 3
	case name == decisionName: // START tells whose it is
		return 2
	case strings.HasPrefix(key, k.indexDir()): // written anew from what is there then
		return 5
	}
	return 4
}

// splitBackup gives the backup and the name below its prefix; empty: it is of no backup.
func (k ClusterKey) splitBackup(key string) (id, name string) {
	rest, in := strings.CutPrefix(key, k.backupsDir())
	id, name, cut := strings.Cut(rest, "/")
	if !in || !cut || CheckBackupID(id) != nil {
		return "", ""
	}
	return id, name
}

// healing is how one object is judged and made anew.
type healing struct {
	c   *Cluster
	key string
	// sound tells whether a repository has it whole; the error says what is wrong. It is asked here and of each source.
	sound func(ctx context.Context, in *Cluster) error
	// fetch gives the bytes to be put; nil: as they are stored in the source.
	fetch func(ctx context.Context, in *Cluster) ([]byte, error)
	// rebuild makes it anew without a source; nil: it needs one.
	rebuild func(ctx context.Context) error
	limit   int64
}

// run heals one object.
func (h *healing) run(ctx context.Context, from []RepairSource, r *Repaired) error {
	bad := h.sound(ctx, h.c)
	switch {
	case bad == nil:
		r.Sound = true
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case !isCorrupt(bad) && !isAbsent(bad): // it could not be looked at: nothing says that it is damaged
		r.Why = bad.Error()
		return nil
	case h.rebuild != nil:
		if err := h.remove(ctx); err != nil {
			r.Why = err.Error()
			return nil //nolint:nilerr // told
		}
		r.Healed, r.From = true, "what is there"
		return h.rebuild(ctx)
	}
	var why []string
	for _, s := range from {
		err := h.from(ctx, s.Cluster)
		if err == nil {
			r.Healed, r.From = true, s.Name
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		why = append(why, s.Name+": "+reasonOf(err))
	}
	r.Why = "no other repository has it whole"
	if len(why) > 0 {
		r.Why += " (" + strings.Join(why, "; ") + ")"
	}
	return nil
}

// from heals from one source.
func (h *healing) from(ctx context.Context, source *Cluster) error {
	if err := copyable(source, h.c); err != nil {
		return err
	}
	if err := h.sound(ctx, source); err != nil && h.fetch == nil {
		return err
	}
	fetch := h.fetch
	if fetch == nil {
		fetch = func(ctx context.Context, in *Cluster) ([]byte, error) { return in.readObject(ctx, h.key, h.limit) }
	}
	body, err := fetch(ctx, source)
	if err != nil {
		return err
	}
	if err := h.remove(ctx); err != nil {
		return err
	}
	if err := h.c.putObject(ctx, h.key, body); err != nil {
		return err
	}
	return h.sound(ctx, h.c)
}

// remove deletes the damaged object, which was judged a moment ago.
func (h *healing) remove(ctx context.Context) error {
	there, err := h.c.exists(ctx, h.key)
	if err != nil || !there {
		return err
	}
	if err := h.c.repo.Store().Delete(ctx, h.key); err != nil {
		return fmt.Errorf("delete what is damaged: %w", err)
	}
	h.c.repo.shared.heads.drop(h.key)
	h.c.repo.shared.rolls.drop(h.key)
	return nil
}

// maxStored bounds an object that is copied as it is stored.
const maxStored = 256 << 20

// healing decides how an object is to be healed; nil: it is nothing that another repository can have.
func (c *Cluster) healing(ctx context.Context, f state.Damage) (*healing, error) {
	h := &healing{c: c, key: f.Object, limit: maxStored}
	k := c.key
	if id, name := k.splitBackup(f.Object); id != "" {
		return h.ofBackup(ctx, id, name, f)
	}
	switch {
	case f.Object == k.clusterFile():
		h.sound = func(ctx context.Context, in *Cluster) error { _, err := in.readFacts(ctx); return err }
	case strings.HasPrefix(f.Object, k.gapDir()):
		r, ok := k.parseGapFile(f.Object)
		if !ok {
			return nil, nil //nolint:nilnil // a stranger
		}
		h.sound = func(ctx context.Context, in *Cluster) error { _, err := in.readGap(ctx, f.Object, r); return err }
	case strings.HasPrefix(f.Object, k.evidenceDir()), strings.HasPrefix(f.Object, k.journalDir()):
		h.sound = func(ctx context.Context, in *Cluster) error { _, err := in.readNote(ctx, f.Object); return err }
	default:
		return h.ofWAL(ctx)
	}
	return h, nil
}

func (h *healing) ofWAL(ctx context.Context) (*healing, error) {
	c, k := h.c, h.c.key
	if t, ok := k.parseHistoryFile(h.key); ok {
		h.sound = func(ctx context.Context, in *Cluster) error {
			content, err := in.History(ctx, t)
			if err == nil {
				if _, bad := wal.ParseHistory(t, content); bad != nil {
					err = corrupt(h.key, bad)
				}
			}
			return err
		}
		return h, nil
	}
	z, err := c.segmentSize(ctx)
	if err != nil {
		return nil, err
	}
	if n, ok := k.parseIndexFile(h.key); ok {
		h.sound = func(ctx context.Context, in *Cluster) error { _, err := in.readIndex(ctx, n, z); return err }
		h.rebuild = func(ctx context.Context) error { return c.RebuildIndex(ctx, n.Timeline) }
		return h, nil
	}
	n, ok := k.parseWALFile(h.key, z)
	if !ok {
		return nil, nil //nolint:nilnil // a stranger
	}
	h.sound = func(ctx context.Context, in *Cluster) error { return in.proveWAL(ctx, n, z) }
	h.fetch = func(ctx context.Context, in *Cluster) ([]byte, error) { return c.packedFrom(ctx, in, n, z) }
	return h, nil
}

// proveWAL reads a WAL object to its end, and compares it with what the index says of it. A part of a segment that is archived
// whole is needed by nobody.
func (c *Cluster) proveWAL(ctx context.Context, n walName, z wal.SegmentSize) error {
	if n.partial() {
		if whole, err := c.exists(ctx, c.key.segmentFile(n.Segment, z)); err != nil || whole {
			return err
		}
	}
	w, err := c.openWAL(ctx, n, z)
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := io.Copy(io.Discard, w); err != nil {
		return err
	}
	want, err := c.indexedSum(ctx, n, z)
	if err == nil && want != "" && want != w.SHA256() {
		err = corrupt(c.key.walFile(n, z), errors.New("it is not what the index says of it"))
	}
	return err
}

// indexedSum gives the SHA-256 of the plain bytes that the index has of a segment; empty: none.
func (c *Cluster) indexedSum(ctx context.Context, n walName, z wal.SegmentSize) (string, error) {
	if n.partial() {
		return "", nil
	}
	l := logOf(n.Segment, z)
	names, err := c.indexNames(ctx, c.key.indexTimeline(n.Segment.Timeline)+l.hex()+".")
	if err != nil {
		return "", err
	}
	newest, ok := winner(names[l])
	if !ok {
		return "", nil
	}
	x, err := c.readIndex(ctx, newest, z)
	if isCorrupt(err) || isAbsent(err) {
		return "", nil //nolint:nilerr // it is written anew
	}
	for _, e := range x.Segments {
		if e.N == inLog(n.Segment, z) {
			return e.SHA256, err
		}
	}
	return "", err
}

// packedFrom reads WAL of another repository to its end, holds it against what the index here says, and packs it for this one.
func (c *Cluster) packedFrom(ctx context.Context, from *Cluster, n walName, z wal.SegmentSize) ([]byte, error) {
	w, err := from.openWAL(ctx, n, z)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	want, err := c.indexedSum(ctx, n, z)
	if err != nil {
		return nil, err
	}
	if want != "" && want != w.SHA256() {
		return nil, forked("segment "+n.Segment.Name(z)+" of "+c.key.Name, want, w.SHA256())
	}
	p, err := c.repackWAL(n, z, w)
	if err != nil {
		return nil, err
	}
	defer p.o.Close()
	body := make([]byte, p.o.Size())
	if _, err := p.o.ReadAt(body, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return body, nil
}

var errNotNamed = fmt.Errorf("no list names it: %w", store.ErrNotExist)
