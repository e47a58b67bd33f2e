package steps

import (
	"context"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/plan"
)

// idleServers say that a slot was created and create none.
type idleServers struct{ Servers }

type idleServer struct{ Server }

func (s idleServers) Connect(ctx context.Context, name string) (Server, error) {
	one, err := s.Servers.Connect(ctx, name)
	return idleServer{one}, err
}

func (idleServer) CreateSlot(context.Context, string) error { return nil }

// TestSuccessIsVerified: an act that reports success and did nothing is a failure, and what comes after it is skipped.
func TestSuccessIsVerified(t *testing.T) {
	f := newFake(t)
	w := f.world()
	w.Servers = idleServers{w.Servers}
	p := &plan.Plan{Steps: []plan.Step{
		{ID: "slot", Action: aSlot, Impact: plan.Safe},
		{ID: "receiver", Action: aStart, Impact: plan.Safe, After: []string{"slot"}},
	}}
	result, err := Apply(context.Background(), p, w, f.options())
	if err == nil || result.Exit() != 5 {
		t.Errorf("exit %d: %v", result.Exit(), err)
	}
	if got := result.Steps[0]; got.Outcome != OutcomeFailed || got.Err == nil || !strings.Contains(got.Err.Error(), "verify slot: it ran without an error") {
		t.Errorf("%s: %v", got.Outcome, got.Err)
	}
	if got := result.Steps[1].Outcome; got != OutcomeSkipped {
		t.Errorf("the receiver is %s", got)
	}
}
