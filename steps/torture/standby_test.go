package torture

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// TestJourneyStandby takes backups from a standby, under load on its primary and compressed on the way, and recovers every commit of
// the ledger from them with the WAL that the primary sent. A standby of which no backup can be had is told of before one is begun.
func TestJourneyStandby(t *testing.T) {
	for _, version := range pgtest.SomeVersions(t, 17) {
		t.Run(strconv.Itoa(version), func(t *testing.T) { fromStandby(t, version) })
	}
}

func fromStandby(t *testing.T, version int) {
	j := &journey{version: version}
	j.start(t)
	if version >= 17 { // the standby's own summaries tell which pages changed
		j.pg.Exec(t, "alter system set summarize_wal = on")
		j.pg.SQL(t, "select pg_reload_conf()")
	}
	standby := j.pg.Standby(t, pgtest.Options{Settings: ledgerSettings})
	standby.AwaitReplay(t, j.pg)
	direct := j.hcl
	from := fmt.Sprintf("checkpoint = \"fast\"\n    from = \"standby\"\n    conninfo = %q", standby.Conninfo())
	if version >= 15 {
		from += "\n    transfer_compression = \"gzip\""
	}
	j.hcl = strings.Replace(j.hcl, `checkpoint = "fast"`, from, 1)
	j.site.configure(t, j.hcl)
	says(t, j.site.run(t, "plan"), "it is taken from the standby at", "and its WAL comes from orders")
	j.protect(t)

	stop := load(t, j.pg)
	j.ledger.upTo(t, j.pg, 10)
	full := takenIn(t, j.site.run(t, "backup", "orders"))
	j.ledger.upTo(t, j.pg, 20)
	standby.AwaitReplay(t, j.pg)
	second := takenIn(t, j.site.run(t, "backup", "orders", "--incremental"))
	j.ledger.upTo(t, j.pg, 30)
	stop()
	j.ledger.upTo(t, j.pg, 31)
	for _, id := range []string{full, second} {
		start, _ := filepath.Glob(filepath.Join(j.site.dir, "repository/c/orders/*/b", id, "START.json"))
		if len(start) != 1 {
			t.Fatalf("START of %s: %v", id, start)
		}
		if b, err := os.ReadFile(start[0]); err != nil || !strings.Contains(string(b), `"from_standby": true`) {
			t.Errorf("%s was not taken from the standby: %s %v", id, b, err)
		}
	}
	j.recover(t, target{"latest", "latest = true", 31})
	j.unfitStandbys(t, standby, direct)
}

// takenIn gives the id of the backup that an output says was taken.
func takenIn(t *testing.T, out string) string {
	t.Helper()
	found := regexp.MustCompile(`done(?: after .*)?: backup ([0-9TZ]+-[FI]-[0-9a-f]{8}) `).FindStringSubmatch(out)
	if found == nil {
		t.Fatalf("no backup was taken:\n%s", out)
	}
	return found[1]
}

// unfitStandbys lets the standby be what no backup can be taken from, in one way after the other.
func (j *journey) unfitStandbys(t *testing.T, standby *pgtest.Server, direct string) {
	t.Helper()
	before := j.site.run(t, "backups", "list", "orders")
	refused := func(texts ...string) {
		t.Helper()
		j.site.configure(t, j.hcl)
		out, code := j.site.try("backup", "orders")
		if code == 0 {
			t.Errorf("it ended with 0:\n%s", out)
		}
		says(t, out, texts...)
	}
	j.pg.Exec(t, "alter system set full_page_writes = off")
	j.pg.SQL(t, "select pg_reload_conf()")
	eventually(t, "full_page_writes = off", func() bool { return j.pg.SQL(t, "show full_page_writes") == "off" })
	refused("full_page_writes = off", "ALTER SYSTEM SET full_page_writes = on")
	j.pg.Exec(t, "alter system reset full_page_writes")
	j.pg.SQL(t, "select pg_reload_conf()")
	eventually(t, "full_page_writes = on", func() bool { return j.pg.SQL(t, "show full_page_writes") == "on" })
	if after := j.site.run(t, "backups", "list", "orders"); after != before {
		t.Errorf("backups were %s\nand are %s", before, after)
	}

	standby.SQL(t, "select pg_wal_replay_pause()")
	eventually(t, "a paused standby", func() bool {
		j.pg.SQL(t, "select pg_switch_wal()") // a pause begins with a record that is not replayed
		return j.version < 14 || standby.SQL(t, "select pg_get_wal_replay_pause_state()") == "paused"
	})
	j.ledger.upTo(t, j.pg, 40)
	j.site.configure(t, direct)
	newest := takenIn(t, j.site.run(t, "backup", "orders"))
	refused("has replayed WAL up to", newest, "may be pruned")
	standby.SQL(t, "select pg_wal_replay_resume()")
	standby.AwaitReplay(t, j.pg)
	j.pg.Exec(t, "checkpoint")
	standby.AwaitReplay(t, j.pg)
	says(t, j.site.run(t, "backup", "orders"), "can be restored")

	standby.Promote(t)
	refused("is no standby: it was promoted, or is the primary itself")
	j.site.configure(t, strings.Replace(j.hcl, `from = "standby"`, `from = "any"`, 1))
	says(t, j.site.run(t, "backup", "orders"), "can be restored")
}
