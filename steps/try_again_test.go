package steps

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

// slowWorld has any number of repositories and servers. Every act in it takes a time of its own, and is done once or the
// test fails.
type slowWorld struct {
	t      *testing.T
	random *rand.Rand
	mu     sync.Mutex
	there  map[string]bool
	locked map[string]bool
}

func (w *slowWorld) world() World {
	return World{Repositories: slowRepositories{slowWorld: w}, Servers: slowServers{slowWorld: w}, Locks: w, Journal: noJournal{}}
}

func (w *slowWorld) act(name string) error {
	w.mu.Lock()
	pause := time.Duration(w.random.IntN(5)) * time.Second
	w.mu.Unlock()
	time.Sleep(pause)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.there[name] {
		w.t.Errorf("%s is made twice", name)
	}
	w.there[name] = true
	return nil
}

func (w *slowWorld) has(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.there[name]
}

func (w *slowWorld) TryLock(_ context.Context, name string) (func(), error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.locked[name] {
		return nil, &state.Error{Code: state.CodeLocked, Text: name + " is locked"}
	}
	w.locked[name] = true
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.locked, name)
	}, nil
}

type noJournal struct{}

func (noJournal) Write(context.Context, JournalEntry) error { return nil }

type slowRepositories struct {
	Repositories
	*slowWorld
}

func (r slowRepositories) Of(string) []string { return nil }

func (r slowRepositories) Identify(_ context.Context, name string) (string, error) {
	if !r.has(name) {
		return "", &state.Error{Code: state.CodeAbsent, Text: "absent"}
	}
	return name, nil
}

func (r slowRepositories) Create(_ context.Context, name string) error { return r.act(name) }

type slowServers struct {
	Servers
	*slowWorld
}

func (s slowServers) Connect(_ context.Context, server string) (Server, error) {
	return slowServer{slowWorld: s.slowWorld, name: server}, nil
}

type slowServer struct {
	Server
	*slowWorld
	name string
}

func (s slowServer) TryLock(ctx context.Context, name string) (func(), error) {
	return s.slowWorld.TryLock(ctx, "advisory "+name)
}

func (s slowServer) Slot(_ context.Context, name string) (*state.Slot, error) {
	if !s.has(s.name + name) {
		return nil, nil
	}
	return &state.Slot{Name: name, Physical: true, RestartLSN: 1, WALStatus: state.SlotReserved}, nil
}

func (s slowServer) CreateSlot(_ context.Context, name string) error { return s.act(s.name + name) }

func (s slowServer) Facts(context.Context) (state.Server, error) { return state.Server{}, nil }

func (s slowServer) Close() error { return nil }

// twoOfAll plans two repositories and, after both, three slots on each of two servers.
func twoOfAll() *plan.Plan {
	p := &plan.Plan{}
	repositories := []string{"main", "offsite"}
	for _, r := range repositories {
		p.Steps = append(p.Steps, plan.Step{ID: r, Action: plan.CreateRepository{Repository: r}, Impact: plan.Safe})
	}
	for _, server := range []string{"eu", "us"} {
		after := repositories
		for n := range 3 {
			id := fmt.Sprintf("%s%d", server, n)
			p.Steps = append(p.Steps, plan.Step{ID: id, Action: plan.CreateSlot{Server: server, Slot: id}, Impact: plan.Safe, After: after})
			after = []string{id}
		}
	}
	return p
}

