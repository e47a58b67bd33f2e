package torture

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/steps/recovery"
)

// TestLatestRightAfterAFailover: the history of the new timeline is archived and nothing of its WAL, and then all is lost. What
// the old timeline's last, unfinished segment holds is recovered.
func TestLatestRightAfterAFailover(t *testing.T) {
	for _, version := range pgtest.SomeVersions(t, 15) {
		t.Run(strconv.Itoa(version), func(t *testing.T) { latestRightAfter(t, version) })
	}
}

func latestRightAfter(t *testing.T, version int) {
	o := pgtest.Options{Version: version, SegmentMB: 1}
	first := pgtest.Start(t, o)
	second := first.Standby(t, o)
	w := newSite(t, fmt.Sprintf(routeHCL, fmt.Sprintf("host=127.0.0.1,127.0.0.1 port=%d,%d user=postgres dbname=postgres sslmode=disable", first.Port, second.Port)))
	first.Exec(t, "create table t (n int)")
	w.run(t, "apply", "--auto-approve")
	for n := range 5 {
		first.Exec(t, fmt.Sprintf("insert into t values (%d)", n))
	}
	second.AwaitReplay(t, first)
	first.Stop(t, "immediate")
	second.Promote(t)
	second.Exec(t, "insert into t values (99)")
	eventually(t, "the new timeline in the repository", func() bool {
		out, _ := w.try("wal", "list", "orders")
		return strings.Count(out, "orders ") == 2
	})
	w.run(t, "receiver", "stop", "orders")
	second.Stop(t, "fast")
	branch, err := filepath.Glob(filepath.Join(w.dir, "repository", "c", "orders", "*", "w", "00000002"))
	if err != nil || len(branch) != 1 {
		t.Fatalf("WAL of the new timeline is in %v: %v", branch, err)
	}
	if err := os.RemoveAll(branch[0]); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(w.dir, "spool")); err != nil {
		t.Fatal(err)
	}
	dir, port := filepath.Join(w.dir, "back"), freePort(t)
	defer stopServer(t, dir)
	out := w.run(t, "recover", "--server", "orders", "--into", dir, "--owner", owner(), "--bindir", first.Bin, "--port", strconv.Itoa(port), "--latest", "--accept-loss", "--start", "--yes")
	socket, _ := recovery.Address(dir)
	back := &pgtest.Server{Version: first.Version, SocketDir: socket, Port: port}
	if got := back.SQL(t, "select string_agg(n::text, ' ' order by n) from t"); got != "0 1 2 3 4" {
		t.Errorf("the table has %q\n%s", got, out)
	}
}
