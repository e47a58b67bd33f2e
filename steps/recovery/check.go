package recovery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/repository"
)

// Difference is one way in which a directory is not what a manifest says.
type Difference struct {
	Path string `json:"path"` // as in the manifest
	Why  string `json:"why"`
}

// Check compares a data directory, in which no server was started since it was restored, with PostgreSQL's own manifest
// of its backup: every file is there with its size and CRC-32C, and no other file is. Like pg_verifybackup it passes over
// what a restore changes (postgresql.auto.conf, recovery.signal, pg_wal); it adds backup_label, postgresql.conf and
// pg_hba.conf only when they are missing. Of a file that came in part (INCREMENTAL.<file>) the manifest knows neither size nor
// content: it must be there in whole pages. same lists paths whose content cannot be compared with this manifest; nil: none.
func Check(ctx context.Context, dir string, manifest io.Reader, same func(path string) bool) ([]Difference, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("check %s: %w", dir, err)
	}
	c := &checker{dir: dir, root: root, seen: &kept{}, spaces: map[string]*os.Root{}, skip: same}
	defer c.close()
	_, err = postgres.WalkManifest(manifest, func(f postgres.ManifestFile) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return c.file(f)
	})
	if err != nil {
		return c.found, fmt.Errorf("check %s: %w", dir, err)
	}
	if err := c.others(ctx); err != nil {
		return c.found, fmt.Errorf("check %s: %w", dir, err)
	}
	return c.found, nil
}

type checker struct {
	dir    string
	root   *os.Root
	spaces map[string]*os.Root // tablespaces by number
	seen   *kept
	skip   func(string) bool
	found  []Difference
}

func (c *checker) close() {
	_ = c.root.Close()
	for _, s := range c.spaces {
		_ = s.Close()
	}
}

func (c *checker) differ(path, text string, args ...any) {
	c.found = append(c.found, Difference{Path: path, Why: fmt.Sprintf(text, args...)})
}

// changed tells whether a restore may have written the file anew.
func changed(path string) bool {
	switch path {
	case autoConf, "recovery.signal", "standby.signal", "backup_manifest", mainConf, "pg_hba.conf", "pg_ident.conf", "backup_label", "tablespace_map":
		return true
	}
	return strings.HasPrefix(path, "pg_wal/")
}

func nameKey(path string) key { return keyOf(&repository.File{Path: path}) }

func (c *checker) file(f postgres.ManifestFile) error {
	path, part := postgres.IncrementalName(f.Path)
	if part {
		f.Path = path
	}
	c.seen.add(nameKey(f.Path))
	if changed(f.Path) {
		return nil
	}
	root, name, err := c.place(f.Path)
	if err != nil {
		c.differ(f.Path, "%s", err)
		return nil
	}
	info, err := root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.differ(f.Path, "it is missing")
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		c.differ(f.Path, "it is not a regular file")
		return nil
	}
	if part && info.Size()%postgres.PageBytes != 0 {
		c.differ(f.Path, "it came in part, and is of %d bytes", info.Size())
	}
	if part || c.skip != nil && c.skip(f.Path) {
		return nil
	}
	if info.Size() != f.Size {
		c.differ(f.Path, "it has %d bytes, the manifest says %d", info.Size(), f.Size)
		return nil
	}
	if f.Algorithm != "CRC32C" {
		return nil
	}
	sum, _, err := checksum(root, name)
	if err != nil {
		return err
	}
	if got := postgres.ManifestCRC32C(sum); got != f.Checksum {
		c.differ(f.Path, "its checksum is %s, the manifest says %s", got, f.Checksum)
	}
	return nil
}

// place finds the directory that a manifest's path lies in: the data directory, or behind a link of pg_tblspc.
func (c *checker) place(path string) (*os.Root, string, error) {
	rest, ok := strings.CutPrefix(path, "pg_tblspc/")
	if !ok {
		return c.root, path, nil
	}
	number, name, ok := strings.Cut(rest, "/")
	if !ok {
		return c.root, path, nil
	}
	root, err := c.space(number)
	return root, name, err
}

func (c *checker) space(number string) (*os.Root, error) {
	if s := c.spaces[number]; s != nil {
		return s, nil
	}
	link := filepath.Join("pg_tblspc", number)
	target, err := c.root.Readlink(link)
	if err != nil {
		return nil, fmt.Errorf("tablespace %s has no link", number)
	}
	s, err := os.OpenRoot(target)
	if err != nil {
		return nil, fmt.Errorf("tablespace %s: %w", number, err)
	}
	c.spaces[number] = s
	return s, nil
}

// others looks for files that the manifest does not have.
func (c *checker) others(ctx context.Context) error {
	if err := c.walk(ctx, c.root, ""); err != nil {
		return err
	}
	links, err := fs.ReadDir(c.root.FS(), "pg_tblspc")
	if err != nil {
		return err
	}
	for _, l := range links {
		s, err := c.space(l.Name())
		if err != nil {
			c.differ("pg_tblspc/"+l.Name(), "%s", err)
			continue
		}
		if err := c.walk(ctx, s, "pg_tblspc/"+l.Name()+"/"); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) walk(ctx context.Context, root *os.Root, prefix string) error {
	return fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		path := prefix + name
		if d.Type().IsRegular() && !changed(path) && !c.seen.has(nameKey(path)) {
			c.differ(path, "the manifest does not have it")
		}
		return ctx.Err()
	})
}
