//go:build !(linux && amd64)

package torture

import (
	"testing"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// held knows no other machine's registers: times stay in the order of the WAL there.
func held(t *testing.T, pg *pgtest.Server, meanwhile func()) uint32 {
	t.Helper()
	meanwhile()
	return number(t, pg.SQL(t, "insert into ledger default values; select txid_current()"))
}
