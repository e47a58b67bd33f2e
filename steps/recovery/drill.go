package recovery

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// DrillOptions say what to recover for real, and what to ask of the copy.
type DrillOptions struct {
	Name    string     // of the drill
	Route   plan.Route // its destination's path is the scratch directory
	Major   int        // version of the cluster
	Backup  Backup     // nil: Broken says why
	Broken  error      // the backup is damaged so that it cannot even be opened
	Holder  Holder     // nil: nothing is held
	Place   Place      // the one repository that is drilled
	Program string     // absolute path of the pgkeep that restore_command runs

	Amcheck   string // full | index | off
	Canaries  int    // of the largest tables of each database, how many are counted
	MaxShrink int    // percent of its rows that a table may have lost since the drill before
	Checks    []hclspec.Check
	Roles     []string     // by which a first session with the copy is tried
	Before    *state.Drill // the drill before, of no moment by chance, for its rows; nil: there was none
	// Names tells what relations of the backup are called; nil: their files are told.
	Names func(ctx context.Context, want []wal.Relation) (map[wal.Relation]state.NamedRelation, error)

	Who, Host, Version string // for the evidence: user@host, this machine, pgkeep's version
	Now                func() time.Time
}

// DrillRun is one drill on its way. Its methods are called in their order, once each; one that says in Failed that the drill did
// not pass leaves nothing to do but Stop and Finish.
type DrillRun struct {
	DrillOptions
	scratch *Scratch
	marker  scratchMarker
	result  state.Drill
	there   []state.DrillRows // tables that are there, whether they can be read or not, without their rows
	closed  []string          // databases that take no connections
	unasked []string          // databases that could not be asked
	more    int               // failures that are counted and not told
}

// Begin makes the marker and the directory of a drill.
func (s *Scratch) Begin(o DrillOptions) (*DrillRun, error) {
	r := &o.Route
	d := &DrillRun{DrillOptions: o, scratch: s, result: state.Drill{
		Kind: state.DrillKind, Drill: o.Name, Server: r.Server, SystemID: r.SystemID, Repository: r.Repository, Backup: r.Backup, Target: drillTarget(r),
		Host: o.Host, Who: o.Who, Program: o.Version, Began: o.Now().UTC(), Timeline: r.TargetTimeline, TargetLSN: r.Target.LSN, End: r.End, Amcheck: state.DrillAmcheck{Level: o.Amcheck},
	}}
	var err error
	d.marker, err = s.begin(scratchMarker{Drill: o.Name, Server: r.Server, Began: d.result.Began})
	if err != nil {
		return d, err
	}
	home := filepath.Join(s.dir, d.marker.ID)
	d.Route.Destination.Path, d.Route.Destination.Port = filepath.Join(home, "data"), 0
	d.Route.Destination.Tablespaces = map[string]string{}
	if o.Backup == nil {
		return d, nil
	}
	for _, f := range o.Backup.Folders() {
		if f.OID != 0 {
			oid := strconv.FormatUint(uint64(f.OID), 10)
			d.Route.Destination.Tablespaces[oid] = filepath.Join(home, "ts", oid)
		}
	}
	return d, nil
}

func drillTarget(r *plan.Route) string {
	switch {
	case r.Target.Immediate:
		return "immediate"
	case r.Target.LSN != 0:
		return "random"
	}
	return "latest"
}

// ID names the drill's directory.
func (d *DrillRun) ID() string { return d.marker.ID }

// Failed tells whether the drill has shown already that something is wrong.
func (d *DrillRun) Failed() bool { return len(d.result.Failures) > 0 }

const maxFailures = 100

func (d *DrillRun) fail(format string, args ...any) {
	if len(d.result.Failures) == maxFailures {
		d.more++
		return
	}
	d.result.Failures = append(d.result.Failures, strings.TrimSpace(fmt.Sprintf(format, args...)))
}

func (d *DrillRun) note(format string, args ...any) {
	d.result.Notes = append(d.result.Notes, fmt.Sprintf(format, args...))
}

func (d *DrillRun) socket() string { return filepath.Join(d.scratch.dir, d.marker.ID, "s") }

// Restore restores the backup. What is stored and cannot be restored fails the drill; all else that goes wrong (no space, no
// answer) is an error, which says nothing of the backup.
func (d *DrillRun) Restore(ctx context.Context, report func(done, total int64)) error {
	if d.Backup == nil {
		d.fail("the backup cannot be read: %s", told(d.Broken))
		return nil
	}
	e, err := Restore(ctx, Options{
		Route: d.Route, Backup: d.Backup, Holder: d.Holder, Places: []Place{d.Place}, Program: d.Program, Isolated: d.socket(), Now: d.Now, Report: report,
	})
	for _, p := range e.Phases {
		d.result.Phases = append(d.result.Phases, state.DrillPhase(p))
	}
	d.result.Notes = append(d.result.Notes, e.Notes...)
	switch {
	case err == nil:
	case ctx.Err() == nil && stored(err):
		d.fail("the backup could not be restored: %s%s", told(err), d.lost(ctx, err))
		return nil
	default:
		return fmt.Errorf("restore backup %s into the scratch directory: %w", d.Route.Backup, err)
	}
	return nil
}

// Start starts the server and lets it recover to the target, where it is promoted.
func (d *DrillRun) Start(ctx context.Context, report func(done, total int64)) error {
	if _, err := Startable(ctx, d.Route.Destination, d.Major); err != nil {
		return err
	}
	var tell func(Replay)
	if report != nil {
		tell = func(r Replay) { report(r.Done, r.Total) }
	}
	reached, e, err := Start(ctx, StartOptions{Route: d.Route, Major: d.Major, Now: d.Now, Report: tell})
	for _, p := range e.Phases {
		d.result.Phases = append(d.result.Phases, state.DrillPhase(p))
	}
	d.result.LastTime = reached.LastTime
	if err != nil && ctx.Err() == nil {
		if not := d.noVerdict(ctx, err); not != nil {
			return not
		}
		d.fail("the recovery did not reach its target: %s", err)
		return nil
	}
	if err == nil {
		d.result.RTO = d.result.Recovery()
	}
	return err
}

// Stop ends the server, at once: nothing of it is needed any more.
func (d *DrillRun) Stop() error { return endServers(d.Route.Destination.Path) }

// Finish writes what the drill came to into its marker, durably, so that it is known whatever happens from here on.
func (d *DrillRun) Finish() (state.Drill, error) {
	if d.more > 0 {
		d.result.Failures = append(d.result.Failures, fmt.Sprintf("and %d more", d.more))
	}
	d.result.Passed, d.result.Ended = len(d.result.Failures) == 0, d.Now().UTC()
	d.marker.Result = &d.result
	return d.result, d.scratch.mark(d.marker)
}
