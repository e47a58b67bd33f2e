package export

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/pgkeep/pgkeep/state/repository"
)

// tarFiles writes base.tar, OID.tar for each tablespace and pg_wal.tar into one directory.
type tarFiles struct {
	e    *export
	at   *place
	open map[string]*tarFile
	now  *tarFile // whose member is being written
}

// tarFile is one of them.
type tarFile struct {
	name   string
	file   *os.File
	buffer *bufio.Writer
	packed io.WriteCloser
	*tar.Writer
}

func newTar(e *export) (*tarFiles, error) {
	at, err := openPlace(e.Into, e.Owner)
	if err != nil {
		return nil, err
	}
	t := &tarFiles{e: e, at: at, open: map[string]*tarFile{}}
	for _, f := range e.Backup.Folders() { // of an empty tablespace too
		if _, err := t.of(folderTar(f.OID)); err != nil {
			t.undo(true)
			return nil, err
		}
	}
	return t, nil
}

func folderTar(oid uint32) string {
	if oid == 0 {
		return "base.tar"
	}
	return fmt.Sprintf("%d.tar", oid)
}

// of gives a tar file, and makes it the first time.
func (t *tarFiles) of(name string) (*tarFile, error) {
	if f := t.open[name]; f != nil {
		return f, nil
	}
	x := &tarFile{name: name + t.e.Compression.suffix()}
	var err error
	if x.file, err = t.at.create(x.name, 0o600, t.e.Owner); err != nil {
		return nil, err
	}
	x.buffer = bufio.NewWriterSize(x.file, 256<<10)
	if x.packed, err = t.e.Compression.writer(x.buffer); err != nil {
		return nil, errors.Join(err, x.file.Close())
	}
	x.Writer = tar.NewWriter(x.packed)
	t.open[name] = x
	return x, nil
}

func (t *tarFiles) header(in string, h *tar.Header) error {
	f, err := t.of(in)
	if err != nil {
		return err
	}
	h.Uid, h.Gid, h.Uname = t.e.Owner.UID, t.e.Owner.GID, t.e.Owner.Name
	h.ModTime = h.ModTime.Truncate(time.Second)
	t.now = f
	if err := f.WriteHeader(h); err != nil {
		return writeError(filepath.Join(t.at.path, f.name), err)
	}
	return nil
}

func (t *tarFiles) directory(f *repository.File) error {
	return t.header(folderTar(f.Folder), &tar.Header{
		Typeflag: tar.TypeDir, Name: f.Path + "/", Mode: int64(fs.FileMode(f.Mode)&0o750 | 0o700), ModTime: f.ModTime,
	})
}

func (t *tarFiles) link(uint32, *repository.File) error { return nil } // tablespace_map says it

func (t *tarFiles) begin(f *repository.File) error {
	return t.header(folderTar(f.Folder), &tar.Header{
		Typeflag: tar.TypeReg, Name: f.Path, Mode: int64(fs.FileMode(f.Mode)&0o640 | 0o600), Size: f.Size, ModTime: f.ModTime,
	})
}

func (t *tarFiles) write(p []byte) error {
	if _, err := t.now.Write(p); err != nil {
		return writeError(filepath.Join(t.at.path, t.now.name), err)
	}
	return nil
}

func (t *tarFiles) end() error {
	if err := t.now.Writer.Flush(); err != nil { // fails when bytes of the member are missing
		return writeError(filepath.Join(t.at.path, t.now.name), err)
	}
	return nil
}

func (t *tarFiles) wal(name string, size int64) (io.Writer, func() error, error) {
	err := t.header("pg_wal.tar", &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: size, ModTime: t.e.Backup.Info().Ended})
	if err != nil {
		return nil, nil, err
	}
	return t.now, t.end, nil
}

// finish ends each tar file and makes it durable, then the manifest.
func (t *tarFiles) finish(ctx context.Context, manifest io.Reader) ([]string, error) {
	written := make([]string, 0, len(t.open))
	for _, f := range t.open {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		path := filepath.Join(t.at.path, f.name)
		if err := f.finish(); err != nil {
			return nil, writeError(path, err)
		}
		written = append(written, path)
	}
	file, err := t.at.create(manifestName, 0o600, t.e.Owner)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(t.at.path, manifestName)
	_, err = io.Copy(file, manifest)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, writeError(path, err)
	}
	if err := errors.Join(t.at.sync("."), t.at.syncName()); err != nil {
		return nil, err
	}
	slices.Sort(written)
	return append(written, path), nil
}

func (f *tarFile) finish() error {
	for _, end := range []func() error{f.Close, f.packed.Close, f.buffer.Flush, f.file.Sync} {
		if err := end(); err != nil {
			return err
		}
	}
	err := f.file.Close()
	f.file = nil
	return err
}

func (t *tarFiles) undo(remove bool) {
	for _, f := range t.open {
		if f.file != nil {
			_ = f.file.Close()
		}
	}
	t.at.undo(remove)
}
