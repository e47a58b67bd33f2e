package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// Options of one server's spool.
type Options struct {
	Name        string // the server's stored name
	SystemID    string // decimal, as IDENTIFY_SYSTEM gives it
	SegmentSize wal.SegmentSize
	Limit       Limit
	// AllowVolatile lets the spool live on tmpfs, which a power cut empties. It is for tests only.
	AllowVolatile bool
}

// Spool is one cluster's directory, held by this process. All methods may be called by many goroutines at once; there
// is one Writer at a time.
type Spool struct {
	home   string // <directory>/<server>
	dir    string // <directory>/<server>/<system id>
	o      Options
	system uint64
	claim  *Claim
	owned  bool // Close releases the claim

	mu    sync.Mutex
	files inventory

	syncData func(*os.File) error   // datasync, but for tests
	syncDir  func(dir string) error // syncDir, but for tests
}

// Open claims a server's spool and opens it: Take, then Claim.Open.
func Open(dir string, h Holder, o Options) (*Spool, error) {
	c, err := Take(dir, o.Name, h)
	if err != nil {
		return nil, err
	}
	s, err := c.Open(o)
	if err != nil {
		return nil, errors.Join(err, c.Release())
	}
	s.owned = true
	return s, nil
}

// Open opens the directory of one cluster under a claim. Everything in it is fsynced, torn partials are cut back, and
// what cannot be a segment of this cluster is put aside into quarantine/; after that Position is true.
func (c *Claim) Open(o Options) (*Spool, error) {
	if err := o.SegmentSize.Check(); err != nil {
		return nil, fmt.Errorf("open spool of %s: %w", c.name, err)
	}
	system, err := strconv.ParseUint(o.SystemID, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("open spool of %s: system identifier %q is not a number", c.name, o.SystemID)
	}
	s := &Spool{home: c.dir, dir: filepath.Join(c.dir, o.SystemID), o: o, system: system, claim: c, syncData: datasync, syncDir: syncDir}
	for _, d := range []string{s.dir, s.divergedDir(), s.quarantineDir()} {
		if err := makeDir(d); err != nil {
			return nil, problem("create spool directory "+d, err)
		}
	}
	if err := s.refuseVolatile(); err != nil {
		return nil, err
	}
	if err := s.keepSize(); err != nil {
		return nil, problem("open spool "+s.dir, err)
	}
	if err := s.settle(); err != nil {
		return nil, problem("open spool "+s.dir, err)
	}
	return s, nil
}

// Close ends the use of the spool, and its claim when Open took it. Writers must be closed before.
func (s *Spool) Close() error {
	if !s.owned {
		return nil
	}
	return s.claim.Release()
}

// Dir gives the cluster's directory.
func (s *Spool) Dir() string { return s.dir }

// Room measures what may still be written.
func (s *Spool) Room() (Room, error) { return s.roomBeside(0) }

// roomBeside counts bytes that have no name yet.
func (s *Spool) roomBeside(unnamed int64) (Room, error) {
	s.mu.Lock()
	used := s.files.bytes(s.o.SegmentSize) + unnamed
	s.mu.Unlock()
	r, err := measure(s.dir, used, s.o.Limit)
	if err != nil {
		return Room{}, problem("measure spool "+s.dir, err)
	}
	return r, nil
}

// CheckRoom gives an error with state.CodeDiskFull when the limit is hit.
func (s *Spool) CheckRoom() error { return s.checkRoomBeside(0) }

func (s *Spool) checkRoomBeside(unnamed int64) error {
	r, err := s.roomBeside(unnamed)
	if err == nil && r.Left <= 0 && !s.spare(0) {
		if err := s.removeProofs(); err != nil {
			return errors.Join(r.fullError(s.dir), err)
		}
		r, err = s.roomBeside(unnamed)
	}
	if err == nil && r.Left <= 0 {
		err = r.fullError(s.dir)
	}
	return err
}

// spare tells whether the disk has room enough to keep so many segments that every repository holds, and some that are to come. What is kept so
// counts for no limit in bytes.
func (s *Spool) spare(segments int64) bool {
	disk := Limit{Percent: s.o.Limit.Percent}
	if s.o.Limit.Bytes > 0 && disk.Percent == 0 {
		disk.Percent = 100
	}
	r, err := measure(s.dir, 0, disk)
	return err == nil && r.Left >= (segments+4)*s.o.SegmentSize.Bytes()
}

// makeRoom removes them after a write for which there was no room, whatever the file system says that it has: a quota may be full.
func (s *Spool) makeRoom(err error) {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		_ = s.removeProofs() // the next write tells
	}
}

// removeProofs removes what Done kept beside the last segment that every repository holds.
func (s *Spool) removeProofs() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var last wal.Segment
	for seg, done := range s.files.complete {
		if done && compareSegments(seg, last) > 0 {
			last = seg
		}
	}
	return s.removeDone(last)
}

func (s *Spool) refuseVolatile() error {
	r, err := measure(s.dir, 0, s.o.Limit)
	if err != nil {
		return problem("measure spool "+s.dir, err)
	}
	if s.o.AllowVolatile || r.FileSystem != "tmpfs" && r.FileSystem != "ramfs" {
		return nil
	}
	return &state.Error{
		Code: state.CodeIO,
		Text: fmt.Sprintf("the spool %s lies on %s, which a power cut empties: WAL acknowledged from there would not be durable", s.dir, r.FileSystem),
		Hint: "set receiver.spool to a directory on a disk",
	}
}

// SystemIDs lists the system identifiers for which a server's spool on this machine holds WAL or history, by name.
func SystemIDs(dir, server string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(dir, server))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, problem("list spool of "+server, err)
	}
	var ids []string
	for _, e := range entries {
		if _, err := strconv.ParseUint(e.Name(), 10, 64); err != nil || !e.IsDir() {
			continue
		}
		some, err := holdsAnything(filepath.Join(dir, server, e.Name()))
		if err != nil {
			return nil, problem("list spool of "+server, err)
		}
		if some {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

// holdsAnything tells whether a cluster's directory, or one of those inside it, holds a file.
func holdsAnything(dir string) (bool, error) {
	for _, d := range []string{dir, filepath.Join(dir, "diverged"), filepath.Join(dir, "quarantine")} {
		files, err := names(d)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return false, err
		}
		if slices.ContainsFunc(files, func(n string) bool { return n != sizeName }) {
			return true, nil
		}
	}
	return false, nil
}
