package basebackup

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/seal"
)

// wideServer is a server with rows that hardly compress, so that its backup has many volumes, and with what askLink asks for. It gives
// how many bytes its databases have.
func wideServer(t *testing.T, version, rows int) (s *pgtest.Server, oid string, size int64) {
	t.Helper()
	s, _, oid = ordersServer(t, version)
	s.Exec(t, "alter system set wal_keep_size = '2GB'") // it is replayed from pg_wal
	s.Reload(t)
	s.Exec(t, "create table wide as select i, (select string_agg(md5(i::text || j::text || random()::text), '') from generate_series(1, 20) j) m from generate_series(1, "+strconv.Itoa(rows)+") i")
	s.Exec(t, "create table cut as select generate_series(1, 50000) i")
	s.Exec(t, "create table accounts as select id, 0 balance, 0 moves from generate_series(1, 2000) id")
	s.Exec(t, "create table ledger (n serial primary key, note text)")
	s.Exec(t, "create extension amcheck")
	s.Exec(t, "vacuum freeze") // else the first who reads a page changes it
	s.Exec(t, "checkpoint")
	size, err := strconv.ParseInt(s.SQL(t, "select sum(pg_database_size(oid)) from pg_database"), 10, 64)
	check(t, err)
	return s, oid, size
}

// write changes some pages.
func write(t *testing.T, s *pgtest.Server, round int) {
	t.Helper()
	s.Exec(t, fmt.Sprintf("update wide set m = reverse(m) where i %% 20000 = %d", round))
	s.Exec(t, "insert into orders select 100000 + "+strconv.Itoa(1000*round)+" + i, 'more' from generate_series(1, 500) i")
	s.Exec(t, "checkpoint")
}

// TestKilledBackupIsContinued kills backups, each of which goes on with those before, at random moments. The last one stores what they lack, and is
// what the server has.
func TestKilledBackupIsContinued(t *testing.T) {
	for _, version := range pgtest.SomeVersions(t, 15) {
		for n := range max(roundsOf(t, 2)/2, 1) {
			t.Run(fmt.Sprintf("%d_%d", version, n), func(t *testing.T) { killedIsContinued(t, version) })
		}
	}
}

func killedIsContinued(t *testing.T, version int) {
	s, oid, size := wideServer(t, version, 90_000)
	system, err := walsender(t, s).IdentifySystem(t.Context())
	check(t, err)
	repo, dir := newRepository(t, seal.Codec{})
	c := clusterIn(t, repo, s, system.ID)
	locks := filepath.Join(t.TempDir(), "locks")
	local := repository.LockedWriters(locks, "backup1", "m1")
	args := []string{s.Conninfo(), dir, locks, "cut:"}
	reusable, killed := map[string]int64{}, 0
	for round := range 2 {
		said := child(t, size*int64(45+10*round+rand.IntN(30))/100, args...)
		backups, err := c.Writers(t.Context(), local, time.Time{})
		check(t, err)
		ids := ""
		for i := len(backups) - 1; i >= 0; i-- {
			b := backups[i]
			if b.State == state.BackupCommitted {
				t.Logf("round %d: it was faster than the kill: %s", round, said["committed"])
				continue
			}
			killed++
			if b.State != state.BackupAbandoned && b.State != state.BackupCut {
				t.Errorf("round %d: a killed writer left %+v", round, b)
			}
			if reusable[b.ID] == 0 {
				t.Logf("round %d: killed after %d MiB were stored for another one to go on with", round, b.Reusable>>20)
			}
			reusable[b.ID], ids = b.Reusable, ids+" "+b.ID
		}
		args[3] = "cut:" + ids
		write(t, s, round)
	}
	if killed == 0 {
		t.Fatal("no writer was killed in time")
	}
	o := testOptions(t)
	o.Now, o.LockDir, o.Continues = time.Now, locks, strings.Fields(strings.TrimPrefix(args[3], "cut:"))
	facts := askLink(t, s, false)
	result, err := Take(t.Context(), walsender(t, s), []*repository.Cluster{c}, o)
	check(t, err)
	one, _ := newRepository(t, seal.Codec{})
	o.Continues = nil
	full, err := Take(t.Context(), walsender(t, s), []*repository.Cluster{clusterIn(t, one, s, system.ID)}, o)
	check(t, err)
	var there int64
	for _, n := range reusable {
		there += n
	}
	t.Logf("%d of %d MiB were there: the last one stored %d MiB, %.2f of a full one, and refers to %d of %d MiB", there>>20, full.Stored>>20, result.Stored>>20,
		float64(result.Stored)/float64(full.Stored), result.Referred>>20, result.Bytes>>20)
	if result.Kind != repository.KindIncremental || len(result.Continued) == 0 || there == 0 || result.Stored > full.Stored-there+full.Stored/10 {
		t.Errorf("%+v", result)
	}
	check(t, c.VerifyBackup(t.Context(), result.ID, true, func(f repository.Finding) { t.Errorf("%+v", f) }))
	checkContents(t, c, result)
	for id := range reusable {
		_, err := c.RemoveCut(t.Context(), id, time.Now())
		check(t, err)
	}
	facts.check(t, restoreLink(t, s, c, result, oid))
}

