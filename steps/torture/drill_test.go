package torture

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

const drillHCL = `
drill "weekly" {
  server  = server.orders
  max_age = "1h"
  scratch = "@DIR@/scratch"
  owner   = "%[1]s"
  bindir  = "%[2]s"

  check "ledger" {
    database = "postgres"
    sql      = "select count(*) from ledger where n <= 20"
    expect   = "%[3]d"
  }
}
`

// TestJourneyDrill drills by the command line: the newest moment, one by chance, one that is killed, one that fails.
func TestJourneyDrill(t *testing.T) {
	for _, version := range pgtest.SomeVersions(t, 15) {
		t.Run(strconv.Itoa(version), func(t *testing.T) {
			j := &journey{version: version}
			j.start(t)
			j.protect(t)
			j.work(t)
			j.drillKilled(t)
			j.drillNewest(t)
			j.drillByChance(t)
			j.drillFails(t)
		})
	}
}

func (j *journey) drillBlock(t *testing.T, expect int) {
	t.Helper()
	hcl := strings.Replace(j.hcl, "  backup {\n", "  objective {\n    rto = \"1h\"\n  }\n\n  backup {\n", 1)
	j.site.configure(t, hcl+fmt.Sprintf(drillHCL, owner(), j.pg.Bin, expect)+fmt.Sprintf(recoveryHCL, "after", "latest = true", owner(), j.pg.Bin))
}

// drillKilled kills a drill while its copy runs; the next one removes what it left.
func (j *journey) drillKilled(t *testing.T) {
	j.drillBlock(t, 20)
	says(t, j.site.run(t, "plan", "--now", time.Now().Add(3*time.Hour).UTC().Format(time.RFC3339)), "no drill was ever made", "objective.rto of 1h is not proven", "pgkeep drill weekly")
	var out bytes.Buffer
	cmd := exec.Command(j.site.bin, "--dir", j.site.dir, "drill", "weekly")
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	running := func() bool { return len(j.copies(t)) > 0 }
	eventually(t, "the copy's server", running)
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if !running() {
		t.Fatalf("nothing runs on after the kill:\n%s", out.String())
	}
	if out, code := j.site.try("drill", "show", "weekly"); code != 0 || !strings.Contains(out, "No drill was made yet") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}

// copies gives the processes of copies in the scratch directory.
func (j *journey) copies(t *testing.T) (pids []int) {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(j.site.dir, "scratch", "d-*", "data"))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		found, err := host.ServersIn(dir)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, found...)
	}
	return pids
}

func (j *journey) onlyTheLockIsLeft(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(j.site.dir, "scratch"))
	if err != nil || len(entries) != 1 || entries[0].Name() != "lock" {
		t.Errorf("in the scratch directory is %v, %v", entries, err)
	}
}

// drillNewest leaves evidence, and what it measured is near what a recovery takes right after it.
func (j *journey) drillNewest(t *testing.T) {
	says(t, j.site.run(t, "drill"), "drill server.orders/drill/weekly", "1 done")
	j.onlyTheLockIsLeft(t)
	d := j.evidence(t, "weekly")
	if !d.Passed || d.RTO <= 0 || d.Amcheck.Indexes == 0 || len(d.Rows) == 0 || d.Checks[0].Got != "20" {
		t.Errorf("%+v", d)
	}
	says(t, j.site.run(t, "status"), "was drilled (weekly)", "passed; recovered in", "objective.rto of 1h is met", "by the drill of")
	says(t, j.site.run(t, "status", "--metrics"), `pgkeep_drill_passed{server="orders",drill="weekly",repository="main"} 1`, `pgkeep_objective_met{server="orders",objective="rto"} 1`)
	says(t, j.site.run(t, "drill", "show", "--markdown"), "# Recovery drills", "| weekly |", "| public.ledger |")
	says(t, j.site.run(t, "plan"), "No changes. Your infrastructure matches the configuration.")
	began := time.Now()
	defer stopServer(t, filepath.Join(j.site.dir, "after"))
	j.site.run(t, "recover", "after", "--yes", "--start", "--port", strconv.Itoa(freePort(t)))
	took := time.Since(began).Seconds()
	t.Logf("the drill measured %.2f s, the recovery right after took %.2f s: %+.0f %%", d.RTO, took, 100*(d.RTO-took)/took)
}

func (j *journey) evidence(t *testing.T, name string) state.Drill {
	t.Helper()
	var all []state.Drill
	if err := json.Unmarshal([]byte(j.site.run(t, "drill", "show", name, "--json")), &all); err != nil || len(all) != 1 {
		t.Fatalf("%d drills, %v", len(all), err)
	}
	return all[0]
}

// drillByChance needs no block.
func (j *journey) drillByChance(t *testing.T) {
	j.pg.Exec(t, "select pg_switch_wal()")
	j.pg.Exec(t, "checkpoint")
	says(t, j.site.run(t, "drill", "--server", "orders", "--scratch", filepath.Join(j.site.dir, "scratch"), "--owner", owner(), "--bindir", j.pg.Bin, "--random", "--amcheck", "off"), "1 done")
	if d := j.evidence(t, "by-hand"); !d.Passed || d.Target != "random" || d.TargetLSN == 0 || d.TargetLSN > d.End || d.Amcheck.Indexes != 0 || d.Amcheck.Skipped == "" {
		t.Errorf("%+v", d)
	}
	j.onlyTheLockIsLeft(t)
}

// drillFails: a check that does not hold ends with 8, and so does `check` until a drill passes.
func (j *journey) drillFails(t *testing.T) {
	j.drillBlock(t, 21)
	out, code := j.site.try("drill", "weekly")
	if code != 8 {
		t.Errorf("exit code %d", code)
	}
	says(t, out, `check "ledger" in database postgres gave "20" and not "21"`)
	out, code = j.site.try("check")
	if code != 8 {
		t.Errorf("exit code %d", code)
	}
	says(t, out, "E-DRILL", "pgkeep drill show weekly")
	j.onlyTheLockIsLeft(t)
	j.drillBlock(t, 20)
	j.site.run(t, "drill", "weekly", "--amcheck", "index")
	if out, _ := j.site.try("check"); strings.Contains(out, "E-DRILL") {
		t.Errorf("a drill that passed is not believed:\n%s", out)
	}
}
