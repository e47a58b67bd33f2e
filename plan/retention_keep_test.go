package plan_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// counting is a rule of keep as the oracle reads it: what a moment is called on the wall of a place.
type counting struct {
	most int
	call func(time.Time) string
}

func countings(k hclspec.Keep) []counting {
	zone, err := time.LoadLocation(k.Timezone)
	if err != nil {
		panic(err)
	}
	layout := func(l string) func(time.Time) string { return func(t time.Time) string { return t.In(zone).Format(l) } }
	week := func(t time.Time) string { year, n := t.In(zone).ISOWeek(); return fmt.Sprintf("%d-%02d", year, n) }
	return []counting{{k.Daily, layout("2006-01-02")}, {k.Weekly, week}, {k.Monthly, layout("2006-01")}, {k.Yearly, layout("2006")}}
}

// places gives, of the newest days (weeks, months, years) that have a usable backup, the usable backups of each by when
// they truly ended, the one that keep is about first.
func (h *history) places(c state.Cluster, rule counting) [][]int {
	var usable []int
	for k := range c.Backups {
		if h.usable(c, k) {
			usable = append(usable, k)
		}
	}
	end := func(k int) time.Time { return h.ends[c.Backups[k].ID] }
	current := func(k int) bool { return h.current.at(c.Backups[k].Stop).timeline == c.Backups[k].Timeline }
	slices.SortFunc(usable, func(a, b int) int { return end(b).Compare(end(a)) })
	var names []string
	by := map[string][]int{}
	for _, k := range usable {
		name := rule.call(end(k))
		if by[name] == nil {
			names = append(names, name)
		}
		by[name] = append(by[name], k)
	}
	var out [][]int
	for _, name := range names[:min(rule.most, len(names))] {
		list := by[name]
		slices.SortStableFunc(list, func(a, b int) int {
			switch {
			case current(a) && !current(b):
				return -1
			case current(b) && !current(a):
				return 1
			}
			return 0
		})
		out = append(out, list)
	}
	return out
}

// lostCounted gives the first place of keep whose backup is gone: the very one with honest clocks, else all of its day.
func (h *history) lostCounted(before, after state.Cluster) string {
	for _, keep := range h.rules.Keep {
		for n, rule := range countings(keep) {
			for _, place := range h.places(before, rule) {
				stays := func(k int) bool { return h.usable(after, k) }
				if h.jumps && slices.ContainsFunc(place, stays) || stays(place[0]) {
					continue
				}
				return fmt.Sprintf("backup %s of rule %d of %+v", before.Backups[place[0]].ID, n, keep)
			}
		}
	}
	return ""
}

// TestKeepKeepsNothingElse: on one line of history, with honest clocks, exactly those usable backups stay that the rules ask for
// by an independent reading, and no WAL but what they need.
func TestKeepKeepsNothingElse(t *testing.T) {
	checked, gone := 0, 0
	for seed := range histories(t) / 2 {
		h := calmHistory(seed)
		if len(h.branches) > 1 || len(h.rules.Keep) == 0 {
			continue
		}
		r := plan.Retain(&h.cluster, h.rules, h.clock, 1)
		if r.Stopped != "" {
			continue
		}
		checked++
		whole, alone := h.asked()
		for k, f := range r.Fates {
			if f.Goes == (whole[k] || alone[k]) {
				t.Fatalf("seed %d: %s goes: %t (%s); it is asked for: %t, for itself: %t\n%s", seed, f.Backup.ID, f.Goes, f.Cause, whole[k], alone[k], h.describe(h.cluster))
			}
			if !f.Goes && f.Alone == whole[k] {
				t.Fatalf("seed %d: %s is kept alone: %t (%s)\n%s", seed, f.Backup.ID, f.Alone, f.Cause, h.describe(h.cluster))
			}
			if f.Goes {
				gone++
			}
		}
		after := without(h.cluster, r, h.clock.Add(-25*time.Hour))
		again := plan.Retain(&after, h.rules, h.clock, 1)
		final := without(after, again, h.clock)
		for _, w := range final.WAL {
			for end := w.From + wal.LSN(segment); end <= w.To; end += wal.LSN(segment) {
				if !h.segmentAsked(again, end) {
					t.Fatalf("seed %d: the segment before %s stays and nothing needs it\n%s", seed, end, h.describe(final))
				}
			}
		}
	}
	t.Logf("%d histories, %d backups went", checked, gone)
	if checked == 0 || gone == 0 {
		t.Error("this test proves nothing")
	}
}

