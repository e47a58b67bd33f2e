package basebackup

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store/file"
)

var testClock = time.Date(2026, 2, 10, 21, 16, 17, 0, time.UTC)

func testOptions(t testing.TB) Options {
	t.Helper()
	return Options{
		Server: "orders.eu", Checkpoint: "fast", VerifyPages: true, Host: "backup1", Machine: "m1", Program: "pgkeep test",
		LockDir: filepath.Join(t.TempDir(), "locks"), Now: time.Now, Random: func() uint32 { return 0x7f3a },
		Captured: []byte(`{"settings":[]}`),
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newRepository makes a repository in a directory of the test.
func newRepository(t testing.TB, codec seal.Codec) (repo *repository.Repository, dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "repo")
	st, err := file.Open(dir, file.Options{})
	check(t, err)
	repo, err = repository.Create(t.Context(), st, repository.CreateOptions{Now: testClock, Compression: codec})
	check(t, err)
	return repo, dir
}

func clusterIn(t testing.TB, repo *repository.Repository, s *pgtest.Server, system string) *repository.Cluster {
	t.Helper()
	c := repo.Cluster("orders.eu", system)
	check(t, c.Ensure(t.Context(), repository.ClusterFacts{Major: s.Version, SegmentSize: 16 << 20, PageSize: 8192, PageChecksums: true}))
	return c
}

func walsender(t testing.TB, s *pgtest.Server) *postgres.Replication {
	t.Helper()
	info, err := postgres.ParseConninfo(s.Conninfo(), nil, nil)
	check(t, err)
	r, err := postgres.ConnectReplication(t.Context(), info, postgres.ConnectOptions{ApplicationName: "pgkeep test", Timeout: 5 * time.Minute})
	check(t, err)
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// ordersServer is a server with a tablespace, a table in it, and one elsewhere.
func ordersServer(t *testing.T, version int) (s *pgtest.Server, tablespace, oid string) {
	t.Helper()
	s = pgtest.Start(t, pgtest.Options{Version: version})
	tablespace = s.Dir(t, "fast")
	s.Exec(t, fmt.Sprintf("create tablespace fast location '%s'", tablespace))
	s.Exec(t, "create table orders (id int primary key, note text) tablespace fast")
	s.Exec(t, "insert into orders select i, repeat('n', i % 500) from generate_series(1, 20000) i")
	s.Exec(t, "create table lines as select i, md5(i::text) m from generate_series(1, 200000) i")
	s.Exec(t, "create unlogged table scratch as select 1 x")
	return s, tablespace, s.SQL(t, "select oid from pg_tablespace where spcname = 'fast'")
}

func TestTakeRestoredByHand(t *testing.T) {
	for _, version := range pgtest.SomeVersions(t, 13, 15, 17, 18) {
		t.Run(fmt.Sprint(version), func(t *testing.T) { testByHand(t, version) })
	}
}

func testByHand(t *testing.T, version int) {
	s, tablespace, oid := ordersServer(t, version)
	conn := walsender(t, s)
	system, err := conn.IdentifySystem(t.Context())
	check(t, err)
	one, dir := newRepository(t, seal.Codec{})
	two, _ := newRepository(t, seal.Codec{Algorithm: seal.LZ4})
	dst := []*repository.Cluster{clusterIn(t, one, s, system.ID), clusterIn(t, two, s, system.ID)}
	o := testOptions(t)
	var last Progress
	o.Report = func(p Progress) { last = p }
	result, err := Take(t.Context(), conn, dst, o)
	check(t, err)
	if last.Phase != PhaseFinishing || last.Done == 0 || last.Total == 0 {
		t.Errorf("the last report was %+v", last)
	}
	if len(result.Suspects) > 0 || len(result.Damaged) > 0 {
		t.Errorf("a sound server has suspects %v, damage %v", result.Suspects, result.Damaged)
	}
	for i, c := range dst {
		if result.Outcomes[i].Err != nil {
			t.Error(result.Outcomes[i].Err)
		}
		check(t, c.VerifyBackup(t.Context(), result.ID, true, func(f repository.Finding) { t.Errorf("%+v", f) }))
		checkContents(t, c, result)
	}
	if locks, err := os.ReadDir(o.LockDir); err != nil || len(locks) != 0 {
		t.Errorf("locks left: %v, %v", locks, err)
	}
	restoreByHand(t, s, filepath.Join(dir, "c/orders.eu", system.ID, "b", result.ID), tablespace, oid)
}

// checkContents reads everything back and compares it with PostgreSQL's manifest.
func checkContents(t *testing.T, c *repository.Cluster, result Result) {
	t.Helper()
	b, err := c.OpenBackup(t.Context(), result.ID)
	check(t, err)
	if got := b.Info(); got.State != state.BackupCommitted || got.Redo != result.Info.StartLSN || got.Stop != result.Info.StopLSN || got.DataBytes != result.Bytes {
		t.Errorf("info %+v of result %+v", got, result)
	}
	m, err := postgres.ParseManifest(b.OpenPGManifest(t.Context()))
	check(t, err)
	if int64(len(m.Files)) != result.Files {
		t.Errorf("%d files in the manifest, %d taken", len(m.Files), result.Files)
	}
	want := map[string]string{}
	for _, f := range m.Files {
		want[f.Path] = f.Checksum
	}
	for f, err := range b.Files(t.Context()) {
		check(t, err)
		path := f.Path
		if f.Folder != 0 {
			path = fmt.Sprintf("pg_tblspc/%d/%s", f.Folder, f.Path)
		}
		if f.Type != repository.RegularFile || result.told() && cameInPart(want, path) {
			continue
		}
		if want[path] != postgres.ManifestCRC32C(f.CRC32C) {
			t.Errorf("%s: CRC %08x, manifest %q", path, f.CRC32C, want[path])
		}
	}
	var bytes int64
	check(t, b.Pieces(t.Context(), repository.PieceOptions{Workers: 1}, func(p repository.Piece) error {
		bytes += int64(len(p.Data))
		return nil
	}))
	if bytes != result.Bytes {
		t.Errorf("%d bytes read, %d taken", bytes, result.Bytes)
	}
}

// told tells whether the server told which pages changed.
func (r Result) told() bool { return r.Kind == repository.KindIncremental && r.Compared == "" }

// cameInPart tells whether the server sent something else than the file that a restore makes of it.
func cameInPart(manifest map[string]string, path string) bool {
	_, whole := manifest[path]
	_, part := manifest[filepath.Dir(path)+"/INCREMENTAL."+filepath.Base(path)]
	return path == "backup_label" || part && !whole
}

// restoreByHand follows README.txt with a shell, and lets PostgreSQL judge.
func restoreByHand(t *testing.T, s *pgtest.Server, backup, tablespace, oid string) {
	t.Helper()
	target := s.Dir(t, "byhand")
	moved := s.Dir(t, "byhand-fast")
	run := func(command string, args ...string) string {
		t.Helper()
		cmd := exec.Command("bash", append([]string{"-euo", "pipefail", "-c", command, "-"}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
		return string(out)
	}
	run(`cat "$1"/v/base/* | zstd -dc | tar x -C "$2" --exclude='pg_tblspc/*'`, backup, target)
	run(`cat "$1"/v/"$2"/* | zstd -dc | tar x -C "$3"`, backup, oid, moved)
	run(`ln -s "$1" "$2"/pg_tblspc/"$3"`, moved, target, oid)
	run(`cat "$1"/backup_manifest/server/* | zstd -dc > "$2"/backup_manifest`, backup, target)
	if s.Version <= 16 {
		out := run(`"$1" --no-parse-wal "$2"`, pgtest.Client(t, "pg_verifybackup"), target)
		if !strings.Contains(out, "successfully verified") {
			t.Error(out)
		}
	}
	check(t, os.Remove(filepath.Join(target, "backup_manifest")))
	s.SQL(t, "select pg_switch_wal()")
	check(t, os.WriteFile(filepath.Join(target, "recovery.signal"), nil, 0o600))
	settings := fmt.Sprintf("\nrestore_command = 'cp %s/pg_wal/%%f %%p'\nrecovery_target_action = 'promote'\n", s.DataDir)
	f, err := os.OpenFile(filepath.Join(target, "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0)
	check(t, err)
	_, err = f.WriteString(settings)
	check(t, err)
	check(t, f.Close())
	restored := pgtest.StartDir(t, s.Version, target, pgtest.Options{})
	for _, q := range []string{"select count(*), sum(length(note)) from orders", "select md5(string_agg(m, '' order by i)) from lines"} {
		if got, want := restored.SQL(t, q), s.SQL(t, q); got != want {
			t.Errorf("%s: %s, want %s", q, got, want)
		}
	}
	if tablespace == moved {
		t.Fatal("the tablespace was not moved")
	}
}

func TestTakeFindsDamage(t *testing.T) {
	s := pgtest.Start(t, pgtest.Options{Version: pgtest.SomeVersions(t, 15)[0]})
	s.Exec(t, "create table lines as select i, md5(i::text) m from generate_series(1, 20000) i")
	path := s.SQL(t, "select pg_relation_filepath('lines')")
	s.Exec(t, "checkpoint")
	s.Stop(t, "fast")
	spoil(t, filepath.Join(s.DataDir, path), 3*8192+4000)
	s.StartAgain(t)
	conn := walsender(t, s)
	system, err := conn.IdentifySystem(t.Context())
	check(t, err)
	repo, _ := newRepository(t, seal.Codec{})
	c := clusterIn(t, repo, s, system.ID)
	result, err := Take(t.Context(), conn, []*repository.Cluster{c}, testOptions(t))
	check(t, err)
	if result.Info.Damaged == nil || len(result.Damaged) != 1 || result.Damaged[0].Path != path || fmt.Sprint(result.Damaged[0].Blocks) != "[3]" {
		t.Errorf("damage %+v, server %v", result.Damaged, result.Info.Damaged)
	}
	backups, err := c.Backups(t.Context())
	check(t, err)
	if len(backups) != 1 || backups[0].State != state.BackupDamaged || !strings.Contains(backups[0].Failure, path) {
		t.Errorf("%+v", backups)
	}
}

func spoil(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	check(t, err)
	b := []byte{0}
	_, err = f.ReadAt(b, at)
	check(t, err)
	b[0] ^= 0x40
	_, err = f.WriteAt(b, at)
	check(t, err)
	check(t, f.Close())
}

func TestTakeCutShort(t *testing.T) {
	s, _, _ := ordersServer(t, pgtest.SomeVersions(t, 15)[0])
	repo, _ := newRepository(t, seal.Codec{})
	for _, cut := range []struct {
		name string
		do   func(cancel context.CancelFunc, conn *postgres.Replication)
	}{
		{"interrupted", func(cancel context.CancelFunc, _ *postgres.Replication) { cancel() }},
		{"server session killed", func(_ context.CancelFunc, conn *postgres.Replication) {
			_, _ = s.Try(fmt.Sprintf("select pg_terminate_backend(%d)", conn.PID()))
		}},
	} {
		t.Run(cut.name, func(t *testing.T) {
			conn := walsender(t, s)
			system, err := conn.IdentifySystem(t.Context())
			check(t, err)
			c := clusterIn(t, repo, s, system.ID)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			o := testOptions(t)
			o.MaxRate = 4 << 20
			o.Now = stepping()
			seen := false
			o.Report = func(p Progress) {
				if p.Phase == PhaseCopying && !seen {
					seen = true
					cut.do(cancel, conn)
				}
			}
			result, err := Take(ctx, conn, []*repository.Cluster{c}, o)
			if err == nil || !seen {
				t.Fatalf("it went on: %v", err)
			}
			backups, err := c.Backups(t.Context())
			check(t, err)
			if len(backups) != 1 || backups[0].State != state.BackupAborted || backups[0].Failure == "" {
				t.Errorf("%+v", backups)
			}
			if _, err := c.OpenBackup(t.Context(), result.ID); state.CodeOf(err) != state.CodeStale {
				t.Errorf("opened: %v", err)
			}
			_, err = c.RemoveAborted(t.Context(), result.ID)
			check(t, err)
		})
	}
}

// stepping is a clock that moves a second at each look, so that every report passes.
func stepping() func() time.Time {
	now := testClock
	return func() time.Time {
		now = now.Add(time.Second)
		return now
	}
}

func TestTakeFromStandbyThatIsPromoted(t *testing.T) {
	primary, _, _ := ordersServer(t, pgtest.SomeVersions(t, 15)[0])
	standby := primary.Standby(t, pgtest.Options{})
	standby.AwaitReplay(t, primary)
	conn := walsender(t, standby)
	system, err := conn.IdentifySystem(t.Context())
	check(t, err)
	repo, _ := newRepository(t, seal.Codec{})
	c := clusterIn(t, repo, standby, system.ID)
	o := testOptions(t)
	o.FromStandby, o.MaxRate, o.Now = true, 16<<20, stepping()
	promoted := false
	o.Report = func(p Progress) {
		if p.Phase == PhaseCopying && !promoted {
			promoted = true
			standby.Promote(t)
		}
	}
	_, err = Take(t.Context(), conn, []*repository.Cluster{c}, o)
	if err == nil || !promoted {
		t.Fatalf("a backup across a promotion: %v", err)
	}
	backups, listErr := c.Backups(t.Context())
	check(t, listErr)
	if len(backups) != 1 || backups[0].State != state.BackupAborted || !backups[0].FromStandby {
		t.Errorf("%+v", backups)
	}
}

func TestTakeFromStandby(t *testing.T) {
	primary, _, _ := ordersServer(t, pgtest.SomeVersions(t, 15)[0])
	standby := primary.Standby(t, pgtest.Options{})
	standby.AwaitReplay(t, primary)
	conn := walsender(t, standby)
	system, err := conn.IdentifySystem(t.Context())
	check(t, err)
	repo, _ := newRepository(t, seal.Codec{})
	o := testOptions(t)
	c := clusterIn(t, repo, standby, system.ID)
	if _, err := Take(t.Context(), conn, []*repository.Cluster{c}, o); state.CodeOf(err) != state.CodeStale {
		t.Errorf("a standby where a primary was expected: %v", err)
	}
	o.FromStandby, o.Random = true, func() uint32 { return 2 }
	_, err = Take(t.Context(), walsender(t, standby), []*repository.Cluster{c}, o)
	check(t, err)
}
