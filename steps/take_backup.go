package steps

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// takeBackup takes one backup into all its repositories. One that a schedule ordered is done when every repository
// holds a committed backup that began at or after the tick; one that was needed, when every repository holds a committed
// backup that the plan did not know; any other is done only when this very run took it.
type takeBackup struct {
	server       Server
	backups      Backups
	repositories Repositories
	receivers    Receivers
	action       plan.TakeBackup
	taken        string
	whyFull      string // why it is full although an incremental was ordered
	continued    string // with which cut backups it went on, and what that saved; empty: none
	compared     string // why the whole cluster was read and compared, where the server could have told what changed
	waits        string // why it cannot be restored yet; empty: it can
	systemID     string
}

// Taken is a backup that was taken.
type Taken struct {
	ID      string
	WhyFull string // why it is full although an incremental was ordered; empty: it is what was ordered
	// Compared says why the whole cluster was read and compared with the parent, although a server of this version can tell
	// what changed; empty: it told, or cannot, or there was nothing to tell.
	Compared string
	// Continued are the cut backups with which it went on; then Stored is how much it put into each repository, and Referred how
	// many bytes of its files were there already.
	Continued        []string
	Stored, Referred int64
	// Somewhere says that a repository has it committed, also where the error says that another one has not.
	Somewhere bool
}

// backupPatience bounds how long a backup that is complete waits for the WAL that makes it consistent.
const backupPatience = 30 * time.Second

func (s *takeBackup) Done(ctx context.Context) (bool, error) {
	if s.taken == "" && s.action.Due.IsZero() && !s.action.Needed {
		return false, nil
	}
	for _, label := range s.action.Repositories {
		found, err := s.committedIn(ctx, label)
		if err != nil || !found {
			return false, err
		}
	}
	return true, nil
}

func (s *takeBackup) committedIn(ctx context.Context, label string) (bool, error) {
	backups, err := s.listed(ctx, label)
	if err != nil {
		return false, err
	}
	for _, b := range backups {
		switch {
		case b.State != state.BackupCommitted:
		case s.taken == b.ID:
			return true, nil
		case s.taken != "":
		case s.action.Needed && !slices.Contains(s.action.Known, b.ID):
			return true, nil
		case !s.action.Needed && b.Schedule == s.action.Schedule && !b.Began.Before(s.action.Due):
			return true, nil
		}
	}
	return false, nil
}

func (s *takeBackup) listed(ctx context.Context, label string) ([]state.Backup, error) {
	if s.systemID == "" {
		facts, err := s.server.Facts(ctx)
		if err != nil {
			return nil, fmt.Errorf("look at %s: %w", s.action.Server, err)
		}
		s.systemID = facts.SystemID
	}
	cluster, err := s.repositories.Cluster(ctx, label, s.action.Server, s.systemID)
	if err != nil {
		return nil, fmt.Errorf("open repository %q: %w", label, err)
	}
	backups, err := cluster.Backups(ctx)
	if err != nil {
		return nil, fmt.Errorf("list backups in repository %q: %w", label, err)
	}
	return backups, nil
}

func (s *takeBackup) Holds(ctx context.Context, c plan.Condition) (verdict, error) {
	if c.Code != plan.NeedNoBackupSince {
		return serverCondition(ctx, s.server, c)
	}
	for _, label := range s.action.Repositories {
		backups, err := s.listed(ctx, label)
		if err != nil {
			return verdict{}, err
		}
		for _, b := range backups {
			open := b.State == state.BackupRunning || b.State == state.BackupCommitted
			since := !b.Began.Before(s.action.Due)
			if s.action.Needed {
				since = !slices.Contains(s.action.Known, b.ID)
			}
			if open && since {
				return isStale("backup %s began at %s and is %s", b.ID, b.Began.UTC().Format(time.RFC3339), b.State), nil
			}
		}
	}
	return holds(), nil
}

func (s *takeBackup) Run(ctx context.Context, report func(done, total int64)) error {
	taken, err := s.backups.Take(ctx, s.action, report)
	if err != nil {
		return fmt.Errorf("take a %s backup of %s: %w", s.action.Kind, s.action.Server, err)
	}
	s.taken, s.whyFull, s.compared = taken.ID, taken.WhyFull, taken.Compared
	if len(taken.Continued) > 0 {
		s.continued = fmt.Sprintf("it went on with the cut %s: %s of its files were stored already, and %s is stored anew",
			strings.Join(taken.Continued, ", "), plan.Size(taken.Referred), plan.Size(taken.Stored))
	}
	if err := s.awaitWAL(ctx); err != nil {
		s.waits = err.Error()
	}
	return nil
}

// awaitWAL has the receiver push the WAL that the backup needs, where one runs on this machine, and looks whether every
// repository holds it. A backup whose WAL comes later is taken all the same.
func (s *takeBackup) awaitWAL(ctx context.Context) error {
	ctx, done := context.WithTimeout(ctx, backupPatience)
	defer done()
	pushed := false
	for _, label := range s.action.Repositories {
		b, err := s.find(ctx, label)
		if err != nil {
			return err
		}
		if !pushed {
			pushed = true
			if err := s.push(ctx, b.Stop); err != nil {
				return err
			}
		}
		if err := s.complete(ctx, label, b); err != nil {
			return err
		}
	}
	return nil
}

func (s *takeBackup) find(ctx context.Context, label string) (state.Backup, error) {
	backups, err := s.listed(ctx, label)
	if err != nil {
		return state.Backup{}, err
	}
	for _, b := range backups {
		if b.ID == s.taken {
			return b, nil
		}
	}
	return state.Backup{}, fmt.Errorf("repository %q does not list it", label)
}

func (s *takeBackup) push(ctx context.Context, stop wal.LSN) error {
	r, err := s.receivers.Look(ctx, s.action.Server)
	if err != nil {
		return err
	}
	if !r.Running {
		return fmt.Errorf("it waits for WAL up to %s, and no receiver runs here", stop)
	}
	if _, err := s.receivers.Push(ctx, s.action.Server, stop); err != nil {
		return fmt.Errorf("it waits for WAL up to %s: %w", stop, err)
	}
	return nil
}

// complete tells what WAL a repository lacks between the backup's start and its end.
func (s *takeBackup) complete(ctx context.Context, label string, b state.Backup) error {
	cluster, err := s.repositories.Cluster(ctx, label, s.action.Server, s.systemID)
	if err != nil {
		return fmt.Errorf("open repository %q: %w", label, err)
	}
	ranges, err := cluster.WALRanges(ctx)
	if err != nil {
		return fmt.Errorf("list archived WAL in repository %q: %w", label, err)
	}
	if c := (state.Cluster{WAL: ranges}); c.Usability(b) != state.Usable {
		return fmt.Errorf("it waits for WAL up to %s in repository %q", b.Stop, label)
	}
	return nil
}

// Note names the backup and says whether it can be restored already.
func (s *takeBackup) Note() string {
	note := "backup " + s.taken + " can be restored"
	switch {
	case s.taken == "":
		return ""
	case s.waits != "":
		note = "backup " + s.taken + ": " + s.waits
	}
	if s.whyFull != "" {
		note += "; it is a full one: " + s.whyFull
	}
	if s.continued != "" {
		note += "; " + s.continued
	}
	if s.compared != "" {
		note += "; the whole cluster was read and compared: " + s.compared
	}
	return note
}