// asked reads the rules for a calm history of one timeline: which backups are kept with all that follows them, and which
// alone.
func (h *history) asked() (whole, alone map[int]bool) {
	whole, alone = map[int]bool{}, map[int]bool{}
	c := h.cluster
	var usable []int
	anchor := -1
	for k, b := range c.Backups {
		whole[k] = !h.usable(c, k) // it waits for its WAL
		if whole[k] {
			continue
		}
		usable = append(usable, k)
		if !b.Ended.After(h.now.Add(-h.rules.Window)) {
			anchor = k
		}
	}
	for i, k := range usable {
		whole[k] = k >= anchor || len(usable)-i <= max(h.rules.Redundancy, 1)
	}
	counted := map[int]bool{}
	for _, keep := range h.rules.Keep {
		for _, rule := range countings(keep) {
			for _, place := range h.places(c, rule) {
				counted[place[0]] = !whole[place[0]]
				alone[place[0]] = counted[place[0]]
			}
		}
	}
	refer := func() { // a backup refers to older ones only
		for _, kind := range []map[int]bool{whole, alone} {
			for k := len(c.Backups) - 1; k >= 0; k-- {
				for o, b := range c.Backups {
					if kind[k] && slices.Contains(c.Backups[k].Refs, b.ID) && !whole[o] && !counted[o] {
						kind[o] = true
						alone[o] = !whole[o]
					}
				}
			}
		}
	}
	refer()
	for i := len(usable) - 1; i >= 0; i-- { // the newest fill up what is missing
		stay := 0
		for _, k := range usable {
			if whole[k] || alone[k] {
				stay++
			}
		}
		if k := usable[i]; stay < h.rules.Minimum && !whole[k] && !alone[k] {
			whole[k] = true
			refer()
		}
	}
	return whole, alone
}

// segmentAsked finds a backup that needs the segment before end: one that is kept whole and begins before it, or one that is
// kept alone and lies in it.
func (h *history) segmentAsked(r plan.Retained, end wal.LSN) bool {
	for _, f := range r.Fates {
		b := f.Backup
		switch {
		case b.State == state.BackupDeleted:
		case f.Alone && segment.Floor(b.Redo) < end && end <= segment.Ceil(b.Stop):
			return true
		case !f.Alone && (b.Redo < end || h.now.Sub(b.Ended) < 24*time.Hour):
			return true
		}
	}
	return false
}

