package plan

import (
	"fmt"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
)

// periodic is a block that asks for something again and again: by a cron, by the age of what was done last, or by both.
type periodic struct {
	address, cron, timezone string        // no address: no block asks, but what holds by default for verification
	maxAge                  time.Duration // 0: only the cron counts
}

// dueAgain tells since when a periodic block asks, why, and when it will ask next. last is when the thing was done last, or from
// when on it could have been, and was says so in a sentence. why is empty when it does not ask now.
func (b *builder) dueAgain(p periodic, last time.Time, was string) (since time.Time, why string, next time.Time) {
	if p.cron != "" {
		t := newDue(&hclspec.Schedule{Address: p.address, Cron: p.cron, Timezone: p.timezone}, b.now)
		next = t.next
		if t.err == nil && !t.last.IsZero() && last.Before(t.last) {
			since, why = t.last, fmt.Sprintf("the tick of %s came, and %s", t.last.Format("2006-01-02 15:04 MST"), was)
		}
	}
	if p.maxAge == 0 || why != "" {
		return since, why, next
	}
	due := last.Add(p.maxAge)
	if b.now.Before(due) {
		return since, why, sooner(next, due)
	}
	of := "max_age of " + hclspec.FormatDuration(p.maxAge)
	if p.address == "" {
		of = hclspec.FormatDuration(p.maxAge) + ", the default where no verify block says otherwise"
	}
	return due, fmt.Sprintf("%s, which is older than %s", was, of), next
}
