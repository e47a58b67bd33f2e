package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgkeep/pgkeep/state"
)

// Holder is what the holder of a lock wrote about itself.
type Holder struct {
	PID   int       `json:"pid"`
	Who   string    `json:"who"`
	What  string    `json:"what"`
	Since time.Time `json:"since"`
}

// Lock takes an exclusive lock of this machine, named by a file that stays behind when it is released. A lock that is
// held gives state.CodeLocked and a sentence that names the holder. The lock ends with the process, however it ends.
func Lock(path string, h Holder) (unlock func(), err error) {
	if err := privateDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	holder := Holder{}
	for tries := 20; ; tries-- {
		if err = takeExclusive(f); !errors.Is(err, unix.EWOULDBLOCK) {
			break
		}
		if holder = readHolder(f); holder.PID != 0 || tries == 0 {
			f.Close()
			return nil, lockedError(path, h.What, holder)
		}
		time.Sleep(time.Millisecond) // its holder is about to write who it is, or has just let go
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := errors.Join(giveToDirOwner(f), writeHolder(f, h)); err != nil {
		f.Close()
		return nil, err
	}
	return func() {
		_ = f.Truncate(0) // who comes next shall not be taken for us
		f.Close()
	}, nil
}

// takeExclusive tries a few times: someone who only looks (IsLocked) holds the lock for some microseconds.
func takeExclusive(f *os.File) error {
	for try := 0; ; try++ {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil || try == 4 || !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

// IsLocked tells whether some process holds the lock on the file at path. A file that is absent is not locked.
func IsLocked(path string) (bool, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_CLOEXEC, 0)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open lock: %w", err)
	}
	defer f.Close()
	// A shared lock, given back at once: two who look do not see each other, and a taker retries for a moment.
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("try lock %s: %w", path, err)
	}
	return false, nil
}

func readHolder(f *os.File) Holder {
	var h Holder
	content := make([]byte, 4096)
	n, _ := f.ReadAt(content, 0)
	if err := json.Unmarshal(content[:n], &h); err != nil {
		return Holder{}
	}
	return h
}

func writeHolder(f *os.File, h Holder) error {
	content, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("write lock: %w", err)
	}
	if err := f.Truncate(0); err != nil {
		return fmt.Errorf("write lock: %w", err)
	}
	if _, err := f.WriteAt(append(content, '\n'), 0); err != nil {
		return fmt.Errorf("write lock: %w", err)
	}
	return nil
}

func lockedError(path, what string, h Holder) error {
	who := "another process"
	if h.PID != 0 {
		who = fmt.Sprintf("%s (process %d) since %s", h.Who, h.PID, h.Since.UTC().Format(time.RFC3339))
	}
	return &state.Error{
		Code: state.CodeLocked,
		Text: fmt.Sprintf("%s is locked by %s, lock %s", what, who, path),
		Hint: "wait until it is done, or look at that process",
	}
}

// LockDir gives the directory of this machine's locks: the service's state directory where this user may write it, as
// the agent's unit has it, else one of the user's own. Locks keep two pgkeep from doing the same work twice; what they
// do is safe without.
func LockDir() string {
	const service = "/var/lib/pgkeep"
	if unix.Access(service, unix.W_OK) == nil {
		return filepath.Join(service, "lock")
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("pgkeep-%d", os.Geteuid()), "lock")
}

// privateDir makes the directory of locks, and refuses one of somebody else: in /tmp anyone could have put it there.
func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create the directory of locks: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("look at the directory of locks: %w", err)
	}
	if euid := uint32(os.Geteuid()); euid != 0 && st.Uid != euid {
		return &state.Error{
			Code: state.CodePermission,
			Text: fmt.Sprintf("the directory of locks %s belongs to user %d, not to %d who runs this", dir, st.Uid, euid),
			Hint: "remove it, or run pgkeep as that user",
		}
	}
	return nil
}

// giveToDirOwner lets the agent's user open the locks that root made.
func giveToDirOwner(f *os.File) error {
	if os.Geteuid() != 0 {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Dir(filepath.Dir(f.Name())), &st); err != nil {
		return fmt.Errorf("look at the directory of locks: %w", err)
	}
	if st.Uid == 0 {
		return nil
	}
	for _, path := range []string{filepath.Dir(f.Name()), f.Name()} {
		if err := os.Lchown(path, int(st.Uid), int(st.Gid)); err != nil {
			return fmt.Errorf("give lock to the service's user: %w", err)
		}
	}
	return nil
}
