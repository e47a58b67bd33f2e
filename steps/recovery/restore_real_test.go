package recovery

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host/hosttest"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// TestEveryTarget recovers to every kind of target and lets the ledger decide.
func TestEveryTarget(t *testing.T) {
	for _, version := range pgtest.SomeVersions(t, 13, 15, 18) {
		t.Run(fmt.Sprint(version), func(t *testing.T) { everyTarget(t, version) })
	}
}

func everyTarget(t *testing.T, version int) {
	touched := filepath.Join(pgtest.TempDir(t), "archived")
	w := newWorld(t, version, map[string]string{
		"max_connections": "137", "archive_mode": "on", "archive_command": "echo %f >> " + touched,
	})
	w.commit(1)
	backup := w.take()
	second := w.commit(2)
	w.SQL(t, `select pg_create_restore_point('it''s \ a point')`)
	third := w.commit(3)
	w.SQL(t, "select pg_switch_wal()")
	fourth := w.commit(4)
	w.archive(1)
	w.Stop(t, "fast")
	archived, err := os.ReadFile(touched)
	check(t, err)
	for _, c := range []struct {
		name          string
		target        hclspec.Target
		want          string
		before, after *state.Commit
	}{
		{"time", hclspec.Target{Time: second.Time, Inclusive: true}, "1 2", &second, &third},
		{"time, exclusive", hclspec.Target{Time: third.Time}, "1 2", &second, &third},
		{"xid", hclspec.Target{XID: third.XID, Inclusive: true}, "1 2 3", &third, &fourth},
		{"xid, exclusive", hclspec.Target{XID: third.XID}, "1 2", &second, &third},
		{"restore point", hclspec.Target{Restore: `it's \ a point`, Inclusive: true}, "1 2", &second, &third},
		{"lsn, exclusive", hclspec.Target{LSN: third.LSN}, "1 2 3", &third, &fourth},
		{"immediate", hclspec.Target{Immediate: true, Inclusive: true}, "1", nil, &second},
		{"latest", hclspec.Target{Latest: true, Inclusive: true}, "1 2 3 4", &fourth, nil},
	} {
		if version != 15 && os.Getenv("PGKEEP_PG") == "" && c.name != "time" && c.name != "latest" {
			continue // all targets of all versions when they are asked for
		}
		t.Run(c.name, func(t *testing.T) {
			w := *w
			w.t = t
			fact := w.target(c.target)
			sameCommit(t, "before", c.before, fact.Before)
			sameCommit(t, "after", c.after, fact.After)
			c.target.Action = "promote"
			s := w.restore(w.route(c.target, fact, backup))
			awaitPromotion(t, s)
			if got := rows(t, s); got != c.want {
				t.Errorf("the ledger has %q, not %q", got, c.want)
			}
			if got := s.SQL(t, "show archive_mode") + s.SQL(t, "show max_connections"); got != "off137" {
				t.Errorf("archive_mode and max_connections are %q", got)
			}
		})
	}
	if again, err := os.ReadFile(touched); err != nil || string(again) != string(archived) {
		t.Errorf("a copy archived into the origin's archive: %q, before %q, %v", again, archived, err)
	}
}

func sameCommit(t *testing.T, what string, want, got *state.Commit) {
	t.Helper()
	switch {
	case want == nil:
	case got == nil:
		t.Errorf("%s: nothing, not %+v", what, *want)
	case got.XID != want.XID || !got.Time.Equal(want.Time):
		t.Errorf("%s: %+v, not %+v", what, *got, *want)
	}
}

// await polls until the server's answer is the wanted one.
func await(t testing.TB, s *pgtest.Server, q, want string) {
	t.Helper()
	for limit := time.Now().Add(10 * time.Minute); s.SQL(t, q) != want; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%s is not %s:\n%s", q, want, s.Log())
		}
	}
}

func awaitPromotion(t testing.TB, s *pgtest.Server) {
	t.Helper()
	await(t, s, "select pg_is_in_recovery()", "f")
}

