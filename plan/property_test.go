package plan_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// after predicts the world once a plan's steps are done.
func after(seen state.Observation, spec *hclspec.Spec, p *plan.Plan) state.Observation {
	out := clone(seen)
	for _, s := range p.Steps {
		switch a := s.Action.(type) {
		case plan.CreateRepository:
			out.Repositories[a.Repository] = state.Repository{Location: "/srv/" + a.Repository, ID: "new", Format: 1, Now: p.Now}
		case plan.CreateSlot:
			addSlot(out, a.Server, a.Slot)
		case plan.ReplaceSlot:
			addSlot(out, a.Server, a.Slot)
		case plan.DropSlot:
			addSlot(out, a.Server, "")
		case plan.StartReceiver:
			startReceiver(out, a.Server)
		case plan.StopReceiver:
			r := out.Receivers[a.Server]
			r.Running = false
			out.Receivers[a.Server] = r
		case plan.RecordGap:
			eachCluster(out, "", a.Server, a.SystemID, func(c *state.Cluster) { c.Gaps = append(c.Gaps, state.Gap{Range: a.Range, Recorded: p.Now}) })
			r := out.Receivers[a.Server]
			r.Problem = nil
			out.Receivers[a.Server] = r
		case plan.FollowTimeline:
			h := out.Servers[a.Server].History
			if h == nil {
				h = &state.History{Timeline: a.Timeline}
			}
			eachCluster(out, "", a.Server, out.Servers[a.Server].SystemID, func(c *state.Cluster) { c.Histories = append(c.Histories, *h) })
		case plan.TakeBackup:
			takeBackup(out, spec, a, p.Now)
		case plan.RemoveIncomplete:
			eachCluster(out, a.Repository, a.Server, a.SystemID, func(c *state.Cluster) { c.Backups = drop(c.Backups, a.Backups) })
		case plan.Prune:
			eachCluster(out, a.Repository, a.Server, a.SystemID, func(c *state.Cluster) { prune(c, a, p.Now) })
		case plan.PruneWAL:
			eachCluster(out, a.Repository, a.Server, a.SystemID, func(c *state.Cluster) { *c = withoutWAL(*c, a.Ranges) })
		case plan.ExtendLock:
			eachCluster(out, a.Repository, a.Server, a.SystemID, func(c *state.Cluster) { extendLocks(c, a) })
		case plan.CopyBackup:
			copyBackup(out, a)
		case plan.CopyWAL:
			copyWAL(out, a)
		case plan.Drill:
			eachCluster(out, a.Route.Repository, a.Route.Server, a.Route.SystemID, func(c *state.Cluster) {
				c.Drills = append([]state.Drill{{Kind: state.DrillKind, Drill: a.Drill, Passed: true, Began: p.Now, Ended: p.Now}}, c.Drills...)
			})
		case plan.Verify:
			eachCluster(out, a.Repository, a.Server, a.SystemID, func(c *state.Cluster) { c.Verified = looked(a, p.Now) })
		}
	}
	return out
}

// into changes what a repository holds of a cluster, as one that is new there if need be.
func into(o state.Observation, repository, server, systemID string, like state.Cluster, change func(*state.Cluster)) {
	r := o.Repositories[repository]
	if r.Clusters == nil {
		r.Clusters = map[string][]state.Cluster{}
	}
	list := r.Clusters[server]
	i := slices.IndexFunc(list, func(c state.Cluster) bool { return c.SystemID == systemID })
	if i < 0 {
		list = append(list, state.Cluster{Name: server, SystemID: systemID, Major: like.Major, SegmentSize: like.SegmentSize})
		i = len(list) - 1
	}
	change(&list[i])
	r.Clusters[server] = list
	o.Repositories[repository] = r
}

func copyBackup(o state.Observation, a plan.CopyBackup) {
	eachCluster(o, a.From, a.Server, a.SystemID, func(from *state.Cluster) {
		for _, k := range from.Backups {
			if k.ID != a.Backup {
				continue
			}
			into(o, a.Repository, a.Server, a.SystemID, *from, func(c *state.Cluster) {
				c.Backups = slices.DeleteFunc(c.Backups, func(left state.Backup) bool { return left.ID == k.ID }) // which a killed copy left
				c.Backups = append(c.Backups, k)
				slices.SortFunc(c.Backups, func(x, y state.Backup) int { return strings.Compare(x.ID, y.ID) })
			})
		}
	})
}

