package postgres_test

import (
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestRelationNames asks what files are called: of a table of the usual tablespace, an index of another one, and one that
// went.
func TestRelationNames(t *testing.T) {
	for _, v := range pgtest.SomeVersions(t, 13, 18) {
		t.Run(strconv.Itoa(v), func(t *testing.T) {
			s := pgtest.Start(t, pgtest.Options{Version: v})
			s.Exec(t, "create tablespace fast location '"+s.Dir(t, "fast")+"'")
			s.Exec(t, `create schema "a b"; create table "a b".orders (n int); create table gone (n int); create index there on gone (n) tablespace fast`)
			number := func(q string) uint32 {
				n, err := strconv.ParseUint(s.SQL(t, "select "+q), 10, 32)
				if err != nil {
					t.Fatal(err)
				}
				return uint32(n)
			}
			file := func(name string, tablespace uint32) wal.Relation {
				return wal.Relation{Tablespace: tablespace, Database: number("oid from pg_database where datname = 'postgres'"), Number: number("pg_relation_filenode('" + name + "')")}
			}
			orders := file(`"a b".orders`, 1663)
			index := file("there", number("oid from pg_tablespace where spcname = 'fast'"))
			gone := file("gone", 1663)
			s.Exec(t, "vacuum full gone")
			index.Number = number("pg_relation_filenode('there')")
			conn := connect(t, s.Conninfo())
			got, err := conn.RelationNames(t.Context(), []wal.Relation{gone, index, orders})
			if err != nil {
				t.Fatal(err)
			}
			want := []postgres.RelationName{{File: index, Name: "public.there", Kind: "index"}, {File: orders, Name: "a b.orders", Kind: "table"}}
			if len(got) == 2 && got[0].File == orders {
				got[0], got[1] = got[1], got[0]
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("names (-want +got):\n%s", diff)
			}
			if databases, err := conn.DatabaseNames(t.Context()); err != nil || databases[orders.Database] != "postgres" || len(databases) != 2 {
				t.Errorf("databases %v, %v", databases, err)
			}
		})
	}
}