// TestCutLineIsContinued cuts the line to the server. What each repository has of it is gone on with there: one of another codec, and one that was
// not there then.
func TestCutLineIsContinued(t *testing.T) {
	s, oid, size := wideServer(t, pgtest.SomeVersions(t, 15)[0], 60_000)
	system, err := walsender(t, s).IdentifySystem(t.Context())
	check(t, err)
	var dst []*repository.Cluster
	for _, codec := range []seal.Codec{{}, {Algorithm: seal.LZ4}, {}} {
		repo, _ := newRepository(t, codec)
		dst = append(dst, clusterIn(t, repo, s, system.ID))
	}
	o := testOptions(t)
	o.MarkEvery, o.Now, o.Random = 1, stepping(), rand.Uint32
	info, err := postgres.ParseConninfo(fmt.Sprintf("%s host=127.0.0.1 port=%d", s.Conninfo(), cutLine(t, s.Port, size*6/10)), nil, nil)
	check(t, err)
	conn, err := postgres.ConnectReplication(t.Context(), info, postgres.ConnectOptions{ApplicationName: "pgkeep test", Timeout: 5 * time.Minute})
	check(t, err)
	cut, err := Take(t.Context(), conn, dst[:2], o)
	if err == nil {
		t.Fatal("a backup over a line that was cut was taken")
	}
	_ = conn.Close()
	for _, c := range dst[:2] {
		backups, err := c.Backups(t.Context())
		check(t, err)
		if len(backups) != 1 || backups[0].State != state.BackupCut || backups[0].Reusable == 0 || backups[0].Failure == "" {
			t.Fatalf("%+v", backups)
		}
	}
	write(t, s, 1)
	o.Continues = []string{cut.ID}
	facts := askLink(t, s, false)
	result, err := Take(t.Context(), walsender(t, s), dst, o)
	check(t, err)
	stored := make([]int64, len(dst))
	for i, c := range dst {
		check(t, result.Outcomes[i].Err)
		check(t, c.VerifyBackup(t.Context(), result.ID, true, func(f repository.Finding) { t.Errorf("%+v", f) }))
		checkContents(t, c, result)
		b, err := c.OpenBackup(t.Context(), result.ID)
		check(t, err)
		stored[i] = b.Info().StoredBytes
		if refs := len(b.Info().Refs); (refs == 1) != (i < 2) {
			t.Errorf("repository %d: %d referred to", i, refs)
		}
		_, err = c.RemoveCut(t.Context(), cut.ID, o.Now())
		if i < 2 {
			check(t, err)
		}
	}
	t.Logf("stored %d, where nothing was there %d", stored[:2], stored[2])
	if stored[0] > stored[2]*7/10 || stored[1] > stored[2]*8/10 {
		t.Error("too much is stored")
	}
	facts.check(t, restoreLink(t, s, dst[0], result, oid))
}

// cutLine passes one line on to a server of this machine, and cuts it after so many bytes of what the server sends.
func cutLine(t *testing.T, to int, most int64) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { _ = l.Close() })
	var sent atomic.Int64
	go func() {
		in, err := l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", to))
		if err != nil {
			_ = in.Close()
			return
		}
		go func() { _, _ = io.Copy(out, in) }()
		for buf := make([]byte, 64<<10); sent.Load() < most; {
			n, err := out.Read(buf)
			if _, failed := in.Write(buf[:n]); err != nil || failed != nil {
				break
			}
			sent.Add(int64(n))
		}
		_, _ = in.Close(), out.Close()
	}()
	return l.Addr().(*net.TCPAddr).Port
}
