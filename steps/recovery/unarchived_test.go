package recovery

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestHolesInTheArchive: of the origin's own directory the newest WAL is archived, but not what came before, or not with these bytes: it is
// not restored over, until it is.
func TestHolesInTheArchive(t *testing.T) {
	w := newWorld(t, 15, nil)
	backup := w.take()
	for n := range 3 {
		w.commit(n + 1)
		w.SQL(t, "select pg_switch_wal()")
	}
	w.commit(4)
	w.archive(1)
	target := hclspec.Target{Latest: true}
	o := overwriting(w.options(w.route(target, w.target(target), backup)))
	o.Route.Destination.Path = w.DataDir
	o.Route.Destination.Tablespaces = map[string]string{"fast": w.SQL(t, "select pg_tablespace_location(oid) from pg_tablespace where spcname = 'fast'")}
	w.Kill9(t)
	written := w.writtenSegments(&restore{Options: o})
	w.archiveTail(written[0])

	refused := func(want string) {
		t.Helper()
		if _, err := Restore(t.Context(), o); state.CodeOf(err) != state.CodeDestination || !strings.Contains(err.Error(), want) {
			t.Errorf("it is restored over: %v, want %q", err, want)
		}
	}
	away := t.TempDir()
	hide := func(seg wal.Segment) (back func()) {
		object := w.objectOf(seg)
		check(t, os.Rename(object, filepath.Join(away, "object")))
		return func() { check(t, os.Rename(filepath.Join(away, "object"), object)) }
	}
	back := hide(written[2])
	refused("segment " + written[2].Name(w.size) + ", before later ones that are archived")
	back()

	newest := filepath.Join(w.DataDir, "pg_wal", written[0].Name(w.size))
	file, err := os.ReadFile(newest)
	check(t, err)
	other := bytes.Clone(file)
	other[100] ^= 1 // in a record of its first page
	check(t, os.WriteFile(newest, other, 0o600))
	refused("the bytes of segment " + written[0].Name(w.size))
	check(t, os.WriteFile(newest, file, 0o600))

	_, err = Restore(t.Context(), o)
	check(t, err)
	w.prove(o.Route)
}

// writtenSegments gives the segments of timeline 1 in the server's pg_wal that hold WAL of their own, newest first.
func (w *world) writtenSegments(r *restore) (out []wal.Segment) {
	w.t.Helper()
	dir := filepath.Join(w.DataDir, "pg_wal")
	all, err := r.segmentsIn(dir)
	check(w.t, err)
	for _, seg := range all[1] {
		end, err := writtenUpTo(filepath.Join(dir, seg.Name(w.size)), seg.Start(w.size))
		check(w.t, err)
		if end > seg.Start(w.size) {
			out = append(out, seg)
		}
	}
	if len(out) < 4 {
		w.t.Fatalf("pg_wal has %v", out)
	}
	return out
}

// archiveTail puts what a server that was killed wrote last into the repository.
func (w *world) archiveTail(seg wal.Segment) {
	w.t.Helper()
	file := filepath.Join(w.DataDir, "pg_wal", seg.Name(w.size))
	end, err := writtenUpTo(file, seg.Start(w.size))
	check(w.t, err)
	b, err := os.ReadFile(file)
	check(w.t, err)
	check(w.t, w.cluster.PutPartial(w.t.Context(), seg, end, bytes.NewReader(b[:end-seg.Start(w.size)])))
	giveToServer(w.t, w.dir)
}

// objectOf gives the file that holds a segment in the repository.
func (w *world) objectOf(seg wal.Segment) (file string) {
	w.t.Helper()
	check(w.t, filepath.WalkDir(w.dir, func(path string, _ fs.DirEntry, err error) error {
		if filepath.Base(path) == seg.Name(w.size) {
			file = path
		}
		return err
	}))
	if file == "" {
		w.t.Fatalf("segment %s is not in the repository", seg.Name(w.size))
	}
	return file
}
