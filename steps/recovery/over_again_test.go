package recovery

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/repository"
)

// filling fills the disk once some pieces were written.
type filling struct {
	Backup
	after int
	fill  func()
}

func (f *filling) Pieces(ctx context.Context, o repository.PieceOptions, write func(repository.Piece) error) error {
	o.Workers = 1
	return f.Backup.Pieces(ctx, o, func(p repository.Piece) error {
		if f.after--; f.after == 0 {
			f.fill()
		}
		return write(p)
	})
}

func fillUp(t *testing.T, filler string) {
	f, err := os.Create(filler)
	check(t, err)
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	check(t, f.Close())
}

// TestAnotherBackupOverOneThatWasCut: a restore over a directory is cut short, or its disk fills up, and then another backup is restored
// over what is there; relations have come, gone, grown and shrunk between the two.
func TestAnotherBackupOverOneThatWasCut(t *testing.T) {
	w := newWorld(t, 15, nil)
	w.Exec(t, "create table grows as select i, md5(i::text) m from generate_series(1, 20000) i")
	w.Exec(t, "create table shrinks as select i, md5(i::text) m from generate_series(1, 20000) i")
	w.Exec(t, "create table goes tablespace fast as select i, md5(i::text) m from generate_series(1, 20000) i")
	w.commit(1)
	a := w.take()
	w.Exec(t, "insert into grows select i, md5(i::text) m from generate_series(1, 200000) i")
	w.Exec(t, "delete from shrinks where i > 100")
	w.Exec(t, "vacuum shrinks")
	w.Exec(t, "drop table goes")
	w.Exec(t, "create table comes tablespace fast as select i, md5(i::text) m from generate_series(1, 200000) i")
	w.Exec(t, "create database other")
	w.commit(2)
	b := w.take()
	target := hclspec.Target{Latest: true}
	one := w.options(w.route(target, w.target(target), a))
	home := filepath.Dir(one.Route.Destination.Path)
	check(t, os.MkdirAll(home, 0o755)) // #nosec: of a test
	rounds := []int{3}
	if os.Geteuid() == 0 { // who may give it a small disk
		rounds = append(rounds, 9)
		check(t, syscall.Mount("tmpfs", home, "tmpfs", 0, "size=512m,mode=0755"))
		t.Cleanup(func() { check(t, syscall.Unmount(home, 0)) })
	}
	route := w.route(target, w.target(target), b)
	route.Destination = one.Route.Destination
	two := w.options(route)
	_, err := Restore(t.Context(), one)
	check(t, err)
	filler := filepath.Join(home, "filler")
	for i, after := range rounds {
		half, whole := overwriting(two), overwriting(one)
		if i == 0 {
			half.Backup = &cut{Backup: half.Backup, left: after}
			_, err := Restore(t.Context(), half)
			if !errors.Is(err, errCut) {
				t.Errorf("%d: it was not cut: %v", after, err)
			}
		} else {
			half.Backup = &filling{Backup: half.Backup, after: after, fill: func() { fillUp(t, filler) }}
			_, err := Restore(t.Context(), half)
			if state.CodeOf(err) != state.CodeDiskFull {
				t.Errorf("%d: the disk was not full: %v", after, err)
			}
			if _, err := Restore(t.Context(), whole); state.CodeOf(err) != state.CodeDiskFull {
				t.Errorf("%d: the disk is not full: %v", after, err)
			}
			check(t, os.Remove(filler))
		}
		if _, err := os.Stat(filepath.Join(half.Route.Destination.Path, controlPath)); err == nil {
			t.Error("a half restore has a pg_control")
		}
		if _, err := Restore(t.Context(), unasked(whole)); state.CodeOf(err) != state.CodeDestination {
			t.Errorf("another backup is restored over it unasked: %v", err)
		}
		e, err := Restore(t.Context(), whole)
		check(t, err)
		t.Logf("%d: fetched %d, removed %d, %v", after, e.Fetched, e.Removed, e.Notes)
		w.prove(whole.Route)
	}
	_, err = Restore(t.Context(), overwriting(two))
	check(t, err)
	s := pgtest.StartDir(t, w.Version, two.Route.Destination.Path, pgtest.Options{Version: w.Version})
	awaitPromotion(t, s)
	if got := rows(t, s) + s.SQL(t, "select ' ' || count(*) from grows") + s.SQL(t, "select ' ' || count(*) from comes"); got != "1 2 220000 200000" {
		t.Errorf("there is %s", got)
	}
	s.Stop(t, "fast")
}

// unlisted is a backup whose files cannot be listed.
type unlisted struct{ Backup }

func (unlisted) Files(context.Context) iter.Seq2[repository.File, error] {
	return func(yield func(repository.File, error) bool) { yield(repository.File{}, errCut) }
}

// TestControlGoesFirst: before anything else of a directory that is restored over, so that no half of it ever starts.
func TestControlGoesFirst(t *testing.T) {
	w := newWorld(t, 15, nil)
	backup := w.take()
	target := hclspec.Target{Latest: true}
	o := w.options(w.route(target, w.target(target), backup))
	_, err := Restore(t.Context(), o)
	check(t, err)
	dir := o.Route.Destination.Path
	extra := filepath.Join(dir, "base", "extra")
	check(t, os.WriteFile(extra, nil, 0o600))
	half := overwriting(o)
	half.Backup = unlisted{o.Backup}
	if _, err := Restore(t.Context(), half); !errors.Is(err, errCut) {
		t.Fatalf("it was not cut: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, controlPath)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("pg_control is still there: %v", err)
	}
	if _, err := os.Lstat(extra); err != nil {
		t.Errorf("something else went before it: %v", err)
	}
	_, err = Restore(t.Context(), overwriting(o))
	check(t, err)
	w.prove(o.Route)
}

// forgetful does not write what a file lacks.
type forgetful struct {
	Backup
	file string
}

func (f forgetful) Pieces(ctx context.Context, o repository.PieceOptions, write func(repository.Piece) error) error {
	return f.Backup.Pieces(ctx, o, func(p repository.Piece) error {
		if p.File.Path == f.file {
			return nil
		}
		return write(p)
	})
}

// TestWhatIsRestoredOverIsProved: a file of which only some pages are fetched is compared as a whole in the end.
func TestWhatIsRestoredOverIsProved(t *testing.T) {
	w := newWorld(t, 15, nil)
	backup := w.take()
	target := hclspec.Target{Latest: true}
	o := overwriting(w.options(w.route(target, w.target(target), backup)))
	_, err := Restore(t.Context(), o)
	check(t, err)
	file := filepath.Join("base", "1", "1255") // pg_proc, of many pages
	damage(t, filepath.Join(o.Route.Destination.Path, file))
	half := o
	half.Backup = forgetful{o.Backup, file}
	if _, err := Restore(t.Context(), half); state.CodeOf(err) != state.CodeCorrupt {
		t.Errorf("it is not whole: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(o.Route.Destination.Path, controlPath)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it would start: %v", err)
	}
}
