package receive

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/spool"
	"github.com/pgkeep/pgkeep/state/wal"
)

const slotName = "pgkeep_orders"

// patience bounds what only a test that fails waits for.
const patience = 10 * time.Minute

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a receiver of a real server with archives in memory.
type rig struct {
	t        *testing.T
	z        wal.SegmentSize
	archives []*memoryArchive
	o        Options

	mu       sync.Mutex
	conninfo string
	problems []state.Problem
}

// newRig makes a rig with n archives for a server that has the slot.
func newRig(t *testing.T, s *pgtest.Server, z wal.SegmentSize, n int) *rig {
	t.Helper()
	r := &rig{t: t, z: z, conninfo: s.Conninfo()}
	r.o = Options{
		Server: "orders", Slot: slotName, Spool: filepath.Join(t.TempDir(), "spool"), SpoolLimit: spool.Limit{Bytes: 1 << 40},
		PushEvery: 100 * time.Millisecond, Connect: r.connect, Control: r.control, Notice: r.notice,
		Holder: spool.Holder{PID: os.Getpid(), Who: "test", Since: time.Now()},
		Log:    slog.New(slog.NewTextHandler(&logWriter{t: t}, nil)), AllowVolatileSpool: true,
	}
	for i := range n {
		a := newMemoryArchive(z)
		r.archives = append(r.archives, a)
		r.o.Archives = append(r.o.Archives, a.archive([]string{"main", "offsite", "third"}[i]))
	}
	return r
}

// logWriter sends the log to the test while it runs.
type logWriter struct{ t *testing.T }

func (w *logWriter) Write(p []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Logf("%s", bytes.TrimSpace(p))
	}
	return len(p), nil
}

func (r *rig) info() postgres.Conninfo {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := postgres.ParseConninfo(r.conninfo, nil, nil)
	if err != nil {
		r.t.Errorf("parse conninfo: %v", err)
	}
	return c
}

// leadTo makes the conninfo lead to another server.
func (r *rig) leadTo(s *pgtest.Server) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conninfo = s.Conninfo()
}

func (r *rig) connect(ctx context.Context) (*postgres.Replication, error) {
	return postgres.ConnectReplication(ctx, r.info(), postgres.ConnectOptions{ApplicationName: slotName, Timeout: patience})
}

func (r *rig) control(ctx context.Context) (Control, error) {
	c, err := postgres.Connect(ctx, r.info(), postgres.ConnectOptions{ApplicationName: slotName, Timeout: patience})
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (r *rig) notice(s state.Receiver) {
	if s.Problem == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.problems = append(r.problems, *s.Problem)
}

// saw tells whether a problem of this code was ever reported.
func (r *rig) saw(code state.Code) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.problems {
		if p.Code == code {
			return true
		}
	}
	return false
}

// start runs the receiver. stop ends it and gives what Run returned.
func (r *rig) start() (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		err := Run(ctx, r.o)
		if err != nil && r.t.Context().Err() == nil {
			r.t.Logf("the receiver ended with %v", err)
		}
		done <- err
	}()
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	r.t.Cleanup(func() { _ = stop() })
	return stop
}

// result runs the receiver until it ends by itself.
func (r *rig) result() error {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := Run(ctx, r.o)
	if ctx.Err() != nil {
		r.t.Fatal("the receiver did not end by itself")
	}
	return err
}

func (r *rig) look() spool.Facts {
	r.t.Helper()
	f, err := spool.Look(r.o.Spool, r.o.Server)
	if err != nil {
		r.t.Fatal(err)
	}
	return f
}

// await polls until done says so; what it waits for is in the message.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for limit := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("after %s still waiting until %s", patience, what)
		}
	}
}

func flushed(t *testing.T, s *pgtest.Server) wal.LSN {
	t.Helper()
	l, err := wal.ParseLSN(s.SQL(t, "select pg_current_wal_flush_lsn()"))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// awaitArchived waits until every archive holds the WAL up to l.
func (r *rig) awaitArchived(l wal.LSN) {
	r.t.Helper()
	for _, a := range r.archives {
		await(r.t, "an archive reaches "+l.String(), func() bool { return a.end().To >= l })
	}
}

// startServer starts a server that keeps all its WAL, with our slot.
func startServer(t *testing.T, o pgtest.Options) *pgtest.Server {
	t.Helper()
	if o.Settings == nil {
		o.Settings = map[string]string{}
	}
	if _, ok := o.Settings["wal_keep_size"]; !ok {
		o.Settings["wal_keep_size"] = "4GB"
	}
	s := pgtest.Start(t, o)
	s.Exec(t, "select pg_create_physical_replication_slot('"+slotName+"', true)")
	return s
}

// compare checks that every archived segment has the bytes of the server's own, that they form one stretch a timeline,
// and that there is at least one. What the report says is archived must be.
func (r *rig) compare(servers ...*pgtest.Server) {
	r.t.Helper()
	told := r.look().Receiver.Archived
	for i, a := range r.archives {
		if end := a.end().To; told > end {
			r.t.Errorf("archive %d ends at %s, and the report says that WAL up to %s is archived", i, end, told)
		}
		a.mu.Lock()
		if len(a.whole) == 0 {
			r.t.Errorf("archive %d holds no segment", i)
		}
		var ranges []wal.Range
		for seg, have := range a.whole {
			ranges = append(ranges, wal.Range{Timeline: seg.Timeline, From: seg.Start(r.z), To: seg.End(r.z)})
			if !anyHas(servers, seg.Name(r.z), have) {
				r.t.Errorf("archive %d: segment %s is not what the server has", i, seg.Name(r.z))
			}
		}
		seen := map[wal.Timeline]bool{}
		for _, m := range wal.Merge(ranges) {
			if seen[m.Timeline] {
				r.t.Errorf("archive %d: timeline %d has a hole before %s", i, m.Timeline, m.From)
			}
			seen[m.Timeline] = true
		}
		a.mu.Unlock()
	}
}

func anyHas(servers []*pgtest.Server, name string, want []byte) bool {
	for _, s := range servers {
		if b, err := os.ReadFile(filepath.Join(s.DataDir, "pg_wal", name)); err == nil && bytes.Equal(b, want) {
			return true
		}
	}
	return false
}
