package file

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/pgkeep/pgkeep/state/host/hosttest"
	"github.com/pgkeep/pgkeep/state/repository/store"
)

// mount shows a disk at dir until the test or the returned function ends it.
func mount(t *testing.T, d *disk, dir string) (unmount func()) {
	t.Helper()
	server, err := fs.Mount(dir, &node{d: d, i: d.root}, &fs.Options{
		MountOptions: fuse.MountOptions{DirectMountStrict: os.Geteuid() == 0, FsName: "lossy"},
	})
	if err != nil {
		t.Fatalf("mount the lossy file system: %v", err)
	}
	return func() {
		if err := server.Unmount(); err != nil {
			t.Fatalf("unmount the lossy file system: %v", err)
		}
	}
}

// history is what a writer knows for sure: the objects that were acknowledged, and the deletions.
type history struct {
	put, deleted map[int]bool
	tried        map[int]bool
}

// live does what a repository does, with two stores as two processes, until the power goes.
func live(t *testing.T, dir string) history {
	h := history{put: map[int]bool{}, deleted: map[int]bool{}, tried: map[int]bool{}}
	a, errA := Open(dir, Options{})
	b, errB := Open(dir, Options{})
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	defer a.Close()
	defer b.Close()
	put := func(s *Store, n int) {
		h.tried[n] = true
		body := bodyFor(n)
		err := s.PutIfAbsent(t.Context(), objectKey(n), bytes.NewReader(body), int64(len(body)), store.PutOptions{})
		if err == nil || errors.Is(err, store.ErrExists) {
			h.put[n], h.deleted[n] = true, false
		}
	}
	remove := func(s *Store, n int) {
		h.put[n] = false // from now on it may be gone
		if s.Delete(t.Context(), objectKey(n)) == nil {
			h.deleted[n] = true
		}
	}
	put(a, 1) // objects 0 to 6 share a directory, 7 to 13 another
	put(b, 2) // into a directory that the other made
	put(b, 1) // ErrExists: it counts on an object of the other
	put(a, 8)
	remove(b, 8) // empties the directory, which goes
	abandon(dir, objectKey(9))
	put(a, 10) // into a directory whose name was durable, and which is another now
	put(b, 9)  // ErrExists: its writer was killed between link(2) and fsync
	remove(a, 2)
	return h
}

// abandon leaves an object as a writer does that is killed when it has its name and before its directory was fsynced.
func abandon(dir, key string) {
	name, temp := filepath.Join(dir, key), filepath.Join(dir, tempDir, "killed")
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return // no power
	}
	defer f.Close()
	if _, err := f.Write(bodyFor(9)); err != nil || f.Sync() != nil || os.MkdirAll(filepath.Dir(name), dirMode) != nil {
		return
	}
	os.Link(temp, name)
}

// bodyFor gives a body of a size that takes a moment, not a minute.
func bodyFor(n int) []byte { return bodyOf(n)[:min(len(bodyOf(n)), 20_000+n)] }

// check reads what came back.
func (h history) check(t *testing.T, dir string) {
	t.Helper()
	s := openIn(t, dir)
	defer s.Close()
	for n := range h.tried {
		want := bodyFor(n)
		r, err := s.Get(t.Context(), objectKey(n), 0, -1)
		switch {
		case errors.Is(err, store.ErrNotExist):
			if h.put[n] {
				t.Errorf("object %d was acknowledged and is gone", n)
			}
			continue
		case err != nil:
			t.Errorf("object %d: %v", n, err)
			continue
		}
		got, err := io.ReadAll(r)
		r.Close()
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("object %d is torn: %d of %d bytes, %v", n, len(got), len(want), err)
		}
		if h.deleted[n] {
			t.Errorf("object %d was deleted for sure and is back", n)
		}
	}
	if err := put(t, s, "c/after", "the store works"); err != nil {
		t.Errorf("after the power cut: %v", err)
	}
}

// TestPowerCut cuts the power at every change that the writers make, several times with other luck, on file systems that tell when a directory
// was made and on others.
func TestPowerCut(t *testing.T) {
	hosttest.Need(t, hosttest.FUSE())
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	cuts := 0
	for _, born := range []bool{true, false} {
		for at := 0; ; at++ {
			if !cutAt(t, at, born, seed) {
				break
			}
			cuts++
		}
	}
	t.Logf("%d power cuts", cuts)
	if cuts < 60 {
		t.Errorf("only %d power cuts: the writers did not get far", cuts)
	}
}

// cutAt lives until the at-th change and looks at what may come back; false when the power never went.
func cutAt(t *testing.T, at int, born bool, seed uint64) bool {
	dir := t.TempDir()
	d := newDisk(at, born)
	unmount := mount(t, d, dir)
	h := live(t, dir)
	unmount()
	for luck := range uint64(rounds(t)/10 + 1) {
		back := d.afterCut(rand.New(rand.NewPCG(seed, luck)))
		unmount := mount(t, back, dir)
		h.check(t, dir)
		unmount()
		if t.Failed() {
			t.Fatalf("power cut at change %d, born %v, luck %d of seed %d", at, born, luck, seed)
		}
	}
	return d.left < 0
}
