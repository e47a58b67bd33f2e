package spool

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// Facts are what can be seen of a server's spool and receiver from beside, without a lock.
type Facts struct {
	Spool    state.Spool
	Receiver state.Receiver
	// Clusters are the directories of WAL in this spool, by system identifier. Spool tells of the one that was written
	// last.
	Clusters []string
}

// Look reads a server's spool and its receiver's last report, and changes nothing. A spool that does not exist is no
// error: its facts are empty. While no receiver runs, the durable position is what one that starts now would find, were
// every byte on disk that can be read.
func Look(dir, server string) (Facts, error) {
	home := filepath.Join(dir, server)
	f := Facts{Spool: state.Spool{Path: home}}
	var err error
	if f.Receiver, err = LookAtReceiver(dir, server); err != nil {
		return f, err
	}
	if f.Clusters, err = SystemIDs(dir, server); err != nil {
		return f, err
	}
	return f, lookAtRoom(&f.Spool, dir, home, newest(home, f.Clusters))
}

// LookAtReceiver reads only what a server's receiver says of itself, and whether it runs.
func LookAtReceiver(dir, server string) (state.Receiver, error) {
	home := filepath.Join(dir, server)
	held, holder, err := isHeld(filepath.Join(home, lockName))
	if err != nil {
		return state.Receiver{}, problem("look at the receiver of "+server, err)
	}
	r, _ := readStatus(home)
	r.Running = held
	if held && holder.PID != 0 {
		r.PID, r.Agent, r.Since = holder.PID, holder.Agent, holder.Since
	}
	r.Streaming = r.Streaming && held
	return r, nil
}

// newest gives the cluster's directory that changed last.
func newest(home string, ids []string) string {
	var best string
	var at int64
	for _, id := range ids {
		if fi, err := os.Stat(filepath.Join(home, id)); err == nil && (best == "" || fi.ModTime().UnixNano() > at) {
			best, at = id, fi.ModTime().UnixNano()
		}
	}
	return best
}

func lookAtRoom(f *state.Spool, dir, home, id string) error {
	at := nearest(home)
	r, err := measure(at, 0, Limit{})
	if err != nil {
		return problem("look at spool "+dir, err)
	}
	f.FileSystem, f.Free, f.Total = r.FileSystem, r.Free, r.Total
	if id == "" {
		return nil
	}
	f.SystemID = id
	return problem("look at spool "+home, lookAtCluster(f, filepath.Join(home, id), id))
}

// nearest gives the closest directory at or above path that exists.
func nearest(path string) string {
	for {
		if fi, err := os.Stat(path); err == nil && fi.IsDir() {
			return path
		}
		up := filepath.Dir(path)
		if up == path {
			return path
		}
		path = up
	}
}

func lookAtCluster(f *state.Spool, dir, id string) error {
	system, err := strconv.ParseUint(id, 10, 64)
	if err != nil {
		return err
	}
	z, err := sizeOf(dir)
	if err != nil {
		return err
	}
	v, err := list(dir, z)
	if err != nil {
		return err
	}
	for seg := range v.partial {
		x, err := lookAtPartial(dir, z, system, &v, seg)
		if errors.Is(err, os.ErrNotExist) {
			x, err = extent{valid: seg.End(z), known: seg.End(z)}, nil // completed while we looked
		}
		if err != nil {
			return err
		}
		v.partial[seg] = x
	}
	p := v.position(z)
	f.Timeline, f.Durable, f.Used = p.Timeline, p.Durable, v.bytes(z)
	for seg, done := range v.complete {
		if !done {
			f.Pending = append(f.Pending, wal.Range{Timeline: seg.Timeline, From: seg.Start(z), To: seg.End(z)})
		}
	}
	f.Pending = wal.Merge(f.Pending)
	if f.Diverged, err = names(filepath.Join(dir, "diverged")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if f.Quarantined, err = names(filepath.Join(dir, "quarantine")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func lookAtPartial(dir string, z wal.SegmentSize, system uint64, v *inventory, seg wal.Segment) (extent, error) {
	f, err := os.Open(filepath.Join(dir, seg.Name(z)+partialSuffix))
	if err != nil {
		return extent{}, err
	}
	defer f.Close()
	return inspect(f, seg, partsOf(dir, z, system, v))
}

// Newest gives the cluster that was written last in a server's spool, and its segment size; empty: none.
func Newest(dir, server string) (systemID string, z wal.SegmentSize, err error) {
	ids, err := SystemIDs(dir, server)
	if err != nil {
		return "", 0, err
	}
	home := filepath.Join(dir, server)
	for len(ids) > 0 {
		id := newest(home, ids)
		z, err := sizeOf(filepath.Join(home, id))
		if err == nil || !errors.Is(err, os.ErrNotExist) {
			return id, z, problem("look at spool "+home, err)
		}
		ids = slices.DeleteFunc(ids, func(other string) bool { return other == id })
	}
	return "", 0, nil
}
