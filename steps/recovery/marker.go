package recovery

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
)

// Names in the state directory.
const (
	markerName   = "restore.json"
	routeName    = "route.json"
	lockName     = "lock"
	originalsDir = "originals"
	walDir       = "wal"
)

// stateDir gives the directory beside the data directory that holds what is ours: PostgreSQL's own contains nothing but
// PostgreSQL's files, so that pg_verifybackup agrees with it.
func stateDir(dataDir string) string { return dataDir + stateSuffix }

// stateSuffix follows the name of the data directory.
const stateSuffix = ".pgkeep"

// RouteFile gives the path of the route file of a restored data directory.
func RouteFile(dataDir string) string { return filepath.Join(stateDir(dataDir), routeName) }

// marker is restore.json: what is being restored beside it.
type marker struct {
	Version  int        `json:"version"`
	Backup   string     `json:"backup"`
	Files    string     `json:"files"` // digest of what decides every file: backup, directories and chosen databases
	Route    string     `json:"route"` // digest of the whole route
	SystemID string     `json:"system_id,omitempty"`
	Request  string     `json:"request,omitempty"` // digest of what was asked for, by which a plan knows that it is done
	Began    time.Time  `json:"began"`
	Complete bool       `json:"complete"`
	Over     bool       `json:"over,omitempty"`                 // what was there before is restored over
	Control  string     `json:"control,omitempty"`              // digest of the pg_control that is written at the end
	Was      string     `json:"was,omitempty"`                  // likewise of the one that was there when it was begun, or begun again
	Inode    uint64     `json:"inode,omitempty"`                // of the data directory; 0: it was not there yet, or an older pgkeep noted none
	LeftOut  []Database `json:"left_out,omitempty"`             // of which only empty files were made
	Invalid  bool       `json:"ignore_invalid_pages,omitempty"` // PostgreSQL passes over records for pages without content
	Holder   string     `json:"holder,omitempty"`               // under which name this restore holds the backup, when it is resumed too
}

// into tells whether a directory is the one that the marker was written beside, as far as that is known.
func (m *marker) into(dir string) bool { return m.Inode == 0 || m.Inode == inodeOf(dir) }

// inodeOf gives 0 where there is no directory.
func inodeOf(dir string) uint64 {
	info, err := os.Lstat(dir)
	if err != nil {
		return 0
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && info.IsDir() {
		return st.Ino
	}
	return 0
}

// readMarker gives nil when there is none.
func readMarker(dir string) (*marker, error) {
	info, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", dir, err)
	}
	if !info.IsDir() {
		return nil, refuse("remove it", "%s is not a directory", dir)
	}
	b, err := os.ReadFile(filepath.Join(dir, markerName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", markerName, err)
	}
	var m marker
	if err := json.Unmarshal(b, &m); err != nil || m.Version != 1 {
		return nil, refuse("remove "+dir+" and the data directory, and restore again", "%s in %s cannot be read", markerName, dir)
	}
	return &m, nil
}

// routeDigest tells two recoveries apart. Sizes and neighbouring commits say nothing about what is restored.
func routeDigest(r plan.Route) string {
	r.DataBytes, r.WALBytes, r.Before, r.After, r.Destination.Overwrite = 0, 0, nil, nil, false
	return digest(r)
}

// filesDigest tells whether files on disk are of the same backup in the same places.
func (r *restore) filesDigest() string {
	places := map[string]string{}
	for id, dir := range r.places {
		places[strconv.FormatUint(uint64(id), 10)] = dir
	}
	of := []any{r.Route.SystemID, r.Route.Backup, places, r.owner.UID}
	if chosen := r.Route.Destination.Databases; len(chosen) > 0 {
		of = append(of, chosen)
	}
	return digest(of)
}

func digest(v any) string {
	b, err := json.Marshal(v)
	if err != nil { // plain values only: cannot be
		b = fmt.Appendf(nil, "%+v", v)
	}
	return bytesDigest(b)
}

func bytesDigest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// controlDigest gives the digest of a data directory's pg_control; empty: it has none.
func controlDigest(dir string) (string, error) {
	f, err := os.OpenFile(filepath.Join(dir, controlPath), os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look at %s: %w", controlPath, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, controlLength+1))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", controlPath, err)
	}
	return bytesDigest(b), nil
}

// claim makes the directories, takes the lock of the state directory and writes the marker: from here on a restore that
// is cut short is known as one.
func (r *restore) claim(ctx context.Context) error {
	var err error
	if r.beside, err = r.directory(stateDir(r.places[0])); err != nil {
		return fmt.Errorf("make the directory beside the data directory: %w", err)
	}
	lock := filepath.Join(stateDir(r.places[0]), lockName)
	if r.unlock, err = host.Lock(lock, host.Holder{PID: os.Getpid(), Who: host.Who(), What: "restore of " + r.Route.Server, Since: r.Now()}); err != nil {
		return err
	}
	before, err := readMarker(stateDir(r.places[0]))
	if err != nil {
		return err
	}
	if r.holder, err = holderOf(stateDir(r.places[0])); err != nil {
		return err
	}
	if err := r.writeMarker(false); err != nil {
		return err
	}
	if err := r.forget(before); err != nil {
		return err
	}
	r.roots = map[uint32]*os.Root{}
	for _, id := range r.folderIDs() {
		if r.roots[id], err = r.directory(r.places[id]); err != nil {
			return fmt.Errorf("make the directory to restore into: %w", err)
		}
	}
	if err := r.writeMarker(false); err != nil { // now that the directory is there
		return err
	}
	return r.hold(ctx)
}

