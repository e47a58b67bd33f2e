package recovery

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

// A drill judges what is stored. What goes wrong with its copy for another reason is an error, after which the drill is tried again,
// and leaves no evidence: else a repository that was away for an hour, or a machine without memory, would look like a backup
// that is no good.

// noVerdict tells why an error of the copy says nothing of the backup; nil: it does.
func (d *DrillRun) noVerdict(ctx context.Context, err error) error {
	if full := d.full(); full != nil {
		return full
	}
	said := err.Error() + "\n" + tailOf(LogFile(d.Route.Destination.Path), 20)
	if fault := machineFault(said); fault != "" {
		return &state.Error{
			Code: state.CodeDestination, Text: "the copy could not go on for a reason of this machine, which says nothing of the backup: " + fault,
			Hint: "mend that here, or drill on another machine: host in the drill block",
		}
	}
	return d.unreached(ctx, said)
}

// leastFree is how much must be free in the scratch directory for what PostgreSQL said of the copy to be believed.
const leastFree = 64 << 20

// full refuses to judge a copy that had no space to be written in; nil: it had.
func (d *DrillRun) full() error {
	space, err := host.SpaceAt(d.scratch.dir)
	if err != nil || space.Free >= leastFree {
		return nil //nolint:nilerr // what is not known keeps nothing from being told
	}
	return &state.Error{
		Code: state.CodeDiskFull, Text: fmt.Sprintf("%s has only %s free, so that what the copy does says nothing of the backup", d.scratch.dir, plan.Size(space.Free)),
		Hint: "name a larger scratch directory, or make room there",
	}
}

// machineFaults are what PostgreSQL, or the kernel by it, says of memory, space, libraries and a kill from outside.
var machineFaults = regexp.MustCompile(`No space left on device|Disk quota exceeded|Cannot allocate memory|(?:FATAL|ERROR|PANIC):  out of memory|\[53[0-9]{3}\]` +
	`|Too many open files|could not map anonymous shared memory|could not create (?:shared memory segment|semaphores)` +
	`|could not (?:access file|load library) "|was terminated by signal 9`)

// machineFault gives the line of a log that names a fault of the machine; empty: none does.
func machineFault(log string) string {
	for line := range strings.Lines(log) {
		if machineFaults.MatchString(line) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// notRestored is how PostgreSQL tells that restore_command failed, as against that the file is absent.
var notRestored = regexp.MustCompile(`could not restore file "([0-9A-F]{24}|[0-9A-F]{8}\.history)" from archive`)

// unreached tells that the recovery ended because a file of the archive could not be had, for another reason than that every source
// has answered that it is absent or it is damaged. It asks for the file once more: only the answer tells the two apart.
func (d *DrillRun) unreached(ctx context.Context, said string) error {
	m := notRestored.FindStringSubmatch(said)
	if m == nil {
		return nil
	}
	err := d.fetch(ctx, m[1])
	switch {
	case err != nil && lostForGood(err):
		return nil
	case isPermanent(err): // of the guard
		return &state.Error{
			Code: state.CodeDestination, Text: "the copy cannot replay all WAL on this machine, which says nothing of the backup: " + told(err).Error(),
			Hint: "drill from a backup that has the tablespace already: pgkeep backup " + d.Route.Server + "; or on another machine: host in the drill block",
		}
	}
	why := "it can be had again by now"
	if err != nil {
		why = told(err).Error()
	}
	for line := range strings.Lines(said) {
		if _, after, ok := strings.Cut(line, "wal-get: "+m[1]+": "); ok {
			if after = strings.TrimPrefix(strings.TrimSpace(after), "get "+m[1]+": "); after != why {
				why = after + "; asked once more: " + why
			}
			break
		}
	}
	return &state.Error{
		Code: state.CodeUnreachable, Text: fmt.Sprintf("repository %q did not give %s to the copy within wal_wait (%s), which says nothing of the backup: %s", d.Route.Repository, m[1], d.Route.WALWait, why),
		Hint: "bring the repository back, see that the owner of the copy can reach it, and drill again",
	}
}

// lostForGood tells whether every source has answered, and none has the file as it was written.
func lostForGood(err error) bool {
	var why hard
	return errors.Is(err, store.ErrNotExist) || state.CodeOf(err) == state.CodeCorrupt || errors.As(err, &why) && why.onlyCorrupt()
}

// fetch asks for one file of the route as wal-get does, once.
func (d *DrillRun) fetch(ctx context.Context, name string) error {
	route, err := readRoute(RouteFile(d.Route.Destination.Path))
	if err != nil {
		return err
	}
	into := filepath.Join(d.scratch.dir, d.marker.ID, "asked")
	if digits, ok := strings.CutSuffix(name, ".history"); ok {
		t, err := strconv.ParseUint(digits, 16, 32)
		if err != nil {
			return err
		}
		return route.open(ctx).history(ctx, wal.Timeline(t), into)
	}
	seg, err := wal.ParseSegmentName(name, route.SegmentSize)
	if err != nil {
		return err
	}
	return route.open(ctx).segment(ctx, seg, into)
}
