package plan_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

const (
	fleetBackups = 30
	fleetDay     = wal.LSN(64 << 24) // WAL between two backups
)

// fleet gives n servers in four repositories, each with fleetBackups daily backups in its own: of the last server of each
// hundred a slot is missing, and every server has backups that its retention gives up.
func fleet(n int) (*hclspec.Spec, state.Observation) {
	where := hclspec.Where{Block: hcl.Range{Filename: "pgkeep.hcl", Start: hcl.Pos{Line: 1, Column: 1}}}
	spec := &hclspec.Spec{}
	seen := state.Observation{
		Version: 1, At: baseTime, Host: "backup1", Servers: map[string]state.Server{}, Repositories: map[string]state.Repository{},
		Receivers: map[string]state.Receiver{}, Spools: map[string]state.Spool{},
	}
	for r := range 4 {
		name := fmt.Sprintf("r%d", r)
		spec.Repositories = append(spec.Repositories, hclspec.Repository{Address: "repository." + name, Name: name, Path: "/srv/" + name, Where: where})
		seen.Repositories[name] = state.Repository{Location: "/srv/" + name, ID: name, Format: 1, Free: 1 << 40, Total: 1 << 41, Now: baseTime, Clusters: map[string][]state.Cluster{}}
	}
	var names []string
	for i := range n {
		name := fmt.Sprintf("s.%05d", i)
		repository := fmt.Sprintf("r%d", i%4)
		names = append(names, name)
		slot := fmt.Sprintf("pgkeep_s_%05d", i)
		spec.Servers = append(spec.Servers, hclspec.Server{
			Address: fmt.Sprintf("server.s[%q]", fmt.Sprintf("%05d", i)), Block: "s", Name: name, Repositories: []string{repository},
			Slot: hclspec.Slot{Name: slot, OnLost: "replace"}, Where: where,
			Receiver: hclspec.Receiver{Acknowledge: "spool", Spool: "/var/lib/pgkeep/spool", OnSpoolFull: "wait", PushEvery: 10 * time.Second, ApplicationName: slot},
			Backup:   hclspec.Backup{FullEvery: 7 * 24 * time.Hour, From: "primary", Checkpoint: "spread"},
		})
		observeFleetServer(seen, name, repository, slot, i)
	}
	spec.Schedules = []hclspec.Schedule{{
		Address: "schedule.nightly", Name: "nightly", Servers: names, Backup: "full", Cron: "0 1 * * *", Timezone: "UTC", IfMissed: "run_once", StartWithin: 4 * time.Hour, Where: where,
	}}
	spec.Retentions = []hclspec.Retention{{
		Address: "retention.standard", Name: "standard", Servers: names, RecoveryWindow: 7 * 24 * time.Hour, Redundancy: 2, MinimumRedundancy: 2, Enforce: "auto", Where: where,
	}}
	return spec, seen
}

func observeFleetServer(seen state.Observation, name, repository, slot string, i int) {
	system := fmt.Sprintf("%d", 7000000000000000000+i)
	end := fleetDay * (fleetBackups + 1)
	server := state.Server{
		SystemID: system, Version: 150018, Timeline: 1, FlushLSN: end, SegmentSize: 16 << 20, PageSize: 8192, Now: baseTime, SizeBytes: 1 << 30,
		Settings: map[string]string{"wal_level": "replica", "max_wal_senders": "10", "max_replication_slots": "10"},
		Role:     state.Role{Name: "pgkeep", Replication: true},
	}
	if i%100 != 99 {
		server.Slots = []state.Slot{{Name: slot, Physical: true, Active: true, ActivePID: 1, RestartLSN: end, WALStatus: state.SlotReserved}}
		server.Senders = []state.Sender{{PID: 1, Application: slot, State: "streaming"}}
	}
	seen.Servers[name] = server
	seen.Receivers[name] = state.Receiver{Running: true, Streaming: true, Timeline: 1, Flushed: end, Written: end, Archived: end, ServerEnd: end, CaughtUpAt: baseTime, Reported: baseTime}
	seen.Spools[name] = state.Spool{Path: "/var/lib/pgkeep/spool/" + name, FileSystem: "ext4", Free: 1 << 40, Total: 1 << 41, SystemID: system, Timeline: 1, Durable: end}
	c := state.Cluster{Name: name, SystemID: system, Major: 15, SegmentSize: 16 << 20}
	for k := range fleetBackups {
		began := baseTime.Add(-time.Duration(fleetBackups-k) * 24 * time.Hour).Add(16*time.Hour + time.Second)
		start := fleetDay * wal.LSN(k+1)
		c.Backups = append(c.Backups, state.Backup{
			ID: began.Format("20060102T150405Z") + "-F-" + fmt.Sprintf("%04x", k), State: state.BackupCommitted, Kind: "full", Version: 150018, Timeline: 1,
			Redo: start + 40, Start: start + 40, Stop: start + 256, Began: began, Ended: began.Add(10 * time.Minute), DataBytes: 1 << 30, StoredBytes: 1 << 28,
		})
	}
	c.WAL = []state.WALRange{{Range: wal.Range{Timeline: 1, From: fleetDay, To: end}, Bytes: 1 << 30, FirstCommit: c.Backups[0].Began, LastCommit: baseTime}}
	seen.Repositories[repository].Clusters[name] = []state.Cluster{c}
}

// cpu gives the processor time that this process used, its garbage collector's included.
func cpu(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSaved writes the plan of a fleet as a file, reads it back and tells whether it is still valid.
func BenchmarkSaved(b *testing.B) {
	spec, seen := fleet(10_000)
	p, _ := plan.Build(spec, seen, baseTime, plan.Options{})
	s, err := plan.Save(p, spec, seen, made, time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	size, began := 0, cpu(b)
	for b.Loop() {
		data, err := s.Encode()
		if err != nil {
			b.Fatal(err)
		}
		back, err := plan.ReadSaved(data)
		if err != nil {
			b.Fatal(err)
		}
		if ok, why := back.StillValid(spec, seen); !ok {
			b.Fatal(texts(why))
		}
		size = len(data)
	}
	b.ReportMetric((cpu(b)-began).Seconds()/float64(b.N), "cpu-s/op")
	b.ReportMetric(float64(size)/(1<<20), "MiB")
	b.ReportMetric(float64(len(p.Steps)), "steps")
}

// BenchmarkFleet plans a fleet. cpu-ns/server stays the same when Build is linear.
func BenchmarkFleet(b *testing.B) {
	for _, n := range []int{1000, 2000, 5000, 10000} {
		spec, seen := fleet(n)
		b.Run(fmt.Sprintf("servers=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			steps, began := 0, cpu(b)
			for b.Loop() {
				p, diags := plan.Build(spec, seen, baseTime, plan.Options{})
				if diags.HasErrors() {
					b.Fatal(diags)
				}
				steps = len(p.Steps)
			}
			// The machine is shared: what the process itself used says more than the clock on the wall.
			b.ReportMetric((cpu(b)-began).Seconds()/float64(b.N), "cpu-s/op")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/server")
			b.ReportMetric(float64((cpu(b)-began).Nanoseconds())/float64(b.N)/float64(n), "cpu-ns/server")
			b.ReportMetric(float64(steps), "steps")
		})
	}
}
