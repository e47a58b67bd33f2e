package plan_test

import (
	"slices"
	"testing"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

// TestScheduleThatCannotBeRead: a time zone that this machine's pgkeep does not know is an error of the schedule, and no
// backup is planned from it.
func TestScheduleThatCannotBeRead(t *testing.T) {
	s := readStory(t, "testdata/stories/schedule-due.txtar")
	s.spec.Schedules[0].Timezone = "Mars/Olympus"
	p, _ := plan.Build(s.spec, s.seen, s.now, s.opt)
	if !slices.ContainsFunc(p.Findings, func(f plan.Finding) bool {
		return f.Code == state.CodeSchedule && f.Subject == s.spec.Schedules[0].Address
	}) {
		t.Errorf("no finding tells of it: %+v", p.Findings)
	}
	for _, step := range p.Steps {
		if b, ok := step.Action.(plan.TakeBackup); ok && b.Schedule != "" {
			t.Errorf("a backup is planned by it: %+v", b)
		}
	}
}