func copyWAL(o state.Observation, a plan.CopyWAL) {
	eachCluster(o, a.From, a.Server, a.SystemID, func(from *state.Cluster) {
		var have []wal.Range
		for _, r := range from.WAL {
			have = append(have, wal.Range{Timeline: r.Timeline, From: r.From, To: from.SegmentSize.Ceil(max(r.To, r.Partial))})
		}
		into(o, a.Repository, a.Server, a.SystemID, *from, func(c *state.Cluster) {
			all := slices.Clone(a.Ranges)
			partial := map[wal.LSN]wal.LSN{}
			for _, r := range c.WAL {
				all = append(all, r.Range)
				partial[r.To] = r.Partial
			}
			c.WAL = nil
			for _, r := range wal.Merge(all) {
				if len(wal.Missing(r, have)) > 0 && len(a.Ranges) > 0 && r == a.Ranges[0] {
					panic("WAL is copied that is not there")
				}
				c.WAL = append(c.WAL, state.WALRange{Range: r, LastCommit: baseTime, Partial: partial[r.To]})
			}
			for _, h := range from.Histories {
				if slices.Contains(a.Histories, h.Timeline) {
					c.Histories = append(c.Histories, h)
				}
			}
		})
	})
}

// looked is the evidence of a verification that found nothing.
func looked(a plan.Verify, at time.Time) *state.Verification {
	look := state.Look{Began: at, Ended: at, Sample: a.Sample}
	v := &state.Verification{Kind: state.VerificationKind, Level: state.VerifyLevel(a.Level), Began: at, Ended: at, Quick: look}
	if v.Level == state.VerifyFull {
		v.Full = look
	}
	return v
}

func clone(seen state.Observation) state.Observation {
	data, err := json.Marshal(seen)
	if err != nil {
		panic(err)
	}
	var out state.Observation
	if err := json.Unmarshal(data, &out); err != nil {
		panic(err)
	}
	return out
}

func addSlot(o state.Observation, server, name string) {
	s := o.Servers[server]
	s.Slots = slices.DeleteFunc(s.Slots, func(x state.Slot) bool { return x.Name == name || name == "" })
	if name != "" {
		s.Slots = append(s.Slots, state.Slot{Name: name, Physical: true, RestartLSN: s.FlushLSN, WALStatus: state.SlotReserved})
	}
	o.Servers[server] = s
}

func startReceiver(o state.Observation, server string) {
	s := o.Servers[server]
	o.Receivers[server] = state.Receiver{
		Running: true, Streaming: true, PID: 1, Timeline: s.Timeline, Flushed: s.FlushLSN, Written: s.FlushLSN, Archived: s.FlushLSN, ServerEnd: s.FlushLSN, CaughtUpAt: o.At, Reported: o.At,
	}
	for i := range s.Slots {
		s.Slots[i].Active = s.Slots[i].Active || strings.HasPrefix(s.Slots[i].Name, "pgkeep_")
	}
	o.Servers[server] = s
}

func eachCluster(o state.Observation, repository, server, systemID string, change func(*state.Cluster)) {
	for name, r := range o.Repositories {
		if repository != "" && name != repository {
			continue
		}
		for i := range r.Clusters[server] {
			if r.Clusters[server][i].SystemID == systemID {
				change(&r.Clusters[server][i])
			}
		}
	}
}

func drop(in []state.Backup, ids []string) []state.Backup {
	return slices.DeleteFunc(in, func(b state.Backup) bool { return slices.Contains(ids, b.ID) })
}

func prune(c *state.Cluster, a plan.Prune, now time.Time) {
	if a.Sweep {
		c.Backups = drop(c.Backups, a.Backups)
		return
	}
	for i := range c.Backups {
		if slices.Contains(a.Backups, c.Backups[i].ID) {
			c.Backups[i].State, c.Backups[i].Tombed = state.BackupDeleted, now
		}
	}
}

