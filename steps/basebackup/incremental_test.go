package basebackup

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/seal"
)

// linkChanges are made between the links of a chain, one element for each link.
var linkChanges = [][]string{
	{"update lines set m = 'x' || m where i % 50 = 0", "create table born as select i, md5(i::text) m from generate_series(1, 20000) i", "vacuum orders"},
	{"truncate cut", "insert into cut values (7)", "drop table born", "vacuum full lines", "insert into scratch select generate_series(1, 5000)", "create database late"},
	{"delete from orders where id % 3 = 0", "vacuum orders", "create unlogged table brief as select 1 x", "insert into cut select generate_series(1, 30000)", "create index on lines (m)"},
	{"drop database late", "delete from lines where i > 100000", "vacuum lines", "drop table scratch", "alter table orders set tablespace pg_default"},
	{"alter table orders set tablespace fast", "reindex table lines", "cluster orders using orders_pkey", "update cut set i = i + 1"},
}

// TestChainUnderLoad takes a full backup and a chain of incremental ones while accounts are moved, with every kind of change between the
// links; with PGKEEP_LARGE also of a relation over a gibibyte. Of each link every file is what the server sent, and the server that is started from it tells what it must.
func TestChainUnderLoad(t *testing.T) {
	for _, version := range pgtest.SomeVersions(t, 15, 17) {
		if version >= 17 {
			t.Run(fmt.Sprint(version, " told by the server"), func(t *testing.T) { chainUnderLoad(t, version, true) })
		}
		if version < 17 || os.Getenv("PGKEEP_PG") != "" {
			t.Run(fmt.Sprint(version, " compared"), func(t *testing.T) { chainUnderLoad(t, version, false) })
		}
	}
}

func chainUnderLoad(t *testing.T, version int, summaries bool) {
	s, _, oid := ordersServer(t, version)
	s.Exec(t, "alter system set wal_keep_size = '2GB'") // links are replayed from pg_wal
	if summaries {
		s.Exec(t, "alter system set summarize_wal = on")
	}
	s.SQL(t, "select pg_reload_conf()")
	s.Exec(t, "create table cut as select generate_series(1, 50000) i")
	s.Exec(t, "create table accounts as select id, 0 balance, 0 moves from generate_series(1, 20000) id")
	s.Exec(t, "create unique index on accounts (id)")
	s.Exec(t, "create table ledger (n serial primary key, note text)")
	s.Exec(t, "create extension amcheck")
	large := os.Getenv("PGKEEP_LARGE") != ""
	if large {
		widen(t, s, 1)
	}
	repo, _ := newRepository(t, seal.Codec{})
	two, _ := newRepository(t, seal.Codec{Algorithm: seal.LZ4})
	system, err := walsender(t, s).IdentifySystem(t.Context())
	check(t, err)
	dst := []*repository.Cluster{clusterIn(t, repo, s, system.ID), clusterIn(t, two, s, system.ID)}
	o := testOptions(t)
	o.Now, o.Truncated = stepping(), asking(t, s)
	full, parent := int64(0), ""
	for link := range roundsOf(t, 2) + 1 {
		if link > 0 {
			for _, sql := range linkChanges[(link-1)%len(linkChanges)] {
				if out, err := s.Try(sql); err != nil {
					t.Logf("%s: %v %s", sql, err, out) // a later round of the same
				}
			}
			o.Kind, o.Parent = repository.KindIncremental, parent
			if large {
				s.Exec(t, fmt.Sprintf("update wide set m = md5(i::text) || m where i %% 50 = %d", link))
			}
		}
		facts := askLink(t, s, large)
		conn := walsender(t, s)
		var result Result
		underLoad(t, s, func() { result, err = Take(t.Context(), conn, dst, o) })
		check(t, err)
		check(t, conn.Close())
		if link > 0 && (result.Kind != repository.KindIncremental || result.WhyFull != "" || result.Referred == 0 || result.told() != summaries) {
			t.Errorf("link %d: %+v", link, result)
		}
		for i, c := range dst {
			check(t, result.Outcomes[i].Err)
			check(t, c.VerifyBackup(t.Context(), result.ID, true, func(f repository.Finding) { t.Errorf("link %d: %+v", link, f) }))
			checkContents(t, c, result)
		}
		if link == 0 {
			full = result.Stored
		}
		t.Logf("link %d: %s stored %d KiB of %d KiB, %.3f of the full", link, result.Kind, result.Stored>>10, result.Bytes>>10, float64(result.Stored)/float64(full))
		parent = result.ID
		restored := restoreLink(t, s, dst[link%2], result, oid)
		facts.check(t, restored)
		check(t, os.RemoveAll(restored.DataDir))
	}
}

