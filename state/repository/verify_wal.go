package repository

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

// archive looks at the WAL and its index, a log at a time, and then whether the backups have the WAL that they need.
func (v *clusterCheck) archive(ctx context.Context) error {
	if v.z == 0 {
		return nil // without the size of segments no name of WAL can be read; cluster.json was reported
	}
	timelines, err := v.c.timelines(ctx)
	if err != nil {
		return err
	}
	for _, t := range timelines {
		w := &timelineCheck{clusterCheck: v, t: t}
		v.seenWAL[t] = w
		if err := w.run(ctx); err != nil {
			return err
		}
	}
	return nil
}

// timelineCheck is the part of a look at one timeline.
type timelineCheck struct {
	*clusterCheck
	t      wal.Timeline
	runs   []run        // whole segments that are there
	bad    []uint64     // segments that are there and are not what was written
	parts  []uint64     // segments of which a partial cannot be read
	absent []absentWAL  // segments that should be there, by number
	names  map[log]bool // logs that have objects or an index
}

// absentWAL is a stretch of segments that are missing for one reason.
type absentWAL struct {
	first, last uint64
	why         string
}

func (w *timelineCheck) run(ctx context.Context) error {
	if err := w.logs(ctx); err != nil {
		return err
	}
	for _, l := range slices.Sorted(maps.Keys(w.names)) {
		if err := w.log(ctx, l); err != nil {
			return err
		}
	}
	for _, b := range w.kept {
		if b.Timeline == w.t {
			if err := w.needs(ctx, b); err != nil {
				return err
			}
		}
	}
	w.tellAbsent()
	return nil
}

// logs lists the logs of a timeline, and what lies beside them.
func (w *timelineCheck) logs(ctx context.Context) error {
	w.names = map[log]bool{}
	dir := w.c.key.timelineDir(w.t)
	for info, err := range w.c.repo.st.List(ctx, dir, "", true) {
		if err != nil {
			return fmt.Errorf("list %s: %w", dir, err)
		}
		l, ok := w.c.key.parseLogDir(info.Key, w.t)
		if !ok || !info.Prefix {
			w.stranger(info.Key)
			continue
		}
		w.names[l] = true
	}
	return w.each(ctx, w.c.key.indexTimeline(w.t), func(key string) error {
		n, ok := w.c.key.parseIndexFile(key)
		if !ok {
			w.stranger(key)
			return nil
		}
		w.names[n.Log] = true
		_, err := w.c.readIndex(ctx, n, w.z)
		return err
	})
}

// log looks at one log: the index that counts, then what is there.
func (w *timelineCheck) log(ctx context.Context, l log) error {
	n, known, err := w.index(ctx, l)
	if err != nil {
		return err
	}
	there, err := w.objects(ctx, l)
	if err != nil {
		return err
	}
	if err := w.read(ctx, there, known); err != nil {
		return err
	}
	return w.indexed(ctx, n, known)
}

// index gives what the index that counts knows of a log, by number. One that cannot be read was reported.
func (w *timelineCheck) index(ctx context.Context, l log) (indexName, map[uint64]indexEntry, error) {
	names, err := w.c.indexNames(ctx, w.c.key.indexTimeline(w.t)+l.hex()+".")
	if err != nil {
		return indexName{}, nil, err
	}
	n, ok := winner(names[l])
	if !ok {
		return indexName{}, nil, nil
	}
	x, err := w.c.readIndex(ctx, n, w.z)
	if isAbsent(err) || isCorrupt(err) {
		return indexName{}, nil, nil
	}
	if err != nil {
		return n, nil, w.find(ctx, w.c.key.indexFile(n), err)
	}
	known := map[uint64]indexEntry{}
	for _, e := range x.Segments {
		if !slices.Contains(x.Removing, e.N) {
			known[segmentOf(w.t, l, e.N, w.z).Number] = e
		}
	}
	return n, known, nil
}

