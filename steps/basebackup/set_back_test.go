package basebackup

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/repository"
)

// TestServerSetBack: a server that is set back to a copy of itself, as a machine is to a snapshot, has the same identifier and timeline, and comes
// past the end of the last backup with other changes. What it tells of them is not what that backup lacks.
func TestServerSetBack(t *testing.T) {
	summarizing(t, func(t *testing.T, version int) {
		s := pgtest.Start(t, pgtest.Options{Version: version, Settings: map[string]string{"summarize_wal": "on", "autovacuum": "off"}})
		s.Exec(t, "create table orders as select i, repeat('o', 500) from generate_series(1, 5000) i")
		s.Exec(t, "create table other (i int, m text)")
		l := newLinks(t, s)
		s.Stop(t, "fast")
		snapshot := s.DataDir + ".snapshot"
		t.Cleanup(func() { _ = os.RemoveAll(snapshot) })
		run(t, "cp", "-a", s.DataDir, snapshot)
		s.StartAgain(t)
		s.Exec(t, "update orders set i = -i where i % 100 = 0") // in one history only
		full := l.take("")

		s.Stop(t, "fast")
		check(t, os.RemoveAll(s.DataDir))
		run(t, "cp", "-a", snapshot, s.DataDir)
		s.StartAgain(t)
		s.Exec(t, "insert into other select i, repeat('p', 900) from generate_series(1, 10000) i") // beyond the end of the backup
		s.Exec(t, "checkpoint")
		l.o.Kind, l.o.Parent = repository.KindIncremental, full.ID
		_, err := Take(t.Context(), walsender(t, s), []*repository.Cluster{l.c}, l.o)
		if err == nil || !strings.Contains(err.Error(), "set back") {
			l.equal(l.newest())
			t.Fatalf("the backup was taken all the same: %v", err)
		}
		l.o.Compare = err.Error()
		if r := l.take(full.ID); r.Kind != repository.KindIncremental || r.told() {
			t.Errorf("%+v", r)
		}
		l.o.Compare = ""
		l.equal(l.last)
	})
}

// newest gives the id of the backup that was taken last.
func (l *links) newest() string {
	l.t.Helper()
	backups, err := l.c.Backups(l.t.Context())
	check(l.t, err)
	return backups[len(backups)-1].ID
}

func run(t *testing.T, command ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput(); err != nil {
		t.Fatal(fmt.Errorf("%v: %w: %s", command, err, out))
	}
}
