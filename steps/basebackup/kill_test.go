package basebackup

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store/file"
)

// childVar makes this test program take one backup and end: the process that the kill rounds kill.
const childVar = "PGKEEP_TEST_TAKE"

func TestMain(m *testing.M) {
	if args := os.Getenv(childVar); args != "" {
		if err := takeAsChild(strings.Split(args, "|")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if args := os.Getenv(filesVar); args != "" {
		if err := manyFiles(strings.Split(args, "|")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if args := os.Getenv(filesTwiceVar); args != "" {
		if err := manyFilesTwice(strings.Split(args, "|")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// takeAsChild takes a backup of args[0] into the repository args[1] with locks in args[2], telling its progress; on the parent args[3], if
// there is one; it may also be cut: and the ids of cut backups to go on with.
func takeAsChild(args []string) error {
	ctx := context.Background()
	info, err := postgres.ParseConninfo(args[0], nil, nil)
	if err != nil {
		return err
	}
	conn, err := postgres.ConnectReplication(ctx, info, postgres.ConnectOptions{ApplicationName: "pgkeep test", Timeout: 5 * time.Minute})
	if err != nil {
		return err
	}
	system, err := conn.IdentifySystem(ctx)
	if err != nil {
		return err
	}
	st, err := file.Open(args[1], file.Options{})
	if err != nil {
		return err
	}
	repo, err := repository.Open(ctx, st)
	if err != nil {
		return err
	}
	o := Options{
		Server: "orders.eu", Checkpoint: "fast", VerifyPages: true, Host: "backup1", Machine: "m1", Program: "pgkeep test", LockDir: args[2],
		Now: stepping(), Random: rand.Uint32, Report: func(p Progress) { fmt.Println("done", p.Done) },
		Truncated: askingOver(info),
	}
	if len(args) > 3 {
		if cut, ok := strings.CutPrefix(args[3], "cut:"); ok {
			o.Continues, o.MarkEvery, o.MaxRate = strings.Fields(cut), 1, 32<<20 // so that it can be killed in its midst
		} else {
			o.Kind, o.Parent = repository.KindIncremental, args[3]
		}
	}
	result, err := Take(ctx, conn, []*repository.Cluster{repo.Cluster("orders.eu", system.ID)}, o)
	if err != nil {
		return err
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		if kb, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			fmt.Println("peak", strings.Fields(kb)[0])
		}
	}
	fmt.Println("committed", result.ID, result.Bytes)
	return nil
}

// child runs one backup in a process of its own and kills it once so many bytes have come; -1: never. It gives what the
// process printed last about peak and committed.
func child(t *testing.T, killAt int64, args ...string) map[string]string {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childVar+"="+strings.Join(args, "|"))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	said := map[string]string{}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		said[word] = rest
		if n, err := strconv.ParseInt(rest, 10, 64); err == nil && word == "done" && killAt >= 0 && n >= killAt {
			check(t, cmd.Process.Kill())
		}
	}
	if err := cmd.Wait(); killAt < 0 && err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	return said
}

func TestKilledWriterLeavesNothingGood(t *testing.T) {
	s, _, _ := ordersServer(t, pgtest.SomeVersions(t, 15)[0])
	s.Exec(t, "create table wide as select i, repeat(md5(i::text), 8) m from generate_series(1, 400000) i")
	repo, dir := newRepository(t, seal.Codec{})
	system, err := walsender(t, s).IdentifySystem(t.Context())
	check(t, err)
	c := clusterIn(t, repo, s, system.ID)
	locks := filepath.Join(t.TempDir(), "locks")
	args := []string{s.Conninfo(), dir, locks}
	size, err := strconv.ParseInt(s.SQL(t, "select sum(pg_database_size(oid)) from pg_database"), 10, 64)
	check(t, err)
	n := 5
	if v := os.Getenv("PGKEEP_ROUNDS"); v != "" {
		n, err = strconv.Atoi(v)
		check(t, err)
	}
	local := repository.LockedWriters(locks, "backup1", "m1")
	killed := 0
	for round := range n {
		said := child(t, size*int64(1+rand.IntN(98))/100, args...)
		backups, err := c.Writers(t.Context(), local, time.Time{})
		check(t, err)
		for _, b := range backups {
			if said["committed"] != "" && strings.HasPrefix(said["committed"], b.ID) {
				check(t, c.Tomb(t.Context(), b.ID, testClock)) // it was faster than the kill
				continue
			}
			if b.State != state.BackupAbandoned || b.Evidence == "" {
				t.Errorf("round %d: a killed writer left %+v", round, b)
			}
			killed++
			got, err := c.AbortBackup(t.Context(), b.ID, "its writer is dead", testClock)
			check(t, err)
			if got != state.BackupAborted {
				t.Errorf("round %d: %s", round, got)
			}
			_, err = c.RemoveAborted(t.Context(), b.ID)
			check(t, err)
		}
		_, err = c.Sweep(t.Context(), dayAfter(t, dir))
		check(t, err)
		if left, err := c.Backups(t.Context()); err != nil || len(left) != 0 {
			t.Fatalf("round %d: left %+v, %v", round, left, err)
		}
	}
	if killed == 0 {
		t.Errorf("no writer of %d was killed in time", n)
	}
	said := child(t, -1, args...)
	peak, err := strconv.Atoi(said["peak"])
	check(t, err)
	t.Logf("%d of %d killed; then %s, peak %d MiB", killed, n, said["committed"], peak>>10)
	if peak > 192<<10 {
		t.Errorf("the backup needed %d MiB", peak>>10)
	}
	id, _, _ := strings.Cut(said["committed"], " ")
	check(t, c.VerifyBackup(t.Context(), id, true, func(f repository.Finding) { t.Errorf("%+v", f) }))
}

// TestKilledIncrementalLeavesNothingGood kills writers of incremental backups: what they leave is never listed as a backup, and their parent
// stays whole. From 17 on the server tells what changed.
func TestKilledIncrementalLeavesNothingGood(t *testing.T) {
	s, _, _ := ordersServer(t, pgtest.SomeVersions(t, 15)[0])
	if s.Version >= postgres.SummariesSince {
		s.Exec(t, "alter system set summarize_wal = on")
		s.Reload(t)
	}
	s.Exec(t, "create table wide as select i, repeat(md5(i::text), 8) m from generate_series(1, 200000) i")
	repo, dir := newRepository(t, seal.Codec{})
	system, err := walsender(t, s).IdentifySystem(t.Context())
	check(t, err)
	c := clusterIn(t, repo, s, system.ID)
	locks := filepath.Join(t.TempDir(), "locks")
	args := []string{s.Conninfo(), dir, locks}
	full, _, _ := strings.Cut(child(t, -1, args...)["committed"], " ")
	size, err := strconv.ParseInt(s.SQL(t, "select sum(pg_database_size(oid)) from pg_database"), 10, 64)
	check(t, err)
	local := repository.LockedWriters(locks, "backup1", "m1")
	parent, killed := full, 0
	for round := range roundsOf(t, 4) {
		s.Exec(t, fmt.Sprintf("update wide set m = repeat(md5(m), 8) where i %% 100 = %d", round))
		said := child(t, size*int64(1+rand.IntN(98))/100, append(args, parent)...)
		backups, err := c.Writers(t.Context(), local, time.Time{})
		check(t, err)
		for _, b := range backups {
			switch {
			case b.State == state.BackupCommitted:
				check(t, c.VerifyBackup(t.Context(), b.ID, true, func(f repository.Finding) { t.Errorf("round %d: %+v", round, f) }))
			case b.State != state.BackupAbandoned || b.Evidence == "":
				t.Errorf("round %d: a killed writer left %+v", round, b)
			default:
				killed++
				_, err := c.AbortBackup(t.Context(), b.ID, "its writer is dead", testClock)
				check(t, err)
				_, err = c.RemoveAborted(t.Context(), b.ID)
				check(t, err)
			}
		}
		if id, _, ok := strings.Cut(said["committed"], " "); ok {
			parent = id // it was faster than the kill
		}
	}
	if killed == 0 {
		t.Error("no writer was killed in time")
	}
	said := child(t, -1, append(args, parent)...)
	id, _, _ := strings.Cut(said["committed"], " ")
	check(t, c.VerifyBackup(t.Context(), id, true, func(f repository.Finding) { t.Errorf("%+v", f) }))
	b, err := c.OpenBackup(t.Context(), id)
	check(t, err)
	if b.Info().Parent != parent || b.Info().StoredBytes == 0 || b.Info().Chain.Summaries != (s.Version >= postgres.SummariesSince) {
		t.Errorf("%+v", b.Info())
	}
	t.Logf("%d killed; then %s, peak %s kB", killed, id, said["peak"])
}

// dayAfter lets the repository's store tell a time two days later than the one it told last, and gives it.
func dayAfter(t *testing.T, dir string) time.Time {
	t.Helper()
	later := time.Now()
	check(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.Name() != "cluster.json" {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if info.ModTime().After(later) {
			later = info.ModTime()
		}
		later = later.Add(48 * time.Hour)
		return os.Chtimes(path, later, later)
	}))
	return later
}
