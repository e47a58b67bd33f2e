package plan_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

// changeServer changes one server of an observation.
func changeServer(o *state.Observation, name string, change func(s *state.Server)) {
	s := o.Servers[name]
	s.Slots = slices.Clone(s.Slots)
	change(&s)
	o.Servers[name] = s
}

// decidingFacts are the facts that change what is done to the world of stories/prune.txtar, each with what the operator
// reads: the old fact and the new one.
func decidingFacts() map[string]struct {
	change func(o *state.Observation)
	want   []string
} {
	backups := func(o *state.Observation) []state.Backup { return o.Repositories["main"].Clusters["orders"][0].Backups }
	orders := func(change func(s *state.Server)) func(o *state.Observation) {
		return func(o *state.Observation) { changeServer(o, "orders", change) }
	}
	type c = struct {
		change func(o *state.Observation)
		want   []string
	}
	const step = "prune server.orders/prune/main would be done otherwise: backups would now be "
	return map[string]c{
		"a hold": {
			func(o *state.Observation) { backups(o)[1].Hold = &state.Hold{Reason: "audit"} },
			[]string{step + "20260131T000000Z-F-0000, 20260202T000000Z-F-0002, and was 20260131T000000Z-F-0000, 20260201T000000Z-F-0001, 20260202T000000Z-F-0002 (20260201T000000Z-F-0001 is held: audit)"},
		},
		"a backup deleted": {
			func(o *state.Observation) {
				backups(o)[0].State, backups(o)[0].Tombed = state.BackupDeleted, baseTime.Add(-time.Hour)
			},
			[]string{step, "(20260131T000000Z-F-0000 is deleted)"},
		},
		"a backup damaged": {
			func(o *state.Observation) { backups(o)[3].State = state.BackupDamaged }, []string{step},
		},
		"all backups gone": {
			func(o *state.Observation) {
				o.Repositories["main"].Clusters["orders"][0].Backups = backups(o)[9:]
			},
			[]string{"prune server.orders/prune/main is not to be done any more. Then: ", "Now: 20260131T000000Z-F-0000 is gone, 20260201T000000Z-F-0001 is gone"},
		},
		"a writer died": {
			func(o *state.Observation) {
				c := &o.Repositories["main"].Clusters["orders"][0]
				c.Backups = append(c.Backups, state.Backup{ID: "20260210T080000Z-F-0011", State: state.BackupAbandoned, Kind: "full", Began: baseTime.Add(-time.Hour)})
			},
			[]string{"remove-incomplete server.orders/incomplete/main was not planned and would be done now: "},
		},
		"another identifier": {orders(func(s *state.Server) { s.SystemID = "9" }), []string{"prune server.orders/prune/main is not to be done any more", "system identifier"}},
		"a new timeline": {
			func(o *state.Observation) {
				changeServer(o, "orders", func(s *state.Server) {
					s.Timeline, s.FlushLSN, s.Slots = 2, 0xD000000, nil
					s.History = &state.History{Timeline: 2, Parents: []state.Parent{{Timeline: 1, Switch: 0xC000060}}}
				})
				o.Receivers["orders"] = state.Receiver{}
			},
			[]string{"follow-timeline server.orders/timeline was not planned and would be done now"},
		},
		"the server is silent": {
			orders(func(s *state.Server) {
				*s = state.Server{Unknown: &state.Unknown{Code: state.CodeUnreachable, Because: "10.0.1.1:5432 does not answer"}}
				s.Slots = nil
			}),
			nil, // a prune needs the server's clock no more than the store's: what is decided stays
		},
		"wal_level": {orders(func(s *state.Server) { s.Settings = map[string]string{"wal_level": "minimal"} }), nil},
		"the slot gone": {
			func(o *state.Observation) {
				changeServer(o, "orders", func(s *state.Server) { s.Slots = nil })
				o.Receivers["orders"] = state.Receiver{}
			},
			[]string{"create-slot server.orders/slot was not planned and would be done now: "},
		},
		"the slot lost": {
			func(o *state.Observation) {
				changeServer(o, "orders", func(s *state.Server) {
					s.Slots[0].WALStatus, s.Slots[0].Active, s.Slots[0].RestartLSN = state.SlotLost, false, 0
				})
				o.Receivers["orders"] = state.Receiver{}
			},
			[]string{"replace-slot server.orders/slot was not planned and would be done now: "},
		},
		"the receiver gone": {
			func(o *state.Observation) {
				changeServer(o, "orders", func(s *state.Server) { s.Slots[0].Active = false })
				o.Receivers["orders"] = state.Receiver{}
			},
			[]string{"start-receiver server.orders/receiver was not planned and would be done now: "},
		},
		"the repository unmounted": {
			func(o *state.Observation) {
				o.Repositories["main"] = state.Repository{Unknown: &state.Unknown{Code: state.CodeNotRepository, Because: "/srv/pgkeep has no REPOSITORY.json"}}
			},
			[]string{"prune server.orders/prune/main is not to be done any more", "/srv/pgkeep has no REPOSITORY.json"},
		},
		"WAL missing": {
			func(o *state.Observation) { o.Repositories["main"].Clusters["orders"][0].WAL[0].From = 0xB000000 }, []string{"server.orders"},
		},
		"a gap": {
			func(o *state.Observation) {
				r := o.Receivers["orders"]
				r.Problem = &state.Problem{Code: state.CodeGap, Text: "gone"}
				r.Running = false
				o.Receivers["orders"] = r
				changeServer(o, "orders", func(s *state.Server) { s.Slots[0].Active = false })
			},
			[]string{"server.orders"},
		},
	}
}

