package plan_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

// TestReviewOfAnother: a digest of a plan does not approve the same words for something else.
func TestReviewOfAnother(t *testing.T) {
	type build func() *plan.Plan
	of := func(path string, change func(s *story)) build {
		return func() *plan.Plan {
			s := readStory(t, "testdata/stories/"+path+".txtar")
			if change != nil {
				change(&s)
			}
			p, _ := plan.Build(s.spec, s.seen, s.now, s.opt)
			return p
		}
	}
	removed := func(change func(r *hclspec.Removed)) func(s *story) {
		return func(s *story) { change(&s.spec.Removed[0]) }
	}
	legacy := func(change func(s *state.Server)) func(s *story) {
		return func(s *story) { changeServer(&s.seen, "legacy", change) }
	}
	orders := func(change func(s *state.Server)) func(s *story) {
		return func(s *story) { changeServer(&s.seen, "orders", change) }
	}
	recovery := func(change func(r *hclspec.Recovery)) func(s *story) {
		return func(s *story) { change(&s.spec.Recoveries[0]) }
	}
	for name, c := range map[string]struct {
		was, is build
		allowed bool
	}{
		"the same":                      {of("removed", nil), of("removed", nil), true},
		"another WAL position":          {of("removed", nil), of("removed", legacy(func(s *state.Server) { s.Slots[0].Retained++ })), true},
		"drop of another slot":          {of("removed-idle", nil), of("removed-idle", func(s *story) { s.spec.Removed[0].SlotName = "pgkeep_more"; renameSlot(s, "pgkeep_more") }), false},
		"drop on another cluster":       {of("removed", nil), of("removed", legacy(func(s *state.Server) { s.SystemID = "2" })), false},
		"removed of another server":     {of("removed", nil), of("removed", func(s *story) { renameRemoved(s, "other") }), false},
		"removed, and the slot too":     {of("removed", removed(func(r *hclspec.Removed) { r.Slot = "keep" })), of("removed", nil), false},
		"replace-slot of another slot":  {of("replace-slot-asked", nil), of("replace-slot-asked", func(s *story) { s.spec.Servers[0].Slot.Name = "pgkeep_x"; renameSlot(s, "pgkeep_x") }), false},
		"replace-slot elsewhere":        {of("replace-slot-asked", nil), of("replace-slot-asked", orders(func(s *state.Server) { s.SystemID = "2" })), false},
		"recover to another path":       {of("recover", nil), of("recover", recovery(func(r *hclspec.Recovery) { r.Destination.Path += "2" })), false},
		"recover to another moment":     {of("recover", nil), of("recover", recovery(func(r *hclspec.Recovery) { r.Target.Time = r.Target.Time.Add(-time.Hour) })), false},
		"recover for another owner":     {of("recover", nil), of("recover", recovery(func(r *hclspec.Recovery) { r.Destination.Owner = "root" })), false},
		"recover, and start PostgreSQL": {of("recover", nil), of("recover", func(s *story) { s.opt.Start = true }), false},
		"prune in another repository":   {of("prune-too-many", nil), of("prune-too-many", func(s *story) { changeRepository(s, func(r *state.Repository) { r.ID = "02" }) }), false},
		"prune of another cluster": {of("prune-too-many", nil), of("prune-too-many", func(s *story) {
			changeRepository(s, func(r *state.Repository) { r.Clusters["orders"][0].SystemID = "9" })
			changeServer(&s.seen, "orders", func(s *state.Server) { s.SystemID = "9" })
		}), false},
		"prune of one backup less": {of("prune-too-many", nil), of("prune-too-many", func(s *story) {
			changeRepository(s, func(r *state.Repository) { r.Clusters["orders"][0].Backups[0].Hold = &state.Hold{Reason: "audit"} })
		}), true},
		"prune of one backup more": {of("prune-too-many", func(s *story) {
			changeRepository(s, func(r *state.Repository) { r.Clusters["orders"][0].Backups[0].Hold = &state.Hold{Reason: "audit"} })
		}), of("prune-too-many", nil), false},
		"one repository's for the other": {of("delete-one", nil), of("delete-both", nil), false},
	} {
		was, is := c.was(), c.is()
		if name != "removed, and the slot too" && was.Review().Empty() {
			t.Errorf("%s: nothing needs approval", name)
		}
		if got := !was.Review().Empty() && allows(t, was, is) && !is.Review().Empty(); got != c.allowed {
			t.Errorf("%s: allowed is %t", name, got)
		}
	}
}

