package file

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pgkeep/pgkeep/state/host/hosttest"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest"
)

func openIn(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func put(t testing.TB, s store.Store, key, body string) error {
	t.Helper()
	return s.PutIfAbsent(t.Context(), key, strings.NewReader(body), int64(len(body)), store.PutOptions{})
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		s := openIn(t, filepath.Join(t.TempDir(), "made", "by", "the first put"))
		if err := s.Probe(); err != nil {
			t.Fatal(err)
		}
		return s
	})
}

// TestConformanceByRenaming runs the suite with the fallback for file systems without hard links.
func TestConformanceByRenaming(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		s := openIn(t, t.TempDir())
		s.naming = byRenaming
		return s
	})
}

// TestRaces has two writers that know nothing of each other, by each way of giving a name.
func TestRaces(t *testing.T) {
	for name, by := range map[string]naming{"link": byLink, "rename": byRenaming} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			storetest.Race(t, func(t testing.TB) store.Store {
				s := openIn(t, dir)
				s.naming = by
				return s
			})
		})
	}
}

func TestProbe(t *testing.T) {
	s := openIn(t, t.TempDir())
	if err := s.Probe(); err != nil || s.naming != byLink {
		t.Errorf("naming %v, %v", s.naming, err)
	}
	for _, how := range []naming{byLink, byRenaming} {
		if ok, err := works(s.root, how); !ok || err != nil {
			t.Errorf("naming %v works: %v, %v", how, ok, err)
		}
	}
	s.naming = neither
	if err := put(t, s, "a", "x"); !errors.Is(err, store.ErrUnsupported) {
		t.Errorf("put where neither works: %v", err)
	}
	if s.Capabilities().ConditionalPut {
		t.Error("the store says it can put conditionally")
	}
}

