package torture_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/pgkeep/pgkeep/state/host/hosttest"
)

// lossy is a file system in memory that knows what a power cut would leave: of a file what was there at its last fsync,
// of a directory the names at its last fsync. What came later survives or not, as the dice fall: names of a directory as a
// whole, contents by the page.
type lossy struct {
	mu   sync.Mutex
	root *lossyDir
}

const lossyPage = 4096

type lossyDir struct {
	fs.Inode
	l            *lossy
	now, durable map[string]fs.InodeEmbedder
}

type lossyFile struct {
	fs.Inode
	l            *lossy
	now, durable []byte
}

func newLossy() *lossy {
	l := &lossy{}
	l.root = l.dir()
	return l
}

func (l *lossy) dir() *lossyDir {
	return &lossyDir{l: l, now: map[string]fs.InodeEmbedder{}, durable: map[string]fs.InodeEmbedder{}}
}

// mount makes the file system seen at a new directory.
func (l *lossy) mount(t *testing.T) (dir string, unmount func()) {
	t.Helper()
	dir = t.TempDir()
	server, err := fs.Mount(dir, l.root, &fs.Options{MountOptions: fuse.MountOptions{DirectMountStrict: true, Name: "lossy", FsName: "lossy"}})
	if err != nil {
		hosttest.Need(t, fmt.Errorf("no FUSE here: %w", err))
	}
	unmount = sync.OnceFunc(func() {
		if err := server.Unmount(); err != nil {
			_ = syscall.Unmount(dir, syscall.MNT_DETACH)
		}
	})
	t.Cleanup(unmount)
	return dir, unmount
}

// cutPower writes what is left to an ordinary directory.
func (l *lossy) cutPower(to string, random *rand.Rand) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.root.leave(to, random)
}

func (d *lossyDir) leave(to string, random *rand.Rand) error {
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	left := d.durable
	if random.IntN(2) == 0 {
		left = d.now
	}
	for name, node := range left {
		path := filepath.Join(to, name)
		var err error
		switch n := node.(type) {
		case *lossyDir:
			err = n.leave(path, random)
		case *lossyFile:
			err = os.WriteFile(path, n.left(random), 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// left gives the file's durable content, with some of the pages that were written later.
func (f *lossyFile) left(random *rand.Rand) []byte {
	out := append([]byte{}, f.durable...)
	if random.IntN(3) == 0 {
		return out
	}
	for at := 0; at < len(f.now); at += lossyPage {
		if random.IntN(2) == 0 {
			continue
		}
		page := f.now[at:min(at+lossyPage, len(f.now))]
		if grow := at + len(page) - len(out); grow > 0 {
			out = append(out, make([]byte, grow)...)
		}
		copy(out[at:], page)
	}
	return out
}

func (d *lossyDir) add(ctx context.Context, name string, n fs.InodeEmbedder, mode uint32) *fs.Inode {
	d.now[name] = n
	child := d.NewPersistentInode(ctx, n, fs.StableAttr{Mode: mode})
	return child
}

func (d *lossyDir) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	d.l.mu.Lock()
	defer d.l.mu.Unlock()
	out.Mode = 0o700 | syscall.S_IFDIR
	return d.add(ctx, name, d.l.dir(), syscall.S_IFDIR), 0
}

func (d *lossyDir) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	d.l.mu.Lock()
	defer d.l.mu.Unlock()
	out.Mode = 0o600 | syscall.S_IFREG
	return d.add(ctx, name, &lossyFile{l: d.l}, syscall.S_IFREG), nil, fuse.FOPEN_DIRECT_IO, 0
}

func (d *lossyDir) Link(ctx context.Context, target fs.InodeEmbedder, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	d.l.mu.Lock()
	defer d.l.mu.Unlock()
	if _, taken := d.now[name]; taken {
		return nil, syscall.EEXIST
	}
	d.now[name] = target
	out.Mode = 0o600 | syscall.S_IFREG
	return target.EmbeddedInode(), 0
}

func (d *lossyDir) Unlink(ctx context.Context, name string) syscall.Errno {
	d.l.mu.Lock()
	defer d.l.mu.Unlock()
	delete(d.now, name)
	return 0
}

func (d *lossyDir) Rmdir(ctx context.Context, name string) syscall.Errno { return d.Unlink(ctx, name) }

func (d *lossyDir) Rename(ctx context.Context, name string, newParent fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	d.l.mu.Lock()
	defer d.l.mu.Unlock()
	to, ok := newParent.(*lossyDir)
	if !ok || flags&^1 != 0 {
		return syscall.EINVAL
	}
	if _, taken := to.now[newName]; taken && flags&1 != 0 { // RENAME_NOREPLACE
		return syscall.EEXIST
	}
	to.now[newName] = d.now[name]
	delete(d.now, name)
	return 0
}

// Fsync makes the directory's names durable.
func (d *lossyDir) Fsync(ctx context.Context, f fs.FileHandle, flags uint32) syscall.Errno {
	d.l.mu.Lock()
	defer d.l.mu.Unlock()
	d.durable = maps.Clone(d.now)
	return 0
}

func (d *lossyDir) Getattr(ctx context.Context, f fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode = 0o700 | syscall.S_IFDIR
	return 0
}

func (d *lossyDir) Statfs(ctx context.Context, out *fuse.StatfsOut) syscall.Errno {
	out.Bsize, out.Blocks, out.Bfree, out.Bavail = lossyPage, 1<<20, 1<<20, 1<<20
	return 0
}

func (f *lossyFile) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if flags&syscall.O_TRUNC != 0 {
		f.l.mu.Lock()
		defer f.l.mu.Unlock()
		f.now = nil
	}
	return nil, fuse.FOPEN_DIRECT_IO, 0
}

func (f *lossyFile) Read(ctx context.Context, h fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	f.l.mu.Lock()
	defer f.l.mu.Unlock()
	if off >= int64(len(f.now)) {
		return fuse.ReadResultData(nil), 0
	}
	return fuse.ReadResultData(append([]byte{}, f.now[off:min(int64(len(f.now)), off+int64(len(dest)))]...)), 0
}

func (f *lossyFile) Write(ctx context.Context, h fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	f.l.mu.Lock()
	defer f.l.mu.Unlock()
	if grow := off + int64(len(data)) - int64(len(f.now)); grow > 0 {
		f.now = append(f.now, make([]byte, grow)...)
	}
	copy(f.now[off:], data)
	return uint32(len(data)), 0
}

// Fsync makes the file's content durable; its name is another matter.
func (f *lossyFile) Fsync(ctx context.Context, h fs.FileHandle, flags uint32) syscall.Errno {
	f.l.mu.Lock()
	defer f.l.mu.Unlock()
	f.durable = append(f.durable[:0:0], f.now...)
	return 0
}

func (f *lossyFile) Getattr(ctx context.Context, h fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	f.l.mu.Lock()
	defer f.l.mu.Unlock()
	out.Mode, out.Size, out.Nlink = 0o600|syscall.S_IFREG, uint64(len(f.now)), 1
	return 0
}

func (f *lossyFile) Setattr(ctx context.Context, h fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if size, ok := in.GetSize(); ok {
		f.l.mu.Lock()
		if n := int64(size); n <= int64(len(f.now)) {
			f.now = f.now[:n:n]
		} else {
			f.now = append(f.now, make([]byte, n-int64(len(f.now)))...)
		}
		f.l.mu.Unlock()
	}
	return f.Getattr(ctx, h, out)
}
