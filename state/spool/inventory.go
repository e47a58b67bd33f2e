package spool

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// The endings of file names in a cluster's directory.
const (
	partialSuffix = ".partial"
	doneSuffix    = ".done"
	historySuffix = ".history"
	seedSuffix    = ".seed" + newSuffix  // came from a repository, not compared yet
	zerosSuffix   = ".zeros" + newSuffix // prepared for a segment that is about to come
	newSuffix     = ".new"               // not yet what its name will say; removed at the next Open
	gapPrefix     = "gap-"
)

// inventory is what a cluster's directory holds.
type inventory struct {
	complete  map[wal.Segment]bool // true: .done
	partial   map[wal.Segment]extent
	histories map[wal.Timeline]bool
	gaps      []string // file names
	leftovers []string // file names
	misplaced []string // file names of segments that have a wrong length
}

// extent is what is known of a partial: its bytes are WAL up to valid, as far as the file alone can tell, and proven to
// be what the server sent up to known, which is at most valid.
type extent struct {
	valid, known wal.LSN
	kept         wal.LSN // the file may be WAL up to here, but nothing can tell; zero: no more than valid
	suspect      bool    // its fsync failed: only what is below known may be used, and not in this file
}

// Position is how far a spool reaches on its newest timeline.
type Position struct {
	Timeline wal.Timeline // zero: the spool holds no WAL
	Durable  wal.LSN      // end of the newest contiguous stretch of WAL
	Proven   wal.LSN      // up to here it is proven to be what the server sent; at most Durable
	// Unchecked is up to where the unfinished segment may be WAL, if it begins with a record that could not be checked: nothing of it is
	// proven. Zero: there is none such.
	Unchecked wal.LSN
	Resume    wal.LSN // where to ask the server to go on; at most Durable, so that something comes again
	Begin     wal.LSN // where that stretch begins
	// Unfinished is the segment at the end of that stretch while it is not complete, which one that has all its bytes may
	// still not be; zero: the stretch ends with a complete segment.
	Unfinished wal.Segment
}

// list reads the names in a cluster's directory and changes nothing. Sizes of partials are not looked at.
func list(dir string, z wal.SegmentSize) (inventory, error) {
	v := inventory{complete: map[wal.Segment]bool{}, partial: map[wal.Segment]extent{}, histories: map[wal.Timeline]bool{}}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return v, err
	}
	for _, e := range entries {
		if e.Type().IsRegular() {
			v.place(e, z)
		}
	}
	for seg := range v.complete { // left when a segment came a second time
		if _, both := v.partial[seg]; both {
			delete(v.partial, seg)
			v.leftovers = append(v.leftovers, seg.Name(z)+partialSuffix)
		}
	}
	return v, nil
}

func (v *inventory) place(e os.DirEntry, z wal.SegmentSize) {
	name := e.Name()
	base, ending := splitName(name)
	if ending == historySuffix {
		if t, ok := parseTimeline(base); ok {
			v.histories[t] = true
		}
		return
	}
	if ending == newSuffix {
		v.leftovers = append(v.leftovers, name)
		return
	}
	if strings.HasPrefix(name, gapPrefix) {
		v.gaps = append(v.gaps, name)
		return
	}
	seg, err := wal.ParseSegmentName(base, z)
	if err != nil {
		return
	}
	if ending == partialSuffix {
		v.partial[seg] = extent{}
		return
	}
	fi, err := e.Info()
	if err != nil {
		return // removed while we read
	}
	if fi.Size() != z.Bytes() {
		v.misplaced = append(v.misplaced, name)
		return
	}
	v.complete[seg] = ending == doneSuffix && (v.complete[seg] || !v.has(seg))
}

func (v *inventory) has(seg wal.Segment) bool {
	_, ok := v.complete[seg]
	return ok
}

func splitName(name string) (base, ending string) {
	ending = filepath.Ext(name)
	return strings.TrimSuffix(name, ending), ending
}

func parseTimeline(hex string) (wal.Timeline, bool) {
	var t uint32
	if n, err := fmt.Sscanf(hex, "%08X", &t); n != 1 || err != nil || wal.Timeline(t).Hex() != hex {
		return 0, false
	}
	return wal.Timeline(t), t > 0
}

// position finds the end of the newest stretch.
func (v *inventory) position(z wal.SegmentSize) Position {
	segs := v.segments()
	if len(segs) == 0 {
		return Position{}
	}
	tip := segs[len(segs)-1]
	p := Position{Timeline: tip.Timeline, Begin: tip.Start(z)}
	for i := len(segs) - 2; i >= 0 && segs[i].Next().Start(z) == p.Begin && segs[i].Timeline == tip.Timeline && v.has(segs[i]); i-- {
		p.Begin = segs[i].Start(z)
	}
	p.Durable = tip.End(z)
	proven := p.Durable
	if x, unfinished := v.partial[tip]; unfinished {
		p.Durable, proven, p.Unfinished = x.valid, x.known, tip
		if may := max(x.valid, x.kept); x.known == tip.Start(z) && may > x.known {
			p.Unchecked = may
		}
	}
	p.Proven = proven
	p.Resume = pageBefore(proven)
	if !v.has(z.SegmentAt(tip.Timeline, p.Resume)) {
		p.Resume = max(p.Resume, tip.Start(z))
	}
	return p
}

// pageBefore gives the start of the page that holds the byte before l.
func pageBefore(l wal.LSN) wal.LSN {
	if l == 0 {
		return 0
	}
	return (l - 1) / wal.PageSize * wal.PageSize
}

// segments lists complete and partial segments, by timeline and number.
func (v *inventory) segments() []wal.Segment {
	out := make([]wal.Segment, 0, len(v.complete)+len(v.partial))
	for seg := range v.complete {
		out = append(out, seg)
	}
	for seg := range v.partial {
		out = append(out, seg)
	}
	slices.SortFunc(out, compareSegments)
	return out
}

func compareSegments(a, b wal.Segment) int {
	return cmp.Or(cmp.Compare(a.Timeline, b.Timeline), cmp.Compare(a.Number, b.Number))
}

// bytes gives the space that WAL takes which is not in every repository: what a limit is about.
func (v *inventory) bytes(z wal.SegmentSize) int64 {
	n := int64(0)
	for _, done := range v.complete {
		if !done {
			n += z.Bytes()
		}
	}
	for seg, x := range v.partial {
		n += max(0, int64(x.valid-seg.Start(z)))
	}
	return n
}

// Work is what waits to go into the repositories, oldest first.
type Work struct {
	Histories []wal.Timeline
	Gaps      []state.Gap
	Segments  []wal.Segment // complete, not .done
	Ended     []Ended       // unfinished segments that stay so: a timeline was left there, or a gap begins
	Missing   []wal.Segment // quarantined, and not fetched again yet
	Before    []wal.Segment // .done segments: a scan that begins with one sees the records that cross into what follows
}

// Ended is a segment that was left in its middle.
type Ended struct {
	Segment wal.Segment
	UpTo    wal.LSN
}
