package sftp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/pkg/sftp"

	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/location"
	"github.com/pgkeep/pgkeep/state/repository/store/remote"
)

// tempDir holds what is not whole yet; no key begins with a dot.
const tempDir = ".pgkeep-tmp"

type backend struct {
	at     location.Location
	dialer *remote.Dialer
	fstab  string // the server's

	mu   sync.Mutex
	now  *session // nil: not connected
	skew time.Duration
	told bool // the skew is known
}

var _ remote.Backend = (*backend)(nil)

// Open gives the store at a location of scheme SFTP. No connection is made yet.
func Open(at location.Location, p remote.Patience) *remote.Store {
	return remote.New(&backend{at: at, dialer: remote.NewDialer(remote.Wire{Timeout: at.Timeout, MaxRate: at.MaxRate, Place: at.Text, Limits: p.Limits}), fstab: fstabFile}, p)
}

// Place is remote.Backend's.
func (b *backend) Place() string { return "sftp://" + b.at.Host + b.at.Path }

// Close is remote.Backend's.
func (b *backend) Close() error {
	b.mu.Lock()
	s := b.now
	b.mu.Unlock()
	if s != nil {
		b.lost(s)
	}
	return nil
}

// Skew gives how far the server's clock was ahead of this machine's when a file was made; false: none was.
func (b *backend) Skew() (time.Duration, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.skew, b.told
}

// file gives where a key's file is.
func (b *backend) file(key string) string { return path.Join(b.at.Path, key) }

// with runs something on the connection, which is given up when it turns out to be broken.
func (b *backend) with(ctx context.Context, do func(s *session) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s, err := b.connected(ctx)
	if err != nil {
		return err
	}
	if err = do(s); cut(err) {
		b.lost(s)
	}
	return err
}

// cut tells whether a connection is of no more use.
func cut(err error) bool {
	return errors.Is(err, sftp.ErrSSHFxConnectionLost) || errors.Is(err, sftp.ErrSSHFxNoConnection) || errors.Is(err, io.EOF)
}

// Transient is remote.Backend's.
func (b *backend) Transient(err error) bool {
	return cut(err) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errMoved)
}

// look gives the facts of an object's file. What is no regular file is no object.
func (b *backend) look(s *session, key string) (os.FileInfo, error) {
	info, err := s.Lstat(b.file(key))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := b.missing(s); strings.Contains(key, "/") || !errors.Is(err, store.ErrNotExist) {
			return nil, err
		}
		if err := b.mounted(s); err != nil { // REPOSITORY.json is asked for before anything else
			return nil, err
		}
		return nil, store.ErrNotExist
	case err != nil:
		return nil, b.judge(err)
	case info.IsDir():
		return nil, store.ErrNotExist
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("it is no regular file (%s)", info.Mode().Type())
	}
	return info, nil
}

// missing tells the absence of an object from the absence of the whole place.
func (b *backend) missing(s *session) error {
	info, err := s.Stat(b.at.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && !info.IsDir():
		return b.trouble(store.Missing, "there is no such directory", "make it there, or mount its file system", nil)
	case err != nil:
		return b.judge(err)
	}
	return store.ErrNotExist
}

func (b *backend) judge(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return b.trouble(store.Denied, "the user there may not read or write the repository", "look at owner and permissions of "+b.at.Path, err)
	}
	return err
}

// Stat is remote.Backend's.
func (b *backend) Stat(ctx context.Context, key string) (o remote.Object, err error) {
	err = b.with(ctx, func(s *session) error {
		info, err := b.look(s, key)
		if err != nil {
			return err
		}
		o.Size, o.Modified = info.Size(), info.ModTime().UTC()
		return nil
	})
	return o, err
}

// readAhead is what is asked for at once: several requests of 32 KiB travel together.
const readAhead = 512 << 10

// Get is remote.Backend's.
func (b *backend) Get(ctx context.Context, key string, off, n int64) (r io.ReadCloser, err error) {
	err = b.with(ctx, func(s *session) error {
		info, err := b.look(s, key)
		if err != nil {
			return err
		}
		f, err := s.Open(b.file(key))
		if errors.Is(err, fs.ErrNotExist) {
			return b.missing(s)
		}
		if err != nil {
			return b.judge(err)
		}
		left := max(0, info.Size()-off)
		if n >= 0 {
			left = min(left, n)
		}
		part := io.NewSectionReader(f, off, left)
		r = &reader{ctx: ctx, r: bufio.NewReaderSize(part, int(min(max(left, 16), readAhead))), left: left, f: f}
		return nil
	})
	return r, err
}

// reader reads a part of a file, and tells a file that ends early from one that was read.
type reader struct {
	ctx  context.Context
	r    io.Reader
	left int64
	f    *sftp.File
}

// Read is io.Reader's.
func (g *reader) Read(p []byte) (int, error) {
	if err := g.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := g.r.Read(p)
	g.left -= int64(n)
	if errors.Is(err, io.EOF) && g.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Close is io.Closer's.
func (g *reader) Close() error { return g.f.Close() }
