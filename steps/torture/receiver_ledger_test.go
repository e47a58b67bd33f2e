package torture_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/steps/receive"
)

// ledger commits rows over several connections and keeps, fsynced, the xid of each commit that the server acknowledged.
type ledger struct {
	conninfo string
	file     *os.File

	mu    sync.Mutex
	acked []uint32
}

func newLedger(t *testing.T, conninfo string) *ledger {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "ledger"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &ledger{conninfo: conninfo, file: f}
}

// run commits until ctx ends or the server does.
func (l *ledger) run(ctx context.Context, clients int) (wait func()) {
	var g sync.WaitGroup
	for range clients {
		g.Go(func() { l.client(ctx) })
	}
	return g.Wait
}

func (l *ledger) client(ctx context.Context) {
	c, err := pgx.Connect(ctx, l.conninfo)
	if err != nil {
		return
	}
	defer c.Close(context.Background())
	for ctx.Err() == nil {
		var xid int64
		// One statement, one transaction: when it returns, the commit was acknowledged.
		if err := c.QueryRow(ctx, "insert into ledger default values returning pg_current_xact_id()::text::bigint").Scan(&xid); err != nil {
			return
		}
		if err := l.note(uint32(xid)); err != nil {
			return
		}
	}
}

func (l *ledger) note(xid uint32) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.file.WriteString(strconv.FormatUint(uint64(xid), 10) + "\n"); err != nil {
		return err
	}
	l.acked = append(l.acked, xid)
	return l.file.Sync()
}

// With the receiver in synchronous_standby_names no acknowledged commit is lost, whatever dies: the server and the
// receiver are killed, and what the repository and the spool hold must contain every one of them.
func TestSynchronousLosesNothing(t *testing.T) {
	t.Parallel()
	for _, acknowledge := range []receive.Acknowledge{receive.Spool, receive.Repository} {
		t.Run(string(acknowledge), func(t *testing.T) { t.Parallel(); synchronousLosesNothing(t, acknowledge) })
	}
}

func synchronousLosesNothing(t *testing.T, acknowledge receive.Acknowledge) {
	random := dice(t)
	x := newSite(t, pgtest.Options{SegmentMB: 1, Durable: true, Settings: map[string]string{"synchronous_commit": "on", "wal_sender_timeout": "2s"}})
	x.o.Acknowledge = acknowledge
	x.server.Exec(t, "create table ledger (n bigint generated always as identity)")
	id := x.systemID()
	x.server.Exec(t, "alter system set synchronous_standby_names = '"+slotName+"'")
	x.server.Reload(t)
	l := newLedger(t, x.o.Conninfo)
	n := rounds(t, 2)
	for i := range n {
		cmd := x.start()
		ctx, cancel := context.WithCancel(context.Background())
		wait := l.run(ctx, 4)
		before := len(l.acked)
		await(t, "commits are acknowledged", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return len(l.acked) > before+3 })
		time.Sleep(time.Duration(random.IntN(600)) * time.Millisecond) // how long they live is the fault
		if random.IntN(2) == 0 {
			kill(cmd)
			x.server.Kill9(t)
		} else {
			x.server.Kill9(t)
			kill(cmd)
		}
		cancel()
		wait()
		if acknowledge == receive.Repository && random.IntN(2) == 0 {
			x.loseSpool(id) // the machine is gone too: the repository alone must do
		}
		found := x.commits(id)
		lost := 0
		for _, xid := range l.acked {
			if !found[xid] {
				lost++
			}
		}
		if lost > 0 {
			t.Fatalf("round %d: %d of %d acknowledged commits are lost", i, lost, len(l.acked))
		}
		x.server.StartAgain(t)
	}
	t.Logf("%d rounds, %d acknowledged commits, 0 lost", n, len(l.acked))
}

func (x *site) loseSpool(id string) {
	x.t.Helper()
	if err := os.RemoveAll(filepath.Join(x.o.Spool, "orders", id)); err != nil {
		x.t.Fatal(err)
	}
}

// A server that commits asynchronously to us loses at most what we had not told it to be flushed.
func TestLosesAtMostWhatWasNotFlushed(t *testing.T) {
	t.Parallel()
	x := newSite(t, pgtest.Options{SegmentMB: 1, Settings: map[string]string{"synchronous_commit": "on"}})
	x.server.Exec(t, "create table ledger (n bigint generated always as identity)")
	id := x.systemID()
	l := newLedger(t, x.o.Conninfo)
	for range rounds(t, 1) {
		cmd := x.start()
		ctx, cancel := context.WithCancel(context.Background())
		wait := l.run(ctx, 2)
		await(t, "it streams", func() bool { return x.look().Receiver.Streaming })
		await(t, "some commits are there", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return len(l.acked) > 50 })
		cancel()
		wait()
		at := x.flushed()
		await(t, "the server knows them as flushed", func() bool { return x.acknowledged() >= at })
		kill(cmd)
		x.server.Kill9(t)
		found := x.commits(id)
		for _, xid := range l.acked {
			if !found[xid] {
				t.Fatalf("xid %d, below the flush position %s, is lost", xid, at)
			}
		}
		x.server.StartAgain(t)
	}
	t.Logf("%d commits below the flush position, 0 lost", len(l.acked))
}
