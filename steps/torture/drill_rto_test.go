package torture

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// TestDrillTellsTheTime: what a drill measured is within 30 % of what a whole recovery takes that is made right after it, the planning and
// the start of the program included. It is measured on a machine that does nothing else, so it is asked for: PGKEEP_BIG_MB=1024 says how
// large the cluster is; half as much WAL is replayed.
func TestDrillTellsTheTime(t *testing.T) {
	mb, err := strconv.Atoi(os.Getenv("PGKEEP_BIG_MB"))
	if err != nil {
		t.Skip("set PGKEEP_BIG_MB: it measures time")
	}
	j := &journey{version: pgtest.SomeVersions(t, 15)[0]}
	j.start(t)
	j.ledger.upTo(t, j.pg, 20) // whom the declared check asks
	j.grow(t, "large", mb)
	j.protect(t)
	j.grow(t, "after", mb/2)
	j.drillBlock(t, 20)
	const rounds = 5
	var ratios []float64
	for i := range rounds {
		j.site.run(t, "drill", "--amcheck", "off")
		d := j.evidence(t, "weekly")
		began := time.Now()
		j.site.run(t, "recover", "after", "--yes", "--start", "--port", strconv.Itoa(freePort(t)))
		took := time.Since(began).Seconds()
		stopServer(t, filepath.Join(j.site.dir, "after"))
		for _, name := range []string{"after", "after.pgkeep", "after_fast", "after_archive"} {
			if err := os.RemoveAll(filepath.Join(j.site.dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		t.Logf("round %d: the drill measured %.2f s, the recovery right after took %.2f s: %+.0f %%", i+1, d.RTO, took, 100*(d.RTO-took)/took)
		ratios = append(ratios, d.RTO/took)
	}
	slices.SortFunc(ratios, cmp.Compare)
	if median := ratios[rounds/2]; median < 0.7 || median > 1.3 {
		t.Errorf("the drills measured %.0f %% of what the recoveries took", 100*median)
	}
}

// grow writes a table of so many megabytes, which hardly compress.
func (j *journey) grow(t *testing.T, table string, mb int) {
	t.Helper()
	j.pg.Exec(t, fmt.Sprintf("create table %s as select sha512((n * 2)::text::bytea) || sha512((n * 2 + 1)::text::bytea) as noise from generate_series(1, %d) n", table, mb*6000))
	j.pg.Exec(t, "checkpoint")
}
