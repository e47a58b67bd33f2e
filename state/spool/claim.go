package spool

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

const (
	lockName   = "receiver.lock"
	statusName = "status.json"
)

// Holder is what the holder of a server's spool says of itself in the lock file.
type Holder struct {
	PID   int       `json:"pid"`
	Who   string    `json:"who"` // user@host
	Agent bool      `json:"agent,omitempty"`
	Since time.Time `json:"since"`
}

// Claim is the right to write one server's spool. It ends with Release, or with the process.
type Claim struct {
	dir    string // <directory>/<server>
	name   string
	holder Holder
	lock   *os.File
}

// LockPath gives the file whose lock a running receiver of the server holds.
func LockPath(dir, server string) string { return filepath.Join(dir, server, lockName) }

// Take claims a server's spool, creating its directory when needed. When another receiver holds it the error has
// state.CodeLocked and names the holder.
func Take(dir, server string, h Holder) (*Claim, error) {
	home := filepath.Join(dir, server)
	if err := makeDir(home); err != nil {
		return nil, problem("create spool directory "+home, err)
	}
	f, err := os.OpenFile(filepath.Join(home, lockName), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, problem("open the lock of spool "+home, err)
	}
	err = lockFile(f)
	if errors.Is(err, unix.EWOULDBLOCK) {
		h, _ := readHolder(f)
		f.Close()
		return nil, lockedError(server, home, h)
	}
	if err == nil {
		err = writeHolder(f, h)
	}
	if err != nil {
		f.Close()
		return nil, problem("lock spool "+home, err)
	}
	return &Claim{dir: home, name: server, holder: h, lock: f}, nil
}

// Release gives the spool back. The lock file stays.
func (c *Claim) Release() error {
	if err := c.lock.Close(); err != nil {
		return fmt.Errorf("release spool %s: %w", c.dir, err)
	}
	return nil
}

// lockFile tries for a moment: whoever only looks holds a shared lock for some microseconds.
func lockFile(f *os.File) error {
	for try := 0; ; try++ {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil || try == 100 || !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

func lockedError(server, home string, h Holder) error {
	text := fmt.Sprintf("the spool of %s in %s is in use", server, home)
	if h.PID != 0 {
		text = fmt.Sprintf("the spool of %s in %s is in use by process %d (%s) since %s",
			server, home, h.PID, h.Who, h.Since.UTC().Format(time.RFC3339))
	}
	return &state.Error{Code: state.CodeLocked, Text: text, Hint: "one receiver runs for a server; stop that one with: pgkeep receiver stop " + server}
}

func writeHolder(f *os.File, h Holder) error {
	content, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("write holder: %w", err)
	}
	// Over the old content first and cut after: a full disk must not keep a receiver from starting.
	content = append(content, '\n')
	if _, err := f.WriteAt(content, 0); err != nil {
		return fmt.Errorf("write holder: %w", err)
	}
	return f.Truncate(int64(len(content)))
}

func readHolder(f *os.File) (Holder, error) {
	content := make([]byte, 4096)
	n, err := f.ReadAt(content, 0)
	var h Holder
	if n == 0 {
		return h, err
	}
	if err := json.Unmarshal(content[:n], &h); err != nil {
		return Holder{}, fmt.Errorf("read holder: %w", err)
	}
	return h, nil
}

// isHeld tells whether some process holds the lock, and which.
func isHeld(path string) (bool, Holder, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, Holder{}, nil
	}
	if err != nil {
		return false, Holder{}, fmt.Errorf("open lock: %w", err)
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if err == nil {
		return false, Holder{}, nil
	}
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return false, Holder{}, fmt.Errorf("try lock: %w", err)
	}
	h, err := readHolder(f)
	if err != nil {
		return true, Holder{}, nil // held; by whom is only a courtesy
	}
	return true, h, nil
}
