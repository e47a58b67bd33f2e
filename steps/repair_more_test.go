package steps

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

// wornOut is a repository with many damaged objects, of which evidence names a hundred; Repair heals what it is given.
type wornOut struct {
	Copies
	damaged []string
	levels  []string
	named   state.Verification
}

func (w *wornOut) Held(context.Context, string) ([]HeldCluster, error) { return nil, nil }

func (w *wornOut) Verified(context.Context, plan.Verify) (*state.Verification, error) {
	v := w.named
	return &v, nil
}

// Verify names the next hundred only where it reads everything.
func (w *wornOut) Verify(_ context.Context, v plan.Verify, _ VerifyOptions, _ func(done, total int64)) (state.Verification, error) {
	w.levels = append(w.levels, v.Level)
	w.named = state.Verification{Wrong: len(w.damaged)}
	for _, key := range w.damaged[:min(100, len(w.damaged))] {
		if v.Level == string(state.VerifyFull) {
			w.named.Damage = append(w.named.Damage, state.Damage{Object: key})
		}
	}
	return w.named, nil
}

func (w *wornOut) Repair(_ context.Context, _ plan.Repair, damage []state.Damage) (out []Repaired, err error) {
	for _, f := range damage {
		out = append(out, Repaired{Object: f.Object, Healed: true, From: "main"})
	}
	w.damaged = w.damaged[len(damage):]
	return out, nil
}

// TestRepairInHundreds: evidence names a hundred damages at most, so where there are more the look afterwards reads everything, names the next ones,
// and the note says how to go on.
func TestRepairInHundreds(t *testing.T) {
	w := &wornOut{}
	for n := range 250 {
		w.damaged = append(w.damaged, fmt.Sprint("object ", n))
	}
	if _, err := w.Verify(t.Context(), plan.Verify{Level: string(state.VerifyFull)}, VerifyOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	w.levels = nil
	for left := 150; left >= -50; left -= 100 {
		s := &repair{world: w, copies: w, action: plan.Repair{Server: "orders", Repository: "second"}}
		for _, f := range w.named.Damage {
			s.action.Objects = append(s.action.Objects, f.Object)
		}
		if err := s.Run(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		more := "go on with them: pgkeep repair --server orders --repository second"
		if len(w.damaged) != max(left, 0) || strings.Contains(s.Note(), more) != (left > 0) {
			t.Errorf("%d are left, want %d: %s", len(w.damaged), left, s.Note())
		}
	}
	if got := strings.Join(w.levels, " "); got != "full full quick" {
		t.Errorf("looked %s", got)
	}
}
