package plan_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// routeTo is a recovery of orders with what was proved of its target.
type routeTo struct {
	target hclspec.Target
	fact   state.TargetFact
	opt    plan.Options
}

// routeIn plans it in the world of base.json with another cluster in each repository; a failure is told as text.
func routeIn(t *testing.T, r routeTo, repositories ...state.Cluster) (*plan.Route, string) {
	t.Helper()
	source, err := os.ReadFile("testdata/base.hcl")
	if err != nil {
		t.Fatal(err)
	}
	text := string(source)
	if len(repositories) > 1 {
		text = strings.Replace(text, "[repository.main]", "[repository.main, repository.far]", 1) + "\nrepository \"far\" {\n  url = \"s3://far/pg?region=eu-west-1\"\n}\n"
	}
	spec, seen := loadHCL(t, []byte(text)), loadObservation(t, nil)
	seen.Spools = nil
	main := seen.Repositories["main"]
	for i, name := range []string{"main", "far"}[:len(repositories)] {
		c := repositories[i]
		c.Name, c.SystemID, c.Major, c.SegmentSize = "orders", "7335180256203400928", 15, routeSegments
		at := main
		at.ID = name
		at.Clusters = map[string][]state.Cluster{"orders": {c}}
		seen.Repositories[name] = at
	}
	rec := hclspec.Recovery{Name: "r", Address: "recover", Server: "orders", Target: r.target, Destination: hclspec.Destination{Path: "/restore", Owner: "postgres", WAL: "fetch"}}
	seen.Recoveries = map[string]state.Destination{"r": {Path: "/restore", Empty: true, OwnerExists: true, CanOwn: true, BinVersion: 15}}
	seen.Targets = map[string]state.TargetFact{"r": r.fact}
	r.opt.RecoverTo = &rec
	p, _ := plan.Build(spec, seen, baseTime, r.opt)
	if len(p.Steps) == 1 {
		route := p.Steps[0].Action.(plan.RecoverTo).Route
		return &route, ""
	}
	if len(p.NotDone) != 1 {
		t.Fatalf("%d steps, %+v", len(p.Steps), p.NotDone)
	}
	return nil, p.NotDone[0].Why.Text
}

const routeSegments = wal.SegmentSize(16 << 20)

func routeBackup(id string, redo, stop wal.LSN, ended time.Time) state.Backup {
	return state.Backup{ID: id, State: state.BackupCommitted, Kind: "full", Version: 150018, Timeline: 1, Redo: redo, Start: redo, Stop: stop, Began: ended.Add(-time.Minute), Ended: ended, DataBytes: 1}
}

func archivedWAL(t wal.Timeline, from, to, partial wal.LSN) state.WALRange {
	return state.WALRange{Range: wal.Range{Timeline: t, From: from, To: to}, Partial: partial}
}

// TestTheRouteBeginsWhereTheProofDoes: recovery stops at the first record past a target, and from an older backup that may be
// another one: a clock that was ahead for a while, a name given twice.
func TestTheRouteBeginsWhereTheProofDoes(t *testing.T) {
	day := baseTime.Add(-24 * time.Hour)
	c := state.Cluster{
		Backups: []state.Backup{routeBackup("20260208T000000Z-F-0008", 0x1000028, 0x1000100, day), routeBackup("20260209T000000Z-F-0009", 0x3000028, 0x3000100, day.Add(time.Hour))},
		WAL:     []state.WALRange{archivedWAL(1, 0x1000000, 0x5000000, 0)},
	}
	fact := state.TargetFact{Reachable: true, Timeline: 1, From: 0x3000028, End: 0x4000000}
	for name, x := range map[string]hclspec.Target{
		"time": {Time: day.Add(2 * time.Hour), Inclusive: true}, "xid": {XID: 900, Inclusive: true}, "name": {Restore: "deploy", Inclusive: true},
	} {
		if r, why := routeIn(t, routeTo{target: x, fact: fact}, c); r == nil || r.Backup != "20260209T000000Z-F-0009" {
			t.Errorf("%s: %+v %s", name, r, why)
		}
		older := plan.Options{Backup: "20260208T000000Z-F-0008"}
		if r, why := routeIn(t, routeTo{target: x, fact: fact, opt: older}, c); r != nil || !strings.Contains(why, "20260208T000000Z-F-0008") {
			t.Errorf("%s from a backup that nothing was proved of: %+v, %q", name, r, why)
		}
	}
	at := hclspec.Target{LSN: 0x4000000, Inclusive: true}
	if r, why := routeIn(t, routeTo{target: at, fact: fact, opt: plan.Options{Backup: "20260208T000000Z-F-0008"}}, c); r == nil {
		t.Errorf("a position is the same from everywhere: %s", why)
	}
}