// objects lists a log.
func (w *timelineCheck) objects(ctx context.Context, l log) ([]listed, error) {
	var out []listed
	dir := w.c.key.logDir(w.t, l)
	for info, err := range w.c.repo.st.List(ctx, dir, "", false) {
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", dir, err)
		}
		n, ok := w.c.key.parseWALFile(info.Key, w.z)
		if !ok || n.Segment.Timeline != w.t {
			w.stranger(info.Key)
			continue
		}
		out = append(out, listed{walName: n, size: info.Size})
		if !n.partial() {
			w.runs = join(w.runs, run{first: n.Segment.Number, last: n.Segment.Number})
		}
	}
	return out, nil
}

// read looks at the objects of a log, some at a time.
func (w *timelineCheck) read(ctx context.Context, there []listed, known map[uint64]indexEntry) error {
	for some := range slices.Chunk(there, w.depth.stride()) {
		group, inner := errgroup.WithContext(ctx)
		group.SetLimit(verifyWorkers)
		for _, o := range some {
			group.Go(func() error { return w.object(inner, o, known) })
		}
		if err := group.Wait(); err != nil {
			return err
		}
		if !w.depth.full {
			continue
		}
		at := state.VerifyCursor{Timeline: w.t, Segment: some[len(some)-1].Segment.Number + 1}
		if err := w.mark(ctx, at); err != nil {
			return err
		}
	}
	return nil
}

// object proves one whole or partial segment, as closely as is asked for.
func (w *timelineCheck) object(ctx context.Context, o listed, known map[uint64]indexEntry) error {
	key := w.c.key.walFile(o.walName, w.z)
	e, indexed := known[o.Segment.Number]
	indexed = indexed && !o.partial()
	var err error
	switch {
	case indexed && e.Size != o.size && e.Size != 0:
		err = corrupt(key, fmt.Errorf("it has %d bytes; the index has seen it with %d", o.size, e.Size))
	case w.depth.reads(key) && (!w.passed(o.Segment.Number) || w.depth.doubt[key]):
		err = w.prove(ctx, o.walName, e, indexed)
	case !indexed:
		err = w.note(ctx, o)
	}
	if err == nil || isAbsent(err) { // deleted since it was listed: who misses it says so
		return nil
	}
	w.mu.Lock()
	if o.partial() {
		w.parts = append(w.parts, o.Segment.Number)
	} else {
		w.bad = append(w.bad, o.Segment.Number)
	}
	w.mu.Unlock()
	return w.find(ctx, key, err)
}

// passed tells whether an earlier look that goes on here has read this segment.
func (w *timelineCheck) passed(number uint64) bool {
	return w.t < w.from.Timeline || w.t == w.from.Timeline && number < w.from.Segment
}

// prove reads a segment as a restore does.
func (w *timelineCheck) prove(ctx context.Context, n walName, e indexEntry, indexed bool) error {
	if w.c.closed(w.c.key.walFile(n, w.z)) {
		return w.proveSealed(ctx, n, e, indexed)
	}
	r, err := w.c.openWAL(ctx, n, w.z)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	if err = errors.Join(err, r.Close()); err != nil {
		return err
	}
	if indexed && e.SHA256 != "" && r.SHA256() != e.SHA256 {
		return corrupt(r.key, fmt.Errorf("its SHA-256 is %s; the index has seen it with %s", r.SHA256(), e.SHA256))
	}
	return nil
}

// note looks at what an object says of itself, where no index says it.
func (w *timelineCheck) note(ctx context.Context, o listed) error {
	key := w.c.key.walFile(o.walName, w.z)
	m, err := w.c.readMeta(ctx, key) // not what is remembered
	if err != nil {
		return err
	}
	if _, bad := w.c.checkHead(m, o.walName, w.z); bad != nil {
		return corrupt(key, bad)
	}
	if o.size <= m.Stored.Size {
		return corrupt(key, fmt.Errorf("it has %d bytes; its note alone says %d of the rest", o.size, m.Stored.Size))
	}
	return nil
}

