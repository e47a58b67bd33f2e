package torture

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// memoryBound is the most that one pgkeep process may hold, whatever the size of the cluster, of its files and of the WAL
// that waits.
const memoryBound = 192 << 20

// Never need more memory for a bigger database. By default the cluster and the WAL are some hundred megabytes, several
// times the bound all the same where it is broken by holding data; PGKEEP_MEMORY=full takes 2 GB, with every compression
// and into two repositories at once.
func TestMemory(t *testing.T) {
	megabytes, all := 300, []string{"zstd|gzip"}
	if os.Getenv("PGKEEP_MEMORY") == "full" {
		megabytes, all = 2048, []string{"zstd|gzip", "zstd", "lz4", "gzip"}
	}
	pg := pgtest.Start(t, pgtest.Options{Version: 15, OnDisk: true, Settings: map[string]string{
		"max_wal_size": "16GB", "autovacuum": "off", "checkpoint_timeout": "1h",
	}})
	pg.Exec(t, "select pg_create_physical_replication_slot('origin', true)")
	fill(t, pg, megabytes)
	for _, codecs := range all {
		t.Run(codecs, func(t *testing.T) { testMemory(t, pg, strings.Split(codecs, "|")) })
	}
}

func testMemory(t *testing.T, pg *pgtest.Server, codecs []string) {
	repositories, server := memoryHCL(pg.Conninfo(), codecs)
	s := newSite(t, repositories)
	s.run(t, "apply", "--auto-approve")
	s.configure(t, repositories+server)
	pg.Exec(t, "select pg_copy_physical_replication_slot('origin', 'pgkeep_orders')")

	within(t, "a receiver that catches up", catchUp(t, s, pg, len(codecs)))
	s.run(t, "apply", "--auto-approve") // the receiver, and a first backup
	within(t, "a backup", peak(t, s, "backup", "orders", "--wait=2m"))
	within(t, "a restore", peak(t, s, "recover", "--server", "orders", "--into", filepath.Join(s.dir, "back"), "--immediate",
		"--owner", owner(), "--bindir", pg.Bin, "--yes"))
	if _, err := os.Stat(filepath.Join(s.dir, "back", "global", "pg_control")); err != nil {
		t.Errorf("nothing was restored: %v", err)
	}
	s.run(t, "receiver", "stop", "orders")
	pg.Exec(t, "select pg_drop_replication_slot('pgkeep_orders')")
}

// memoryHCL is a repository for each compression, and a server that keeps its backups in all of them.
func memoryHCL(conninfo string, codecs []string) (repositories, server string) {
	var blocks, names []string
	for i, codec := range codecs {
		blocks = append(blocks, fmt.Sprintf("repository \"r%d\" {\n  path = \"@DIR@/repository%[1]d\"\n\n  compression {\n    algorithm = %q\n  }\n}\n", i, codec))
		names = append(names, fmt.Sprintf("repository.r%d", i))
	}
	repositories = strings.Join(blocks, "\n")
	_, server, _ = strings.Cut(fmt.Sprintf(journeyHCL, conninfo), "}\n")
	return repositories, strings.ReplaceAll(server, "[repository.main]", "["+strings.Join(names, ", ")+"]")
}

func within(t *testing.T, what string, bytes int64) {
	t.Helper()
	t.Logf("%s: %d MiB", what, bytes>>20)
	if bytes > memoryBound {
		t.Errorf("%s took %d MiB, at most %d were allowed", what, bytes>>20, int64(memoryBound)>>20)
	}
}

// fill makes tables of about so many megabytes, of rows that compress as real ones do and some that do not at all, and
// thereby as much WAL.
func fill(t *testing.T, pg *pgtest.Server, megabytes int) {
	t.Helper()
	pg.Exec(t, "create table filler (n int, known text, random bytea)")
	pg.Exec(t, "alter table filler alter random set storage plain")
	for databaseMegabytes(t, pg) < megabytes {
		pg.Exec(t, `insert into filler select i, repeat(md5((i % 1000)::text), 4) || md5(i::text),
			decode(md5(random()::text) || md5(random()::text) || md5(random()::text) || md5(random()::text), 'hex')
			from generate_series(1, 190000) i`)
	}
	pg.Exec(t, "checkpoint")
}

func databaseMegabytes(t *testing.T, pg *pgtest.Server) int {
	t.Helper()
	n, err := strconv.Atoi(pg.SQL(t, "select pg_database_size('postgres') / 1048576"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// catchUp runs a receiver until the server was told that all its WAL is durable and so many repositories have the last whole
// segment, and gives its peak memory.
func catchUp(t *testing.T, s *site, pg *pgtest.Server, repositories int) int64 {
	t.Helper()
	last := pg.SQL(t, "select pg_walfile_name(pg_switch_wal())")
	end := pg.SQL(t, "select pg_current_wal_flush_lsn()")
	cmd := exec.Command(s.bin, "--dir", s.dir, "receiver", "run", "orders")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // how it ended is told by what follows
	}()
	defer func() {
		_ = cmd.Process.Kill()
		<-ended
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for archived(t, s, last) < repositories || pg.SQL(t, fmt.Sprintf("select restart_lsn >= '%s' from pg_replication_slots where slot_name = 'pgkeep_orders'", end)) != "t" {
		select {
		case <-ended:
			t.Fatal("the receiver ended")
		case <-ctx.Done():
			t.Fatalf("segment %s does not reach the repository", last)
		case <-tick.C:
		}
	}
	top := highWater(t, cmd.Process.Pid)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-ended
	return top
}

// archived tells how many repositories have a whole segment.
func archived(t *testing.T, s *site, segment string) int {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(s.dir, "repository*", "c", "orders", "*", "w", "*", "*", segment))
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}

// highWater gives the most that a running process has had resident.
func highWater(t *testing.T, pid int) int64 {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), "VmHWM:"); ok {
			n, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatalf("process %d does not tell its peak memory: %v", pid, lines.Err())
	return 0
}

// peak runs the program to its end and gives its peak memory. A child's peak begins with what its parent held when it was
// made: this can be too much, never too little.
func peak(t *testing.T, s *site, args ...string) int64 {
	t.Helper()
	cmd := exec.Command(s.bin, append([]string{"--dir", s.dir}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("pgkeep %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		t.Fatal("the system does not tell what a process used")
	}
	return usage.Maxrss << 10
}
