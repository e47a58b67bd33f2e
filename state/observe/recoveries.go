package observe

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/wal"
)

// recoveries looks at the destinations of the recoveries that were asked for, and at what the archived WAL proves about
// their targets. It comes after the rest: which programs are needed depends on the cluster that was seen.
func (l *look) recoveries(ctx context.Context) {
	if len(l.o.Recoveries) == 0 {
		return
	}
	l.seen.Recoveries = map[string]state.Destination{}
	l.seen.Targets = map[string]state.TargetFact{}
	for _, r := range l.o.Recoveries {
		l.destination(ctx, r)
		l.target(ctx, r)
	}
	l.all.Wait()
}

func (l *look) destination(ctx context.Context, r hclspec.Recovery) {
	d := r.Destination
	store := func(seen state.Destination) { l.seen.Recoveries[r.Name] = seen }
	if !host.IsHere(d.Host, l.o.Host) {
		l.mu.Lock()
		store(state.Destination{Path: d.Path, Unknown: otherHost("the destination of "+r.Name, d.Host, l.o.Host)})
		l.mu.Unlock()
		return
	}
	major := l.majorOf(r.Server)
	late := func(err error) state.Destination {
		return state.Destination{Path: d.Path, Unknown: &state.Unknown{
			Code: state.CodeIO, Because: "looking at " + d.Path + " took too long: " + err.Error(), Hint: "look whether its file system hangs",
		}}
	}
	sources := l.sources(r.Server)
	see := func(ctx context.Context) state.Destination {
		seen, err := Destination(ctx, d, major)
		if err != nil {
			return state.Destination{Path: d.Path, Unknown: unknown(err)}
		}
		seen.Unreadable = unreadable(ctx, d.Owner, sources)
		seen.Tablespaces = map[string][]state.BackupTablespace{}
		for _, s := range sources {
			s.tablespaces(ctx, seen.Tablespaces)
		}
		return seen
	}
	ask(ctx, l, question[state.Destination]{limit: l.o.Timeout, see: see, late: late, store: store})
}

// majorOf gives the major version of the server's newest cluster in any repository; 0 when none was seen.
func (l *look) majorOf(server string) int {
	major := 0
	for _, r := range l.seen.Repositories {
		for _, c := range r.Clusters[server] {
			major = max(major, c.Major)
		}
	}
	return major
}

// Destination looks at the directory of a recovery on this machine. major is of the server whose backup is restored, for
// finding its programs when the destination names no bindir; 0: not known.
func Destination(ctx context.Context, d hclspec.Destination, major int) (state.Destination, error) {
	seen := state.Destination{Path: d.Path, Free: map[string]int64{}}
	at, err := host.LookAt(d.Path)
	if err != nil {
		return seen, err
	}
	seen.Exists, seen.Empty = at.Exists, at.Exists && at.Empty
	if at.Exists && !at.Empty {
		pid, err := host.Postmaster(d.Path)
		if err != nil {
			return seen, err
		}
		seen.Running = pid != 0
		if seen.Holds, err = host.ClusterOf(d.Path); err != nil {
			return seen, err
		}
		at, timeline, err := host.LastWrite(d.Path)
		if err != nil {
			return seen, err
		}
		seen.WroteAt, seen.Timeline = at, wal.Timeline(timeline)
		ours, err := host.LookAt(filepath.Join(d.Path+".pgkeep", "restore.json"))
		if err != nil {
			return seen, err
		}
		seen.Ours = ours.Exists
		if seen.Restored, err = restored(d.Path); err != nil {
			return seen, err
		}
	}
	if err := freeAt(&seen, d); err != nil {
		return seen, err
	}
	if owner, err := host.LookupOwner(d.Owner); err == nil { // a user that is absent is a fact, not a failure
		seen.OwnerExists, seen.CanOwn = true, host.CanGiveTo(owner)
	}
	seen.BinVersion = binVersion(ctx, d.BinDir, major)
	return seen, nil
}

func freeAt(seen *state.Destination, d hclspec.Destination) error {
	paths := []string{d.Path}
	for _, p := range d.Tablespaces {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	for _, p := range paths {
		at, err := host.LookAt(p)
		if err != nil {
			return err
		}
		if p != d.Path && at.Exists && !at.Empty {
			seen.Taken = append(seen.Taken, p)
		}
		space, err := host.SpaceAt(p)
		if err != nil {
			return err
		}
		seen.Free[p] = space.Free
	}
	return nil
}

// binVersion gives the major version of the programs that would be used; 0: none found.
func binVersion(ctx context.Context, dir string, major int) int {
	if dir == "" {
		found, err := host.FindBinaries(ctx, major)
		if err != nil {
			return 0
		}
		dir = found
	}
	v, err := host.BinaryVersion(ctx, dir)
	if err != nil {
		return 0
	}
	return v
}

// restored reads what a completed restore left beside the data directory. Without pg_control, which is written last,
// nothing is restored there any more.
func restored(path string) (*state.Restored, error) {
	b, err := os.ReadFile(filepath.Join(path+".pgkeep", "restore.json"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what was restored: %w", err)
	}
	var marker struct {
		state.Restored
		Complete bool   `json:"complete"`
		Control  string `json:"control"` // digest of the pg_control that was written last; empty: an older pgkeep did not note it
	}
	if json.Unmarshal(b, &marker) != nil || !marker.Complete {
		return nil, nil // cut short, or not readable, which the restore itself refuses
	}
	control, err := os.ReadFile(filepath.Join(path, "global", "pg_control"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look whether the copy was used: %w", err)
	}
	sum := sha256.Sum256(control)
	marker.Used = marker.Control != "" && marker.Control != hex.EncodeToString(sum[:])
	return &marker.Restored, nil
}