func withoutWAL(c state.Cluster, gone []wal.Range) state.Cluster {
	var left []state.WALRange
	for _, w := range c.WAL {
		tail := wal.Range{Timeline: w.Timeline, From: w.To, To: c.SegmentSize.Ceil(w.Partial)}
		if tail.Empty() || len(wal.Missing(tail, gone)) == 0 {
			w.Partial = 0
		}
		parts := wal.Missing(w.Range, gone)
		if w.Partial != 0 && (len(parts) == 0 || parts[len(parts)-1].To != w.To) {
			parts = append(parts, wal.Range{Timeline: w.Timeline, From: w.To, To: w.To})
		}
		for _, p := range parts {
			keep := w
			keep.Range = p
			if p.To != w.To {
				keep.Partial = 0
			}
			left = append(left, keep)
		}
	}
	c.WAL, c.StalePartialBytes = left, 0
	return c
}

func takeBackup(o state.Observation, spec *hclspec.Spec, a plan.TakeBackup, now time.Time) {
	s := o.Servers[a.Server]
	for _, name := range a.Repositories {
		r := o.Repositories[name]
		if r.Clusters == nil {
			r.Clusters = map[string][]state.Cluster{}
		}
		list := r.Clusters[a.Server]
		i := slices.IndexFunc(list, func(c state.Cluster) bool { return c.SystemID == s.SystemID })
		if i < 0 {
			list = append(list, state.Cluster{Name: a.Server, SystemID: s.SystemID, Major: s.Major(), SegmentSize: s.SegmentSize})
			i = len(list) - 1
		}
		list[i].Backups = append(list[i].Backups, state.Backup{
			ID: now.UTC().Format("20060102T150405Z") + "-F-new1", State: state.BackupCommitted, Kind: a.Kind, Version: s.Version, Timeline: s.Timeline,
			Redo: s.FlushLSN, Start: s.FlushLSN, Stop: s.FlushLSN + 256, Began: now, Ended: now.Add(time.Second),
		})
		r.Clusters[a.Server] = list
		o.Repositories[name] = r
	}
}

// TestConvergence applies every story's plan to its world and plans again: nothing is left to do.
func TestConvergence(t *testing.T) {
	for _, path := range stories(t) {
		t.Run(path, func(t *testing.T) {
			s := readStory(t, path)
			if s.opt.Recover != "" || s.opt.RecoverTo != nil || s.opt.BackupNow != nil || s.opt.Delete != nil || s.opt.Repair != nil || s.opt.Switch != nil || s.opt.Drill != nil || s.opt.Suppose {
				t.Skip("asked for by hand, or a supposition")
			}
			p, diags := plan.Build(s.spec, s.seen, s.now, s.opt)
			if diags.HasErrors() {
				return // what was asked for cannot be planned at all
			}
			then := after(s.seen, s.spec, p)
			s.opt.Replace = nil // which was granted
			again, _ := plan.Build(s.spec, then, s.now, s.opt)
			for _, step := range again.Steps {
				t.Errorf("planned once more: %s, because %s", step.ID, step.Because[0].Text)
			}
		})
	}
}

