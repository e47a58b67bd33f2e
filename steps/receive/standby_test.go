package receive

import (
	"context"
	"testing"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestWaitsForAPromotion has the conninfo lead to the standby before that is promoted, as an address that moves with a
// failover does. It has no slot of ours yet, and reports the timeline that we hold.
func TestWaitsForAPromotion(t *testing.T) {
	t.Parallel()
	for _, version := range pgtest.SomeVersions(t, 13, 16) {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			s := startServer(t, pgtest.Options{Version: version, SegmentMB: 1})
			standby := s.Standby(t, standbyOptions())
			r := newRig(t, s, mib, 1)
			stop := r.start()
			busy(t, s, "before")
			standby.AwaitReplay(t, s)
			r.awaitArchived(flushed(t, s))
			r.leadTo(standby)
			s.Stop(t, "immediate")
			await(t, "it says that it waits", func() bool { return r.saw(state.CodeStandby) })
			standby.Promote(t)
			busy(t, standby, "after")
			end := flushed(t, standby)
			await(t, "the new timeline is archived", func() bool {
				e := r.archives[0].end()
				return e.Timeline == 2 && e.To >= end
			})
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			r.compare(s, standby)
		})
	}
}

// changing is a server that is asked for its slot while it changes.
type changing struct {
	Control
	who   state.Server
	slot  *state.Slot
	made  int
	moved int
}

func (c *changing) Identify(context.Context) (state.Server, error)     { return c.who, nil }
func (c *changing) Slot(context.Context, string) (*state.Slot, error)  { return c.slot, nil }
func (c *changing) Close() error                                       { return nil }
func (c *changing) AdvanceSlot(context.Context, string, wal.LSN) error { c.moved++; return nil }
func (c *changing) CreateSlot(context.Context, string) error {
	c.made++
	c.slot = &state.Slot{Name: slotName, Physical: true, RestartLSN: mib}
	return nil
}

func TestWhatAnAbsentSlotMeans(t *testing.T) {
	t.Parallel()
	const ours = "77"
	for name, x := range map[string]struct {
		asked uint32 // timeline that IDENTIFY_SYSTEM gave
		who   state.Server
		code  state.Code
		final bool
		made  int
	}{
		"a primary on our timeline":                       {1, state.Server{SystemID: ours, Timeline: 1}, state.CodeSlotAbsent, true, 0},
		"a standby on our timeline":                       {1, state.Server{SystemID: ours, Timeline: 1, InRecovery: true}, state.CodeStandby, false, 0},
		"promoted between two questions":                  {1, state.Server{SystemID: ours, Timeline: 2}, state.CodeStandby, false, 0},
		"promoted":                                        {2, state.Server{SystemID: ours, Timeline: 2}, "", false, 1},
		"a standby of the promoted one":                   {2, state.Server{SystemID: ours, Timeline: 1, InRecovery: true}, "", false, 1},
		"another cluster behind the same name":            {2, state.Server{SystemID: "78", Timeline: 2}, state.CodeIdentity, false, 0},
		"another cluster with our timeline, just as well": {1, state.Server{SystemID: "78", Timeline: 1}, state.CodeIdentity, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			ctl := &changing{who: x.who}
			f := scripted(t, &script{}, func(o *Options) { o.Control = func(context.Context) (Control, error) { return ctl, nil } })
			if err := f.w.Write(mib, make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
			if err := f.w.Sync(); err != nil {
				t.Fatal(err)
			}
			_, err := f.s.slot(t.Context(), postgres.System{ID: ours, Timeline: wal.Timeline(x.asked)})
			if state.CodeOf(err) != x.code || isFinal(err) != x.final || ctl.made != x.made {
				t.Errorf("%v (final: %t), %d slots were made", err, isFinal(err), ctl.made)
			}
			if err != nil && state.HintOf(err) == "" {
				t.Errorf("no hint: %v", err)
			}
		})
	}
}

// A slot of another cluster, to which a name or a list of hosts leads by now, is not let go when the spool is full.
func TestLetsNoSlotOfAnotherClusterGo(t *testing.T) {
	t.Parallel()
	ctl := &changing{who: state.Server{SystemID: "78"}, slot: &state.Slot{Physical: true}}
	f := scripted(t, &script{}, func(o *Options) { o.Control = func(context.Context) (Control, error) { return ctl, nil } })
	f.s.letSlotGo(t.Context())
	if ctl.moved != 0 {
		t.Error("the slot of another cluster was advanced")
	}
	ctl.who.SystemID = "77"
	f.s.letSlotGo(t.Context())
	if ctl.moved != 1 {
		t.Error("our own slot was not advanced")
	}
}
