package recovery

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// TestDrillOfUnreadPages: pages whose checksum is wrong and that nobody looked at when the backup was taken are found by whoever reads
// them in the copy, and each message names its relation.
func TestDrillOfUnreadPages(t *testing.T) {
	for _, version := range pgtest.SomeVersions(t, 15) {
		w := newDrilled(t, version)
		w.checks = []hclspec.Check{{Name: "rows", Database: "postgres", SQL: "select count(*) from hurt where n > 0", Expect: "300"}}
		hurt, key := w.SQL(t, "select pg_relation_filepath('hurt')"), w.SQL(t, "select pg_relation_filepath('harm_pkey')")
		w.Stop(t, "fast")
		flip(t, filepath.Join(w.DataDir, hurt), 8100)
		flip(t, filepath.Join(w.DataDir, key), 8192+8100)
		w.StartAgain(t)
		w.blind = true
		w.backup = w.take()
		d := w.run(t, hclspec.Target{Latest: true}, nil)
		text := strings.NewReplacer(`"`+hurt+`"`, hurt, `"`+key+`"`, key).Replace(strings.Join(d.Failures, "\n")) // 18 quotes them
		want := []string{
			"amcheck: index public.harm_pkey of table public.harm of database postgres: invalid page in block 1 of relation " + key,
			"the rows of table public.hurt of database postgres cannot be read: invalid page in block 0 of relation " + hurt,
			`check "rows" in database postgres: invalid page in block 0`,
		}
		if version > 13 {
			want = append(want, "amcheck: table public.hurt of database postgres: invalid page in block 0 of relation "+hurt)
		}
		for _, x := range want {
			if !strings.Contains(text, x) {
				t.Errorf("PostgreSQL %d: no failure says %q:\n%s", version, x, text)
			}
		}
		if d.Passed || strings.Contains(text, "is not there now") {
			t.Errorf("PostgreSQL %d: passed %v\n%s", version, d.Passed, text)
		}
	}
}

// TestDrillOfDamagedObjects: a stored object that is not what was written fails the drill, which leaves evidence that names the object, and of
// a volume the relation whose pages it holds.
func TestDrillOfDamagedObjects(t *testing.T) {
	w := newDrilled(t, 15)
	w.Exec(t, "create table large as select sha512(n::text::bytea)::text || sha512((-n)::text::bytea)::text as noise from generate_series(1, 40000) n")
	w.backup = w.take()
	w.commit(1)
	w.Exec(t, "select pg_switch_wal()")
	w.commit(2)
	w.archive(1)
	volume := w.object(t, "*/v/base/000000")
	middle := func(path string) int64 {
		info, err := os.Stat(path)
		check(t, err)
		return info.Size() / 2
	}
	for _, x := range []struct {
		name, object string
		copies       bool
		want         []string
	}{
		{"volume", volume, false, []string{"the backup could not be restored: object ", "/v/base/000000 cannot be trusted", "it holds a part of table postgres.public.large"}},
		{"list of files", w.object(t, "*/files/000000"), false, []string{"the backup could not be restored: object ", "/files/000000 cannot be trusted"}},
		{"segment, copied", w.segment(t), true, []string{"the backup could not be restored: segment ", "cannot be trusted"}},
		{"segment, fetched", w.segment(t), false, []string{"the recovery did not reach its target", "cannot be trusted"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			w.copies, w.begun = x.copies, func() { flip(t, x.object, middle(x.object)) }
			defer flip(t, x.object, middle(x.object))
			d := w.run(t, hclspec.Target{Latest: true}, nil)
			text := strings.Join(d.Failures, "\n")
			for _, want := range append(x.want, filepath.Base(x.object)) {
				if !strings.Contains(text, want) {
					t.Errorf("no failure says %q:\n%s", want, text)
				}
			}
			if d.Passed || d.RTO != 0 || d.Ended.IsZero() {
				t.Errorf("%+v", d)
			}
		})
	}
	w.copies, w.begun = false, nil
	w.cannotBeOpened(t)
	if d := w.run(t, hclspec.Target{Latest: true}, nil); !d.Passed {
		t.Errorf("what was mended does not pass: %q", d.Failures)
	}
}

// cannotBeOpened drills a backup of which not even the list of its objects can be read.
func (w *drilled) cannotBeOpened(t *testing.T) {
	t.Helper()
	sums := w.object(t, "*/sums/000000")
	flip(t, sums, 10)
	defer flip(t, sums, 10)
	_, broken := w.cluster.OpenBackup(t.Context(), w.backup)
	s, err := OpenScratch(w.scratch, serverUser(), "a test", time.Now())
	check(t, err)
	defer s.Close()
	run, err := s.Begin(DrillOptions{Name: "weekly", Route: plan.Route{Server: name, Backup: w.backup, Destination: hclspec.Destination{Path: w.scratch}}, Broken: broken, Now: time.Now})
	check(t, err)
	check(t, run.Restore(t.Context(), nil))
	check(t, run.Stop())
	d, err := run.Finish()
	check(t, err)
	if len(d.Failures) != 1 || !strings.Contains(d.Failures[0], "/sums/000000 cannot be trusted") || !run.Failed() || d.Passed {
		t.Errorf("%+v", d)
	}
	check(t, s.Remove(run.ID()))
	check(t, s.Forget(run.ID()))
	w.nothingLeft(t)
}

// object finds one object of the newest backup.
func (w *drilled) object(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(w.dir, "c", name, w.systemID, "b", pattern))
	check(t, err)
	found = slices.DeleteFunc(found, func(p string) bool { return !strings.Contains(p, w.backup) })
	if len(found) != 1 {
		t.Fatalf("%s: %q", pattern, found)
	}
	return found[0]
}

// segment finds the newest whole segment in the archive.
func (w *drilled) segment(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(w.dir, "c", name, w.systemID, "w", "*", "*", "????????????????????????"))
	check(t, err)
	if len(found) == 0 {
		t.Fatal("no segment is archived")
	}
	return slices.Max(found)
}

// flip changes one byte of a file, or changes it back.
func flip(t *testing.T, path string, at int64) {
	t.Helper()
	check(t, os.Chmod(path, 0o600))
	content, err := os.ReadFile(path)
	check(t, err)
	content[at] ^= 0x41
	check(t, os.WriteFile(path, content, 0o600))
}
