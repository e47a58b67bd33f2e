package recovery

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/wal"
)

// restore is one restore on its way.
type restore struct {
	Options
	evidence Evidence
	owner    host.Owner
	places   map[uint32]string   // directory by folder: 0 is the data directory
	roots    map[uint32]*os.Root // likewise
	beside   *os.Root            // the state directory
	unlock   func()
	holder   string // of the hold on the backup
	resuming bool
	over     bool // what is in the destination is restored over
	removed  int64
	fetched  atomic.Int64
	copies   bool // all WAL of the route is brought beside the data directory
	captured captured
	inBackup map[string]bool // configuration files of the data directory that the backup has
	label    []byte          // backup_label as it is written
	control  []byte          // global/pg_control, written last
	settings wal.Settings
	leftOut  []Database       // of which empty files are made
	hollow   map[uint32]int64 // their bytes, by folder
	hashes   bool             // one of them has a hash index
	written  atomic.Int64
	done     atomic.Int64 // bytes of files that are in place
	total    int64
}

func (r *restore) close() {
	for _, root := range r.roots {
		_ = root.Close()
	}
	if r.beside != nil {
		_ = r.beside.Close()
	}
	if r.unlock != nil {
		r.unlock()
	}
}

func refuse(hint, text string, args ...any) error {
	return &state.Error{Code: state.CodeDestination, Text: fmt.Sprintf(text, args...), Hint: hint}
}

// look checks everything that can be known before the first write.
func (r *restore) look(ctx context.Context) error {
	if err := r.checkRoute(); err != nil {
		return err
	}
	owner, err := host.LookupOwner(r.Route.Destination.Owner)
	if err != nil {
		return refuse("create the user, or name another with owner", "the owner of the restored files: %s", err)
	}
	if !host.CanGiveTo(owner) {
		return refuse("run as root or as that user", "files cannot be given to %q by this user", r.Route.Destination.Owner)
	}
	r.owner = owner
	if r.captured, err = readCaptured(ctx, r.Backup); err != nil {
		return err
	}
	if err := r.placeFolders(); err != nil {
		return err
	}
	if err := r.checkMarker(ctx); err != nil {
		return err
	}
	for _, folder := range r.folderIDs() {
		if err := r.checkDirectory(folder); err != nil {
			return err
		}
	}
	if err := r.checkLabel(ctx); err != nil {
		return err
	}
	if err := r.readControl(ctx); err != nil {
		return err
	}
	if err := r.selectDatabases(ctx); err != nil {
		return err
	}
	r.chooseCopy(ctx)
	if r.resuming {
		return nil // what is missing is not known before the files were compared
	}
	return r.checkSpace()
}

// checkRoute refuses a route that does not fit its backup or cannot be written down.
func (r *restore) checkRoute() error {
	route, info := &r.Route, r.Backup.Info()
	path := route.Destination.Path
	switch {
	case !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/" || hasControl(path):
		return refuse("give an absolute path", "%q is no directory to restore into", path)
	case !filepath.IsAbs(r.Program) || hasControl(r.Program):
		return refuse("", "the path of pgkeep, %q, cannot stand in restore_command", r.Program)
	case info.ID != route.Backup:
		return fmt.Errorf("restore backup %s: backup %s was opened", route.Backup, info.ID)
	case len(route.Path) == 0 || route.TargetTimeline == 0 || route.SegmentSize.Check() != nil:
		return &state.Error{Code: state.CodeTarget, Text: "the route says neither which WAL is needed nor on which timeline it ends", Hint: "plan the recovery again"}
	case !route.Target.Latest && !route.Target.Immediate && !route.AtEnd && route.End < info.Stop:
		return &state.Error{
			Code: state.CodeTarget, Hint: "choose an earlier backup or a later target",
			Text: fmt.Sprintf("the target lies at %s, before backup %s is consistent at %s", route.End, info.ID, info.Stop),
		}
	}
	return nil
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f })
}

