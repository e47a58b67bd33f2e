package plan

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// drillTarget chooses the moment of a drill and the backup that it begins with; nil: no backup is usable. A drill proves what the
// repository holds: WAL that only a spool has does not count.
func drillTarget(a *archive, d *hclspec.Drill, since time.Time) (hclspec.Target, *candidate) {
	x := a.current
	var on []*state.Backup // newest first
	for i := range a.Backups {
		k := &a.Backups[i]
		if a.usability(k) == state.Usable && x.holds(k.Timeline, k.Stop) {
			on = append(on, k)
		}
	}
	target := hclspec.Target{Inclusive: true, Action: "promote"}
	if len(on) == 0 {
		return target, nil
	}
	slices.SortStableFunc(on, func(i, j *state.Backup) int { return compareLSN(j.Stop, i.Stop) })
	newest := &candidate{backup: on[0], line: x, end: max(a.reach(x, on[0]), on[0].Stop)}
	switch {
	case d.Target.Immediate:
		target.Immediate, newest.end = true, on[0].Stop
		return target, newest
	case d.Target.Random:
		if c, at := randomMoment(a, x, on, seed(d.Name, since)); c != nil {
			target.LSN = at
			return target, c
		}
	}
	target.Latest = true
	return target, newest
}

// randomMoment chooses a position among those that the backups, newest first, can be recovered to; nil: there is none but the end.
// Each position is as likely as any other. A record that begins behind it must be there, so it lies before the last segment.
func randomMoment(a *archive, x line, on []*state.Backup, random uint64) (*candidate, wal.LSN) {
	type stretch struct {
		k        *state.Backup
		from, to wal.LSN
		reach    wal.LSN
	}
	var all []stretch
	var total uint64
	next := ^wal.LSN(0)
	for _, k := range on {
		reach := a.reach(x, k)
		s := stretch{k: k, from: k.Stop + 1, to: min(a.size.Floor(max(reach, 1)-1), next), reach: reach}
		next = k.Stop
		if s.to > s.from {
			all = append(all, s)
			total += uint64(s.to - s.from)
		}
	}
	if total == 0 {
		return nil, 0
	}
	at := random % total
	for _, s := range all {
		if n := uint64(s.to - s.from); at >= n {
			at -= n
			continue
		}
		lsn := s.from + wal.LSN(at)
		end := min(s.reach, a.size.Ceil(lsn)+wal.LSN(a.size.Bytes())) // the record that begins behind it may be longer than its segment
		return &candidate{backup: s.k, line: x, end: end}, lsn
	}
	return nil, 0
}

// seed makes a number of what names one drill, so that the same plan chooses the same moment.
func seed(name string, since time.Time) uint64 {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", name, since.UnixNano()))
	return binary.BigEndian.Uint64(sum[:8])
}
