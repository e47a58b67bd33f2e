package export

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/pgkeep/pgkeep/state/repository"
)

const manifestName = "backup_manifest"

// plain writes a data directory, and a directory for each tablespace.
type plain struct {
	e      *export
	places map[uint32]*place
	file   *os.File
	name   string
	buffer *bufio.Writer
}

func newPlain(e *export) (*plain, error) {
	p := &plain{e: e, places: map[uint32]*place{}, buffer: bufio.NewWriterSize(nil, 256<<10)}
	if err := p.checkPaths(); err != nil {
		return nil, err
	}
	for _, f := range e.Backup.Folders() {
		at, err := openPlace(p.pathOf(f.OID), e.Owner)
		if err != nil {
			p.undo(true)
			return nil, err
		}
		p.places[f.OID] = at
	}
	return p, nil
}

func (p *plain) pathOf(oid uint32) string {
	if oid == 0 {
		return p.e.Into
	}
	return p.e.Tablespaces[oid]
}

// checkPaths refuses tablespaces without a place, and places that lie in one another.
func (p *plain) checkPaths() error {
	var paths, unmapped []string
	for _, f := range p.e.Backup.Folders() {
		at := p.pathOf(f.OID)
		if at == "" {
			unmapped = append(unmapped, fmt.Sprintf("%d (on the server in %s)", f.OID, f.Location))
			continue
		}
		for _, other := range paths {
			if strings.HasPrefix(at+"/", other+"/") || strings.HasPrefix(other+"/", at+"/") {
				return refuse("give each tablespace a directory of its own, outside the data directory", "%s and %s lie in one another", other, at)
			}
		}
		paths = append(paths, at)
	}
	if len(unmapped) > 0 {
		return refuse("--tablespace NAME=DIRECTORY for each, or --format tar", "the backup has tablespaces that have no directory here: %s", strings.Join(unmapped, ", "))
	}
	return nil
}

func (p *plain) directory(f *repository.File) error {
	at, err := p.placeOf(f)
	if err != nil {
		return err
	}
	if err := at.Mkdir(f.Path, 0o700); err != nil {
		return writeError(filepath.Join(at.path, f.Path), err)
	}
	if err := at.Chmod(f.Path, fs.FileMode(f.Mode)&0o750|0o700); err != nil {
		return writeError(filepath.Join(at.path, f.Path), err)
	}
	return at.give(f.Path, p.e.Owner)
}

func (p *plain) placeOf(f *repository.File) (*place, error) {
	if at := p.places[f.Folder]; at != nil {
		return at, nil
	}
	return nil, fmt.Errorf("%q is in folder %d, which the backup does not have", f.Path, f.Folder)
}

func (p *plain) link(oid uint32, f *repository.File) error {
	root := p.places[0]
	if err := root.Symlink(p.pathOf(oid), f.Path); err != nil {
		return writeError(filepath.Join(root.path, f.Path), err)
	}
	return root.give(f.Path, p.e.Owner)
}

func (p *plain) begin(f *repository.File) error {
	at, err := p.placeOf(f)
	if err != nil {
		return err
	}
	return p.open(at, f.Path, fs.FileMode(f.Mode)&0o640|0o600)
}

func (p *plain) open(at *place, name string, mode fs.FileMode) (err error) {
	if p.file, err = at.create(name, mode, p.e.Owner); err != nil {
		return err
	}
	p.name = filepath.Join(at.path, name)
	p.buffer.Reset(p.file)
	return nil
}

func (p *plain) write(b []byte) error {
	if _, err := p.buffer.Write(b); err != nil {
		return writeError(p.name, err)
	}
	return nil
}

func (p *plain) end() error {
	err := errors.Join(p.buffer.Flush(), p.file.Close())
	p.file = nil
	if err != nil {
		return writeError(p.name, err)
	}
	return nil
}

func (p *plain) wal(name string, _ int64) (io.Writer, func() error, error) {
	if err := p.open(p.places[0], path.Join("pg_wal", name), 0o600); err != nil {
		return nil, nil, err
	}
	return p.buffer, p.end, nil
}

// finish makes every file and directory durable, then the manifest, then the names of the directories themselves.
func (p *plain) finish(ctx context.Context, manifest io.Reader) ([]string, error) {
	oids := make([]uint32, 0, len(p.places))
	for oid := range p.places {
		oids = append(oids, oid)
	}
	slices.Sort(oids)
	var written []string
	for _, oid := range oids {
		if err := p.places[oid].syncAll(ctx); err != nil {
			return nil, err
		}
		written = append(written, p.places[oid].path)
	}
	root := p.places[0]
	if err := p.open(root, manifestName, 0o600); err != nil {
		return nil, err
	}
	_, err := io.Copy(p.buffer, manifest)
	if err = errors.Join(err, p.end()); err != nil {
		return nil, err
	}
	for _, name := range []string{manifestName, "."} {
		if err := root.sync(name); err != nil {
			return nil, err
		}
	}
	for _, oid := range oids {
		if err := p.places[oid].syncName(); err != nil {
			return nil, err
		}
	}
	return written, nil
}

// syncAll makes durable all that lies in a place.
func (p *place) syncAll(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2 * runtime.GOMAXPROCS(0))
	err := fs.WalkDir(p.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || d.Type()&fs.ModeSymlink != 0 {
			return err
		}
		group.Go(func() error { return p.sync(name) })
		return nil
	})
	return errors.Join(err, group.Wait())
}

func (p *plain) undo(remove bool) {
	if p.file != nil {
		_ = p.file.Close()
	}
	for _, at := range p.places {
		at.undo(remove)
	}
}