// randomWorld makes a configuration and a world of n servers in many states.
func randomWorld(seed uint64, n int) (*hclspec.Spec, state.Observation) {
	rng := rand.New(rand.NewPCG(seed, 3))
	spec := &hclspec.Spec{Repositories: []hclspec.Repository{{Address: "repository.main", Name: "main", Path: "/srv/main"}, {Address: "repository.two", Name: "two", Path: "/srv/two"}}}
	o := state.Observation{
		Version: 1, At: baseTime, Host: "backup1", Servers: map[string]state.Server{}, Receivers: map[string]state.Receiver{}, Spools: map[string]state.Spool{},
		Repositories: map[string]state.Repository{},
	}
	main := state.Repository{Location: "/srv/main", ID: "1", Now: baseTime, Clusters: map[string][]state.Cluster{}}
	two := state.Repository{Location: "/srv/two", ID: "2", Now: baseTime, Clusters: map[string][]state.Cluster{}}
	if rng.IntN(6) == 0 {
		two = state.Repository{Clusters: map[string][]state.Cluster{}, Unknown: &state.Unknown{Code: []state.Code{state.CodeAbsent, state.CodeNotRepository, state.CodeOtherHost}[rng.IntN(3)], Because: "seen so"}}
	}
	var names []string
	for i := range n {
		name := fmt.Sprintf("s%05d", i)
		names = append(names, name)
		spec.Servers = append(spec.Servers, randomServer(rng, o, name, []map[string][]state.Cluster{main.Clusters, two.Clusters}))
	}
	o.Repositories["main"], o.Repositories["two"] = main, two
	spec.Schedules = []hclspec.Schedule{{Address: "schedule.nightly", Name: "nightly", Servers: names, Backup: "full", Cron: "0 1 * * *", Timezone: "Europe/Berlin", IfMissed: "run_once", StartWithin: 4 * time.Hour}}
	spec.Retentions = []hclspec.Retention{{Address: "retention.r", Name: "r", Servers: names, RecoveryWindow: time.Duration(1+rng.IntN(10)) * 24 * time.Hour, Redundancy: rng.IntN(3), MinimumRedundancy: 1, MaxDelete: rng.IntN(6), Enforce: "auto"}}
	if rng.IntN(2) == 0 {
		spec.Retentions[0].RecoveryWindow = time.Duration(1+rng.IntN(5)) * 24 * time.Hour
		spec.Retentions[0].Keep = hclspec.Keep{Daily: rng.IntN(12), Weekly: rng.IntN(5), Monthly: rng.IntN(3), Timezone: "Europe/Berlin"}
	}
	return spec, o
}

func randomServer(rng *rand.Rand, o state.Observation, name string, repositories []map[string][]state.Cluster) hclspec.Server {
	slot := "pgkeep_" + name
	s := hclspec.Server{
		Address: "server." + name, Block: name, Name: name, Repositories: []string{"main"}, Slot: hclspec.Slot{Name: slot, OnLost: "replace"},
		Receiver: hclspec.Receiver{ApplicationName: slot, Acknowledge: "spool"}, Backup: hclspec.Backup{From: "primary", Checkpoint: "spread"},
	}
	if rng.IntN(3) == 0 {
		s.Repositories = append(s.Repositories, "two")
	}
	end := wal.LSN(40 << 24)
	seen := state.Server{
		SystemID: "7" + name[1:], Version: 150018, Timeline: 1, FlushLSN: end, SegmentSize: wal.DefaultSegmentSize, Now: baseTime,
		Settings: map[string]string{"wal_level": "replica", "max_wal_senders": "10", "max_replication_slots": "10"}, Role: state.Role{Name: "pgkeep", Replication: true},
	}
	running := rng.IntN(4) > 0
	if k := rng.IntN(8); k > 0 {
		seen.Slots = []state.Slot{{Name: slot, Physical: true, Active: running, ActivePID: 7, RestartLSN: end, WALStatus: state.SlotReserved}}
		if k == 1 && !running {
			seen.Slots[0].WALStatus, seen.Slots[0].RestartLSN = state.SlotLost, 0
		}
	} else {
		running = false
	}
	if rng.IntN(10) == 0 {
		seen = state.Server{Unknown: &state.Unknown{Code: state.CodeUnreachable, Because: "no answer"}}
	}
	o.Servers[name] = seen
	o.Receivers[name] = state.Receiver{Running: running, Streaming: running, Timeline: 1, Flushed: end, Archived: end, ServerEnd: end, CaughtUpAt: baseTime}
	o.Spools[name] = state.Spool{Path: "/spool", SystemID: "7" + name[1:], Timeline: 1, Durable: end}
	for i := range s.Repositories {
		c := state.Cluster{Name: name, SystemID: "7" + name[1:], Major: 15, SegmentSize: wal.DefaultSegmentSize}
		c.WAL = []state.WALRange{{Range: wal.Range{Timeline: 1, From: 1 << 24, To: end}, LastCommit: baseTime}}
		for k := range rng.IntN(31) {
			c.Backups = append(c.Backups, randomBackup(rng, k))
		}
		if rng.IntN(12) > 0 {
			repositories[i][name] = []state.Cluster{c}
		}
	}
	return s
}

