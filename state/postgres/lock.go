package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
	"time"

	"github.com/pgkeep/pgkeep/state"
)

// lockKey gives the number of an advisory lock. Two names meet with the chance of 64-bit numbers.
func lockKey(name string) int64 {
	sum := sha256.Sum256([]byte("pgkeep lock " + name))
	return int64(binary.BigEndian.Uint64(sum[:8]))
}

// TryLock takes the advisory lock of that name for this session, or fails at once with CodeLocked, naming the holder.
// Advisory locks belong to a database: those who shall exclude each other use the same dbname. The lock is free when
// unlock is called, the session ends or the server restarts: Ping before an act that needs it. The session is kept from
// being ended as idle.
func (c *Conn) TryLock(ctx context.Context, name string) (unlock func(), err error) {
	action := fmt.Sprintf("lock %q on %s", name, c.server)
	if c.version >= 140000 {
		if _, err := c.rows(ctx, question{action: action, sql: "set idle_session_timeout = 0"}); err != nil {
			return nil, err
		}
	}
	key := strconv.FormatInt(lockKey(name), 10)
	for tries := 5; ; tries-- {
		row, err := c.row(ctx, 1, question{action: action, sql: "select pg_try_advisory_lock($1::bigint)", args: []string{key}})
		if err != nil {
			return nil, err
		}
		if string(row[0]) == "t" {
			break
		}
		locked, held := c.lockedBy(ctx, name, lockKey(name))
		if held || tries == 0 { // else its holder let go before it could be named: it may be ours now
			return nil, locked
		}
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_, err := c.rows(ctx, question{action: action, sql: "select pg_advisory_unlock($1::bigint)", args: []string{key}})
		if err != nil {
			_ = c.Close() // the end of the session frees it too
		}
	}, nil
}

// lockedBy names the holder, as far as the role may see. held is false when nobody holds the lock any more.
func (c *Conn) lockedBy(ctx context.Context, name string, key int64) (locked error, held bool) {
	e := &state.Error{Code: state.CodeLocked, Text: fmt.Sprintf("%q is locked on %s", name, c.server)}
	rows, err := c.rows(ctx, question{
		action: "ask who holds the lock",
		sql: `select l.pid, a.usename, a.application_name, a.client_addr, to_char(a.backend_start at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
			from pg_locks l left join pg_stat_activity a on a.pid = l.pid
			where l.locktype = 'advisory' and l.granted and l.objsubid = 1 and l.classid = $1::oid and l.objid = $2::oid
			and l.database = (select oid from pg_database where datname = current_database())`,
		args: []string{strconv.FormatUint(uint64(key)>>32, 10), strconv.FormatUint(uint64(uint32(key)), 10)},
	})
	if err != nil || len(rows) == 0 {
		return e, err != nil
	}
	f := &scan{fields: rows[0]}
	h := lockHolder{pid: f.number(), user: f.text(), application: f.text(), address: f.text(), since: f.text()}
	e.Text += fmt.Sprintf(" by %s, lock id %d", h, key)
	e.Hint = "wait until it is done, or end that pgkeep"
	return e, true
}

// lockHolder is a session that holds a lock. What the role may not see is empty.
type lockHolder struct {
	pid                               int64
	user, application, address, since string
}

// String tells who it is since when: application names of ours say user@host and the process there.
func (h lockHolder) String() string {
	if h.since == "" {
		return fmt.Sprintf("a session of role %s (server process %d); this role may not see who that is since when: grant pg_read_all_stats to it", cleanText(h.user), h.pid)
	}
	address := "from " + h.address
	if h.address == "" {
		address = "over a local socket"
	}
	return fmt.Sprintf("%s as %s %s (server process %d) since %s", cleanText(h.application), cleanText(h.user), cleanText(address), h.pid, h.since)
}
