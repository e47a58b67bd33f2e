package torture_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/file"
	"github.com/pgkeep/pgkeep/state/spool"
	"github.com/pgkeep/pgkeep/state/wal"
	"github.com/pgkeep/pgkeep/steps/receive"
)

const (
	slotName    = "pgkeep_orders"
	processName = "PGKEEP_TEST_RECEIVER" // environment: makes this test binary a receiver
)

// orders tells a receiver process what to do.
type orders struct {
	Conninfo    string
	Spool       string
	Repository  string
	Acknowledge receive.Acknowledge
	Limit       spool.Limit
	OnFull      receive.Full
	PushEvery   time.Duration
	Timeout     time.Duration
}

// connectTimeout is short only where the network is at fault: a machine that is slow must come through.
func (o orders) connectTimeout() time.Duration {
	if o.Timeout > 0 {
		return max(5*time.Second, o.Timeout)
	}
	return time.Minute
}

// options makes a receiver's options of the orders.
func (o orders) options(log *slog.Logger) receive.Options {
	info := func() (postgres.Conninfo, error) { return postgres.ParseConninfo(o.Conninfo, nil, nil) }
	connect := postgres.ConnectOptions{ApplicationName: slotName, Timeout: o.connectTimeout()}
	if o.Limit == (spool.Limit{}) {
		o.Limit.Bytes = 1 << 40
	}
	return receive.Options{
		Server: "orders", Slot: slotName, Spool: o.Spool, SpoolLimit: o.Limit, AllowVolatileSpool: true,
		Acknowledge: o.Acknowledge, OnSpoolFull: o.OnFull, PushEvery: o.PushEvery, Timeout: o.Timeout, Log: log,
		Holder: spool.Holder{PID: os.Getpid(), Who: "torture", Since: time.Now()},
		Connect: func(ctx context.Context) (*postgres.Replication, error) {
			c, err := info()
			if err != nil {
				return nil, err
			}
			return postgres.ConnectReplication(ctx, c, connect)
		},
		Control: func(ctx context.Context) (receive.Control, error) {
			c, err := info()
			if err != nil {
				return nil, err
			}
			return postgres.Connect(ctx, c, connect)
		},
		Archives: []receive.Archive{{Name: "main", Open: o.open}},
	}
}

func (o orders) open(ctx context.Context, c receive.ClusterIdentity) (receive.Cluster, error) {
	st, err := file.Open(o.Repository, file.Options{})
	if err != nil {
		return nil, err
	}
	r, err := repository.Open(ctx, st)
	if err != nil {
		return nil, err
	}
	cluster := r.Cluster(c.Name, c.SystemID)
	if c.Major > 0 {
		err = cluster.Ensure(ctx, repository.ClusterFacts{Major: c.Major, SegmentSize: c.SegmentSize, PageSize: 8192, PageChecksums: true})
	}
	return receive.InRepository(cluster), err
}

// TestReceiverProcess is no test: it is the receiver that the tests of this file start as a process and kill.
func TestReceiverProcess(t *testing.T) {
	text := os.Getenv(processName)
	if text == "" {
		t.Skip("only run by other tests, as a process")
	}
	var o orders
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := receive.Run(ctx, o.options(slog.New(slog.NewTextHandler(os.Stderr, nil)))); err != nil {
		t.Fatal(err)
	}
}

// site is a server with our slot, a repository and a spool.
type site struct {
	t      *testing.T
	server *pgtest.Server
	z      wal.SegmentSize
	o      orders
	log    string   // file that receiver processes write to
	wrap   []string // command that runs the receiver process
	// reserved is where the slot began: no acknowledgement of ours.
	reserved wal.LSN
}

func newSite(t *testing.T, so pgtest.Options) *site {
	t.Helper()
	if so.Settings == nil {
		so.Settings = map[string]string{}
	}
	if _, ok := so.Settings["wal_keep_size"]; !ok {
		so.Settings["wal_keep_size"] = "8GB"
	}
	if so.SegmentMB == 0 {
		so.SegmentMB = 16
	}
	s := pgtest.Start(t, so)
	s.Exec(t, "select pg_create_physical_replication_slot('"+slotName+"', true)")
	dir := t.TempDir()
	x := &site{t: t, server: s, z: wal.SegmentSize(so.SegmentMB << 20), log: filepath.Join(dir, "receiver.log")}
	x.o = orders{Conninfo: s.Conninfo(), Spool: filepath.Join(dir, "spool"), Repository: filepath.Join(dir, "repository"), PushEvery: 200 * time.Millisecond}
	x.createRepository()
	x.reserved = x.acknowledged()
	t.Cleanup(func() {
		if b, err := os.ReadFile(x.log); err == nil && t.Failed() {
			t.Logf("the receivers said:\n%s", b[max(0, len(b)-8000):])
		}
	})
	return x
}

