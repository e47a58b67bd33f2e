package steps

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

// fakeScratch is a scratch directory: what is in it outlives the process, its lock does not.
type fakeScratch struct {
	open    bool
	marks   map[string]*state.Drill // by id: what a drill came to, or nil
	dirs    map[string]bool
	servers map[string]bool
	begun   int
	foreign bool // somebody else's directory is still there
	bad     bool // what is recovered is damaged
	held    bool // the backup is, for the drill
	// interrupt is the part that ends with an error which says nothing of the backup.
	interrupt string
}

type fakeDrills struct{ *fakeWorld }

func (f fakeDrills) Drilled(_ context.Context, a plan.Drill) (d *state.Drill, err error) {
	err = f.do("read evidence", func() error {
		if n := len(f.drilled); n > 0 {
			one := f.drilled[n-1]
			d = &one
		}
		return nil
	})
	return d, err
}

func (f fakeDrills) Evidence(context.Context, string) ([]state.Drill, error) { return f.drilled, nil }

func (f fakeDrills) Room(context.Context, plan.Drill) error {
	return f.do("look for room", func() error { return nil })
}

func (f fakeDrills) Open(context.Context, plan.Drill) (DrillPlace, error) {
	return fakeDrillPlace(f), f.do("open scratch", func() error {
		if f.scratch.open {
			return errors.New("two drills in one scratch directory")
		}
		f.scratch.open = true
		return nil
	})
}

func (f fakeDrills) Keep(_ context.Context, d state.Drill) error {
	return f.do("keep evidence", func() error {
		if !slices.ContainsFunc(f.drilled, func(o state.Drill) bool { return o.Ended.Equal(d.Ended) }) {
			f.drilled = append(f.drilled, d)
		}
		return nil
	})
}

type fakeDrillPlace struct{ *fakeWorld }

func (f fakeDrillPlace) Left(context.Context) (out []LeftDrill, err error) {
	err = f.do("look for leftovers", func() error {
		for _, id := range slices.Sorted(maps.Keys(f.scratch.marks)) {
			out = append(out, LeftDrill{ID: id, Result: f.scratch.marks[id]})
		}
		return nil
	})
	return out, err
}

func (f fakeDrillPlace) Begin(context.Context) (Drilling, error) {
	s := &f.scratch
	id := ""
	mark := f.do("mark", func() error {
		s.begun++
		id = fmt.Sprintf("d-%d", s.begun)
		s.marks[id] = nil
		return nil
	})
	if mark != nil {
		return nil, mark
	}
	run := &fakeDrilling{fakeWorld: f.fakeWorld, id: id, began: f.now.Add(time.Duration(s.begun) * time.Minute)}
	return run, f.do("make directory", func() error { s.dirs[id] = true; return nil })
}

func (f fakeDrillPlace) Remove(_ context.Context, id string) error {
	if err := f.do("end server", func() error { delete(f.scratch.servers, id); return nil }); err != nil {
		return err
	}
	return f.do("remove directory", func() error { delete(f.scratch.dirs, id); return nil })
}

func (f fakeDrillPlace) Forget(_ context.Context, id string) error {
	return f.do("forget", func() error { delete(f.scratch.marks, id); return nil })
}

func (f fakeDrillPlace) Close() { f.scratch.open = false }

type fakeDrilling struct {
	*fakeWorld
	id     string
	began  time.Time
	failed bool
}

func (d *fakeDrilling) ID() string   { return d.id }
func (d *fakeDrilling) Failed() bool { return d.failed }

func (d *fakeDrilling) interrupted(at string) error {
	if d.scratch.interrupt == at {
		return errors.New("no answer")
	}
	return nil
}

func (d *fakeDrilling) Restore(context.Context, func(done, total int64)) error {
	return d.do("restore", func() error { d.scratch.held = true; return d.interrupted("restore") })
}

func (d *fakeDrilling) Start(context.Context, func(done, total int64)) error {
	return d.do("start server", func() error { d.scratch.servers[d.id] = true; return d.interrupted("start server") })
}

