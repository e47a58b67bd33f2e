package spool

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/pgkeep/pgkeep/state"
)

// Limit bounds a server's spool. The zero value is the default: a tenth of the file system stays free.
type Limit struct {
	Bytes   int64 // of this server's WAL that is not yet in every repository; 0: no such bound
	Percent int   // of the file system that may be in use, by whomever; 0: 90, unless Bytes is set
}

// Room is how much a spool may still grow.
type Room struct {
	FileSystem string // "ext4", "tmpfs" …, or its magic number
	Free       int64  // bytes of the file system that may be written by us
	Total      int64  // bytes of the file system
	Used       int64  // bytes of this server's WAL that is not yet in every repository
	Left       int64  // bytes until the limit; at most 0: it is hit
	Low        bool   // worth a warning: under a fifth of the file system is free, or of a limit in bytes a tenth is left
}

// The magic numbers of statfs(2) for file systems that a power cut empties.
const (
	magicTmpfs = 0x01021994
	magicRamfs = 0x858458f6
)

func fileSystemName(magic int64) string {
	names := map[int64]string{
		magicTmpfs: "tmpfs", magicRamfs: "ramfs", 0xef53: "ext4", 0x58465342: "xfs", 0x9123683e: "btrfs",
		0x6969: "nfs", 0x2fc12fc1: "zfs", 0x794c7630: "overlayfs", 0x65735546: "fuse",
	}
	if n, ok := names[magic&0xffffffff]; ok {
		return n
	}
	return fmt.Sprintf("0x%x", magic&0xffffffff)
}

// measure asks the file system of dir, and applies the limit to used bytes.
func measure(dir string, used int64, l Limit) (Room, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return Room{}, fmt.Errorf("ask the file system of %s: %w", dir, err)
	}
	r := Room{
		FileSystem: fileSystemName(int64(s.Type)), Used: used,
		Free: int64(s.Bavail) * s.Bsize, Total: int64(s.Blocks) * s.Bsize, //nolint:unconvert // types differ by platform
	}
	percent := l.Percent
	if percent == 0 && l.Bytes == 0 {
		percent = 90
	}
	r.Left = r.Free
	if percent > 0 {
		r.Left = r.Free - r.Total/100*int64(100-percent)
	}
	r.Low = percent > 0 && r.Free < r.Total/5
	if l.Bytes > 0 {
		r.Left = min(r.Left, l.Bytes-used)
		r.Low = r.Low || l.Bytes-used < l.Bytes/10
	}
	return r, nil
}

// fullError says that the limit is hit.
func (r Room) fullError(dir string) error {
	return &state.Error{
		Code: state.CodeDiskFull,
		Text: fmt.Sprintf("the spool %s is at its limit: %d bytes used, %d of %d bytes of its %s file system free", dir, r.Used, r.Free, r.Total, r.FileSystem),
		Hint: "see why the repositories do not take the WAL (pgkeep status), free space, or raise spool_limit; the slot keeps the WAL until then",
	}
}