// TestAbsentPlace keeps an absent directory from being taken for an empty store.
func TestAbsentPlace(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "absent")
	s := openIn(t, dir)
	checkAbsent := func() {
		t.Helper()
		if _, err := s.Get(t.Context(), "a", 0, -1); !errors.Is(err, store.ErrAbsent) || errors.Is(err, store.ErrNotExist) {
			t.Errorf("get: %v", err)
		}
		if _, err := s.Stat(t.Context(), "a"); !errors.Is(err, store.ErrAbsent) {
			t.Errorf("stat: %v", err)
		}
	}
	checkAbsent()
	for _, err := range s.List(t.Context(), "", "", false) {
		if !errors.Is(err, store.ErrAbsent) {
			t.Errorf("list: %v", err)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("looking made the directory: %v", err)
	}
	if err := put(t, s, "a", "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stat(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	// The directory goes away under an open store, as when another file system is mounted over it or it is renamed.
	if err := os.Rename(dir, dir+"-moved"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stat(t.Context(), "b"); !errors.Is(err, store.ErrAbsent) {
		t.Errorf("stat in a directory that was moved away: %v", err)
	}
}

// TestPermissions walks everything that was written under a generous umask.
func TestPermissions(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	top := t.TempDir()
	s := openIn(t, filepath.Join(top, "x", "y"))
	for i := range 5 {
		if err := put(t, s, fmt.Sprintf("a/%d/b/c", i), "x"); err != nil {
			t.Fatal(err)
		}
	}
	err := filepath.WalkDir(filepath.Join(top, "x"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(fileMode)
		if d.IsDir() {
			want = dirMode | fs.ModeDir
		}
		if info.Mode() != want {
			t.Errorf("%s has %v, want %v", path, info.Mode(), want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestNoWayOut plants symbolic links, a FIFO and a socket where objects and directories would be.
func TestNoWayOut(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"file": secret, "dir": outside, "within": "kept"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := openIn(t, dir)
	if err := put(t, s, "kept", "x"); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"file", "dir/secret", "within", "fifo"} {
		if r, err := s.Get(t.Context(), key, 0, -1); err == nil {
			r.Close()
			t.Errorf("get %s was answered", key)
		}
		if key != "dir/secret" {
			if err := s.Delete(t.Context(), key); err == nil {
				t.Errorf("delete %s was accepted", key)
			}
		}
	}
	if err := put(t, s, "dir/new", "x"); err == nil {
		t.Error("an object was put through a link that leads out")
	}
	for info, err := range s.List(t.Context(), "", "", false) {
		if err != nil || info.Key != "kept" {
			t.Errorf("list gave %+v, %v", info, err)
		}
	}
	if names, _ := os.ReadDir(outside); len(names) != 1 {
		t.Errorf("something was written outside: %v", names)
	}
}

// TestCollect leaves the temporary file of a living writer alone and removes that of a dead one.
func TestCollect(t *testing.T) {
	dir := t.TempDir()
	s := openIn(t, dir)
	if err := put(t, s, "a", "x"); err != nil {
		t.Fatal(err)
	}
	dead, living := filepath.Join(dir, tempDir, "1-dead"), filepath.Join(dir, tempDir, "1-living")
	for _, name := range []string{dead, living} {
		if err := os.WriteFile(name, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(living)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	next := openIn(t, dir)
	if _, err := os.Stat(dead); err != nil {
		t.Errorf("opening alone, which reads, removed a file: %v", err)
	}
	if err := put(t, next, "b", "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dead); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the dead writer's file: %v", err)
	}
	if _, err := os.Stat(living); err != nil {
		t.Errorf("the living writer's file: %v", err)
	}
}

// TestCollectedUnderItsWriter removes a writer's temporary file at the worst moment: the put begins again.
func TestCollectedUnderItsWriter(t *testing.T) {
	dir := t.TempDir()
	s := openIn(t, dir)
	if err := s.Probe(); err != nil {
		t.Fatal(err)
	}
	body := &meddler{at: 2, do: func() {
		names, _ := filepath.Glob(filepath.Join(dir, tempDir, "*"))
		for _, name := range names {
			os.Remove(name)
		}
	}}
	if err := s.PutIfAbsent(t.Context(), "a/b", body, 1<<20, store.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if info, err := s.Stat(t.Context(), "a/b"); err != nil || info.Size != 1<<20 {
		t.Errorf("%+v, %v", info, err)
	}
}

// meddler is a body of zeros that does something once, at its at-th read.
type meddler struct {
	n, at int
	do    func()
}

func (m *meddler) ReadAt(p []byte, _ int64) (int, error) {
	if m.n++; m.n == m.at {
		m.do()
	}
	clear(p)
	return len(p), nil
}

// TestRemadeDirectory deletes the last object of a directory in one process while another, which knows the directory as
// durable, puts there again: identities differ, so its parents are fsynced again.
func TestRemadeDirectory(t *testing.T) {
	dir := t.TempDir()
	a, b := openIn(t, dir), openIn(t, dir)
	if err := put(t, a, "d/e/1", "x"); err != nil {
		t.Fatal(err)
	}
	was, known := a.durable["d/e"]
	if !known {
		t.Fatal("the directory is not known as durable")
	}
	if err := b.Delete(t.Context(), "d/e/1"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "d")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the emptied directory is still there: %v", err)
	}
	if err := put(t, a, "d/e/2", "x"); err != nil {
		t.Fatal(err)
	}
	if a.durable["d/e"] == was {
		if id, tells, err := syncDir(a.root, "d/e"); tells || err != nil {
			t.Errorf("the new directory passes for the old one: %+v, %v", id, err)
		}
	}
}

// TestDiskFull fills a tiny tmpfs: a clear error, nothing under a final name, and the store goes on once there is room.
func TestDiskFull(t *testing.T) {
	dir := hosttest.Tmpfs(t, 1<<10)
	s := openIn(t, dir)
	body := bytes.Repeat([]byte("x"), 300<<10)
	var full error
	n := 0
	for ; full == nil && n < 10; n++ {
		full = s.PutIfAbsent(t.Context(), fmt.Sprintf("a/%d", n), bytes.NewReader(body), int64(len(body)), store.PutOptions{})
	}
	if !errors.Is(full, syscall.ENOSPC) {
		t.Fatalf("a full disk: %v", full)
	}
	for info, err := range s.List(t.Context(), "", "", false) {
		if err != nil || info.Size != int64(len(body)) {
			t.Errorf("%+v, %v", info, err)
		}
	}
	if names, _ := os.ReadDir(filepath.Join(dir, tempDir)); len(names) != 0 {
		t.Errorf("the failed put left %v", names)
	}
	if facts, err := s.Look(t.Context()); err != nil || facts.Total != 1<<20 || facts.Free > 200<<10 {
		t.Errorf("%+v, %v", facts, err)
	}
	if err := s.Delete(t.Context(), "a/0"); err != nil {
		t.Fatal(err)
	}
	if err := put(t, s, fmt.Sprintf("a/%d", n-1), "small"); err != nil {
		t.Errorf("once there is room: %v", err)
	}
}

// TestPutsBesideDeletions puts and deletes objects whose directories come and go with them: a put never says that something
// is missing.
func TestPutsBesideDeletions(t *testing.T) {
	for _, how := range []naming{byLink, byRenaming} {
		dir := t.TempDir()
		var group sync.WaitGroup
		for n := range 4 {
			group.Go(func() {
				s := openIn(t, dir)
				s.naming = how
				for i := range 150 {
					key := fmt.Sprintf("a/%d/b/%d", i%3, n%3) // two of the four fight for the same keys
					if err := put(t, s, key, "x"); err != nil && !errors.Is(err, store.ErrExists) {
						t.Errorf("put: %v", err)
						return
					}
					if err := s.Delete(t.Context(), key); err != nil {
						t.Errorf("delete: %v", err)
						return
					}
				}
			})
		}
		group.Wait()
	}
}
