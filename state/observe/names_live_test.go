package observe

import (
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestLiveNames asks a server for the names of files in two databases, and another cluster for none.
func TestLiveNames(t *testing.T) {
	s := pgtest.Start(t, pgtest.Options{Version: 15})
	s.Exec(t, "create table here (n int)")
	s.Exec(t, "create database shop")
	number := func(q string) uint32 {
		n, err := strconv.ParseUint(s.SQL(t, q), 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		return uint32(n)
	}
	here := wal.Relation{Tablespace: 1663, Database: number("select oid from pg_database where datname = 'postgres'"), Number: number("select pg_relation_filenode('here')")}
	there := wal.Relation{Tablespace: 1663, Database: number("select oid from pg_database where datname = 'shop'"), Number: number("select relfilenode from pg_class where relname = 'pg_statistic'")}
	gone := wal.Relation{Tablespace: 1663, Database: here.Database, Number: 4_000_000_000}
	nowhere := wal.Relation{Tablespace: 1663, Database: 4_000_000_000, Number: here.Number}
	asked := hclspec.Server{Name: "shop", Conninfo: hclspec.NewSecret(s.Conninfo())}
	system := s.SQL(t, "select system_identifier from pg_control_system()")
	got, err := LiveNames(t.Context(), asked, system, Options{}, []wal.Relation{here, there, gone, nowhere})
	if err != nil {
		t.Fatal(err)
	}
	want := map[wal.Relation]state.NamedRelation{
		here:  {Relation: here, Name: "postgres.public.here", Kind: "table"},
		there: {Relation: there, Name: "shop.pg_catalog.pg_statistic", Kind: "table"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	if got, err := LiveNames(t.Context(), asked, "7335180256203400928", Options{}, []wal.Relation{here}); err == nil || !strings.Contains(err.Error(), "is another cluster") || len(got) != 0 {
		t.Errorf("another cluster gave %v, %v", got, err)
	}
}