func (x *site) createRepository() {
	x.t.Helper()
	st, err := file.Open(x.o.Repository, file.Options{})
	if err == nil {
		_, err = repository.Create(context.Background(), st, repository.CreateOptions{Now: time.Now(), Compression: seal.Codec{}.Normal()})
	}
	if err != nil {
		x.t.Fatal(err)
	}
}

// start starts a receiver process.
func (x *site) start() *exec.Cmd {
	x.t.Helper()
	text, err := json.Marshal(x.o)
	if err != nil {
		x.t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		x.t.Fatal(err)
	}
	args := append(append([]string{}, x.wrap...), exe, "-test.run=^TestReceiverProcess$", "-test.count=1")
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), processName+"="+string(text))
	log, err := os.OpenFile(x.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		x.t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() { kill(cmd) })
	return cmd
}

// kill ends a receiver process at once and waits for it.
func kill(cmd *exec.Cmd) {
	if cmd.ProcessState == nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// end ends a receiver process tidily.
func (x *site) end(cmd *exec.Cmd) {
	x.t.Helper()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		x.t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		x.t.Fatalf("the receiver ended with %v", err)
	}
}

// run runs a receiver in this process, until stop.
func (x *site) run() (stop func()) {
	x.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- receive.Run(ctx, x.o.options(nil)) }()
	return func() {
		x.t.Helper()
		cancel()
		if err := <-done; err != nil {
			x.t.Fatalf("the receiver ended with %v", err)
		}
	}
}

func (x *site) systemID() string {
	return x.server.SQL(x.t, "select system_identifier from pg_control_system()")
}

// cluster opens the repository from beside.
func (x *site) cluster(id string) *repository.Cluster {
	x.t.Helper()
	st, err := file.Open(x.o.Repository, file.Options{})
	if err != nil {
		x.t.Fatal(err)
	}
	r, err := repository.Open(context.Background(), st)
	if err != nil {
		x.t.Fatal(err)
	}
	return r.Cluster("orders", id)
}

func (x *site) flushed() wal.LSN {
	x.t.Helper()
	l, err := wal.ParseLSN(x.server.SQL(x.t, "select pg_current_wal_flush_lsn()"))
	if err != nil {
		x.t.Fatal(err)
	}
	return l
}

// acknowledged is what the server believes to be flushed by us.
func (x *site) acknowledged() wal.LSN {
	x.t.Helper()
	l, err := wal.ParseLSN(x.server.SQL(x.t, "select restart_lsn from pg_replication_slots"))
	if err != nil {
		x.t.Fatal(err)
	}
	return l
}

// awaitArchived waits until the report says that the repository holds the WAL up to l.
func (x *site) awaitArchived(l wal.LSN) {
	x.t.Helper()
	await(x.t, "the repository holds "+l.String(), func() bool { return x.look().Receiver.Archived >= l })
}

func (x *site) look() spool.Facts {
	x.t.Helper()
	f, err := spool.Look(x.o.Spool, "orders")
	if err != nil {
		x.t.Fatal(err)
	}
	return f
}

// patience bounds what only a test that fails waits for; less than a test run is given, which else ends it without a word.
const patience = 4 * time.Minute

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for limit := time.Now().Add(patience); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("after %s still waiting until %s", patience, what)
		}
	}
}