func TestPauseStopsAtTheTarget(t *testing.T) {
	w := newWorld(t, 15, nil)
	backup := w.take()
	first := w.commit(1)
	w.commit(2)
	w.archive(1)
	target := hclspec.Target{Time: first.Time, Inclusive: true, Action: "pause"}
	s := w.restore(w.route(target, w.target(target), backup))
	await(t, s, "select pg_get_wal_replay_pause_state()", "paused")
	if got := rows(t, s); got != "1" {
		t.Errorf("the ledger has %q", got)
	}
}

// TestRecoveryAcrossAPromotion walks from timeline 1 to 2, whose switch lies in the middle of a segment.
func TestRecoveryAcrossAPromotion(t *testing.T) {
	w := newWorld(t, 15, nil)
	w.Exec(t, "drop table ledger") // a standby on the same machine would use the same tablespace
	w.Exec(t, "drop tablespace fast")
	w.Exec(t, "create table ledger (n int primary key, note text)")
	backup := w.take()
	w.commit(1)
	standby := w.Standby(t, pgtest.Options{Version: 15, Settings: map[string]string{"wal_keep_size": "1GB", "track_commit_timestamp": "on"}})
	standby.AwaitReplay(t, w.Server)
	w.SQL(t, "select pg_switch_wal()")
	w.commit(2)
	w.archive(1)
	standby.AwaitReplay(t, w.Server)
	standby.Promote(t)
	w.commit(99) // on the abandoned branch
	old := w.Server
	w.Server = standby
	third := w.commit(3)
	w.commit(4)
	w.archive(2)
	old.Stop(t, "fast")
	for _, c := range []struct {
		target hclspec.Target
		want   string
	}{
		{hclspec.Target{Latest: true, Inclusive: true}, "1 2 3 4"},
		{hclspec.Target{Time: third.Time, Inclusive: true, Action: "promote"}, "1 2 3"},
		{hclspec.Target{Latest: true, Inclusive: true, Timeline: 1}, "1 2"},
	} {
		s := w.restore(w.route(c.target, w.target(c.target), backup))
		awaitPromotion(t, s)
		if got := rows(t, s); got != c.want {
			t.Errorf("%+v: the ledger has %q, not %q", c.target, got, c.want)
		}
		s.Exec(t, "checkpoint")
		if got := s.SQL(t, "select timeline_id from pg_control_checkpoint()"); got != "3" {
			t.Errorf("%+v: the copy is on timeline %s, not on the first that nobody used", c.target, got)
		}
	}
}

func TestCopiedWALNeedsNoRepository(t *testing.T) {
	w := newWorld(t, 15, nil)
	backup := w.take()
	w.commit(1)
	w.archive(1)
	target := hclspec.Target{Latest: true}
	route := w.route(target, w.target(target), backup)
	route.Destination.WAL = "copy"
	_, err := Restore(t.Context(), w.options(route))
	check(t, err)
	check(t, os.Rename(w.dir, w.dir+".gone"))
	s := pgtest.StartDir(t, 15, route.Destination.Path, pgtest.Options{Version: 15})
	awaitPromotion(t, s)
	if got := rows(t, s); got != "1" {
		t.Errorf("the ledger has %q", got)
	}
}

// TestWALIsCopiedWhereTheOwnerMayNotReadTheRepository is the way of a root who restores for postgres.
func TestWALIsCopiedWhereTheOwnerMayNotReadTheRepository(t *testing.T) {
	hosttest.Need(t, hosttest.Root()) // only root restores for another user
	w := newWorld(t, 15, nil)
	backup := w.take()
	w.commit(1)
	w.SQL(t, "select pg_switch_wal()")
	w.commit(2)
	w.archive(1)
	target := hclspec.Target{Latest: true}
	for what, take := range map[string]func(){
		"all of it": func() { give(t, w.dir, 0) },
		"one segment": func() {
			whole := w.objects("w", "00000001", "*", strings.Repeat("?", 24))
			give(t, whole[len(whole)-1], 0)
		},
		"its last objects": func() { // pushed by a root whose umask lets nobody else in
			for _, partial := range w.objects("w", "00000001", "*", "*.partial-*") {
				give(t, partial, 0)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			o := w.options(w.route(target, w.target(target), backup))
			take()
			evidence, err := Restore(t.Context(), o)
			check(t, err)
			if !strings.Contains(strings.Join(evidence.Notes, "\n"), "may not read repository") {
				t.Errorf("nothing is said of it: %q", evidence.Notes)
			}
			s := pgtest.StartDir(t, 15, o.Route.Destination.Path, pgtest.Options{Version: 15})
			awaitPromotion(t, s)
			if got := rows(t, s); got != "1 2" {
				t.Errorf("the ledger has %q", got)
			}
		})
	}
}

