package file

import (
	"fmt"
	"maps"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// identity tells a directory from one that was removed and made again under the same name.
type identity struct {
	device, inode uint64
	seconds       int64
	nanoseconds   uint32
}

// settle makes the entries of dir durable, and the entries that lead to it from the root. What another process made may
// not be durable yet, so each parent is fsynced by this process too, once; again when dir is not the directory that it was.
func (s *Store) settle(root *os.Root, dir string) error {
	return s.settleAll(dir, func(dir string) (identity, bool, error) { return syncDir(root, dir) })
}

// settleAll fsyncs a directory and those above it, up to the first that is durable already. None counts as durable before all
// are: another put into one of them relies on what lies above.
func (s *Store) settleAll(dir string, sync func(dir string) (identity, bool, error)) error {
	fresh := map[string]identity{}
	id, known, err := sync(dir)
	for err == nil && dir != "." && !s.settled(dir, id, known) {
		fresh[dir] = id
		dir = path.Dir(dir)
		id, known, err = sync(dir)
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.Copy(s.durable, fresh)
	return nil
}

// settled tells whether this process made the directory's own entry durable, and with it those above.
func (s *Store) settled(dir string, id identity, known bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was, ok := s.durable[dir]
	return ok && known && was == id
}

func syncDir(root *os.Root, dir string) (id identity, known bool, err error) {
	d, err := root.Open(dir)
	if err != nil {
		return identity{}, false, fmt.Errorf("make directory durable: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return identity{}, false, fmt.Errorf("make directory durable: %w", err)
	}
	id, known = identify(d)
	return id, known, nil
}

// identify gives a directory's identity; false when the file system does not tell when it was made.
func identify(d *os.File) (identity, bool) {
	var st unix.Statx_t
	err := unix.Statx(int(d.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_BTIME, &st)
	if err != nil || st.Mask&unix.STATX_BTIME == 0 || st.Mask&unix.STATX_INO == 0 {
		return identity{}, false
	}
	return identity{
		device: uint64(st.Dev_major)<<32 | uint64(st.Dev_minor), inode: st.Ino,
		seconds: st.Btime.Sec, nanoseconds: st.Btime.Nsec,
	}, true
}
