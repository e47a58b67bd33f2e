package file

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// disk is a file system that keeps apart what was written and what was fsynced. After a power cut only the latter is sure;
// of the rest any part may be there: names without their files' bytes, bytes without their names.
type disk struct {
	mu    sync.Mutex
	root  *inode
	last  uint64 // inode number
	left  int    // changes until the power goes; below zero: it is gone
	born  bool   // statx tells when an inode was made, as ext4 and xfs do
	steps int    // changes so far
}

// inode is a file or directory, as it is and as it was when it was last fsynced.
type inode struct {
	number  uint64
	dir     bool
	links   uint32
	data    []byte
	entries map[string]*inode

	synced        bool // a file that was fsynced at least once
	syncedData    []byte
	syncedEntries map[string]*inode
}

func newDisk(cutAfter int, born bool) *disk {
	d := &disk{left: cutAfter, born: born}
	d.root = d.make(true)
	return d
}

func (d *disk) make(dir bool) *inode {
	d.last++
	i := &inode{number: d.last, dir: dir, links: 1}
	if dir {
		i.entries, i.syncedEntries = map[string]*inode{}, map[string]*inode{}
	}
	return i
}

// step counts a change; EIO once the power is gone.
func (d *disk) step() syscall.Errno {
	if d.left--; d.left < 0 {
		return syscall.EIO
	}
	d.steps++
	return 0
}

// afterCut gives the disk as it may come back.
func (d *disk) afterCut(r *rand.Rand) *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := &disk{left: 1 << 30, born: d.born, last: d.last}
	out.root = d.root.afterCut(r, map[*inode]*inode{})
	return out
}

func (i *inode) afterCut(r *rand.Rand, done map[*inode]*inode) *inode {
	if o, ok := done[i]; ok {
		return o
	}
	o := &inode{number: i.number, dir: i.dir, links: i.links, synced: true}
	done[i] = o
	if !i.dir {
		o.data = i.dataAfterCut(r)
		o.syncedData = o.data
		return o
	}
	o.entries = map[string]*inode{}
	names := slices.Sorted(maps.Keys(i.entries))
	for name := range i.syncedEntries {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		survivor := i.syncedEntries[name]
		if i.entries[name] != survivor && r.IntN(2) == 0 {
			survivor = i.entries[name]
		}
		if survivor != nil {
			o.entries[name] = survivor.afterCut(r, done)
		}
	}
	o.syncedEntries = maps.Clone(o.entries)
	return o
}

// dataAfterCut tears what was not fsynced: nothing, a part, zeros, or all of it.
func (i *inode) dataAfterCut(r *rand.Rand) []byte {
	if i.synced && slices.Equal(i.data, i.syncedData) {
		return slices.Clone(i.data)
	}
	switch r.IntN(4) {
	case 0:
		return slices.Clone(i.syncedData)
	case 1:
		return slices.Clone(i.data[:r.IntN(len(i.data)+1)])
	case 2:
		return make([]byte, len(i.data))
	}
	return slices.Clone(i.data)
}

// node shows an inode to the kernel.
type node struct {
	fs.Inode
	d *disk
	i *inode
}

func (n *node) mode() uint32 {
	if n.i.dir {
		return syscall.S_IFDIR | 0o700
	}
	return syscall.S_IFREG | 0o600
}

func (n *node) attr(out *fuse.Attr) {
	out.Ino, out.Size, out.Mode, out.Nlink = n.i.number, uint64(len(n.i.data)), n.mode(), n.i.links
}

func (n *node) child(ctx context.Context, i *inode, out *fuse.EntryOut) *fs.Inode {
	c := &node{d: n.d, i: i}
	c.attr(&out.Attr)
	return n.NewInode(ctx, c, fs.StableAttr{Mode: c.mode(), Ino: i.number})
}

func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	i, ok := n.i.entries[name]
	if !ok {
		return nil, syscall.ENOENT
	}
	return n.child(ctx, i, out), 0
}

func (n *node) add(name string, dir bool) (*inode, syscall.Errno) {
	if _, taken := n.i.entries[name]; taken {
		return nil, syscall.EEXIST
	}
	if errno := n.d.step(); errno != 0 {
		return nil, errno
	}
	i := n.d.make(dir)
	n.i.entries[name] = i
	return i, 0
}

func (n *node) Create(ctx context.Context, name string, _ uint32, _ uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	i, errno := n.add(name, false)
	if errno != 0 {
		return nil, nil, 0, errno
	}
	return n.child(ctx, i, out), nil, fuse.FOPEN_DIRECT_IO, 0
}

func (n *node) Mkdir(ctx context.Context, name string, _ uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	i, errno := n.add(name, true)
	if errno != 0 {
		return nil, errno
	}
	return n.child(ctx, i, out), 0
}

func (n *node) Link(ctx context.Context, target fs.InodeEmbedder, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	if _, taken := n.i.entries[name]; taken {
		return nil, syscall.EEXIST
	}
	if errno := n.d.step(); errno != 0 {
		return nil, errno
	}
	i := target.(*node).i
	i.links++
	n.i.entries[name] = i
	return n.child(ctx, i, out), 0
}

func (n *node) Unlink(_ context.Context, name string) syscall.Errno {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	i, ok := n.i.entries[name]
	if !ok {
		return syscall.ENOENT
	}
	if errno := n.d.step(); errno != 0 {
		return errno
	}
	i.links--
	delete(n.i.entries, name)
	return 0
}

func (n *node) Rmdir(_ context.Context, name string) syscall.Errno {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	i, ok := n.i.entries[name]
	if !ok {
		return syscall.ENOENT
	}
	if len(i.entries) > 0 {
		return syscall.ENOTEMPTY
	}
	if errno := n.d.step(); errno != 0 {
		return errno
	}
	i.links--
	delete(n.i.entries, name)
	return 0
}

func (n *node) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	var out []fuse.DirEntry
	for name, i := range n.i.entries {
		out = append(out, fuse.DirEntry{Name: name, Ino: i.number, Mode: (&node{i: i}).mode()})
	}
	return fs.NewListDirStream(out), 0
}

func (n *node) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, 0
}

func (n *node) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	if off >= int64(len(n.i.data)) {
		return fuse.ReadResultData(nil), 0
	}
	return fuse.ReadResultData(dest[:copy(dest, n.i.data[off:])]), 0
}

func (n *node) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	if errno := n.d.step(); errno != 0 {
		return 0, errno
	}
	if end := int(off) + len(data); end > len(n.i.data) {
		n.i.data = append(n.i.data, make([]byte, end-len(n.i.data))...)
	}
	copy(n.i.data[off:], data)
	return uint32(len(data)), 0
}

// Fsync is asked for files and for directories.
func (n *node) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	if errno := n.d.step(); errno != 0 {
		return errno
	}
	n.i.synced, n.i.syncedData, n.i.syncedEntries = true, slices.Clone(n.i.data), maps.Clone(n.i.entries)
	return 0
}

func (n *node) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	n.attr(&out.Attr)
	return 0
}

// Statx tells when an inode was made: its number stands for the time.
func (n *node) Statx(_ context.Context, _ fs.FileHandle, _ uint32, _ uint32, out *fuse.StatxOut) syscall.Errno {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	out.Mask = 0x7ff
	out.Ino, out.Size, out.Mode, out.Nlink = n.i.number, uint64(len(n.i.data)), uint16(n.mode()), n.i.links
	if n.d.born {
		out.Mask |= 0x800 // STATX_BTIME
		out.Btime.Sec = n.i.number
	}
	return 0
}