func randomBackup(rng *rand.Rand, k int) state.Backup {
	at := baseTime.Add(-time.Duration(31-k) * 24 * time.Hour).Add(-8 * time.Hour)
	b := state.Backup{
		ID: at.Format("20060102T150405Z") + fmt.Sprintf("-F-%04d", k), State: state.BackupCommitted, Kind: "full", Version: 150018, Timeline: 1,
		Redo: wal.LSN(2+k) << 24, Stop: wal.LSN(2+k)<<24 + 256, Began: at, Ended: at.Add(time.Minute), StoredBytes: 1 << 30,
	}
	switch rng.IntN(20) {
	case 0:
		b.State = state.BackupAborted
	case 1:
		b.State = state.BackupAbandoned
	case 2:
		b.State = state.BackupDamaged
	case 3:
		b.State, b.Tombed = state.BackupDeleted, baseTime.Add(-time.Duration(rng.IntN(50))*time.Hour)
	case 4:
		b.Hold = &state.Hold{Reason: "audit"}
	}
	return b
}

// TestRandomWorlds: the same input gives the same bytes; what is planned is gone once it is done; and a plan stays valid
// when positions move on.
func TestRandomWorlds(t *testing.T) {
	for seed := range uint64(400) {
		spec, seen := randomWorld(seed, 12)
		p, _ := plan.Build(spec, seen, baseTime, plan.Options{})
		checkPlan(t, p)
		first, _ := json.Marshal(p)
		q, _ := plan.Build(spec, clone(seen), baseTime, plan.Options{})
		if second, _ := json.Marshal(q); string(first) != string(second) {
			t.Fatalf("seed %d: two plans differ:\n%s", seed, cmp.Diff(string(first), string(second)))
		}
		then := after(seen, spec, p)
		again, _ := plan.Build(spec, then, baseTime, plan.Options{})
		for _, s := range again.Steps {
			if !followsFrom(p, s) {
				t.Fatalf("seed %d: planned once more: %s, because %s", seed, s.ID, s.Because[0].Text)
			}
		}
		third, _ := plan.Build(spec, after(then, spec, again), baseTime, plan.Options{})
		if len(third.Steps) > 0 {
			t.Fatalf("seed %d: planned a third time: %s", seed, third.Steps[0].ID)
		}
		if ok, why := p.StillValid(spec, moved(seen)); !ok {
			t.Fatalf("seed %d: only positions moved, and the plan is stale: %v", seed, why)
		}
	}
}

// followsFrom tells whether a step is there only because of what the first plan did: it deletes what a backup of that plan made needless, of which nothing
// could be judged before, or looks at a backup that was copied to where there was none.
func followsFrom(p *plan.Plan, s plan.Step) bool {
	server, _, _ := strings.Cut(s.ID, "/")
	verb := plan.Verb(s.Action)
	return slices.ContainsFunc(p.Steps, func(o plan.Step) bool {
		copied := strings.HasPrefix(o.ID, server+"/copy/")
		switch verb {
		case "prune", "prune-wal":
			return copied || o.ID == server+"/backup"
		case "verify":
			return copied && strings.TrimPrefix(o.ID, server+"/copy/") == strings.TrimPrefix(s.ID, server+"/verify/")
		}
		return false
	})
}

// moved lets positions and clocks move on a little, as between a plan and its apply.
func moved(seen state.Observation) state.Observation {
	out := clone(seen)
	out.At = out.At.Add(time.Minute)
	for name, s := range out.Servers {
		s.FlushLSN += 4096
		s.Now = s.Now.Add(time.Minute)
		out.Servers[name] = s
		r := out.Receivers[name]
		r.Flushed, r.ServerEnd = r.Flushed+4096, r.ServerEnd+4096
		out.Receivers[name] = r
	}
	return out
}

// BenchmarkBuild plans many servers with up to thirty backups each.
func BenchmarkBuild(b *testing.B) {
	for _, n := range []int{1_000, 10_000} {
		spec, seen := randomWorld(1, n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				plan.Build(spec, seen, baseTime, plan.Options{})
			}
		})
	}
}
