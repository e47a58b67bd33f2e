package receive

import (
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

func TestReceivesWhatTheServerWrites(t *testing.T) {
	t.Parallel()
	for _, version := range pgtest.SomeVersions(t, 13, 15, 18) {
		t.Run("", func(t *testing.T) {
			s := startServer(t, pgtest.Options{Version: version, SegmentMB: 1})
			r := newRig(t, s, 1<<20, 2)
			stop := r.start()
			s.Bench(t, "-i", "-q", "-s", "2")
			s.Exec(t, "select pg_switch_wal()")
			s.Exec(t, "create table after_switch as select 1")
			end := flushed(t, s)
			r.awaitArchived(end)
			await(t, "the report tells that all is archived", func() bool {
				f := r.look()
				return f.Receiver.Running && f.Receiver.Streaming && f.Receiver.Archived >= end && f.Receiver.Flushed >= end && f.Receiver.Problem == nil
			})
			await(t, "the server sees the flush", func() bool {
				return s.SQL(t, "select flush_lsn >= '"+end.String()+"' and replay_lsn is null from pg_stat_replication") == "t"
			})
			if err := stop(); err != nil {
				t.Fatalf("stop: %v", err)
			}
			s.Bench(t, "-n", "-c", "2", "-t", "100")
			began := time.Now()
			stop = r.start()
			r.awaitArchived(flushed(t, s))
			t.Logf("went on after %s", time.Since(began))
			if err := stop(); err != nil {
				t.Fatalf("stop: %v", err)
			}
			r.compare(s)
			if f := r.look(); f.Receiver.Running || f.Spool.Durable < end || len(f.Spool.Pending) > 0 {
				t.Errorf("after the stop: %+v", f)
			}
		})
	}
}