// forget removes what earlier restores and starts left: a target that was reached in data which is gone now must not be taken
// for one that this restore reached, nor the configuration of another backup for this one's, nor WAL that ended elsewhere for
// that of this route.
func (r *restore) forget(before *marker) error {
	gone := []string{startName}
	if !r.resuming {
		gone = append(gone, originalsDir)
	}
	if !r.resuming || before == nil || before.Route != routeDigest(r.Route) {
		gone = append(gone, walDir)
	}
	for _, name := range gone {
		if err := r.beside.RemoveAll(name); err != nil {
			return fmt.Errorf("remove %s: %w", name, err)
		}
	}
	return syncName(r.beside, ".")
}

// holderOf gives a name that no other restore holds its backup by: that of the restore that was cut short here, or a new
// one. Two restores of one backup then cannot end each other's hold.
func holderOf(dir string) (string, error) {
	m, err := readMarker(dir)
	if err != nil {
		return "", err
	}
	if m != nil && m.Holder != "" {
		return m.Holder, nil
	}
	name, _ := host.Name() // the number alone tells restores apart
	var number [8]byte
	rand.Read(number[:]) // never fails
	return "restore-" + name + "-" + hex.EncodeToString(number[:]), nil
}

// hold keeps expiry away; a repository that cannot be written to gives 24 hours by itself. A backup that is being deleted
// is not restored, unless somebody holds it for longer than a restore would.
func (r *restore) hold(ctx context.Context) error {
	if r.Holder == nil {
		return nil
	}
	until := r.Now().Add(holdFor).UTC()
	h := state.Hold{Holder: r.holder, Reason: "restored to " + r.places[0], Expires: until}
	err := r.Holder.Hold(ctx, r.Route.Backup, h, r.Now())
	if err == nil {
		return nil
	}
	if state.CodeOf(err) == state.CodeStale {
		b := r.Backup.Info()
		if b.State != state.BackupDeleted || b.Hold == nil || !b.Hold.Expires.IsZero() && b.Hold.Expires.Before(until) {
			return err
		}
		return nil
	}
	r.note(fmt.Sprintf("backup %s could not be held against deletion (%s); it stays for 24 hours after it was chosen for deletion", r.Route.Backup, err))
	return nil
}

// directory makes a directory of mode 0700 that belongs to the owner, and opens it.
func (r *restore) directory(path string) (*os.Root, error) {
	err := os.Mkdir(path, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil { // #nosec: above what is ours, as mkdir -p would
			err = os.Mkdir(path, 0o700)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if info, err := os.Lstat(path); err != nil || !info.IsDir() {
		return nil, refuse("name the directory itself", "%s is not a directory", path)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	if err := root.Chmod(".", 0o700); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	if err := r.own(root, "."); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return root, nil
}

// own gives a file to the owner, when that is not this user.
func (r *restore) own(root *os.Root, name string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return root.Lchown(name, r.owner.UID, r.owner.GID)
}

func (r *restore) writeMarker(complete bool) error {
	was, err := controlDigest(r.places[0])
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(marker{
		Version: 1, Backup: r.Route.Backup, Files: r.filesDigest(), Route: routeDigest(r.Route), SystemID: r.Route.SystemID,
		Request: r.Route.Request(), Began: r.evidence.Began, Complete: complete, Holder: r.holder,
		Over: r.over, LeftOut: r.leftOut, Invalid: r.ignoresInvalid(), Control: bytesDigest(r.control), Was: was, Inode: inodeOf(r.places[0]),
	}, "", "  ")
	if err != nil {
		return err
	}
	return r.replace(r.beside, markerName, append(b, '\n'))
}

// replace puts a small file in one durable act.
func (r *restore) replace(root *os.Root, name string, content []byte) error {
	temporary := name + ".new"
	if err := r.write(root, temporary, content); err != nil {
		return err
	}
	if err := root.Rename(temporary, name); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return syncName(root, filepath.Dir(name))
}

// write writes a small file of mode 0600 and fsyncs it.
func (r *restore) write(root *os.Root, name string, content []byte) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return writeError(filepath.Join(root.Name(), name), err)
	}
	return r.own(root, name)
}

// syncName fsyncs a file or directory.
func syncName(root *os.Root, name string) error {
	f, err := root.Open(name)
	if err != nil {
		return fmt.Errorf("fsync %s: %w", name, err)
	}
	if err = errors.Join(f.Sync(), f.Close()); err != nil {
		return writeError(filepath.Join(root.Name(), name), err)
	}
	return nil
}