func changeRepository(s *story, change func(r *state.Repository)) {
	s.seen = clone(s.seen)
	r := s.seen.Repositories["main"]
	change(&r)
	s.seen.Repositories["main"] = r
}

func renameSlot(s *story, name string) {
	for server := range s.seen.Servers {
		changeServer(&s.seen, server, func(x *state.Server) {
			for i := range x.Slots {
				x.Slots[i].Name = name
			}
		})
	}
}

func renameRemoved(s *story, name string) {
	r := &s.spec.Removed[0]
	s.seen.Servers[name], s.seen.Receivers[name] = s.seen.Servers[r.Name], s.seen.Receivers[r.Name]
	r.Name, r.From = name, "server."+name
}

// TestApprovedIsWithinThePlan: whatever is named, what runs are steps of the plan, unchanged; none of them is of an impact
// that nobody agreed to, and none comes after one that waits.
func TestApprovedIsWithinThePlan(t *testing.T) {
	impacts := []plan.Impact{plan.Safe, plan.Declared, plan.Destructive, plan.Disruptive}
	rapid.Check(t, func(t *rapid.T) {
		spec, seen := randomWorld(rapid.Uint64Range(0, 5000).Draw(t, "world"), 4)
		p, _ := plan.Build(spec, seen, baseTime, plan.Options{})
		auto := rapid.SliceOfDistinct(rapid.SampledFrom(impacts), rapid.ID).Draw(t, "auto")
		var named []string
		for _, s := range p.Steps {
			if rapid.Bool().Draw(t, s.ID) {
				named = append(named, s.ID)
			}
		}
		if auto == nil {
			auto = []plan.Impact{}
		}
		got := p.Approve(auto, named)
		if len(got.Run)+len(got.Wait) != len(p.Steps) {
			t.Fatalf("%d run and %d wait, of %d", len(got.Run), len(got.Wait), len(p.Steps))
		}
		runs := map[string]bool{}
		for _, s := range got.Run {
			i := slices.IndexFunc(p.Steps, func(o plan.Step) bool { return o.ID == s.ID })
			if i < 0 || text(t, s) != text(t, p.Steps[i]) {
				t.Fatalf("%s is not as planned", s.ID)
			}
			if !slices.Contains(auto, s.Impact) && !slices.Contains(named, s.ID) {
				t.Fatalf("%s is %s and nobody named it", s.ID, s.Impact)
			}
			for _, id := range s.After {
				if !runs[id] {
					t.Fatalf("%s runs before %s", s.ID, id)
				}
			}
			runs[s.ID] = true
		}
	})
}

