package plan_test

import (
	"testing"

	"github.com/pgkeep/pgkeep/plan"
)

// TestApprove: what runs alone, what a name lets run, and that nothing runs after what waits.
func TestApprove(t *testing.T) {
	p := &plan.Plan{Steps: []plan.Step{
		{ID: "a", Impact: plan.Safe, Change: plan.Add, Action: plan.CreateSlot{}},
		{ID: "b", Impact: plan.Destructive, Change: plan.Destroy, Action: plan.DropSlot{}},
		{ID: "c", Impact: plan.Safe, Change: plan.Modify, Action: plan.SwitchWAL{}, After: []string{"b"}},
		{ID: "d", Impact: plan.Declared, Change: plan.Modify, Action: plan.ReplaceSlot{}, After: []string{"a"}},
		{ID: "e", Impact: plan.Disruptive, Change: plan.Modify, Action: plan.StopReceiver{}, After: []string{"c"}},
	}}
	for _, c := range []struct {
		auto  []plan.Impact
		named []string
		want  string
	}{
		{nil, nil, "ad"},
		{[]plan.Impact{plan.Safe}, nil, "a"},
		{nil, []string{"b"}, "abcd"},
		{nil, []string{"destructive"}, "abcd"},
		{nil, []string{"e"}, "ad"},
		{nil, []string{"b", "disruptive"}, "abcde"},
	} {
		got := ""
		a := p.Approve(c.auto, c.named)
		for _, s := range a.Run {
			got += s.ID
		}
		if got != c.want || len(a.Run)+len(a.Wait) != len(p.Steps) {
			t.Errorf("auto %v, named %v: runs %q, want %q", c.auto, c.named, got, c.want)
		}
	}
	if got := p.Summary(); got != "Plan: 1 to add, 3 to change, 1 to destroy." {
		t.Error(got)
	}
	if got := (&plan.Plan{}).Summary(); got != "No changes. Your infrastructure matches the configuration." {
		t.Error(got)
	}
}