// TestDecidingFacts: each fact that decides something makes a plan stale, and the differences tell the operator the old
// fact and the new one.
func TestDecidingFacts(t *testing.T) {
	_, data, s := saved(t, "testdata/stories/prune.txtar")
	p, err := plan.ReadSaved(data)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range decidingFacts() {
		then := clone(s.seen)
		c.change(&then)
		again, _ := plan.Build(s.spec, then, s.now, s.opt)
		ok, why := p.StillValid(s.spec, then)
		if decides := decisions(&p.Plan) != decisions(again); ok == decides {
			t.Errorf("%s: valid is %t: %s", name, ok, texts(why))
		}
		if ok != (c.want == nil) && c.want != nil {
			t.Errorf("%s: the plan is still valid", name)
		}
		for _, want := range c.want {
			if !strings.Contains(texts(why), want) {
				t.Errorf("%s gives\n%s\nwithout %q", name, texts(why), want)
			}
		}
		for _, d := range why {
			if strings.Contains(d.Text, "\n") || d.Is == "" {
				t.Errorf("%s: no line with the new fact: %+v", name, d)
			}
		}
	}
}

// decisions writes what a plan does to what, coarser than StillValid and in another way.
func decisions(p *plan.Plan) string {
	var out []string
	for _, s := range p.Steps {
		line := s.ID + " " + plan.Verb(s.Action)
		switch a := s.Action.(type) {
		case plan.Prune:
			line += fmt.Sprint(a.Backups, a.SystemID)
		case plan.RemoveIncomplete:
			line += fmt.Sprint(a.Backups, a.SystemID)
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

// TestOtherCluster: a plan is not applied to another cluster or repository behind the same name, even when the same would
// be done there.
func TestOtherCluster(t *testing.T) {
	p, _, s := saved(t, "testdata/stories/prune.txtar")
	then := clone(s.seen)
	r := then.Repositories["main"]
	r.ID = "02"
	then.Repositories["main"] = r
	if ok, why := p.StillValid(s.spec, then); ok || !strings.Contains(texts(why), "repository main is another one: its id is 02, and was 01") {
		t.Errorf("another repository: %t %s", ok, texts(why))
	}
	then = clone(s.seen)
	changeServer(&then, "orders", func(s *state.Server) { s.SystemID = "9" })
	if ok, why := p.StillValid(s.spec, then); ok || !strings.Contains(texts(why), "server orders is another cluster: its system identifier is 9, and was 7335180256203400928") {
		t.Errorf("another cluster: %t %s", ok, texts(why))
	}
	then = clone(s.seen)
	changeServer(&then, "orders", func(s *state.Server) { s.Version = 160004 })
	if ok, why := p.StillValid(s.spec, then); ok || !strings.Contains(texts(why), "server orders is PostgreSQL 16 now, and was 15") {
		t.Errorf("another major version: %t %s", ok, texts(why))
	}
	changeServer(&then, "orders", func(s *state.Server) { s.Version = s.Version/10000*10000 - 10000 + 19 }) // a minor update
	if ok, why := p.StillValid(s.spec, then); !ok {
		t.Errorf("a minor update: %s", texts(why))
	}
}

// TestStaleInRandomWorlds: in any world, whatever makes one step needless makes the plan stale and is told of that step.
func TestStaleInRandomWorlds(t *testing.T) {
	tried := map[string]int{}
	for seed := range uint64(30) {
		spec, seen := randomWorld(seed, 3)
		p, _ := plan.Build(spec, seen, baseTime, plan.Options{})
		for i := range p.Steps {
			then := clone(seen)
			if !undermine(&then, p.Steps[i].Action) {
				continue
			}
			tried[plan.Verb(p.Steps[i].Action)]++
			ok, why := p.StillValid(spec, then)
			if ok || !slices.ContainsFunc(why, func(d plan.Difference) bool { return d.Step == p.Steps[i].ID }) {
				t.Fatalf("seed %d, %s: valid is %t: %s", seed, p.Steps[i].ID, ok, texts(why))
			}
		}
	}
	for _, verb := range []string{"create-repository", "create-slot", "replace-slot", "start-receiver", "take-backup", "remove-incomplete", "prune", "prune-wal"} {
		if tried[verb] == 0 {
			t.Errorf("no plan with %s was tried", verb)
		}
	}
}

// undermine lets somebody else have done what a step would do, or makes it wrong.
func undermine(o *state.Observation, a plan.Action) bool {
	switch a := a.(type) {
	case plan.CreateRepository:
		o.Repositories[a.Repository] = state.Repository{Location: "/srv/" + a.Repository, ID: "new", Format: 1, Now: baseTime}
	case plan.CreateSlot:
		addSlot(*o, a.Server, a.Slot)
	case plan.ReplaceSlot:
		addSlot(*o, a.Server, a.Slot)
	case plan.StartReceiver:
		startReceiver(*o, a.Server)
		if len(o.Servers[a.Server].Slots) == 0 {
			return false // it is to start once its slot is there
		}
	case plan.TakeBackup:
		o.Servers[a.Server] = state.Server{Unknown: &state.Unknown{Code: state.CodeUnreachable, Because: "no answer"}}
	case plan.RemoveIncomplete:
		o.Repositories[a.Repository] = state.Repository{Unknown: &state.Unknown{Code: state.CodeNotRepository, Because: "no REPOSITORY.json"}}
	case plan.Prune:
		held := false
		eachCluster(*o, a.Repository, a.Server, a.SystemID, func(c *state.Cluster) {
			for i := range c.Backups {
				if c.Backups[i].ID == a.Backups[0] {
					c.Backups[i].Hold = &state.Hold{Reason: "audit"}
					held = true
				}
			}
		})
		return held
	case plan.CopyBackup:
		copyBackup(*o, a)
	case plan.CopyWAL:
		copyWAL(*o, a)
	case plan.PruneWAL:
		eachCluster(*o, a.Repository, a.Server, a.SystemID, func(c *state.Cluster) { *c = withoutWAL(*c, a.Ranges) })
		return len(a.Ranges) > 0
	default:
		return false
	}
	return true
}

// TestGoneWhy: a step that is gone says what is so now.
func TestGoneWhy(t *testing.T) {
	p, _, s := saved(t, "testdata/stories/slot-missing.txtar")
	then := clone(s.seen)
	addSlot(then, "orders", "pgkeep_orders")
	startReceiver(then, "orders")
	_, why := p.StillValid(s.spec, then)
	for _, want := range []string{"Now: slot pgkeep_orders is there, reserved, in use by process", "Now: the receiver of orders runs as process 1"} {
		if !strings.Contains(texts(why), want) {
			t.Errorf("no %q in\n%s", want, texts(why))
		}
	}
}
