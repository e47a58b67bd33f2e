package repository

import (
	"context"
	"fmt"
	"time"

	"github.com/pgkeep/pgkeep/state"
)

// Writer is what a START says of the process that writes a backup, and where a sign of its life can be looked for.
type Writer struct {
	Host    string // its machine's name
	Machine string // its machine's identity; empty: not told
	Lock    string // the place of its lock, as LockPlace names it; empty: none
}

// Liveness is what is known of the process that writes a backup.
type Liveness string

// What may be known.
const (
	WriterUnknown Liveness = ""
	WriterAlive   Liveness = "alive"
	WriterKilled  Liveness = "killed" // it is gone and did not get as far as to let go: before its decision, or right after
	WriterEnded   Liveness = "ended"  // it is gone and has let go, which it does after its decision
)

// Witness tells of a writer what it knows, and by which evidence, in one sentence.
type Witness func(w Writer, key ClusterKey, id string) (Liveness, string)

// Writers is Backups, with what is known of the writers of those without a decision: a dead one's backup is `abandoned`,
// and Evidence says how that is known. local may be nil; where it does not know, the writer's lease is asked.
//
// A backup whose data is complete, whose writer has let go, and whose decision is not there is no garbage: a writer lets
// go after its decision, so COMMIT was lost, or could not be put at the very end. It is `corrupt`: told, kept, and removed
// only by name.
//
// now is this machine's clock; zero: not known. A lease is over when both it and the store's newest time say so, so that
// neither a clock that is ahead nor one object from the future makes the living look dead.
func (c *Cluster) Writers(ctx context.Context, local Witness, now time.Time) ([]state.Backup, error) {
	return c.backups(ctx, func(r record, b *state.Backup) error {
		if b.State != state.BackupRunning || r.start == nil {
			return nil
		}
		lives, evidence, err := c.liveness(ctx, r.start, local, now)
		if err != nil {
			return err
		}
		b.Evidence = evidence
		switch {
		case lives == WriterEnded && r.complete:
			b.State, b.Failure = state.BackupCorrupt, errDecisionLost.Error()
		case lives == WriterEnded, lives == WriterKilled:
			b.State = state.BackupAbandoned
			if here, _ := c.witnessed(r.start, local); here == WriterKilled {
				b.Continues = r.start.CopyOf
			}
			last, marked, err := c.lastMark(ctx, r.id)
			if err != nil {
				return err
			}
			if marked {
				b.Reusable = last.Stored
			}
		}
		return nil
	})
}

// liveness asks the lock first, which is certain, and then the lease. A lease that cannot be read tells nothing, and hides
// no backup.
func (c *Cluster) liveness(ctx context.Context, s *Start, local Witness, now time.Time) (Liveness, string, error) {
	if lives, evidence := c.witnessed(s, local); lives != WriterUnknown {
		return lives, evidence, nil
	}
	lives, evidence, err := c.leaseSays(ctx, s, now)
	switch {
	case err == nil:
		return lives, evidence, nil
	case isAbsent(err):
		return WriterUnknown, "", nil // it was removed meanwhile
	case ctx.Err() != nil:
		return WriterUnknown, "", fmt.Errorf("look whether the writer of %s lives: %w", s.ID, err)
	}
	return WriterUnknown, fmt.Sprintf("whether its writer lives is not known: %v", err), nil
}

// witnessed asks this machine alone.
func (c *Cluster) witnessed(s *Start, local Witness) (Liveness, string) {
	if local == nil {
		return WriterUnknown, ""
	}
	return local(Writer{Host: s.Host, Machine: s.Machine, Lock: s.Lock}, c.key, s.ID)
}
