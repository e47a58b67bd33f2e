package repository

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/pgkeep/pgkeep/state"
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
		if err := w.run(ctx); err != nil {
			return err
		}
	}
	return nil
}

// timelineCheck is the part of a run that looks at one timeline.
type timelineCheck struct {
	*clusterCheck
	t        wal.Timeline
	runs     []run           // whole segments that are there
	reported map[uint64]bool // segments that are named as missing
}

func (w *timelineCheck) run(ctx context.Context) error {
	w.reported = map[uint64]bool{}
	if err := w.objects(ctx); err != nil {
		return err
	}
	if err := w.indexes(ctx); err != nil {
		return err
	}
	for _, b := range w.kept {
		if b.Timeline == w.t {
			if err := w.needs(ctx, b); err != nil {
				return err
			}
		}
	}
	return nil
}

// objects proves every whole and partial segment.
func (w *timelineCheck) objects(ctx context.Context) error {
	return w.each(ctx, w.c.key.timelineDir(w.t), func(key string) error {
		n, ok := w.c.key.parseWALFile(key, w.z)
		if !ok || n.Segment.Timeline != w.t {
			w.stranger(key)
			return nil
		}
		if !n.partial() {
			w.runs = join(w.runs, run{first: n.Segment.Number, last: n.Segment.Number})
		}
		return w.prove(ctx, n)
	})
}

func (w *timelineCheck) prove(ctx context.Context, n walName) error {
	if !w.full {
		m, err := w.c.readMeta(ctx, w.c.key.walFile(n, w.z)) // not what is remembered
		if err == nil {
			if _, bad := w.c.checkHead(m, n, w.z); bad != nil {
				err = corrupt(w.c.key.walFile(n, w.z), bad)
			}
		}
		return err
	}
	r, err := w.c.openWAL(ctx, n, w.z)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	return errors.Join(err, r.Close())
}

// indexes reads every wx object, and looks for what the one that counts names.
func (w *timelineCheck) indexes(ctx context.Context) error {
	bad := map[indexName]bool{}
	err := w.each(ctx, w.c.key.indexTimeline(w.t), func(key string) error {
		n, ok := w.c.key.parseIndexFile(key)
		if !ok {
			w.stranger(key)
			return nil
		}
		_, err := w.c.readIndex(ctx, n, w.z)
		bad[n] = err != nil
		return err
	})
	if err != nil {
		return err
	}
	names, err := w.c.indexNames(ctx, w.c.key.indexTimeline(w.t))
	if err != nil {
		return err
	}
	for l := range names {
		if n, ok := winner(names[l]); ok && !bad[n] {
			if err := w.indexed(ctx, n); err != nil {
				return err
			}
		}
	}
	return nil
}

// indexed looks for the segments that an index names. A deletion puts a new index before it deletes, so what an index
// names that is still the newest afterwards has to be there.
func (w *timelineCheck) indexed(ctx context.Context, n indexName) error {
	x, err := w.c.readIndex(ctx, n, w.z)
	if err != nil {
		if isAbsent(err) {
			return nil // a newer one has come
		}
		return w.find(ctx, w.c.key.indexFile(n), err)
	}
	for _, e := range x.Segments {
		seg := segmentOf(w.t, n.Log, e.N, w.z)
		if slices.Contains(x.Removing, e.N) {
			continue
		}
		if holds(w.runs, seg.Number) {
			if err := w.same(ctx, seg, e); err != nil {
				return err
			}
			continue
		}
		there, err := w.c.exists(ctx, w.c.key.segmentFile(seg, w.z))
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
			w.lost(seg, errors.New("the index names it"))
		}
	}
	return nil
}

// same compares a segment with what the index knows of it: its note says whether it is the one that was indexed.
func (w *timelineCheck) same(ctx context.Context, seg wal.Segment, e indexEntry) error {
	key := w.c.key.segmentFile(seg, w.z)
	m, err := w.c.readMeta(ctx, key)
	if err != nil || e.SHA256 == "" || m.Plain.SHA256 == e.SHA256 {
		return nil // what cannot be read was reported
	}
	return w.find(ctx, key, corrupt(key, fmt.Errorf("its SHA-256 is %s; the index has seen it with %s", m.Plain.SHA256, e.SHA256)))
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
		if !there {
			w.lost(seg, fmt.Errorf("backup %s needs it", b.ID))
		}
	}
	return nil
}

func (w *timelineCheck) lost(seg wal.Segment, why error) {
	if !w.reported[seg.Number] {
		w.reported[seg.Number] = true
		w.missing(w.c.key.segmentFile(seg, w.z), why)
	}
}

// recorded tells whether a gap touches the range.
func recorded(gaps []state.Gap, r wal.Range) bool {
	return slices.ContainsFunc(gaps, func(g state.Gap) bool {
		return g.Timeline == r.Timeline && g.From < r.To && r.From < g.To
	})
}
