package observe

import (
	"errors"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// momentSearch is one search.
type momentSearch struct {
	*targeting
	o    MomentOptions
	tell func(state.Moment) error
	done Searched

	trail  []step // the segments that were passed since the latest hole
	failed error  // of tell, or of what stands for it

	scanner *wal.Scanner  // nil: nothing was read since the latest hole
	next    uint64        // number of the segment that the scanner goes on with
	since   uint64        // and of the one that it began with
	newest  *state.Commit // that the scanner has seen

	sink  func(state.Moment) error // of the segment that is read; nil: its moments are not wanted
	told  wal.LSN                  // end of the commit that was told last: of what one transaction did only the first is told
	lacks lacking                  // of what was told of the segment that is read
}

// step is a segment that the search has passed.
type step struct {
	seg     wal.Segment
	next    uint32 // wal.Summary.NextXID
	commits bool
}

// lacking says what of a segment cannot be told without those before it.
type lacking struct {
	begin  bool   // the beginning of a transaction; xid is that of the oldest
	before bool   // the commit before it
	xid    uint32 // of a transaction or, without begin, 0
}

// forget ends what a hole interrupts: what was open before it is not known to have ended.
func (m *momentSearch) forget() { m.trail, m.scanner = nil, nil }

// Bounds of what is read and held for the sake of one segment.
const (
	mostBack = 64   // segments of which the index does not say which transactions began before them
	mostHeld = 1000 // moments until it is known that they can be told
)

// readWhole reads a segment and, where a transaction that is told began earlier or the commit before it was not seen, once
// more with the segments before it.
func (m *momentSearch) readWhole(p place) error {
	var held []state.Moment
	over := false
	hold := func(x state.Moment) error {
		if held = append(held, x); len(held) < mostHeld {
			return nil
		}
		over = true // too many to read again for: they are told as they are
		all := held
		held = nil
		return m.tellAll(all)
	}
	told := m.told
	if err := m.read(p, len(m.trail)-1, hold); err != nil {
		return err
	}
	if from := m.beginning(); !over && from < len(m.trail) && m.trail[from].seg.Number < m.since {
		held, m.scanner, m.told = nil, nil, told
		if err := m.read(p, from, hold); err != nil {
			return err
		}
	}
	return m.tellAll(held)
}

func (m *momentSearch) tellAll(moments []state.Moment) error {
	for _, x := range moments {
		if err := m.tell(x); err != nil {
			return err
		}
	}
	return nil
}

// beginning gives the place in the trail from which reading must begin, for what the latest segment lacked. One segment
// more is read, for records that cross its border.
func (m *momentSearch) beginning() int {
	from := len(m.trail)
	for unknown := 0; m.lacks.begin && from > 0 && unknown < mostBack; {
		from--
		next := m.trail[from].next
		if next == 0 {
			unknown++
		} else if int32(m.lacks.xid-next) >= 0 {
			break
		}
	}
	if m.lacks.before {
		for i := len(m.trail) - 1; i >= 0; i-- {
			if m.trail[i].commits {
				from = min(from, i)
				break
			}
		}
	}
	return max(from-1, 0)
}

// read reads a segment, after those of the trail from a place on unless the scanner has seen them, and tells sink its
// moments.
func (m *momentSearch) read(p place, from int, sink func(state.Moment) error) error {
	m.lacks = lacking{}
	from = max(from, 0)
	if m.scanner == nil || m.next != p.seg.Number {
		m.scanner = wal.NewScanner(m.size, m.system, m.history.Timeline)
		m.scanner.Follow(wal.FollowOptions{Visit: m.deed, MinRows: m.o.MinRows, EveryCommit: m.wants(state.MomentTransaction)})
		m.newest, m.since, m.sink = nil, p.seg.Number, nil
		for _, s := range m.trail[from:] {
			m.since = min(m.since, s.seg.Number)
			if err := m.scanOne(s.seg); err != nil {
				return err
			}
		}
	}
	m.sink = sink
	return m.scanOne(p.seg)
}

func (m *momentSearch) scanOne(seg wal.Segment) error {
	if err := m.ctx.Err(); err != nil {
		return err
	}
	m.done.Segments++
	as := wal.Segment{Timeline: m.history.Timeline, Number: seg.Number}
	err := m.scan(m.ctx, m.scanner, seg, as, m.event)
	m.next = seg.Number + 1
	if err != nil {
		m.scanner = nil
	}
	if err != nil && m.failed != nil && errors.Is(err, m.failed) {
		return m.failed
	}
	return err
}

// event takes one record that matters to recovery.
func (m *momentSearch) event(e wal.Event) error {
	switch e.Kind {
	case wal.Commit:
		m.newest = commitOf(&e)
	case wal.RestorePointRecord:
		if m.sink == nil || !m.wants(state.MomentRestorePoint) || !m.within(e.Time) || m.o.Name != "" && m.o.Name != e.Name {
			return nil
		}
		m.lacks.before = m.lacks.before || m.newest == nil
		m.failed = m.sink(state.Moment{
			Kind: state.MomentRestorePoint, Timeline: m.history.Timeline, Time: e.Time, LSN: e.End, Name: e.Name, Before: m.newest,
		})
		return m.failed
	case wal.Abort, wal.Prepare, wal.EndOfRecovery, wal.ShutdownCheckpoint, wal.OnlineCheckpoint, wal.Switch, wal.ParameterChange, wal.Other:
	}
	return nil
}

// deed takes what a transaction did, while a segment is read.
func (m *momentSearch) deed(d wal.Deed) error {
	if m.sink == nil || !m.asked(d) {
		return nil
	}
	if d.Unsure {
		if !m.lacks.begin || int32(d.XID-m.lacks.xid) < 0 {
			m.lacks.xid = d.XID
		}
		m.lacks.begin, m.lacks.before = true, m.lacks.before || d.Before == nil
	}
	m.failed = m.sink(m.moment(d))
	return m.failed
}

// asked tells whether a deed is one that is looked for. Of what one transaction did only the first is.
func (m *momentSearch) asked(d wal.Deed) bool {
	if d.LSN == m.told || !m.wants(state.MomentKind(d.Kind)) || !m.within(d.Time) {
		return false
	}
	if d.Kind == wal.DeedCommit && m.o.XID != 0 && m.o.XID != d.XID {
		return false
	}
	m.told = d.LSN
	return true
}

func (m *momentSearch) moment(d wal.Deed) state.Moment {
	x := state.Moment{
		Kind: state.MomentKind(d.Kind), Timeline: m.history.Timeline, XID: d.XID, Time: d.Time, LSN: d.LSN, Stop: d.Stop, Rows: d.Rows,
	}
	if b := d.Before; b != nil {
		x.Before = &state.Commit{XID: b.XID, LSN: b.LSN, Time: b.Time}
	}
	for _, r := range d.Relations {
		named := state.NamedRelation{Relation: r.Relation, Rows: r.Rows}
		if d.Kind == wal.DeedDropDatabase {
			named.Kind = "database"
		}
		x.Relations = append(x.Relations, named)
	}
	return x
}
