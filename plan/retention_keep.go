package plan

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// Days, weeks, months and years are counted by the backups themselves, never by a clock: "weekly = 4" keeps the newest
// backup of each of the four newest weeks that have one. So no clock that runs ahead and no month without a backup lets
// an old one go.
//
// When a backup was taken is told by two clocks, PostgreSQL's and that of the machine which named the backup, and is
// bounded by its neighbours on the same line of history. What counts as a week is only what must be one of its own in any
// case; what stays is what may be the newest of a week that counts.

// calendar is one rule of a keep block.
type calendar struct {
	name   string // "weekly"
	most   int
	bucket func(time.Time) int // the day, week, month or year of a moment, as a number that grows with time
}

// calendars gives the rules of a keep block. The only thing read beside the argument is Go's table of time zones.
func calendars(k hclspec.Keep) ([]calendar, error) {
	name := k.Timezone
	if name == "" {
		name = "UTC"
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("read time zone %q: %w", name, err)
	}
	all := []calendar{
		{"daily", k.Daily, func(t time.Time) int { return t.In(zone).Year()*366 + t.In(zone).YearDay() }},
		{"weekly", k.Weekly, func(t time.Time) int { year, week := t.In(zone).ISOWeek(); return year*54 + week }},
		{"monthly", k.Monthly, func(t time.Time) int { return t.In(zone).Year()*12 + int(t.In(zone).Month()) }},
		{"yearly", k.Yearly, func(t time.Time) int { return t.In(zone).Year() }},
	}
	return slices.DeleteFunc(all, func(c calendar) bool { return c.most <= 0 }), nil
}

// lifetime is a usable backup with the earliest and the latest moment at which it may have been complete.
type lifetime struct {
	fate          int // its index
	backup        *state.Backup
	current       bool // on the line of history that the server writes
	first, latest time.Time
}

// The ends of time, for a backup of which no clock tells.
func earliestOfAll() time.Time { return time.Time{} }
func latestOfAll() time.Time   { return time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC) }

func (l *lifetime) doubt() { l.first, l.latest = earliestOfAll(), latestOfAll() }

// keepCalendars keeps what the keep blocks count.
func (r *Retained) keepCalendars() {
	if len(r.rules.Keep) == 0 {
		return
	}
	lives := r.lifetimes()
	for _, k := range r.rules.Keep {
		rules, _ := calendars(k) // Retain has looked at the time zone
		for _, c := range rules {
			r.keepCalendar(c, lives)
		}
	}
	for i := range r.Fates {
		f := &r.Fates[i]
		if f.Cause == "" && len(f.Counts) > 0 {
			f.Cause, f.Alone = StaysCounted, true
		}
	}
	r.newestNeverAlone()
}

// keepCalendar walks from the newest backup to the oldest.
func (r *Retained) keepCalendar(c calendar, lives []lifetime) {
	type counted struct {
		*lifetime
		from, to int
	}
	all := make([]counted, len(lives))
	for i := range lives {
		l := &lives[i]
		a, b := c.bucket(l.first), c.bucket(l.latest)
		all[i] = counted{l, min(a, b), max(a, b)} // where clocks are set back over midnight, the later moment is in the earlier day
	}
	slices.SortStableFunc(all, func(a, b counted) int {
		onCurrent := map[bool]int{true: 0, false: 1}
		return cmp.Or(cmp.Compare(b.to, a.to), onCurrent[a.current]-onCurrent[b.current], b.latest.Compare(a.latest), compareLSN(b.backup.Stop, a.backup.Stop))
	})
	sure := map[int]bool{} // buckets of which the newest backup is known
	n, low, before := 0, math.MaxInt, math.MaxInt
	for _, k := range all {
		if k.from == k.to && sure[k.from] {
			continue
		}
		if n >= c.most && k.to < low {
			return
		}
		sure[k.from] = sure[k.from] || k.from == k.to
		switch {
		case k.to < low: // a bucket of its own in any case
			n, before, low = n+1, low, k.from
		case k.to < before && k.from > low:
			low = k.from
		}
		f := &r.Fates[k.fate]
		f.Counts = append(f.Counts, fmt.Sprintf("%s %d of %d", c.name, min(n, c.most), c.most))
	}
}

