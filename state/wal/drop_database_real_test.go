package wal_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestWhereADropOfADatabaseBegins drops databases whose row VACUUM overwrote before, with and without images of the page,
// compressed and not, and with no commit in between. A recovery must stop before the mark that the drop makes, on servers
// that make one, and behind VACUUM's in any case: everything that was committed until then is in it.
func TestWhereADropOfADatabaseBegins(t *testing.T) {
	for _, v := range pgtest.SomeVersions(t, 13, 15, 18) {
		for _, compression := range []string{"off", "on"} {
			t.Run(fmt.Sprint(v, " ", compression), func(t *testing.T) {
				t.Parallel()
				s := newSource(t, v, 1, compression)
				marks := s.marksDrops(t)
				for i, before := range [][2]string{{"checkpoint", ""}, {"", "checkpoint"}, {"checkpoint", "checkpoint"}, {"", ""}} {
					s.dropVacuumed(t, fmt.Sprintf("gone%d", i), before, marks)
				}
			})
		}
	}
}

// marksDrops tells whether the server marks the row of a database that it drops: since August 2023.
func (s source) marksDrops(tb testing.TB) bool {
	tb.Helper()
	n, err := strconv.Atoi(s.SQL(tb, "show server_version_num"))
	if err != nil {
		tb.Fatal(err)
	}
	since := map[int]int{13: 130012, 14: 140009, 15: 150004}
	return n >= since[n/10000]
}

// dropVacuumed drops a database after it was vacuumed. before are statements before either.
func (s source) dropVacuumed(t *testing.T, name string, before [2]string, marks bool) {
	t.Helper()
	s.Exec(t, "create database "+name)
	from := s.switched(t)
	s.Exec(t, before[0])
	if _, err := s.TryAs("postgres", name, "vacuum (freeze)"); err != nil {
		t.Fatal(err)
	}
	vacuumed := s.lsn(t, "select pg_current_wal_insert_lsn()")
	s.Exec(t, before[1])
	s.Exec(t, "drop database "+name)
	end := s.switched(t)

	var drop wal.Deed
	s.follow(t, from, end, func(d wal.Deed) { drop = d })
	changes, _ := s.changes(t, from, end)
	var marked, deleted wal.LSN // the last mark before the transaction, and its first change
	overwritten := 0
	for _, c := range changes {
		switch {
		case c.Kind == wal.RowMarked && c.Relation.Tablespace == 1664:
			overwritten++
			if deleted == 0 {
				marked = c.Start
			}
		case c.XID == drop.XID && deleted == 0:
			deleted = c.Start
		}
	}
	want := deleted
	if marks {
		want = marked
	}
	if drop.Kind != wal.DeedDropDatabase || drop.Stop != want || drop.Stop < vacuumed || overwritten == 0 {
		t.Errorf("%s, %v: stop at %s, want %s, which is behind %s: %+v", name, before, drop.Stop, want, vacuumed, drop)
	}
}