// placeFolders gives every folder of the backup a directory. A tablespace goes where the destination maps it, by name,
// number or original location; where the server had it is never taken for granted, because a live server may be there.
func (r *restore) placeFolders() error {
	names := r.captured.tablespaceNames()
	r.places = map[uint32]string{0: r.Route.Destination.Path}
	var unmapped []string
	for _, f := range r.Backup.Folders() {
		if f.OID == 0 {
			continue
		}
		name := names[f.OID]
		dir, ok := r.mapped(f.OID, name, f.Location)
		if !ok {
			unmapped = append(unmapped, fmt.Sprintf("%s (number %d, on the server in %s)", orNumber(name, f.OID), f.OID, strings.Map(blankControl, f.Location)))
			continue
		}
		if !filepath.IsAbs(dir) || filepath.Clean(dir) != dir || dir == "/" || hasControl(dir) {
			return refuse("give an absolute path", "%q is no directory for tablespace %s", dir, orNumber(name, f.OID))
		}
		r.places[f.OID] = dir
	}
	if len(unmapped) > 0 {
		return refuse("pgkeep recover … --tablespace NAME=DIRECTORY, or `tablespaces` in the destination block",
			"the backup has tablespaces that have no place in the destination: %s", strings.Join(unmapped, ", "))
	}
	return r.checkNesting()
}

// mapped finds the directory of a tablespace. A backup whose role could not see the name is asked for by number, by where
// the server had it, or by the last part of that.
func (r *restore) mapped(oid uint32, name, location string) (string, bool) {
	keys := []string{name, strconv.FormatUint(uint64(oid), 10), location}
	if name == "" {
		keys = append(keys, filepath.Base(location))
	}
	for _, key := range keys {
		if dir, ok := r.Route.Destination.Tablespaces[key]; ok && key != "" {
			return dir, true
		}
	}
	return "", false
}

func orNumber(name string, oid uint32) string {
	if name != "" {
		return name
	}
	return strconv.FormatUint(uint64(oid), 10)
}

// checkNesting refuses directories that lie in one another: files of one would look like the other's. What lies beside the data
// directory is one of them.
func (r *restore) checkNesting() error {
	beside := stateDir(r.places[0])
	if _, err := os.Lstat(filepath.Join(beside, "PG_VERSION")); err == nil {
		return refuse("choose another directory", "%s is a data directory or tablespace of PostgreSQL, and that is where pgkeep keeps what belongs to %s", beside, r.places[0])
	}
	dirs := []string{beside}
	for _, id := range r.folderIDs() {
		dirs = append(dirs, r.places[id])
	}
	for i, a := range dirs {
		for _, b := range dirs[i+1:] {
			x, y := a+"/", b+"/"
			if strings.HasPrefix(x, y) || strings.HasPrefix(y, x) {
				return refuse("give each tablespace a directory of its own, outside the data directory and the one beside it", "%s and %s lie in one another", a, b)
			}
		}
	}
	return nil
}