// lifetimes gives the usable backups with when they were taken, as far as clocks and neighbours tell.
func (r *Retained) lifetimes() []lifetime {
	var all []lifetime
	for i, f := range r.Fates {
		if f.Usability != state.Usable {
			continue
		}
		b := f.Backup
		l := lifetime{fate: i, backup: b, current: r.archive.current.holds(b.Timeline, b.Stop), first: b.Ended, latest: b.Ended}
		if named, ok := namedAt(b.ID); ok {
			other := named.Add(b.Ended.Sub(b.Began))
			if other.Before(l.first) {
				l.first = other
			}
			l.latest = later(l.latest, other)
		}
		if l.latest.After(r.clock) || b.Ended.Before(b.Began) {
			l.doubt()
		}
		all = append(all, l)
	}
	for _, x := range r.archive.lines {
		var on []*lifetime
		for i := range all {
			if x.holds(all[i].backup.Timeline, all[i].backup.Stop) {
				on = append(on, &all[i])
			}
		}
		slices.SortStableFunc(on, func(a, b *lifetime) int { return compareLSN(a.backup.Stop, b.backup.Stop) })
		tighten(on)
	}
	return all
}

// tighten bounds each backup of a line of history, which are in order, by those before and after it. Where their times
// contradict their order, the most that agree are believed.
func tighten(on []*lifetime) {
	var newest time.Time
	agree := true
	for _, l := range on {
		agree = agree && !l.latest.Before(newest)
		newest = later(newest, l.first)
	}
	if !agree {
		doubtFew(on)
	}
	newest = earliestOfAll()
	for _, l := range on {
		newest = later(newest, l.first)
		l.first = newest
	}
	oldest := latestOfAll()
	for _, l := range slices.Backward(on) {
		if l.latest.Before(oldest) {
			oldest = l.latest
		}
		l.latest = oldest
	}
}

// doubtFew puts in doubt what is not in every longest sequence of backups whose times rise with their positions: where as
// many clocks say one thing as another, none of them is believed.
func doubtFew(on []*lifetime) {
	times, mirrored := make([]int64, len(on)), make([]int64, len(on))
	for i, l := range on {
		times[i], mirrored[len(on)-1-i] = l.first.Unix(), -l.first.Unix()
	}
	upTo, from := rising(times), rising(mirrored)
	longest := 0
	for _, n := range upTo {
		longest = max(longest, n)
	}
	place := func(i int) int { // in a longest sequence, from 1; 0: it is in none
		if upTo[i]+from[len(on)-1-i]-1 == longest {
			return upTo[i]
		}
		return 0
	}
	claims := make([]int, longest+1)
	for i := range on {
		claims[place(i)]++
	}
	for i, l := range on {
		if at := place(i); at == 0 || claims[at] > 1 {
			l.doubt()
		}
	}
}

// rising gives for each number the length of the longest sequence that ends with it and never falls.
func rising(numbers []int64) []int {
	out := make([]int, len(numbers))
	var tails []int64 // the smallest end of a sequence of each length
	for i, n := range numbers {
		at, _ := slices.BinarySearchFunc(tails, n, func(tail, n int64) int {
			if tail > n {
				return 1
			}
			return -1
		})
		if at == len(tails) {
			tails = append(tails, n)
		}
		tails[at], out[i] = n, at+1
	}
	return out
}

// newestNeverAlone keeps the WAL after the newest usable backup, by whatever it is called the newest: no rule lets what
// is written now go.
func (r *Retained) newestNeverAlone() {
	newest := r.newestFirst()
	if len(newest) == 0 {
		return
	}
	began, redo := newest[0], newest[0]
	for _, i := range newest {
		b := r.Fates[i].Backup
		if b.Began.After(r.Fates[began].Backup.Began) {
			began = i
		}
		if o := r.Fates[redo].Backup; b.Timeline > o.Timeline || b.Timeline == o.Timeline && b.Redo > o.Redo {
			redo = i
		}
	}
	for _, i := range []int{newest[0], began, redo} {
		r.Fates[i].Alone = false
	}
}

// aloneNeeds gives the WAL that makes the backups consistent which are kept for themselves.
func (r Retained) aloneNeeds() []wal.Range {
	var out []wal.Range
	for _, f := range r.Fates {
		if b := f.Backup; f.Alone {
			out = append(out, wal.Range{Timeline: b.Timeline, From: r.archive.size.Floor(b.Redo), To: r.archive.size.Ceil(b.Stop)})
		}
	}
	return out
}
