package receive

import (
	"context"
	"testing"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// slotAt is a server whose slot stands somewhere.
type slotAt struct {
	Control
	restart wal.LSN
}

func (s *slotAt) Slot(context.Context, string) (*state.Slot, error) {
	return &state.Slot{Name: slotName, Physical: true, RestartLSN: s.restart, WALStatus: state.SlotReserved}, nil
}
func (s *slotAt) Close() error { return nil }

func TestAGapDoesNotGrowWhenTheStartBehindItFails(t *testing.T) {
	ctl := &slotAt{restart: 5*mib + 40}
	f := scripted(t, &script{}, func(o *Options) {
		o.Control = func(context.Context) (Control, error) { return ctl, nil }
	})
	s := f.s
	s.start.asked = true
	b := begin{timeline: 1, from: mib, durable: mib}
	gone := &state.Error{Code: state.CodeGap, Text: "removed"}
	s.refused(b, gone)
	want := begin{timeline: 1, from: 5 * mib, durable: 5 * mib}
	for _, restart := range []wal.LSN{5*mib + 40, 8 * mib} { // the second time the connection had broken before a byte came
		ctl.restart = restart
		if got, err := s.afterRefusal(t.Context(), b); err != nil || got != want {
			t.Errorf("with the slot at %s it begins at %+v, %v", restart, got, err)
		}
	}
	s.refused(want, gone)
	ctl.restart = 9 * mib
	if got, err := s.afterRefusal(t.Context(), b); err != nil || got.from != 9*mib {
		t.Errorf("refused behind the gap too, it begins at %+v, %v", got, err)
	}
	w, err := s.spool.Work()
	if err != nil {
		t.Fatal(err)
	}
	var gaps []wal.Range
	for _, g := range w.Gaps {
		gaps = append(gaps, g.Range)
	}
	if merged := wal.Merge(gaps); len(gaps) != 2 || len(merged) != 1 || merged[0].From != mib || merged[0].To != 9*mib {
		t.Errorf("gaps %v", gaps)
	}
}