func (r *restore) folderIDs() []uint32 {
	var ids []uint32
	for id := range r.places {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// checkDirectory refuses what is not an absent or empty directory of our own.
func (r *restore) checkDirectory(folder uint32) error {
	path := r.places[folder]
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at %s: %w", path, err)
	}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		return refuse("name the directory itself", "%s is a symbolic link, and a restore follows none", path)
	case !info.IsDir():
		return refuse("choose another path", "%s is not a directory", path)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() != 0 && int(st.Uid) != os.Geteuid() {
		return refuse("choose a directory of your own, or run as root", "%s belongs to user %d", path, st.Uid)
	}
	if folder == 0 {
		if err := r.checkStopped(); err != nil {
			return err
		}
	}
	d, err := host.LookAt(path)
	if err != nil {
		return err
	}
	if folder != 0 && !d.Empty {
		if err := checkUnshared(path); err != nil {
			return err
		}
	}
	if r.over && folder != 0 && !d.Empty && !r.resuming {
		return r.checkTablespace(folder)
	}
	if !d.Empty && !r.resuming && !r.over {
		return refuse("choose an empty directory, or restore over it with --overwrite", "%s is not empty", path)
	}
	return nil
}

// checkMarker tells whether a restore of the same backup into the same directories was cut short here.
func (r *restore) checkMarker(ctx context.Context) error {
	path := r.places[0]
	m, err := readMarker(stateDir(path))
	if err != nil {
		return err
	}
	d, err := host.LookAt(path)
	if err != nil {
		return err
	}
	if m == nil {
		if r.over = r.Route.Destination.Overwrite && d.Exists && !d.Empty; r.over {
			return r.checkOverwrite(ctx, nil)
		}
		return nil
	}
	mine := m.Files == r.filesDigest()
	switch {
	case mine && !m.Complete: // the data directory may still be empty: tablespaces come first
		since, err := r.cameSince(m, d)
		if err != nil {
			return err
		}
		if since != "" && !r.Route.Destination.Overwrite {
			return refuse("choose another directory, or add --overwrite", "%s", since)
		}
		if since != "" { // nothing that the marker says goes for it
			r.over = true
			return r.checkOverwrite(ctx, nil)
		}
		r.over = m.Over
	case !d.Exists || d.Empty:
		return nil // somebody removed the data: begin anew
	case r.Route.Destination.Overwrite:
		r.over = true
		return r.checkOverwrite(ctx, m)
	case m.Complete:
		return refuse("start the server there, or choose another directory", "%s holds a complete restore of backup %s", path, m.Backup)
	default:
		return refuse(fmt.Sprintf("go on with that one: --backup %s; or remove %s and %s; or choose another directory", m.Backup, path, stateDir(path)),
			"%s holds a part of a restore of backup %s, not of this one", path, m.Backup)
	}
	r.resuming, r.evidence.Resumed = true, true
	return nil
}

// checkLabel reads backup_label and compares it with what the backup says of itself.
func (r *restore) checkLabel(ctx context.Context) error {
	content, err := r.Backup.BackupLabel(ctx)
	if err != nil {
		return fmt.Errorf("read backup_label of backup %s: %w", r.Route.Backup, err)
	}
	l, err := postgres.ParseBackupLabel(content)
	if err != nil {
		return &state.Error{Code: state.CodeCorrupt, Text: "backup " + r.Route.Backup + " has no good backup_label", Hint: "pgkeep backups list", Err: err}
	}
	info := r.Backup.Info()
	if l.Timeline != info.Timeline || l.Start != info.Redo {
		return &state.Error{
			Code: state.CodeCorrupt, Hint: "choose another backup: pgkeep backups list",
			Text: fmt.Sprintf("backup_label of backup %s begins at %s of timeline %d, the backup at %s of timeline %d", info.ID, l.Start, l.Timeline, info.Redo, info.Timeline),
		}
	}
	r.label = postgres.WholeBackupLabel(content)
	return nil
}

// checkSpace compares the bytes to come with the room on each file system.
func (r *restore) checkSpace() error {
	type need struct {
		bytes int64
		path  string
		free  int64
	}
	byDevice := map[uint64]*need{}
	add := func(path string, bytes int64) error {
		space, err := host.SpaceAt(path)
		if err != nil {
			return err
		}
		device, err := deviceOf(path)
		if err != nil {
			return err
		}
		if byDevice[device] == nil {
			byDevice[device] = &need{path: path, free: space.Free}
		}
		byDevice[device].bytes += bytes
		return nil
	}
	for _, f := range r.Backup.Folders() {
		bytes := max(0, f.Bytes-r.hollow[f.OID])
		if r.over {
			used, err := usedBy(r.places[f.OID])
			if err != nil {
				return err
			}
			bytes = max(0, bytes-used)
		}
		if err := add(r.places[f.OID], bytes); err != nil {
			return err
		}
	}
	if r.copies { // beside the data directory, which may be a mount point
		if err := add(stateDir(r.places[0]), r.Route.WALBytes); err != nil {
			return err
		}
	}
	for _, n := range byDevice {
		if n.free < n.bytes {
			return &state.Error{
				Code: state.CodeDiskFull, Hint: "choose a larger disk, or map a tablespace elsewhere",
				Text: fmt.Sprintf("the file system of %s has %d MiB free, and %d MiB are restored to it", n.path, n.free>>20, n.bytes>>20),
			}
		}
	}
	return nil
}

// deviceOf gives the device of the nearest ancestor that exists.
func deviceOf(path string) (uint64, error) {
	for {
		info, err := os.Stat(path)
		if err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				return uint64(st.Dev), nil
			}
			return 0, nil
		}
		if !errors.Is(err, fs.ErrNotExist) || path == filepath.Dir(path) {
			return 0, fmt.Errorf("look at %s: %w", path, err)
		}
		path = filepath.Dir(path)
	}
}
