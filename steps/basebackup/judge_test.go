package basebackup

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestSuspectsAreJudgedByTheWAL: pages that only pgkeep sees fail. One that is damaged on the server's disk makes the backup
// damaged; one that a write had under way does not, because the backup's own WAL holds it whole.
//
// A server stops looking at a file that ends in a part of a page: so it objects to neither.
func TestSuspectsAreJudgedByTheWAL(t *testing.T) {
	for _, version := range pgtest.SomeVersions(t, 13, 15, 17, 18) {
		for _, write := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d, written meanwhile %v", version, write), func(t *testing.T) { judgeOnePage(t, version, write) })
		}
	}
}

func judgeOnePage(t *testing.T, version int, write bool) {
	s := pgtest.Start(t, pgtest.Options{Version: version})
	s.Exec(t, "create table lines with (fillfactor = 60, autovacuum_enabled = off) as select i, md5(i::text) m from generate_series(1, 20000) i")
	path := s.SQL(t, "select pg_relation_filepath('lines')")
	last := s.SQL(t, "select i from lines order by ctid desc limit 1")
	block, err := strconv.ParseInt(s.SQL(t, "select (ctid::text::point)[0]::int from lines where i = "+last), 10, 64)
	check(t, err)
	s.Exec(t, "vacuum lines")
	s.Exec(t, "checkpoint")
	s.Stop(t, "fast")
	file := filepath.Join(s.DataDir, path)
	check(t, os.Truncate(file, (block+1)*8192+100)) // from 16 on, empty pages may follow the last row
	s.StartAgain(t)
	s.SQL(t, "select count(*) from lines") // the server's own copy of every page is good
	spoil(t, file, block*8192+8000)
	conn := walsender(t, s)
	system, err := conn.IdentifySystem(t.Context())
	check(t, err)
	repo, _ := newRepository(t, seal.Codec{})
	c := clusterIn(t, repo, s, system.ID)
	o := testOptions(t)
	o.MaxRate, o.Now = 8<<20, stepping()
	written := false
	o.Report = func(p Progress) {
		if write && p.Phase == PhaseCopying && !written {
			written = true
			s.Exec(t, "update lines set m = 'meanwhile' where i = "+last)
		}
	}
	result, err := Take(t.Context(), conn, []*repository.Cluster{c}, o)
	check(t, err)
	if result.Info.Damaged != nil {
		t.Fatalf("the server objects itself: %v", result.Info.Damaged)
	}
	backups, err := c.Backups(t.Context())
	check(t, err)
	if write {
		if !written || result.Renewed != 1 || len(result.Damaged)+len(result.Suspects) > 0 || backups[0].State != state.BackupCommitted {
			t.Errorf("written %v: %+v, %s", written, result, backups[0].State)
		}
		return
	}
	want := []repository.DamagedPages{{Path: path, Count: 1, Blocks: []uint32{uint32(block)}}}
	if d := cmp.Diff(want, result.Damaged); d != "" || backups[0].State != state.BackupDamaged || !strings.Contains(backups[0].Failure, path) {
		t.Errorf("%s %+v, %+v", d, result, backups[0])
	}
}

// TestTheFirstRecordDecides: replay reads a page that its first record does not hold whole, and stops.
func TestTheFirstRecordDecides(t *testing.T) {
	pages := []repository.DamagedPages{
		{Path: "base/5/16384.1", Count: 3, Blocks: []uint32{131072, 131073, 131074}},
		{Path: "base/5/16384_fsm", Count: 1, Blocks: []uint32{2}},
		{Path: "global/1262", Count: 1, Blocks: []uint32{0}},
		{Path: "pg_tblspc/16390/PG_15_202209061/5/16391_vm", Count: 1, Blocks: []uint32{7}},
		{Path: "base/5/99", Count: 1002, Blocks: []uint32{1}},
		{Path: "base/5/16384_vm", Count: 2, Blocks: []uint32{0, 1}},
		{Path: "pg_tblspc/16390/PG_15_202209061/5/77", Count: 1, Blocks: []uint32{3}},
	}
	s := newSuspects(pages)
	for _, b := range []wal.Block{
		{Tablespace: 1663, Database: 5, Relation: 16384, Number: 131072, Whole: true},
		{Tablespace: 1663, Database: 5, Relation: 16384, Number: 131073},
		{Tablespace: 1663, Database: 5, Relation: 16384, Number: 131073, Whole: true},
		{Tablespace: 1663, Database: 6, Relation: 16384, Number: 131074, Whole: true},
		{Tablespace: 1663, Database: 5, Relation: 16384, Fork: 1, Number: 2, Whole: true},
		{Tablespace: 1664, Relation: 1262, Whole: true},
		{Tablespace: 16390, Database: 5, Relation: 16391, Fork: 2, Number: 7, Whole: true},
		{Tablespace: 1663, Database: 5, Relation: 77, Number: 3, Whole: true},
		{Tablespace: 1663, Database: 5, Relation: 16384, Fork: 2, Number: 1, Whole: true},
		{Tablespace: 1663, Database: 5, Relation: 99, Number: 1, Whole: true},
	} {
		s.renew(b)
	}
	j := s.judgement()
	if d := cmp.Diff([]repository.DamagedPages{{Path: "base/5/16384.1", Count: 2, Blocks: []uint32{131073, 131074}}, pages[6]}, j.damaged); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]repository.DamagedPages{pages[1], {Path: "base/5/99", Count: 1001}, {Path: "base/5/16384_vm", Count: 1, Blocks: []uint32{0}}}, j.suspects); d != "" {
		t.Error(d)
	}
	if j.renewed != 5 || j.text == "" {
		t.Errorf("%d renewed, %q", j.renewed, j.text)
	}
}