func text(t *rapid.T, s plan.Step) string {
	out, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestValidMeansTheSame: after any few changes of any world a plan is valid exactly when planning again writes the same
// acts, told in another way than StillValid tells it.
func TestValidMeansTheSame(t *testing.T) {
	changes := worldChanges()
	names := make([]string, 0, len(changes))
	for name := range changes {
		names = append(names, name)
	}
	slices.Sort(names)
	stale := 0
	rapid.Check(t, func(t *rapid.T) {
		spec, seen := randomWorld(rapid.Uint64Range(0, 5000).Draw(t, "world"), 3)
		p, _ := plan.Build(spec, seen, baseTime, plan.Options{})
		then := moved(seen)
		for _, name := range rapid.SliceOfN(rapid.SampledFrom(names), 0, 3).Draw(t, "changes") {
			changes[name](&then, rapid.SampledFrom([]string{"s00000", "s00001", "s00002"}).Draw(t, "server"))
		}
		again, _ := plan.Build(spec, then, baseTime, plan.Options{})
		ok, why := p.StillValid(spec, then)
		if same := acts(t, p) == acts(t, again); ok != same {
			t.Fatalf("valid is %t: %s\nthen %s\nnow  %s", ok, texts(why), acts(t, p), acts(t, again))
		}
		if !ok {
			stale++
		}
	})
	if stale == 0 {
		t.Error("no change made a plan stale")
	}
}

// acts writes what a plan does, without what moves on by itself.
func acts(t *rapid.T, p *plan.Plan) string {
	var out []string
	for _, s := range p.Steps {
		switch a := s.Action.(type) {
		case plan.Prune:
			a.Clock = time.Time{}
			s.Action = a
		case plan.PruneWAL:
			a.Clock = time.Time{}
			s.Action = a
		case plan.CopyWAL:
			a.Ranges = nil
			s.Action = a
		case plan.TakeBackup:
			a.Known = nil
			s.Action = a
		}
		s.Because, s.Effect, s.Requires = nil, "", slices.Clone(s.Requires)
		for i := range s.Requires {
			s.Requires[i].Text = ""
		}
		out = append(out, text(t, s))
	}
	return strings.Join(out, "\n")
}

// worldChanges are things that happen to one server between a plan and its apply.
func worldChanges() map[string]func(o *state.Observation, server string) {
	cluster := func(change func(c *state.Cluster)) func(o *state.Observation, server string) {
		return func(o *state.Observation, server string) {
			for _, r := range o.Repositories {
				for i := range r.Clusters[server] {
					change(&r.Clusters[server][i])
				}
			}
		}
	}
	seen := func(change func(s *state.Server)) func(o *state.Observation, server string) {
		return func(o *state.Observation, server string) { changeServer(o, server, change) }
	}
	return map[string]func(o *state.Observation, server string){
		"silent": seen(func(s *state.Server) {
			*s = state.Server{Unknown: &state.Unknown{Code: state.CodeUnreachable, Because: "no answer"}}
		}),
		"no slots":       seen(func(s *state.Server) { s.Slots = nil }),
		"no REPLICATION": seen(func(s *state.Server) { s.Role.Replication = false }),
		"wal_level":      seen(func(s *state.Server) { s.Settings = map[string]string{"wal_level": "minimal"} }),
		"slots taken":    seen(func(s *state.Server) { s.Settings = map[string]string{"max_replication_slots": "0"} }),
		"promoted":       seen(func(s *state.Server) { s.Timeline = 2 }),
		"in recovery":    seen(func(s *state.Server) { s.InRecovery = true }),
		"another":        seen(func(s *state.Server) { s.SystemID = "9" }),
		"upgraded":       seen(func(s *state.Server) { s.Version = 160004 }),
		"receiver":       func(o *state.Observation, server string) { startReceiver(*o, server) },
		"no receiver":    func(o *state.Observation, server string) { o.Receivers[server] = state.Receiver{} },
		"no spool": func(o *state.Observation, server string) {
			o.Spools[server] = state.Spool{Unknown: &state.Unknown{Code: state.CodeAbsent, Because: "absent"}}
		},
		"unmounted": func(o *state.Observation, _ string) {
			o.Repositories["main"] = state.Repository{Unknown: &state.Unknown{Code: state.CodeNotRepository, Because: "no REPOSITORY.json"}}
		},
		"hold":        cluster(func(c *state.Cluster) { eachBackup(c, func(k *state.Backup) { k.Hold = &state.Hold{Reason: "audit"} }) }),
		"damaged":     cluster(func(c *state.Cluster) { eachBackup(c, func(k *state.Backup) { k.State = state.BackupDamaged }) }),
		"WAL gone":    cluster(func(c *state.Cluster) { c.WAL = nil }),
		"all deleted": cluster(func(c *state.Cluster) { c.Backups = nil }),
		"recorded gap": cluster(func(c *state.Cluster) {
			if len(c.WAL) > 0 {
				c.Gaps = append(c.Gaps, state.Gap{Range: c.WAL[0].Range, Reason: "lost"})
			}
		}),
	}
}

func eachBackup(c *state.Cluster, change func(k *state.Backup)) {
	for i := range c.Backups {
		change(&c.Backups[i])
	}
}