func (d *fakeDrilling) Ask(context.Context, func(done, total int64)) error {
	return d.do("ask", func() error { d.failed = d.scratch.bad; return d.interrupted("ask") })
}

func (d *fakeDrilling) Stop(context.Context) error {
	return d.do("stop server", func() error { delete(d.scratch.servers, d.id); d.scratch.held = false; return nil })
}

func (d *fakeDrilling) Finish(context.Context) (state.Drill, error) {
	result := state.Drill{Drill: "weekly", Server: "orders", Began: d.began, Ended: d.began.Add(time.Second), Passed: !d.failed}
	if d.failed {
		result.Failures = []string{"amcheck: index public.orders_pkey"}
	}
	return result, d.do("write result", func() error { d.scratch.marks[d.id] = &result; return nil })
}

// drillStory is a drill that is due. It is planned until there is evidence, so that what is left of a killed one goes then.
func drillStory(name string, bad bool) story {
	return story{
		name: name,
		world: func(f *fakeWorld) {
			f.scratch = fakeScratch{marks: map[string]*state.Drill{}, dirs: map[string]bool{}, servers: map[string]bool{}, foreign: true, bad: bad}
		},
		steps: func(f *fakeWorld) []plan.Step {
			if len(f.drilled) > 0 {
				return nil
			}
			a := plan.Drill{Drill: "weekly", Route: recoverNew().Route, Timeout: "1h", Since: epoch}
			return one(a, plan.NeedUndrilled, plan.NeedBackup, plan.NeedWAL, plan.NeedScratch)
		},
		invariant: drillInvariant,
	}
}

// drillInvariant: there is no directory without its marker, no server without its directory, one copy at a time, and one piece of
// evidence at most, of a drill whose directory is gone.
func drillInvariant(f *fakeWorld) error {
	s := &f.scratch
	for id := range s.dirs {
		if _, ok := s.marks[id]; !ok {
			return fmt.Errorf("the directory %s has no marker", id)
		}
	}
	for id := range s.servers {
		if !s.dirs[id] {
			return fmt.Errorf("a server runs in %s, which is gone", id)
		}
	}
	if len(s.dirs) > 1 || len(f.drilled) > 1 {
		return fmt.Errorf("%d copies, %d pieces of evidence", len(s.dirs), len(f.drilled))
	}
	if len(f.drilled) > 0 && len(s.dirs) > 0 {
		return errors.New("there is evidence, and the copy is still there")
	}
	return nil
}

// TestDrillThatFails: what it has shown is kept, the copy is removed, and the exit code is that of a check. It is not made again.
func TestDrillThatFails(t *testing.T) {
	s := drillStory("drill that fails", true)
	f := s.start(t)
	result, err := Apply(t.Context(), &plan.Plan{Steps: s.steps(f)}, f.world(), f.options())
	if state.CodeOf(err) != state.CodeDrill || result.Exit() != 8 || f.broken != nil {
		t.Errorf("exit %d, %v, invariant %v", result.Exit(), err, f.broken)
	}
	if len(f.drilled) != 1 || f.drilled[0].Passed || len(f.scratch.dirs)+len(f.scratch.marks)+len(f.scratch.servers) > 0 {
		t.Errorf("evidence %+v, scratch %+v", f.drilled, f.scratch)
	}
	if left := s.steps(f); left != nil {
		t.Error("it is planned again")
	}
}

// TestDrillThatIsInterrupted leaves neither a copy nor evidence, nor a hold that keeps WAL for hours, wherever it is interrupted.
func TestDrillThatIsInterrupted(t *testing.T) {
	for _, at := range []string{"restore", "start server", "ask"} {
		s := drillStory("drill", false)
		f := s.start(t)
		f.scratch.interrupt = at
		_, err := Apply(t.Context(), &plan.Plan{Steps: s.steps(f)}, f.world(), f.options())
		if err == nil || len(f.drilled)+len(f.scratch.dirs)+len(f.scratch.marks)+len(f.scratch.servers) > 0 || f.broken != nil || f.scratch.held {
			t.Errorf("at %s: %v, invariant %v, %+v", at, err, f.broken, f.scratch)
		}
	}
}