// TestCalendarsOfPlaces counts days and weeks as the wall of a place does, over the hours that clocks skip and repeat.
func TestCalendarsOfPlaces(t *testing.T) {
	for name, c := range map[string]struct {
		keep  hclspec.Keep
		taken []string // UTC
		want  map[string][]string
	}{
		"days of UTC": {
			hclspec.Keep{Daily: 2},
			[]string{"2026-03-28T22:30:00Z", "2026-03-28T23:30:00Z", "2026-03-29T22:30:00Z"},
			map[string][]string{"2026-03-28T23:30:00Z": {"daily 2 of 2"}, "2026-03-29T22:30:00Z": {"daily 1 of 2"}},
		},
		"days of Berlin, where the day before had 23 hours": {
			hclspec.Keep{Daily: 2, Timezone: "Europe/Berlin"},
			[]string{"2026-03-28T22:30:00Z", "2026-03-28T23:30:00Z", "2026-03-29T21:30:00Z", "2026-03-29T22:30:00Z"},
			map[string][]string{"2026-03-29T21:30:00Z": {"daily 2 of 2"}, "2026-03-29T22:30:00Z": {"daily 1 of 2"}},
		},
		"an hour that comes twice is one day": {
			hclspec.Keep{Daily: 2, Timezone: "Europe/Berlin"},
			[]string{"2026-10-24T10:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"},
			map[string][]string{"2026-10-24T10:00:00Z": {"daily 2 of 2"}, "2026-10-25T01:30:00Z": {"daily 1 of 2"}},
		},
		"a day that never was in Samoa": {
			hclspec.Keep{Daily: 3, Timezone: "Pacific/Apia"},
			[]string{"2011-12-29T09:00:00Z", "2011-12-30T09:00:00Z", "2011-12-30T11:00:00Z"},
			map[string][]string{"2011-12-29T09:00:00Z": {"daily 3 of 3"}, "2011-12-30T09:00:00Z": {"daily 2 of 3"}, "2011-12-30T11:00:00Z": {"daily 1 of 3"}},
		},
		"weeks of ISO 8601 over new year, and no backup for a month": {
			hclspec.Keep{Weekly: 3, Monthly: 2, Yearly: 2},
			[]string{"2025-11-20T01:00:00Z", "2025-12-28T01:00:00Z", "2025-12-29T01:00:00Z", "2026-01-04T01:00:00Z", "2026-01-05T01:00:00Z"},
			map[string][]string{
				"2025-12-28T01:00:00Z": {"weekly 3 of 3"}, "2025-12-29T01:00:00Z": {"monthly 2 of 2", "yearly 2 of 2"},
				"2026-01-04T01:00:00Z": {"weekly 2 of 3"}, "2026-01-05T01:00:00Z": {"weekly 1 of 3", "monthly 1 of 2", "yearly 1 of 2"},
			},
		},
		"a leap day, and the ends of months": {
			hclspec.Keep{Daily: 2, Monthly: 3},
			[]string{"2023-12-31T23:59:59Z", "2024-01-31T23:59:59Z", "2024-02-29T23:59:59Z", "2024-03-01T00:00:00Z"},
			map[string][]string{
				"2024-01-31T23:59:59Z": {"monthly 3 of 3"}, "2024-02-29T23:59:59Z": {"daily 2 of 2", "monthly 2 of 3"},
				"2024-03-01T00:00:00Z": {"daily 1 of 2", "monthly 1 of 3"},
			},
		},
		"the last hour of a year, which is the next one in Auckland": {
			hclspec.Keep{Monthly: 2, Yearly: 2, Timezone: "Pacific/Auckland"},
			[]string{"2024-12-31T10:59:59Z", "2024-12-31T11:00:00Z", "2025-01-30T12:00:00Z"},
			map[string][]string{"2024-12-31T10:59:59Z": {"monthly 2 of 2", "yearly 2 of 2"}, "2025-01-30T12:00:00Z": {"monthly 1 of 2", "yearly 1 of 2"}},
		},
		"a year of 53 weeks": {
			hclspec.Keep{Weekly: 2, Yearly: 2},
			[]string{"2020-12-27T12:00:00Z", "2020-12-28T12:00:00Z", "2021-01-03T12:00:00Z", "2021-01-04T12:00:00Z"},
			map[string][]string{"2020-12-28T12:00:00Z": {"yearly 2 of 2"}, "2021-01-03T12:00:00Z": {"weekly 2 of 2"}, "2021-01-04T12:00:00Z": {"weekly 1 of 2", "yearly 1 of 2"}},
		},
		"the 366th day of a year and the first of the next": {
			hclspec.Keep{Daily: 2},
			[]string{"2024-12-30T12:00:00Z", "2024-12-31T12:00:00Z", "2025-01-01T12:00:00Z"},
			map[string][]string{"2024-12-31T12:00:00Z": {"daily 2 of 2"}, "2025-01-01T12:00:00Z": {"daily 1 of 2"}},
		},
		"clocks that are set back over midnight": {
			hclspec.Keep{Daily: 2, Timezone: "Asia/Beirut"},
			[]string{"2024-10-25T12:00:00Z", "2024-10-26T20:59:00Z", "2024-10-26T21:30:00Z", "2024-10-26T22:30:00Z"},
			map[string][]string{"2024-10-26T21:30:00Z": {"daily 2 of 2"}, "2024-10-26T22:30:00Z": {"daily 1 of 2"}},
		},
	} {
		got := map[string][]string{}
		for _, f := range plan.Retain(taken(t, c.taken...), plan.Rules{Redundancy: 1, Minimum: 1, Keep: []hclspec.Keep{c.keep}}, time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC), 1).Fates {
			if len(f.Counts) > 0 {
				got[f.Backup.Ended.Format(time.RFC3339)] = f.Counts
			}
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

// TestCalendarsOfAnyPlace compares what is counted, at random moments around leap days, ends of years and changes of clocks in many
// places, with the plain reading: the newest of each day (week, month, year) as the wall there calls it, newest first.
func TestCalendarsOfAnyPlace(t *testing.T) {
	zones := []string{"", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Beirut", "America/Havana", "Pacific/Apia", "Asia/Kathmandu", "America/Sao_Paulo"}
	around := []string{"2024-02-29T00:00:00Z", "2023-02-28T00:00:00Z", "2025-12-31T12:00:00Z", "2026-03-29T01:00:00Z", "2024-10-26T21:00:00Z", "2024-11-03T05:00:00Z", "2011-12-30T10:00:00Z", "2018-11-04T03:00:00Z"}
	rng := rand.New(rand.NewPCG(8, 4))
	for range 2000 {
		keep := hclspec.Keep{Daily: rng.IntN(9), Weekly: rng.IntN(5), Monthly: rng.IntN(14), Yearly: 1 + rng.IntN(4), Timezone: zones[rng.IntN(len(zones))]}
		middle, err := time.Parse(time.RFC3339, around[rng.IntN(len(around))])
		if err != nil {
			t.Fatal(err)
		}
		spread := []time.Duration{48 * time.Hour, 30 * 24 * time.Hour, 1000 * 24 * time.Hour}[rng.IntN(3)]
		moments := make([]string, 2+rng.IntN(50))
		for i := range moments {
			moments[i] = middle.Add(time.Duration(rng.Int64N(int64(2*spread))) - spread).Truncate(time.Second).Format(time.RFC3339)
		}
		slices.Sort(moments)
		moments = slices.Compact(moments)
		c := taken(t, moments...)
		want := make([]int, len(moments))
		for _, rule := range countings(keep) {
			var seen []string
			for i := len(moments) - 1; i >= 0 && len(seen) <= rule.most; i-- {
				name := rule.call(c.Backups[i].Ended)
				if slices.Contains(seen, name) {
					continue
				}
				if seen = append(seen, name); len(seen) <= rule.most {
					want[i]++
				}
			}
		}
		r := plan.Retain(c, plan.Rules{Redundancy: 1, Minimum: 1, Keep: []hclspec.Keep{keep}}, c.Backups[len(moments)-1].Ended.Add(time.Hour), 1)
		for i, f := range r.Fates {
			if len(f.Counts) != want[i] || f.Goes != (want[i] == 0 && i != len(moments)-1) {
				t.Fatalf("%+v: %s counts as %v and goes: %t; it should count %d times\n%v", keep, moments[i], f.Counts, f.Goes, want[i], moments)
			}
		}
	}
}

// taken gives a cluster of one timeline with a backup for each moment, in that order.
func taken(t *testing.T, moments ...string) *state.Cluster {
	t.Helper()
	c := &state.Cluster{SegmentSize: wal.DefaultSegmentSize, WAL: []state.WALRange{{Range: wal.Range{Timeline: 1, To: 0x80000000}}}}
	for i, m := range moments {
		at, err := time.Parse(time.RFC3339, m)
		if err != nil {
			t.Fatal(err)
		}
		redo := wal.LSN(i+1) << 24
		c.Backups = append(c.Backups, state.Backup{ID: at.Format("20060102T150405Z") + fmt.Sprintf("-F-%04d", i), State: state.BackupCommitted, Timeline: 1, Redo: redo, Stop: redo + 256, Began: at, Ended: at})
	}
	return c
}

// TestKeepIsNotFooledByClocks: a backup that both clocks date wrong, a year ahead or decades back, takes no other's place, and
// stays itself while it may be the newest of a day that counts.
func TestKeepIsNotFooledByClocks(t *testing.T) {
	honest := []string{"2024-06-01T01:00:00Z", "2025-06-01T01:00:00Z", "2026-01-30T01:00:00Z", "2026-01-31T01:00:00Z", "2026-02-01T01:00:00Z", "2026-02-02T01:00:00Z"}
	rules := plan.Rules{Redundancy: 1, Minimum: 1, Keep: []hclspec.Keep{{Daily: 3, Yearly: 3}}}
	now := time.Date(2026, 2, 2, 12, 0, 0, 0, time.UTC)
	for _, wrong := range []string{"2027-02-01T13:00:00Z", "1970-01-01T00:00:10Z", "2025-12-31T00:00:00Z"} {
		for at := range len(honest) + 1 {
			moments := slices.Insert(slices.Clone(honest), at, wrong)
			for _, f := range plan.Retain(taken(t, moments...), rules, now, 1).Fates {
				m := f.Backup.Ended.Format(time.RFC3339)
				must := m != honest[2] && m != wrong                                     // the newest of three days and of three years
				credible := wrong == "2025-12-31T00:00:00Z" && at == 2 && m == honest[1] // nothing contradicts it
				if must && f.Goes && !credible {
					t.Errorf("%s, taken before %v, lets %s go", wrong, moments[at+1:], m)
				}
			}
		}
	}
}

// TestNewestBackupIsNeverAlone: the newest backup of a branch that the server has left is asked for by keep only; as long as no
// newer one is there, the WAL behind it stays all the same.
func TestNewestBackupIsNeverAlone(t *testing.T) {
	c := taken(t, "2026-02-01T01:00:00Z", "2026-02-02T01:00:00Z", "2026-02-03T01:00:00Z")
	c.Backups[2].Timeline = 2
	c.Histories = []state.History{{Timeline: 2, Parents: []state.Parent{{Timeline: 1, Switch: 0x2800000}}}}
	c.WAL = append(c.WAL, state.WALRange{Range: wal.Range{Timeline: 2, From: 0x2000000, To: 0x9000000}, LastCommit: c.Backups[2].Ended})
	r := plan.Retain(c, plan.Rules{Minimum: 1, Keep: []hclspec.Keep{{Daily: 2}}}, time.Date(2026, 2, 5, 0, 0, 0, 0, time.UTC), 1)
	newest := r.Fates[2]
	if newest.Cause != plan.StaysCounted || newest.Alone || newest.Goes {
		t.Errorf("%+v", newest)
	}
	for _, w := range r.NeedlessWAL() {
		if w.Timeline == 2 && w.To > newest.Backup.Redo {
			t.Errorf("WAL behind it goes: %s", w)
		}
	}
}