// compare checks the whole archive: one stretch without a gap, each segment the server's, byte for byte.
func (x *site) compare() {
	x.t.Helper()
	c := x.cluster(x.systemID())
	ctx := context.Background()
	ranges, err := c.WALRanges(ctx)
	if err != nil {
		x.t.Fatal(err)
	}
	if len(ranges) != 1 {
		x.t.Fatalf("the archive holds %d stretches: %+v", len(ranges), ranges)
	}
	gaps, err := c.Gaps(ctx)
	if err != nil || len(gaps) > 0 {
		x.t.Fatalf("gaps: %+v, %v", gaps, err)
	}
	n := 0
	for seg := x.z.SegmentAt(ranges[0].Timeline, ranges[0].From); seg.Start(x.z) < ranges[0].To; seg = seg.Next() {
		r, err := c.OpenSegment(ctx, seg)
		if err != nil {
			x.t.Fatal(err)
		}
		have, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			x.t.Fatal(err)
		}
		want, err := os.ReadFile(filepath.Join(x.server.DataDir, "pg_wal", seg.Name(x.z)))
		if err != nil {
			x.t.Fatal(err)
		}
		if !bytes.Equal(have, want) {
			x.t.Errorf("segment %s differs from the server's", seg.Name(x.z))
		}
		n++
	}
	if n == 0 {
		x.t.Error("the archive holds no whole segment: nothing was compared")
	}
	x.t.Logf("%d segments are the server's, byte for byte", n)
}

// rounds tells how often to repeat: PGKEEP_ROUNDS, or a few.
func rounds(t *testing.T, usual int) int {
	t.Helper()
	text := os.Getenv("PGKEEP_ROUNDS")
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("PGKEEP_ROUNDS: %v", err)
	}
	return n
}

// dice gives a random source whose seed is printed, and taken from PGKEEP_SEED to play a round again.
func dice(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("PGKEEP_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("PGKEEP_SEED: %v", err)
		}
		seed = n
	}
	t.Logf("PGKEEP_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// commits reads the xids of all commits in the repository and, after it, the spool: what a recovery would replay.
func (x *site) commits(id string) map[uint32]bool {
	x.t.Helper()
	ctx := context.Background()
	system, err := strconv.ParseUint(id, 10, 64)
	if err != nil {
		x.t.Fatal(err)
	}
	c := x.cluster(id)
	ranges, err := c.WALRanges(ctx)
	if err != nil {
		x.t.Fatal(err)
	}
	from := x.firstSpooled(id)
	if len(ranges) > 0 {
		from = ranges[0].From
	}
	sc := wal.NewScanner(x.z, system, 1)
	found := map[uint32]bool{}
	for seg := x.z.SegmentAt(1, from); ; seg = seg.Next() {
		r, err := x.openAnywhere(ctx, c, id, seg)
		if errors.Is(err, os.ErrNotExist) {
			return found
		}
		if err != nil {
			x.t.Fatal(err)
		}
		_, err = sc.Segment(seg, r, func(e wal.Event) error {
			if e.Kind == wal.Commit {
				found[e.XID] = true
			}
			return nil
		})
		r.Close()
		if err != nil {
			x.t.Logf("the WAL ends in segment %s: %v", seg.Name(x.z), err)
			return found
		}
	}
}

func (x *site) openAnywhere(ctx context.Context, c *repository.Cluster, id string, seg wal.Segment) (io.ReadCloser, error) {
	r, err := c.OpenSegment(ctx, seg)
	if err == nil {
		return r, nil
	}
	if !errors.Is(err, store.ErrNotExist) && state.CodeOf(err) != state.CodeAbsent {
		return nil, err
	}
	for _, ending := range []string{"", ".done", ".partial"} {
		f, err := os.Open(filepath.Join(x.o.Spool, "orders", id, seg.Name(x.z)+ending))
		if err == nil {
			return f, nil
		}
	}
	p, _, err := c.OpenPartial(ctx, seg)
	if errors.Is(err, store.ErrNotExist) {
		err = os.ErrNotExist
	}
	if err != nil {
		return nil, fmt.Errorf("segment %s: %w", seg.Name(x.z), err)
	}
	return p, nil
}

func (x *site) firstSpooled(id string) wal.LSN {
	x.t.Helper()
	entries, err := os.ReadDir(filepath.Join(x.o.Spool, "orders", id))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		x.t.Fatal(err)
	}
	for _, e := range entries {
		if len(e.Name()) < 24 {
			continue
		}
		if seg, err := wal.ParseSegmentName(e.Name()[:24], x.z); err == nil {
			return seg.Start(x.z)
		}
	}
	return 0
}
