package receive

import (
	"context"
	"errors"
	"testing"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
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
func (s *slotAt) Identify(context.Context) (state.Server, error) {
	return state.Server{SystemID: "77"}, nil
}

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

// TestAGapDoesNotGrowOverARestart has the receiver end after a gap was recorded, also by every archive, and before WAL
// from behind it came. The slot stands further on by the next start.
func TestAGapDoesNotGrowOverARestart(t *testing.T) {
	ctl := &slotAt{restart: 5*mib + 40}
	st := &script{messages: []timed{{m: postgres.Message{Start: mib, Data: make([]byte, 100), ServerEnd: mib + 100}}}}
	f := scripted(t, st, func(o *Options) {
		o.Control = func(context.Context) (Control, error) { return ctl, nil }
	})
	if err := f.w.Write(mib, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if err := f.w.Close(); err != nil {
		t.Fatal(err)
	}
	s := f.s
	s.start.asked = true
	b := begin{timeline: 1, from: mib, durable: mib + 100}
	gone := &state.Error{Code: state.CodeGap, Text: "removed"}
	s.refused(b, gone)
	want := begin{timeline: 1, from: 5 * mib, durable: 5 * mib}
	if got, err := s.afterRefusal(t.Context(), b); err != nil || got != want {
		t.Fatalf("it begins at %+v, %v", got, err)
	}
	lost := wal.Range{Timeline: 1, From: mib + 100, To: 5 * mib}
	if err := s.retire(job{gap: &state.Gap{Range: lost}}); err != nil {
		t.Fatal(err)
	}
	again := newSession(s.o, s.cluster, s.spool, s.report)
	if err := again.loadWork(); err != nil {
		t.Fatal(err)
	}
	again.start.asked = true
	ctl.restart = 9 * mib
	if got, err := again.afterRefusal(t.Context(), b); err != nil || got != want {
		t.Errorf("after a restart it begins at %+v, %v", got, err)
	}
	again.refused(b, gone)
	if got, err := again.afterRefusal(t.Context(), b); err != nil || got != want {
		t.Errorf("refused again at the old position it begins at %+v, %v", got, err)
	}
	w, err := s.spool.Writer(1, 5*mib, func(wal.Segment) {})
	if err == nil {
		err = errors.Join(w.Write(5*mib, make([]byte, 100)), w.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := again.retire(job{gap: &state.Gap{Range: lost}}); err != nil {
		t.Fatal(err)
	}
	if left, err := s.spool.Work(); err != nil || len(left.Gaps) != 0 {
		t.Errorf("the spool still keeps %v, %v", left.Gaps, err)
	}
}