// indexed looks for the segments that an index names. A deletion puts a new index before it deletes, so what an index
// names that is still the newest afterwards has to be there.
func (w *timelineCheck) indexed(ctx context.Context, n indexName, known map[uint64]indexEntry) error {
	for _, number := range slices.Sorted(maps.Keys(known)) {
		if holds(w.runs, number) {
			continue
		}
		there, err := w.c.exists(ctx, w.c.key.segmentFile(wal.Segment{Timeline: w.t, Number: number}, w.z))
		if err != nil {
			return err
		}
		names, err := w.c.indexNames(ctx, w.c.key.indexTimeline(w.t)+n.Log.hex()+".")
		if err != nil {
			return err
		}
		if newest, ok := winner(names[n.Log]); !ok || newest != n {
			return nil
		}
		if !there {
			w.lost(number, "the index names it")
		}
	}
	return nil
}

// needs looks for the WAL from a backup's redo position to its end. What has not come yet is no finding, and neither is what
// is recorded as lost: the backup is known to wait, or to be lost.
func (w *timelineCheck) needs(ctx context.Context, b state.Backup) error {
	if len(w.runs) == 0 || b.Stop <= b.Redo {
		return nil
	}
	gaps, err := w.c.Gaps(ctx)
	if err != nil {
		return nil // reported with the gap
	}
	newest := w.runs[len(w.runs)-1].last
	last := w.z.SegmentAt(w.t, b.Stop-1)
	for seg := w.z.SegmentAt(w.t, b.Redo); seg.Number <= min(last.Number, newest); seg = seg.Next() {
		if holds(w.runs, seg.Number) || recorded(gaps, wal.Range{Timeline: w.t, From: seg.Start(w.z), To: seg.End(w.z)}) {
			continue
		}
		there, err := w.c.exists(ctx, w.c.key.segmentFile(seg, w.z))
		if err != nil {
			return err
		}
		if there {
			continue
		}
		if gone, err := w.gone(ctx, b.ID); err != nil || gone {
			return err
		}
		w.lost(seg.Number, "backup "+b.ID+" needs it")
	}
	return nil
}

// gone tells whether a backup was deleted meanwhile, and its WAL with it.
func (v *clusterCheck) gone(ctx context.Context, id string) (bool, error) {
	r, err := v.c.readBackup(ctx, id)
	if errors.Is(err, store.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at backup %s again: %w", id, err)
	}
	return r.tomb != nil || r.aborted() || !r.remains, nil
}

// lost notes a segment that should be there.
func (w *timelineCheck) lost(number uint64, why string) {
	for i := range w.absent {
		a := &w.absent[i]
		if a.first <= number && number <= a.last {
			return
		}
		if a.last+1 == number && a.why == why {
			a.last = number
			return
		}
	}
	w.absent = append(w.absent, absentWAL{first: number, last: number, why: why})
}

// tellAbsent makes one finding of each stretch.
func (w *timelineCheck) tellAbsent() {
	for _, a := range w.absent {
		first, last := wal.Segment{Timeline: w.t, Number: a.first}, wal.Segment{Timeline: w.t, Number: a.last}
		text := "it is missing: " + a.why
		if a.last > a.first {
			text = fmt.Sprintf("it and all up to %s, %d segments, are missing: %s", last.Name(w.z), a.last-a.first+1, a.why)
		}
		w.add(Finding{Object: w.c.key.segmentFile(first, w.z), Code: state.CodeCorrupt, Text: text})
	}
}

// recorded tells whether a gap touches the range.
func recorded(gaps []state.Gap, r wal.Range) bool {
	return slices.ContainsFunc(gaps, func(g state.Gap) bool {
		return g.Timeline == r.Timeline && g.From < r.To && r.From < g.To
	})
}