// objects lists objects of the cluster by a pattern below its folder.
func (w *world) objects(pattern ...string) []string {
	w.t.Helper()
	found, err := filepath.Glob(filepath.Join(append([]string{w.dir, "c", name, w.systemID}, pattern...)...))
	check(w.t, err)
	if len(found) == 0 {
		w.t.Fatalf("the repository has no %v", pattern)
	}
	return found
}

// TestPgkeepIsCopiedWhereTheOwnerMayNotRunIt is the way of a root who built pgkeep in a home directory of his own.
func TestPgkeepIsCopiedWhereTheOwnerMayNotRunIt(t *testing.T) {
	hosttest.Need(t, hosttest.Root()) // only root restores for another user
	w := newWorld(t, 15, nil)
	backup := w.take()
	w.commit(1)
	w.archive(1)
	target := hclspec.Target{Latest: true}
	o := w.options(w.route(target, w.target(target), backup))
	home := filepath.Join(pgtest.TempDir(t), "home")
	check(t, os.Mkdir(home, 0o700))
	o.Program = filepath.Join(home, "pgkeep")
	check(t, os.Rename(w.program, o.Program))
	evidence, err := Restore(t.Context(), o)
	check(t, err)
	if !strings.Contains(strings.Join(evidence.Notes, "\n"), "may not run "+o.Program) {
		t.Errorf("nothing is said of it: %q", evidence.Notes)
	}
	s := pgtest.StartDir(t, 15, o.Route.Destination.Path, pgtest.Options{Version: 15})
	awaitPromotion(t, s)
	if got := rows(t, s); got != "1" {
		t.Errorf("the ledger has %q", got)
	}
}

