package recovery

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
)

// A drill works in a directory of its own below the scratch directory, d-<eight digits>. Before that is made its marker,
// d-<eight digits>.json, stands beside it; after it was removed the marker goes. Whoever holds the lock of the scratch directory
// knows so of each marker that its drill is dead, and of each directory without a marker that it is somebody else's.

const (
	scratchKind = "pgkeep drill"
	killWait    = 2 * time.Minute // how long a server is waited for that was told to end at once
)

var scratchName = regexp.MustCompile(`^d-[0-9a-f]{8}$`)

// scratchMarker is a marker.
type scratchMarker struct {
	Version int          `json:"version"`
	Kind    string       `json:"kind"`
	ID      string       `json:"id"`
	Drill   string       `json:"drill"`
	Server  string       `json:"server"`
	PID     int          `json:"pid"`
	Began   time.Time    `json:"began"`
	Result  *state.Drill `json:"result,omitempty"` // what the drill came to; nil: it was cut short
}

// Leftover is what a drill left that was killed.
type Leftover struct {
	ID     string       // of its directory and marker
	Result *state.Drill // what it came to and perhaps did not put into the repository; nil: it did not come so far
}

// Scratch is a scratch directory that this process holds the lock of.
type Scratch struct {
	dir    string
	owner  host.Owner
	root   *os.Root
	unlock func()
}

// OpenScratch takes the lock of a scratch directory, which is made when it is absent. state.CodeLocked names the drill that
// works there. ownerName is who will run the copies; empty: this user.
func OpenScratch(dir, ownerName, what string, now time.Time) (*Scratch, error) {
	owner, err := host.LookupOwner(ownerName)
	if err != nil {
		return nil, refuse("create the user, or name another with owner", "the owner of the drill's copy: %s", err)
	}
	if err := makeScratch(dir, owner); err != nil {
		return nil, err
	}
	unlock, err := host.Lock(filepath.Join(dir, lockName), host.Holder{PID: os.Getpid(), Who: host.Who(), What: what, Since: now})
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		unlock()
		return nil, fmt.Errorf("open the scratch directory: %w", err)
	}
	return &Scratch{dir: dir, owner: owner, root: root, unlock: unlock}, nil
}

func makeScratch(dir string, owner host.Owner) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil { // #nosec: above what is ours, as mkdir -p would
		return fmt.Errorf("make the scratch directory: %w", err)
	}
	if err := os.Mkdir(dir, 0o711); err != nil && !errors.Is(err, fs.ErrExist) { // #nosec: the owner of a copy goes through; each copy is 0700
		return fmt.Errorf("make the scratch directory: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("look at the scratch directory: %w", err)
	}
	if !info.IsDir() {
		return refuse("name the directory itself", "the scratch directory %s is a link or no directory", dir)
	}
	if os.Geteuid() != 0 || owner.UID == 0 {
		return nil
	}
	cmd := exec.Command("test", "-x", dir)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(owner.UID), Gid: uint32(owner.GID)}} // #nosec: ids of the system
	if err := cmd.Run(); err != nil {
		return refuse("chmod a+x it and the directories above it, or name another scratch directory", "user %s may not pass through the scratch directory %s", owner.Name, dir)
	}
	return nil
}

// Close lets go of the directory.
func (s *Scratch) Close() {
	_ = s.root.Close()
	s.unlock()
}

// Left lists what drills left that were killed.
func (s *Scratch) Left() ([]Leftover, error) {
	entries, err := fs.ReadDir(s.root.FS(), ".")
	if err != nil {
		return nil, fmt.Errorf("look into the scratch directory: %w", err)
	}
	var out []Leftover
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || !scratchName.MatchString(id) || !e.Type().IsRegular() {
			continue
		}
		b, err := s.root.ReadFile(e.Name())
		if err != nil {
			return nil, fmt.Errorf("read the marker of a drill: %w", err)
		}
		var m scratchMarker
		if json.Unmarshal(b, &m) == nil && m.Version == 1 && m.Kind == scratchKind && m.ID == id {
			out = append(out, Leftover{ID: id, Result: m.Result})
		}
	}
	return out, nil
}

// begin makes a marker, then a directory of the owner.
func (s *Scratch) begin(m scratchMarker) (scratchMarker, error) {
	var number [4]byte
	rand.Read(number[:]) // never fails
	m.Version, m.Kind, m.ID, m.PID = 1, scratchKind, "d-"+hex.EncodeToString(number[:]), os.Getpid()
	if err := s.mark(m); err != nil {
		return m, err
	}
	for _, name := range []string{m.ID, m.ID + "/s", m.ID + "/ts"} {
		if err := s.root.Mkdir(name, 0o700); err != nil {
			return m, writeError(filepath.Join(s.dir, name), err)
		}
		if os.Geteuid() == 0 {
			if err := s.root.Lchown(name, s.owner.UID, s.owner.GID); err != nil {
				return m, fmt.Errorf("give the drill's directory to %s: %w", s.owner.Name, err)
			}
		}
	}
	return m, nil
}

// mark writes a marker, durably.
func (s *Scratch) mark(m scratchMarker) error {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	mine := &restore{} // root's, or this user's: the owner of the copy does not write it
	if owner, err := host.LookupOwner(""); err == nil {
		mine.owner = owner
	}
	return mine.replace(s.root, m.ID+".json", append(b, '\n'))
}

// Remove ends the server that runs in a drill's directory, and removes the directory. One that is not there is success.
func (s *Scratch) Remove(id string) error {
	if !scratchName.MatchString(id) {
		return fmt.Errorf("remove %q: it is no directory of a drill", id)
	}
	info, err := s.root.Lstat(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at what a drill left: %w", err)
	}
	if !info.IsDir() {
		return refuse("look who put it there", "%s in the scratch directory %s is no directory", id, s.dir)
	}
	if err := endServers(filepath.Join(s.dir, id, "data")); err != nil {
		return err
	}
	if err := s.root.RemoveAll(id); err != nil {
		return fmt.Errorf("remove what a drill left in %s: %w", filepath.Join(s.dir, id), err)
	}
	return syncName(s.root, ".")
}

// Forget removes the marker of a drill whose directory is gone.
func (s *Scratch) Forget(id string) error {
	err := s.root.Remove(id + ".json")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the marker of a drill: %w", err)
	}
	return syncName(s.root, ".")
}

// endServers ends what runs in a data directory that nobody needs any more, and waits until it has ended.
func endServers(dataDir string) error {
	if _, err := os.Lstat(dataDir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	told, hard := false, killWait/2
	for left := killWait; ; left -= pollEvery {
		pids, err := host.ServersIn(dataDir)
		if err != nil || len(pids) == 0 {
			return err
		}
		if left <= 0 {
			return fmt.Errorf("end the server in %s: process %d does not end", dataDir, pids[0])
		}
		for _, pid := range pids {
			switch {
			case left <= hard:
				_ = syscall.Kill(pid, syscall.SIGKILL) // one that has ended meanwhile is what is wanted
			case !told || pid != pids[0]:
				_ = syscall.Kill(pid, syscall.SIGQUIT)
			}
		}
		told = true
		time.Sleep(pollEvery)
	}
}