func roundsOf(t *testing.T, n int) int {
	t.Helper()
	if v := os.Getenv("PGKEEP_ROUNDS"); v != "" {
		var err error
		n, err = strconv.Atoi(v)
		check(t, err)
	}
	return n
}

// linkFacts are what the server said just before a backup.
type linkFacts struct {
	answers map[string]string
	ledger  int
}

// linkQuestions have the same answer whatever the load does.
var linkQuestions = []string{
	"select md5(string_agg(m, '' order by i)) from lines", "select count(*), sum(i) from cut", "select count(*), sum(length(note)), sum(id) from orders",
	"select string_agg(relname, ' ' order by relname) from pg_class where relname in ('born', 'scratch', 'brief')",
	"select string_agg(datname, ' ' order by datname) from pg_database",
}

func askLink(t *testing.T, s *pgtest.Server, large bool) linkFacts {
	t.Helper()
	f := linkFacts{answers: map[string]string{}}
	questions := linkQuestions
	if large {
		questions = append(slices.Clone(questions), "select pg_relation_size('wide') > 1 << 30, count(*), md5(string_agg(m, '' order by i)) from wide")
	}
	for _, q := range questions {
		f.answers[q] = s.SQL(t, q)
	}
	f.ledger = number(t, s, "select count(*) from ledger")
	return f
}

func number(t *testing.T, s *pgtest.Server, q string) int {
	t.Helper()
	n, err := strconv.Atoi(s.SQL(t, q))
	check(t, err)
	return n
}

// check asks the restored server.
func (f linkFacts) check(t *testing.T, restored *pgtest.Server) {
	t.Helper()
	for q, want := range f.answers {
		if got := restored.SQL(t, q); got != want {
			t.Errorf("%s: %s, want %s", q, got, want)
		}
	}
	n := number(t, restored, "select count(*) from ledger")
	if n < f.ledger {
		t.Errorf("%d entries of the ledger, %d were there before the backup", n, f.ledger)
	}
	if moves := number(t, restored, "select sum(moves) from accounts"); moves != 2*n {
		t.Errorf("%d halves of moves for %d entries", moves, n)
	}
	if sum := number(t, restored, "select sum(balance) from accounts"); sum != 0 {
		t.Errorf("accounts sum up to %d", sum)
	}
	for _, table := range []string{"scratch", "brief"} {
		if restored.SQL(t, fmt.Sprintf("select to_regclass('%s') is not null", table)) == "t" && number(t, restored, "select count(*) from "+table) != 0 {
			t.Errorf("rows of the unlogged table %s came back", table)
		}
	}
	amcheck(t, restored)
	restored.Stop(t, "immediate")
}

// underLoad runs do while accounts are moved.
func underLoad(t *testing.T, s *pgtest.Server, do func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for k := range 2 {
		group.Go(func() {
			for i := k; ctx.Err() == nil; i += 7919 {
				from, to := i%20000+1, (i*31+k)%20000+1
				if from == to {
					continue
				}
				_, _ = s.Try(fmt.Sprintf(`begin; update accounts set balance = balance - 1, moves = moves + 1 where id = %d;
					update accounts set balance = balance + 1, moves = moves + 1 where id = %d; insert into ledger (note) values ('%d'); commit`, from, to, i))
			}
		})
	}
	do()
	stop()
	group.Wait()
}

