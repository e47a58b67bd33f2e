package postgres

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/pgkeep/pgkeep/state/wal"
)

// Relation names a relation's file as WAL does. Database is 0 for those that all databases share.
type Relation struct{ Tablespace, Database, File uint32 }

// The answers are asked for in this order, so that a summary which goes away between them is missed by the second.
const (
	truncatedSQL = `select c.reltablespace, c.reldatabase, c.relfilenode, min(c.relblocknumber)
from pg_available_wal_summaries() s cross join lateral pg_wal_summary_contents(s.tli, s.start_lsn, s.end_lsn) c
where s.tli = $1::bigint and s.end_lsn > $2::pg_lsn and s.start_lsn < $3::pg_lsn and c.is_limit_block and c.relforknumber = 0
group by 1, 2, 3 having min(c.relblocknumber) > 0`
	summariesSQL = `select start_lsn, end_lsn, extract(epoch from clock_timestamp() - pg_postmaster_start_time())::bigint from pg_available_wal_summaries()
where tli = $1::bigint and end_lsn > $2::pg_lsn and start_lsn < $3::pg_lsn order by 1, 2`
)

// Since is from which backup on a server is asked what changed, and up to where.
type Since struct {
	wal.Range               // from where that backup began to where the new one does
	Stop      wal.LSN       // where that backup ended
	Age       time.Duration // how long ago it began
}

// Truncated gives the relations whose main fork was cut within r, and to how many pages at the least; those that were cut to
// none, created or dropped are left out. It reads the server's WAL summaries (17 and later): it is an error when they do not cover r, or go
// on after it, because what was cut later is of no concern; and when the server may have been set back to a copy of itself that was made before
// the backup ended: what it tells then is not what changed since.
func (c *Conn) Truncated(ctx context.Context, r Since) (map[Relation]uint32, error) {
	q := question{
		action: "ask " + c.server + " which relations were truncated", sql: truncatedSQL,
		args:  []string{strconv.FormatUint(uint64(r.Timeline), 10), r.From.String(), r.To.String()},
		grant: fmt.Sprintf("GRANT EXECUTE ON FUNCTION pg_catalog.pg_available_wal_summaries(), pg_catalog.pg_wal_summary_contents(bigint, pg_lsn, pg_lsn) TO %s;", quoteName(c.user)),
	}
	rows, err := c.rows(ctx, q)
	if err != nil {
		return nil, err
	}
	out := make(map[Relation]uint32, len(rows))
	for _, row := range rows {
		var n [4]int64
		f := &scan{fields: row}
		for i := range n {
			if n[i] = f.number(); n[i] < 0 || n[i] > math.MaxUint32 {
				f.fail(fmt.Errorf("%d is out of range", n[i]))
			}
		}
		if f.err != nil {
			return nil, classifier{action: q.action}.problem(f.err)
		}
		out[Relation{uint32(n[0]), uint32(n[1]), uint32(n[2])}] = uint32(n[3])
	}
	if err := c.covered(ctx, q, r); err != nil {
		return nil, err
	}
	return out, nil
}

// covered makes sure that WAL summaries cover r, end with it, and are of the WAL in which the backup lies.
func (c *Conn) covered(ctx context.Context, q question, r Since) error {
	q.sql = summariesSQL
	rows, err := c.rows(ctx, q)
	if err != nil {
		return err
	}
	at, begins := r.From, make([]wal.LSN, 0, len(rows))
	var up time.Duration
	for _, row := range rows {
		f := &scan{fields: row}
		from, to, seconds := f.lsn(), f.lsn(), f.number()
		if f.err != nil {
			return classifier{action: q.action}.problem(f.err)
		}
		up = time.Duration(seconds) * time.Second
		if begins = append(begins, from); from > at {
			break
		}
		at = max(at, to)
	}
	if at != r.To {
		return fmt.Errorf("the WAL summaries of %s go from %s to %s of timeline %d, and not to %s", c.server, r.From, at, r.Timeline, r.To)
	}
	if why := r.setBack(begins, up); why != "" {
		return fmt.Errorf("%s may have been set back to an earlier copy of itself: %s", c.server, why)
	}
	return nil
}

// setBack tells why a server may be an earlier copy of the one that was backed up, by where its WAL summaries begin; empty: it is not.
//
// A summary begins at each checkpoint's redo position, and a backup begins at one. A server that was set back to before the backup, and has
// come past it again with other changes, has none there. One that was set back to a copy that was made while the backup ran has recovered from a crash then, with
// a checkpoint between the backup's start and its end: checkpoints are there too where a backup takes long, but then the server was not started since. What was
// copied after the backup's end has all that the backup has.
func (r Since) setBack(begins []wal.LSN, up time.Duration) (why string) {
	const page = 8192
	begun, within := false, false
	for _, at := range begins {
		begun = begun || at == r.From
		within = within || at > r.From && at <= r.Stop+page
	}
	switch {
	case !begun:
		return fmt.Sprintf("it has no checkpoint at %s, where the backup began", r.From)
	case within && up < r.Age:
		return "it was started again since the backup began, and a checkpoint lies within the backup"
	}
	return ""
}
