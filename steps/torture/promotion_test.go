package torture

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// TestJourneyPromotion loses a primary. The standby that is promoted is found and followed by itself, and recoveries cross
// from the backup's timeline into the new one with no flag.
func TestJourneyPromotion(t *testing.T) {
	for _, version := range pgtest.SomeVersions(t, 15) {
		t.Run(strconv.Itoa(version), func(t *testing.T) { promotion(t, version) })
	}
}

func promotion(t *testing.T, version int) {
	j := &journey{version: version}
	j.start(t)
	standby := j.pg.Standby(t, pgtest.Options{Settings: ledgerSettings})
	both := fmt.Sprintf("host=127.0.0.1,127.0.0.1 port=%d,%d user=postgres dbname=postgres sslmode=disable", j.pg.Port, standby.Port)
	j.hcl = fmt.Sprintf(journeyHCL, both)
	j.site.configure(t, j.hcl)
	j.protect(t)

	j.ledger.upTo(t, j.pg, 10)
	standby.AwaitReplay(t, j.pg)
	j.pg.Stop(t, "immediate")
	standby.Promote(t)
	j.pg = standby
	j.ledger.upTo(t, standby, 20)
	// Nothing here waits for the receiver: recover does.
	for _, x := range []target{
		{"latest", "latest = true", 20},
		{"before_promotion", fmt.Sprintf("time = %q", j.ledger.at(5).next.Format(time.RFC3339Nano)), 5},
		{"after_promotion", fmt.Sprintf("time = %q", j.ledger.at(15).next.Format(time.RFC3339Nano)), 15},
		{"xid_after_promotion", "xid = " + j.ledger.at(12).xid, 12},
	} {
		t.Run(x.name, func(t *testing.T) { j.recover(t, x) })
	}
	if list := j.site.run(t, "wal", "list", "orders"); strings.Count(list, "orders ") != 2 {
		t.Errorf("WAL of two timelines is archived:\n%s", list)
	}
}