// TestConsistentBeforeTheTarget: PostgreSQL fails when it stops before the backup is consistent. At a time it stops before the
// record, whether inclusive or not; at a name behind it. The end of a backup of a standby may be the end of any record.
func TestConsistentBeforeTheTarget(t *testing.T) {
	ended := baseTime.Add(-time.Hour)
	c := state.Cluster{
		Backups: []state.Backup{routeBackup("20260208T000000Z-F-0008", 0x1000028, 0x1000100, ended), routeBackup("20260209T000000Z-F-0009", 0x3000028, 0x3000100, ended)},
		WAL:     []state.WALRange{archivedWAL(1, 0x1000000, 0x5000000, 0)},
	}
	const older, newer = "20260208T000000Z-F-0008", "20260209T000000Z-F-0009"
	for name, x := range map[string]struct {
		target hclspec.Target
		end    wal.LSN
		want   string
	}{
		"time, inclusive":             {hclspec.Target{Time: ended, Inclusive: true}, 0x3000100, older},
		"time, exclusive":             {hclspec.Target{Time: ended}, 0x3000100, older},
		"time, one record later":      {hclspec.Target{Time: ended, Inclusive: true}, 0x3000130, newer},
		"xid, inclusive":              {hclspec.Target{XID: 9, Inclusive: true}, 0x3000100, newer},
		"xid, exclusive":              {hclspec.Target{XID: 9}, 0x3000100, older},
		"name":                        {hclspec.Target{Restore: "a", Inclusive: true}, 0x3000100, newer},
		"position, the last record's": {hclspec.Target{LSN: 0x30000D0, Inclusive: true}, 0x3000100, newer},
		"the same, exclusive":         {hclspec.Target{LSN: 0x30000D0}, 0x3000100, older},
		"position, the end":           {hclspec.Target{LSN: 0x3000100, Inclusive: true}, 0x3000130, newer},
	} {
		fact := state.TargetFact{Reachable: true, Timeline: 1, From: 0x1000028, End: x.end}
		if r, why := routeIn(t, routeTo{target: x.target, fact: fact}, c); r == nil || r.Backup != x.want {
			t.Errorf("%s: %+v, not %s (%s)", name, r, x.want, why)
		}
	}
}

// TestTheSegmentOfAFailover: a segment in which a timeline was left is read from the younger one only where that has it.
func TestTheSegmentOfAFailover(t *testing.T) {
	const left = wal.LSN(0x3400000)
	c := state.Cluster{
		Backups:   []state.Backup{routeBackup("20260208T000000Z-F-0008", 0x1000028, 0x1000100, baseTime.Add(-time.Hour))},
		WAL:       []state.WALRange{archivedWAL(1, 0x1000000, 0x3000000, left)},
		Histories: []state.History{{Timeline: 2, Parents: []state.Parent{{Timeline: 1, Switch: left}}}},
	}
	both := c
	both.WAL = append(both.WAL[:1:1], archivedWAL(2, 0x3000000, 0x4000000, 0))
	accept := plan.Options{AcceptLoss: true}
	for name, x := range map[string]struct {
		cluster state.Cluster
		target  hclspec.Target
		fact    state.TargetFact
		last    wal.Range
	}{
		"latest, history alone": {
			c, hclspec.Target{Latest: true}, state.TargetFact{Reachable: true, Timeline: 2, End: left, AtEnd: true}, wal.Range{Timeline: 1, From: 0x1000028, To: left},
		},
		"xid, history alone": {
			c, hclspec.Target{XID: 9, Inclusive: true}, state.TargetFact{Reachable: true, Timeline: 2, From: 0x1000028, End: 0x3300000}, wal.Range{Timeline: 1, From: 0x1000028, To: 0x3300000},
		},
		"xid, both": {
			both, hclspec.Target{XID: 9, Inclusive: true}, state.TargetFact{Reachable: true, Timeline: 2, From: 0x1000028, End: 0x3300000}, wal.Range{Timeline: 2, From: 0x3000000, To: 0x3300000},
		},
		"latest, both": {
			both, hclspec.Target{Latest: true}, state.TargetFact{Reachable: true, Timeline: 2, End: 0x4000000, AtEnd: true}, wal.Range{Timeline: 2, From: 0x3000000, To: 0x4000000},
		},
	} {
		r, why := routeIn(t, routeTo{target: x.target, fact: x.fact, opt: accept}, x.cluster)
		if r == nil || r.End != x.last.To || r.Path[len(r.Path)-1] != x.last || r.TargetTimeline != 2 {
			t.Errorf("%s: %+v (%s)", name, r, why)
		}
	}
}

// TestLatestIsTheLatestOfAllRepositories: one that was away for a while holds the same backups and less WAL.
func TestLatestIsTheLatestOfAllRepositories(t *testing.T) {
	away := state.Cluster{
		Backups: []state.Backup{routeBackup("20260208T000000Z-F-0008", 0x1000028, 0x1000100, baseTime.Add(-time.Hour))},
		WAL:     []state.WALRange{archivedWAL(1, 0x1000000, 0x3000000, 0)},
	}
	whole := away
	whole.WAL = []state.WALRange{archivedWAL(1, 0x1000000, 0x5000000, 0)}
	fact := state.TargetFact{Reachable: true, Timeline: 1, End: 0x5000000, AtEnd: true}
	for _, order := range [][]state.Cluster{{away, whole}, {whole, away}} {
		r, why := routeIn(t, routeTo{target: hclspec.Target{Latest: true}, fact: fact, opt: plan.Options{AcceptLoss: true}}, order...)
		if r == nil || r.End != 0x5000000 {
			t.Errorf("%+v (%s)", r, why)
		}
	}
}