// TestOneApplyWins has two or three applies of one plan meet in every way that chance finds: between them everything is
// done once, and at least one of them says that all is done; the others are kept by locks and by nothing else.
func TestOneApplyWins(t *testing.T) {
	met := 0
	for seed := range uint64(rounds(300)) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 7))
			w := &slowWorld{t: t, random: rand.New(rand.NewPCG(seed, 8)), there: map[string]bool{}, locked: map[string]bool{}}
			p := twoOfAll()
			exits := make([]int, 2+random.IntN(2))
			var all sync.WaitGroup
			for i := range exits {
				late := time.Duration(random.IntN(4)) * time.Second
				all.Go(func() {
					time.Sleep(late)
					result, _ := Apply(context.Background(), p, w.world(), Options{Auto: []plan.Impact{plan.Safe}})
					exits[i] = result.Exit()
				})
			}
			all.Wait()
			if !slices.Contains(exits, 0) || slices.ContainsFunc(exits, func(x int) bool { return x != 0 && x != 6 }) {
				t.Errorf("seed %d: exit codes %v", seed, exits)
			}
			for _, s := range p.Steps {
				if name := s.ID; !w.has(name) && !w.has(serverOf(s.Action)+name) {
					t.Errorf("seed %d: %s is not made", seed, name)
				}
			}
			if slices.Contains(exits, 6) {
				met++
			}
		})
	}
	if met == 0 {
		t.Error("nobody was ever kept by a lock: these were no races")
	}
}

// TestLockIsTriedAgain has a step meet a lock that is let go while another lane still works: it is done in the end, with
// what comes after it, and each of them is told to begin once and to end once.
func TestLockIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &slowWorld{t: t, random: rand.New(rand.NewPCG(1, 1)), there: map[string]bool{}, locked: map[string]bool{"advisory server eu": true}}
		p := &plan.Plan{Steps: []plan.Step{
			{ID: "eu", Action: plan.CreateSlot{Server: "eu", Slot: "a"}, Impact: plan.Safe},
			{ID: "eu/next", Action: plan.CreateSlot{Server: "eu", Slot: "b"}, Impact: plan.Safe, After: []string{"eu"}},
			{ID: "us", Action: plan.CreateSlot{Server: "us", Slot: "a"}, Impact: plan.Safe},
			{ID: "asked", Action: plan.CreateSlot{Server: "us", Slot: "b"}, Impact: plan.Destructive},
			{ID: "both", Action: plan.CreateSlot{Server: "us", Slot: "c"}, Impact: plan.Safe, After: []string{"eu", "asked"}},
		}}
		told := map[string][]EventKind{}
		report := func(e Event) {
			told[e.Step.ID] = append(told[e.Step.ID], e.Kind)
			if e.Step.ID == "us" && e.Kind == Done {
				w.mu.Lock()
				defer w.mu.Unlock()
				delete(w.locked, "advisory server eu")
			}
		}
		result, _ := Apply(context.Background(), p, w.world(), Options{Auto: []plan.Impact{plan.Safe}, Report: report})
		want := []Outcome{OutcomeDone, OutcomeDone, OutcomeDone, OutcomeNotApproved, OutcomeSkipped}
		for i, r := range result.Steps {
			if r.Outcome != want[i] {
				t.Errorf("%s is %s, want %s: %s", r.Step.ID, r.Outcome, want[i], r.Note)
			}
		}
		if got := told["eu"]; !slices.Equal(got, []EventKind{Started, Held, Done}) {
			t.Errorf("the step that met a lock: %v", got)
		}
		for _, id := range []string{"eu/next", "us"} {
			if got := told[id]; !slices.Equal(got, []EventKind{Started, Done}) {
				t.Errorf("%s: %v", id, got)
			}
		}
		if got := told["both"]; !slices.Equal(got, []EventKind{Skipped}) {
			t.Errorf("what also waits for approval: %v", got)
		}
	})
}

// TestLockThatStaysIsToldOnce: what no round gains ends with one event each, and the locked step says who has it.
func TestLockThatStaysIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &slowWorld{t: t, random: rand.New(rand.NewPCG(1, 1)), there: map[string]bool{}, locked: map[string]bool{"repository main": true}}
		var ends []string
		report := func(e Event) {
			if e.Outcome != "" {
				ends = append(ends, e.Step.ID+" "+string(e.Outcome))
			}
		}
		p := twoOfAll()
		result, _ := Apply(context.Background(), p, w.world(), Options{Auto: []plan.Impact{plan.Safe}, Report: report})
		if result.Exit() != 6 || len(ends) != len(p.Steps) || !slices.Equal(ends[:3], []string{"offsite done", "main locked", "eu0 skipped"}) {
			t.Errorf("exit %d, told %v", result.Exit(), ends)
		}
	})
}
