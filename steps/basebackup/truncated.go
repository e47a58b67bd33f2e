package basebackup

import (
	"context"
	"fmt"

	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/wal"
)

// A relation that VACUUM has truncated and that grows again by a bulk insert gets pages of zeros at its end, of which no WAL
// tells. The server neither sends them nor says that they are not the parent's: its INCREMENTAL file names only the length of
// the whole (seen on 17.10 and 18.4; PostgreSQL's own pg_combinebackup brings deleted rows back so). The summaries know to
// which length a relation was truncated, so they are asked: a page from that length on which is not sent has been written by
// nobody since, and is zeros.
//
// A server that was set back to an earlier copy of itself, as machines are to snapshots, goes on with the same identifier and timeline. What it tells is what changed
// since the copy in its new history, not what the parent has of its old one: so it is asked for signs of that too (postgres.Since).
//
// Across a change of timeline the server's summaries cannot be trusted: one that a standby made of WAL which it never
// replayed may count, and a truncation in it hides changed pages. Then the backup is compared.

// Truncated gives the relations that were truncated since a backup, and to how many pages they were cut at the least;
// those that were created, dropped or cut to none, which come whole, may be left out. It is asked once the backup has begun,
// and answers from the server that the backup is taken of. postgres.Conn has such a method.
type Truncated func(ctx context.Context, r postgres.Since) (map[postgres.Relation]uint32, error)

// UntoldError says that the server did not tell all that is needed to know which pages changed. Nothing was written; the
// backup can be taken on another session, with Options.Compare.
type UntoldError struct {
	Why string
	Err error // nil: Why says all
}

// Error gives what was not told.
func (e *UntoldError) Error() string { return "the server does not tell all that is needed: " + e.Why }

// Unwrap gives what kept the server from telling.
func (e *UntoldError) Unwrap() error { return e.Err }

// cannotAsk tells why the server is not to tell which pages changed, because it cannot be asked what more is needed for it;
// empty: it can.
func (t *taking) cannotAsk(ctx context.Context, conn *postgres.Replication) (why string, err error) {
	if t.o.Compare != "" {
		return t.o.Compare, nil
	}
	if t.o.Truncated == nil {
		return "which relations were truncated cannot be asked", nil
	}
	now, err := conn.IdentifySystem(ctx)
	if err != nil {
		return "", err
	}
	if p := t.parent.any(); now.Timeline != p.Timeline {
		return fmt.Sprintf("its parent %s is of timeline %d and the server of %d: WAL summaries may hold what is in no history", p.ID, p.Timeline, now.Timeline), nil
	}
	return "", nil
}

// findTruncated asks for what was truncated between the parent's start and this backup's, which is known now. Replay takes
// care of what comes later.
func (t *taking) findTruncated() error {
	if !t.summaries {
		return nil
	}
	p := t.parent.any()
	if t.start.Timeline != p.Timeline {
		return &UntoldError{Why: fmt.Sprintf("it went on to timeline %d just now", t.start.Timeline)}
	}
	found, err := t.o.Truncated(t.ctx, postgres.Since{
		Range: wal.Range{Timeline: p.Timeline, From: p.Start, To: t.start.LSN}, Stop: p.Stop, Age: t.o.Now().Sub(p.Began),
	})
	if ctx := context.Cause(t.ctx); ctx != nil {
		return ctx
	}
	if err != nil {
		return &UntoldError{Why: err.Error(), Err: err}
	}
	t.truncated = found
	return nil
}

// keeps gives below which page a file that comes in part may have pages of its parent, of the length that the server says.
func (t *taking) keeps(path string, least uint32) int64 {
	at, _ := placeOf(path)
	cut, found := t.truncated[postgres.Relation{Tablespace: at.tablespace, Database: at.database, File: at.relation}]
	if !found || at.fork != 0 {
		return int64(least)
	}
	return min(int64(least), max(0, int64(cut)-int64(firstBlock(path))))
}