func TestRestoreRefuses(t *testing.T) {
	w := newWorld(t, 15, nil)
	backup := w.take()
	target := hclspec.Target{Latest: true}
	route := w.route(target, w.target(target), backup)
	for _, c := range []struct {
		name    string
		prepare func(t *testing.T, o *Options)
		says    string
	}{
		{"not empty", func(t *testing.T, o *Options) { precious(t, o.Route.Destination.Path) }, "is not empty"},
		{"running server", func(_ *testing.T, o *Options) { o.Route.Destination.Path = w.DataDir }, "a PostgreSQL server runs in"},
		{"symbolic link", func(t *testing.T, o *Options) { check(t, os.Symlink(t.TempDir(), o.Route.Destination.Path)) }, "is a symbolic link"},
		{"a file", func(t *testing.T, o *Options) { check(t, os.WriteFile(o.Route.Destination.Path, nil, 0o600)) }, "is not a directory"},
		{"relative", func(_ *testing.T, o *Options) { o.Route.Destination.Path = "data" }, "is no directory to restore into"},
		{"tablespace is a link", func(t *testing.T, o *Options) {
			link := filepath.Join(t.TempDir(), "ts")
			check(t, os.Symlink(t.TempDir(), link))
			o.Route.Destination.Tablespaces = map[string]string{"fast": link}
		}, "is a symbolic link"},
		{"link into a server", func(t *testing.T, o *Options) { check(t, os.Symlink(w.DataDir, o.Route.Destination.Path)) }, "is a symbolic link"},
		{"newline", func(_ *testing.T, o *Options) { o.Route.Destination.Path += "\nport = 1" }, "is no directory to restore into"},
		{"unknown owner", func(_ *testing.T, o *Options) { o.Route.Destination.Owner = "nobody-knows" }, "the owner of the restored files"},
		{"tablespace unmapped", func(_ *testing.T, o *Options) { o.Route.Destination.Tablespaces = map[string]string{} }, "have no place in the destination"},
		{"tablespace inside", func(_ *testing.T, o *Options) {
			o.Route.Destination.Tablespaces = map[string]string{"fast": o.Route.Destination.Path + "/pg_tblspc/x"}
		}, "lie in one another"},
		{"tablespace where pgkeep keeps its own", func(_ *testing.T, o *Options) {
			o.Route.Destination.Tablespaces = map[string]string{"fast": o.Route.Destination.Path + stateSuffix + "/originals"}
		}, "lie in one another"},
		{"a server where pgkeep would keep its own", func(t *testing.T, o *Options) {
			other := o.Route.Destination.Path + stateSuffix
			precious(t, other)
			check(t, os.WriteFile(filepath.Join(other, "PG_VERSION"), []byte("15\n"), 0o600))
		}, "is a data directory or tablespace of PostgreSQL"},
		{"tablespace not empty", func(t *testing.T, o *Options) {
			dir := filepath.Join(t.TempDir(), "ts")
			precious(t, dir)
			o.Route.Destination.Tablespaces = map[string]string{"fast": dir}
		}, "is not empty"},
		{"other system", func(_ *testing.T, o *Options) { o.Route.SystemID = "4711" }, "system 4711"},
		{"before consistency", func(_ *testing.T, o *Options) {
			o.Route.Target, o.Route.AtEnd, o.Route.End = hclspec.Target{LSN: 1}, false, 1
		}, "before backup"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := route
			r.Destination.Path = filepath.Join(t.TempDir(), "data")
			o := w.options(r)
			c.prepare(t, &o)
			before := listing(t, filepath.Dir(r.Destination.Path))
			_, err := Restore(t.Context(), o)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %v", err)
			}
			if after := listing(t, filepath.Dir(r.Destination.Path)); after != before {
				t.Errorf("something was written:\n%s\nbefore\n%s", after, before)
			}
		})
	}
}

// TestRestoreRefusesADirectoryOfAnother runs as a user who may write into an empty directory that is not his.
func TestRestoreRefusesADirectoryOfAnother(t *testing.T) {
	hosttest.Need(t, hosttest.Root()) // only root makes directories of others
	w := newWorld(t, 15, nil)
	backup := w.take()
	target := hclspec.Target{Latest: true}
	route := w.route(target, w.target(target), backup)
	const nobody = 65534
	home := pgtest.TempDir(t)
	check(t, os.Chmod(home, 0o777)) // #nosec: what the test is about
	route.Destination.Owner, route.Destination.Path = "", filepath.Join(home, "data")
	o := w.options(route)
	give(t, w.dir, nobody)
	check(t, os.Mkdir(route.Destination.Path, 0o700))
	check(t, os.Chmod(route.Destination.Path, 0o777)) // #nosec: what the test is about
	b, err := json.Marshal(child{Route: o.Route, Repo: w.dir})
	check(t, err)
	order := filepath.Join(home, "order.json")
	check(t, os.WriteFile(order, b, 0o644)) // #nosec: of a test
	before := listing(t, home)
	cmd := exec.Command(w.program, "restore-child", order)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "belongs to user 0") {
		t.Errorf("%v: %s", err, out)
	}
	if after := listing(t, home); after != before {
		t.Errorf("something was written:\n%s\nbefore\n%s", after, before)
	}
}

// precious makes a directory with a file that nobody may touch.
func precious(t testing.TB, dir string) {
	t.Helper()
	check(t, os.MkdirAll(dir, 0o700))
	check(t, os.WriteFile(filepath.Join(dir, "precious"), []byte("content"), 0o600))
}

// listing tells everything below a directory.
func listing(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	check(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %s %d\n", path, info.Mode(), info.Size())
		return nil
	}))
	return b.String()
}
