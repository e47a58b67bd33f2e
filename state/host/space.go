package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Space is the room on a file system.
type Space struct {
	Free       int64 // bytes that an ordinary user may still write
	Total      int64 // bytes
	FileSystem string
	ReadOnly   bool
}

// SpaceAt gives the room on the file system that holds path, or that would hold it: a path that does not exist yet is
// asked at its nearest ancestor that does.
func SpaceAt(path string) (Space, error) {
	at := filepath.Clean(path)
	for {
		var st unix.Statfs_t
		err := unix.Statfs(at, &st)
		if err == nil {
			return spaceOf(st), nil
		}
		if !errors.Is(err, fs.ErrNotExist) || at == filepath.Dir(at) {
			return Space{}, fmt.Errorf("ask the file system of %s: %w", path, &os.PathError{Op: "statfs", Path: at, Err: err})
		}
		at = filepath.Dir(at)
	}
}

func spaceOf(st unix.Statfs_t) Space {
	return Space{
		Free:       int64(st.Bavail) * st.Bsize,
		Total:      int64(st.Blocks) * st.Bsize,
		FileSystem: fileSystemName(st.Type),
		ReadOnly:   st.Flags&unix.ST_RDONLY != 0,
	}
}

// fileSystemName names the magic numbers of statfs(2) that a backup meets; others are shown as their number.
func fileSystemName(magic int64) string {
	switch magic {
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	case unix.RAMFS_MAGIC:
		return "ramfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlay"
	case unix.NFS_SUPER_MAGIC:
		return "nfs"
	case unix.FUSE_SUPER_MAGIC:
		return "fuse"
	case unix.SMB2_SUPER_MAGIC:
		return "smb2"
	case unix.CIFS_SUPER_MAGIC:
		return "cifs"
	case unix.CEPH_SUPER_MAGIC:
		return "ceph"
	case unix.F2FS_SUPER_MAGIC:
		return "f2fs"
	case unix.MSDOS_SUPER_MAGIC:
		return "vfat"
	case unix.V9FS_MAGIC:
		return "9p"
	case 0x2fc12fc1:
		return "zfs"
	}
	return fmt.Sprintf("%#x", magic)
}
