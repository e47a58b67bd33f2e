package sftp

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"github.com/pkg/sftp"

	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/remote"
)

// errMoved means that a directory was removed under a put, by a delete that emptied it: the put begins again.
var errMoved = errors.New("the directory was removed meanwhile")

// Put is remote.Backend's.
func (b *backend) Put(ctx context.Context, up remote.Upload) error {
	return b.with(ctx, func(s *session) error {
		switch _, err := b.look(s, up.Key); {
		case err == nil:
			return errors.Join(b.settle(s, path.Dir(up.Key)), store.ErrExists)
		case !errors.Is(err, store.ErrNotExist):
			return err
		}
		temp := path.Join(tempDir, rand.Text()) // another for each try: a cut connection leaves its own
		if err := b.fill(ctx, s, temp, up.Body); err != nil {
			return b.judge(err)
		}
		defer func() { _ = s.Remove(b.file(temp)) }() // a later connection collects what stays
		return b.name(s, temp, up.Key)
	})
}

// fill writes a temporary file and makes it durable.
func (b *backend) fill(ctx context.Context, s *session, temp string, body *io.SectionReader) error {
	f, err := s.OpenFile(b.file(temp), os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if errors.Is(err, fs.ErrNotExist) {
		if err := b.prepare(s); err != nil {
			return err
		}
		f, err = s.OpenFile(b.file(temp), os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	}
	if err != nil {
		return err
	}
	written, err := f.ReadFromWithConcurrency(cancellable{ctx, body}, 8)
	if err == nil && written != body.Size() {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		err = errors.Join(f.Chmod(0o600), f.Sync())
	}
	if err == nil {
		b.watchClock(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = s.Remove(b.file(temp))
		return err
	}
	return nil
}

type cancellable struct {
	ctx context.Context
	r   io.Reader
}

// Read is io.Reader's.
func (c cancellable) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// watchClock compares clocks by the time that a file was written.
func (b *backend) watchClock(f *sftp.File) {
	info, err := f.Stat()
	if err != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.skew, b.told = time.Until(info.ModTime()), true
}

// leftover is how old a temporary file must be before it is another's no more.
const leftover = 24 * time.Hour

// prepare makes the directory of temporary files and collects what writers left there long ago.
func (b *backend) prepare(s *session) error {
	if err := b.missing(s); !errors.Is(err, store.ErrNotExist) {
		return err
	}
	dir := b.file(tempDir)
	if err := s.Mkdir(dir); err != nil {
		if info, statErr := s.Stat(dir); statErr != nil || !info.IsDir() {
			return err
		}
	}
	return s.Chmod(dir, 0o700)
}

// collect removes temporary files that are older than any writer.
func (b *backend) collect(s *session) {
	entries, err := s.ReadDir(b.file(tempDir))
	if err != nil {
		return
	}
	b.mu.Lock()
	now := time.Now().Add(b.skew)
	b.mu.Unlock()
	for _, e := range entries {
		if e.Mode().IsRegular() && now.Sub(e.ModTime()) > leftover {
			_ = s.Remove(path.Join(b.file(tempDir), e.Name()))
		}
	}
}

// name gives a temporary file its final name, which only one can have, and makes that durable.
func (b *backend) name(s *session, temp, key string) error {
	dir := path.Dir(key)
	if err := b.mkdir(s, dir); err != nil {
		return err
	}
	if err := s.Link(b.file(temp), b.file(key)); err != nil {
		return b.taken(s, key, err)
	}
	err := b.settle(s, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // somebody deleted the object at once, and its directory with it: this put comes before that
	}
	return err
}

// mkdir makes a directory that is not there.
func (b *backend) mkdir(s *session, dir string) error {
	if info, err := s.Stat(b.file(dir)); err == nil && info.IsDir() {
		return nil
	}
	b.unsettle(s, dir)
	return b.make(s, dir)
}

// make makes a directory, and those above it that are not there, but never the repository's own. Only their owner may enter
// them: what the protocol gives them is the server's umask.
func (b *backend) make(s *session, dir string) error {
	if dir == "." {
		return nil
	}
	err := s.Mkdir(b.file(dir))
	if errors.Is(err, fs.ErrNotExist) {
		if err := b.make(s, path.Dir(dir)); err != nil {
			return err
		}
		err = s.Mkdir(b.file(dir))
	}
	switch {
	case err == nil:
		if err = s.Chmod(b.file(dir), 0o700); err == nil || errors.Is(err, fs.ErrNotExist) { // gone again: a delete emptied it
			return nil
		}
		return b.judge(fmt.Errorf("close directory %s to others: %w", dir, err))
	case errors.Is(err, fs.ErrNotExist): // what is above was removed meanwhile: the link finds that out
		return nil
	}
	if info, statErr := s.Stat(b.file(dir)); statErr != nil && !errors.Is(statErr, fs.ErrNotExist) || statErr == nil && !info.IsDir() {
		return b.judge(fmt.Errorf("make directory %s: %w", dir, err))
	}
	return nil
}

// taken finds out why a link was refused: the protocol only says that it was.
func (b *backend) taken(s *session, key string, cause error) error {
	if _, err := b.look(s, key); err == nil {
		return errors.Join(b.settle(s, path.Dir(key)), store.ErrExists)
	}
	if _, err := s.Stat(b.file(path.Dir(key))); errors.Is(err, fs.ErrNotExist) {
		return errMoved
	}
	if _, err := b.look(s, key); err == nil {
		return store.ErrExists
	}
	var status *sftp.StatusError
	if errors.As(cause, &status) && status.Code == uint32(sftp.ErrSSHFxFailure) {
		return errors.Join(errMoved, cause) // another's object came and went between our questions
	}
	return b.judge(cause)
}

// settle makes the entries of a directory durable, and once for each connection those that lead to it from the root.
func (b *backend) settle(s *session, dir string) error {
	known := func(dir string) bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return s.durable[dir]
	}
	settled, err := settle(dir, known, func(dir string) error { return b.sync(s, dir) })
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, dir := range settled {
		s.durable[dir] = true
	}
	return nil
}

// settle fsyncs a directory and those above it, up to the first that is known to be durable. It gives those that are durable
// now: all or none, because another put into one of them relies on all above it.
func settle(dir string, known func(dir string) bool, sync func(dir string) error) ([]string, error) {
	var settled []string
	for {
		if err := sync(dir); err != nil {
			return nil, fmt.Errorf("make directory %s durable: %w", dir, err)
		}
		if known(dir) {
			return settled, nil
		}
		settled = append(settled, dir)
		if dir == "." {
			return settled, nil
		}
		dir = path.Dir(dir)
	}
}

// unsettle forgets that a directory and those above it are durable: it is to be made, so whoever removed it may have removed those too.
func (b *backend) unsettle(s *session, dir string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for ; dir != "."; dir = path.Dir(dir) {
		delete(s.durable, dir)
	}
}

// sync fsyncs a directory: OpenSSH opens one for reading as it opens a file.
func (b *backend) sync(s *session, dir string) error {
	f, err := s.Open(b.file(dir))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
