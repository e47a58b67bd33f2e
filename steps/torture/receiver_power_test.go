package torture_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/steps/receive"
)

// Fault A6: the power of the receiver's machine is cut: what was not fsynced is gone, or torn, or there without its name.
// Every commit that the server acknowledged while it waited for the receiver must be in what is left, whichever of spool
// and repository acknowledges, with the server gone too. Then the receiver goes on from what is left.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	for _, acknowledge := range []receive.Acknowledge{receive.Spool, receive.Repository} {
		t.Run(string(acknowledge), func(t *testing.T) { t.Parallel(); powerCuts(t, acknowledge) })
	}
}

func powerCuts(t *testing.T, acknowledge receive.Acknowledge) {
	random := dice(t)
	x := newSite(t, pgtest.Options{SegmentMB: 1, Durable: true, Settings: map[string]string{"synchronous_commit": "on"}})
	x.o.Acknowledge = acknowledge
	x.server.Exec(t, "create table ledger (n bigint generated always as identity)")
	id := x.systemID()
	l := newLedger(t, x.o.Conninfo)
	left := x.t.TempDir() // what is on the machine's disk
	if err := os.Rename(x.o.Repository, filepath.Join(left, "repository")); err != nil {
		t.Fatal(err)
	}
	n := rounds(t, 3)
	for round := range n {
		disk := newLossy()
		mounted, unmount := disk.mount(t)
		if err := disk.load(left); err != nil {
			t.Fatal(err)
		}
		x.o.Spool, x.o.Repository = filepath.Join(mounted, "spool"), filepath.Join(mounted, "repository")
		cmd := x.start()
		x.server.Exec(t, "alter system set synchronous_standby_names = '"+slotName+"'")
		x.server.Reload(t)
		await(t, "it streams", func() bool {
			return x.server.SQL(t, "select count(*) from pg_stat_replication where sync_state = 'sync'") == "1"
		})
		x.server.Exec(t, "create table if not exists switched (); select pg_switch_wal()") // a new file, whose name is to survive
		ctx, cancel := context.WithCancel(context.Background())
		wait := l.run(ctx, 3)
		before := l.count()
		await(t, "commits are acknowledged", func() bool { return l.count() > before+3 })
		time.Sleep(time.Duration(random.IntN(800)) * time.Millisecond) // how long it lives is the fault
		left = x.t.TempDir()
		cut := l.all() // what comes later is acknowledged by a machine that is dead in this story
		if err := disk.cutPower(left, random); err != nil {
			t.Fatal(err)
		}
		kill(cmd)
		x.server.Kill9(t)
		cancel()
		wait()
		unmount()
		x.o.Spool, x.o.Repository = filepath.Join(left, "spool"), filepath.Join(left, "repository")
		found := x.commits(id)
		lost := 0
		for _, xid := range cut {
			if !found[xid] {
				lost++
			}
		}
		if lost > 0 {
			t.Fatalf("round %d: %d of %d acknowledged commits are lost", round, lost, len(cut))
		}
		x.server.StartAgain(t)
	}
	x.server.Exec(t, "alter system reset synchronous_standby_names")
	x.server.Reload(t)
	stop := x.run()
	x.write(30_000)
	x.awaitArchived(x.flushed())
	stop()
	x.compare()
	t.Logf("%d power cuts, %d acknowledged commits, 0 lost", n, l.count())
}

func (l *ledger) count() int { return len(l.all()) }

func (l *ledger) all() []uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acked
}

// load puts an ordinary directory's content onto the disk, durable.
func (l *lossy) load(from string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.root.load(context.Background(), from)
}

func (d *lossyDir) load(ctx context.Context, from string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(from, e.Name())
		if e.IsDir() {
			sub := d.l.dir()
			d.AddChild(e.Name(), d.add(ctx, e.Name(), sub, 0o040000), true)
			err = errors.Join(err, sub.load(ctx, path))
		} else {
			content, readErr := os.ReadFile(path)
			f := &lossyFile{l: d.l, now: content, durable: append([]byte{}, content...)}
			d.AddChild(e.Name(), d.add(ctx, e.Name(), f, 0o100000), true)
			err = errors.Join(err, readErr)
		}
		d.durable[e.Name()] = d.now[e.Name()]
	}
	return err
}
