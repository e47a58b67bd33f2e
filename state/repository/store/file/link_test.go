package file

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// TestNoLinkIsFollowedInside: a directory of the store that is a link to another one of it is hidden from List, so nothing
// may come from behind it or go there.
func TestNoLinkIsFollowedInside(t *testing.T) {
	dir := t.TempDir()
	s := openIn(t, dir)
	if err := put(t, s, "real/sub/a", "x"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if _, err := s.Stat(ctx, "link/sub/a"); err == nil {
		t.Error("Stat followed a link")
	}
	if r, err := s.Get(ctx, "link/sub/a", 0, -1); err == nil {
		r.Close()
		t.Error("Get followed a link")
	}
	if err := put(t, s, "link/sub/b", "x"); err == nil {
		t.Error("a put followed a link")
	}
	if err := s.Delete(ctx, "link/sub/a"); err == nil {
		t.Error("Delete followed a link")
	}
	var failed error
	for _, err := range s.List(ctx, "link/sub/", "", false) {
		failed = err
	}
	if failed == nil {
		t.Error("List followed a link in its prefix")
	}
	if _, err := s.Stat(ctx, "real/sub/a"); err != nil {
		t.Error(err)
	}
	if err := os.Rename(filepath.Join(dir, tempDir), filepath.Join(dir, "elsewhere")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("elsewhere", filepath.Join(dir, tempDir)); err != nil {
		t.Fatal(err)
	}
	if err := openIn(t, dir).PutIfAbsent(ctx, "c", nil, 0, store.PutOptions{}); err == nil {
		t.Error("temporary files go behind a link")
	}
}