// restoreLink writes a backup into directories, compares every file with the server's manifest, and starts a server there that replays
// until it is consistent, and is promoted there.
func restoreLink(t *testing.T, s *pgtest.Server, c *repository.Cluster, result Result, oid string) *pgtest.Server {
	t.Helper()
	dir := s.Dir(t, "link-"+result.ID)
	number, err := strconv.ParseUint(oid, 10, 32)
	check(t, err)
	roots := map[uint32]string{0: dir, uint32(number): s.Dir(t, "fast-"+result.ID)}
	b, err := c.OpenBackup(t.Context(), result.ID)
	check(t, err)
	for f, err := range b.Files(t.Context()) {
		check(t, err)
		path := filepath.Join(roots[f.Folder], f.Path)
		switch f.Type {
		case repository.Directory:
			check(t, os.MkdirAll(path, 0o700))
		case repository.SymbolicLink:
			check(t, os.Symlink(roots[uint32(number)], path))
		case repository.RegularFile:
			check(t, os.WriteFile(path, nil, 0o600))
			check(t, os.Truncate(path, f.Size))
		}
	}
	check(t, b.Pieces(t.Context(), repository.PieceOptions{}, func(p repository.Piece) error {
		f, err := os.OpenFile(filepath.Join(roots[p.File.Folder], p.File.Path), os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteAt(p.Data, p.Offset)
			_ = f.Close()
		}
		return err
	}))
	matchManifest(t, b, dir)
	s.SQL(t, "select pg_switch_wal()")
	check(t, os.WriteFile(filepath.Join(dir, "recovery.signal"), nil, 0o600))
	f, err := os.OpenFile(filepath.Join(dir, "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0)
	check(t, err)
	_, err = fmt.Fprintf(f, "\nrestore_command = 'cp %s/pg_wal/%%f %%p'\nrecovery_target = 'immediate'\nrecovery_target_action = 'promote'\n", s.DataDir)
	check(t, err)
	check(t, f.Close())
	restored := pgtest.StartDir(t, s.Version, dir, pgtest.Options{})
	for restored.SQL(t, "select pg_is_in_recovery()") == "t" { // it answers before it is promoted
		time.Sleep(10 * time.Millisecond)
	}
	return restored
}

// matchManifest compares what was restored with PostgreSQL's own manifest.
func matchManifest(t *testing.T, b *repository.BackupReader, dir string) {
	t.Helper()
	m, err := postgres.ParseManifest(b.OpenPGManifest(t.Context()))
	check(t, err)
	for _, f := range m.Files {
		if path, part := postgres.IncrementalName(f.Path); part {
			_, err := os.Stat(filepath.Join(dir, path))
			check(t, err)
			continue
		}
		if f.Path == "backup_label" {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, f.Path))
		check(t, err)
		if got := postgres.ManifestCRC32C(updateCRC(0, data)); int64(len(data)) != f.Size || got != f.Checksum {
			t.Errorf("%s: %d bytes of checksum %s, the manifest says %d of %s", f.Path, len(data), got, f.Size, f.Checksum)
		}
	}
}

// TestIncrementalBecomesFull: where the parent is not fit, the backup is full and says why.
func TestIncrementalBecomesFull(t *testing.T) {
	s := pgtest.Start(t, pgtest.Options{Version: pgtest.SomeVersions(t, 15)[0]})
	s.Exec(t, "create table lines as select i, md5(i::text) m from generate_series(1, 20000) i")
	system, err := walsender(t, s).IdentifySystem(t.Context())
	check(t, err)
	one, _ := newRepository(t, seal.Codec{})
	two, _ := newRepository(t, seal.Codec{})
	a, b := clusterIn(t, one, s, system.ID), clusterIn(t, two, s, system.ID)
	o := testOptions(t)
	o.Now = stepping()
	take := func(parent string, dst ...*repository.Cluster) Result {
		t.Helper()
		o.Kind, o.Parent = "", parent
		if parent != "" {
			o.Kind = repository.KindIncremental
		}
		conn := walsender(t, s)
		defer func() { check(t, conn.Close()) }()
		result, err := Take(t.Context(), conn, dst, o)
		check(t, err)
		for i, c := range dst {
			check(t, result.Outcomes[i].Err)
			checkContents(t, c, result)
		}
		return result
	}
	full := take("", a)
	if r := take(full.ID, a, b); r.Kind != repository.KindFull || r.WhyFull == "" {
		t.Errorf("a parent that one repository lacks: %+v", r)
	}
	both := take("", a, b)
	r := take(both.ID, a, b)
	if r.Kind != repository.KindIncremental || r.Stored*4 > both.Stored {
		t.Errorf("stored %d of %d: %+v", r.Stored, both.Stored, r)
	}
	check(t, a.Tomb(t.Context(), both.ID, testClock))
	if r := take(both.ID, a, b); r.Kind != repository.KindFull || r.WhyFull == "" {
		t.Errorf("a parent that is being deleted: %+v", r)
	}
	s.Exec(t, "checkpoint")
	last := take(r.ID, a, b)
	s.Stop(t, "fast")
	s.WriteFile(t, "recovery.signal", "")
	f, err := os.OpenFile(filepath.Join(s.DataDir, "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0)
	check(t, err)
	_, err = fmt.Fprintf(f, "\nrestore_command = 'false'\n")
	check(t, err)
	check(t, f.Close())
	s.StartAgain(t)
	for s.SQL(t, "select pg_is_in_recovery()") != "f" {
		time.Sleep(20 * time.Millisecond)
	}
	if r := take(last.ID, a, b); r.Kind != repository.KindIncremental {
		t.Errorf("a parent of the timeline that the server came from: %+v", r)
	}
	backups, err := a.Backups(t.Context())
	check(t, err)
	for _, k := range backups {
		if k.State != state.BackupCommitted && k.State != state.BackupDeleted {
			t.Errorf("%+v", k)
		}
	}
}
