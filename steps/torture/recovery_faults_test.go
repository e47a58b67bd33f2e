package torture

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/wal"
	"github.com/pgkeep/pgkeep/steps/recovery"
)

// faultLength is how long a recovery under faults is, and how long faults last.
type faultLength struct {
	segments int           // that it walks; between the fault and the end lies more than is fetched ahead
	at       int           // the call of wal-get with which the fault begins
	cut      time.Duration // of the repository
	kills    int           // of wal-get
}

func howLong() faultLength {
	if os.Getenv("PGKEEP_PG") != "" || os.Getenv("PGKEEP_ROUNDS") != "" {
		return faultLength{segments: 30, at: 12, cut: 30 * time.Second, kills: 20}
	}
	return faultLength{segments: 16, at: 4, cut: 3 * time.Second, kills: 4}
}

// fault is something that happens to a recovery on its way.
type fault struct {
	name  string
	shell string          // what the program in restore_command does from that call on, while the file "fault" is there
	begin func(f *faulty) // when that call is reached; nil: nothing more
	cure  func(f *faulty) // makes it good again; nil: nothing more
	waits bool            // PostgreSQL waits for the cure; else it ends, and is started again after it
	lasts time.Duration   // of a fault that is waited for
}

// TestRecoveryUnderFaults breaks what PostgreSQL recovers from, in the middle of a recovery to the latest moment that ends
// in a promotion. PostgreSQL may wait or stop; it must never come to an end of recovery without the ledger's last row, and
// once the fault is cured all rows are there. With PGKEEP_PG or PGKEEP_ROUNDS the recovery is longer, the repository is cut
// for 30 seconds, and wal-get killed 20 times.
func TestRecoveryUnderFaults(t *testing.T) {
	for _, version := range pgtest.SomeVersions(t, 15) {
		t.Run(strconv.Itoa(version), func(t *testing.T) {
			f := newFaulty(t, version)
			for _, x := range f.faults() {
				t.Run(x.name, func(t *testing.T) { f.under(t, x) })
			}
			t.Run("killed_at_random", f.killedAtRandom)
			t.Run("ahead_killed", f.aheadKilled)
		})
	}
}

// faulty is a server whose WAL is archived in many small segments, and one recovery of it.
type faulty struct {
	journey
	t       *testing.T
	long    faultLength
	last    int
	dir     string // data directory of the recovery
	port    int    // of the recovered server, written into its configuration; 0: none
	control string // directory of the program that stands in for pgkeep
	segment string // object in the repository that the recovery needs and has not asked for
	command string // postgresql.auto.conf as the recovery wrote it
}

func newFaulty(t *testing.T, version int) *faulty {
	f := &faulty{journey: journey{version: version}, t: t, long: howLong()}
	f.pg = pgtest.Start(t, pgtest.Options{Version: version, SegmentMB: 1, Settings: ledgerSettings})
	f.pg.Exec(t, ledgerTable)
	f.pg.Exec(t, "create table ballast (filler text)")
	f.hcl = fmt.Sprintf(journeyHCL, f.pg.Conninfo())
	f.site = newSite(t, f.hcl)
	f.protect(t)
	for range f.long.segments {
		f.ledger.commit(t, f.pg)
		f.pg.Exec(t, "insert into ballast select repeat(md5(random()::text), 20) from generate_series(1, 1300)") // fills a segment
	}
	f.last = f.ledger.commit(t, f.pg).n
	f.settle()
	return f
}

// settle lets the receiver archive everything and end: what it pushes later, as root, the server's user could not read, and
// the WAL would be copied before PostgreSQL could be cut off from it.
func (f *faulty) settle() {
	f.t.Helper()
	last, err := wal.ParseLSN(f.ledger.at(f.last).lsn)
	if err != nil {
		f.t.Fatal(err)
	}
	eventually(f.t, "all WAL in the spool", func() bool { return f.receiver(f.t).Flushed >= last })
	f.site.run(f.t, "receiver", "stop", "orders")
}

func (f *faulty) faults() []fault {
	short := min(2*time.Second, f.long.cut/2)
	moved := func(path func(*faulty) string) (func(*faulty), func(*faulty)) {
		return func(f *faulty) { f.rename(path(f), path(f)+".away") }, func(f *faulty) { f.rename(path(f)+".away", path(f)) }
	}
	routeAway, routeBack := moved(func(f *faulty) string { return recovery.RouteFile(f.dir) })
	repositoryAway, repositoryBack := moved(func(f *faulty) string { return filepath.Join(f.site.dir, "repository") })
	segmentAway, segmentBack := moved(func(f *faulty) string { return f.segment })
	return []fault{
		{name: "bad_flag", shell: `shift; exec "$REAL" wal-get --no-such-flag "$@"`},
		{name: "bad_arguments", shell: `exec "$REAL" wal-get`},
		{name: "panic", shell: `exec "$CONTROL/panics"`},
		{name: "crash", shell: `kill -SEGV $$`},
		{name: "killed", shell: `kill -KILL $$`},
		{name: "no_program", shell: `exec "$CONTROL/no-such-program"`},
		{name: "no_permission", shell: `exec "$CONTROL/calls"`},
		{name: "empty_program", shell: `exec sh "$CONTROL/nothing"`},
		{name: "route_file_away", begin: routeAway, cure: routeBack},
		{name: "repository_cut", begin: repositoryAway, cure: repositoryBack, waits: true, lasts: f.long.cut},
		{name: "segment_away", begin: segmentAway, cure: segmentBack, waits: true, lasts: short},
		{
			name: "one_bit", begin: func(f *faulty) { f.flip(f.segment) }, cure: func(f *faulty) { f.flip(f.segment) },
			waits: true, lasts: short,
		},
	}
}

// under recovers once, with the fault in the middle.
func (f *faulty) under(t *testing.T, x fault) {
	g := *f
	g.t = t
	g.restore("under_"+x.name, x.shell)
	if x.begin != nil {
		g.write("hold", "")
	}
	server, err := pgtest.TryStartDir(t, g.version, g.dir, pgtest.Options{Version: g.version})
	if err != nil && x.begin != nil { // else it may have met the fault before it could be asked anything
		t.Fatalf("it did not start: %v\n%s", err, server.Log())
	}
	eventually(t, fmt.Sprintf("call %d of wal-get", g.long.at), func() bool { return g.has("reached") })
	if x.begin != nil {
		x.begin(&g)
		g.remove("hold")
	}
	if x.waits {
		g.waitsFor(server, x)
		return
	}
	eventually(t, "the end of the server", func() bool { return ended(server) })
	g.short(server)
	if x.cure != nil {
		x.cure(&g)
	}
	g.remove("fault")
	server = pgtest.StartDir(t, g.version, g.dir, pgtest.Options{Version: g.version})
	g.whole(server)
	server.Stop(t, "immediate")
}

// waitsFor lets the fault last: the server neither ends nor comes to an end of recovery meanwhile, and goes on by itself.
func (f *faulty) waitsFor(server *pgtest.Server, x fault) {
	f.t.Helper()
	timer := time.NewTimer(x.lasts)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-server.Done():
		f.t.Fatalf("it ended, and the fault lasted %s only:\n%s", x.lasts, server.Log())
	}
	if out, err := server.Try("select pg_is_in_recovery()"); err == nil && out != "t" {
		f.t.Errorf("it left recovery during the fault:\n%s", server.Log())
	}
	f.short(server)
	x.cure(f)
	f.whole(server)
	server.Stop(f.t, "immediate")
}

// killedAtRandom kills wal-get again and again, at a random moment of a random call; PostgreSQL ends each time, is started
// again, and must have everything in the end.
func (f *faulty) killedAtRandom(t *testing.T) {
	g := *f
	g.t = t
	g.restore("killed_at_random", `"$REAL" "$@" & p=$!; sleep "$(cat "$CONTROL/moment")"; kill -KILL $p; wait $p; exit $?`)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range g.long.kills {
		g.write("moment", fmt.Sprintf("0.%03d", random.IntN(20)))
		g.write("calls", strconv.Itoa(g.long.at-random.IntN(g.long.at)))
		server, err := pgtest.TryStartDir(t, g.version, g.dir, pgtest.Options{Version: g.version})
		if err != nil {
			g.short(server)
			continue
		}
		eventually(t, "an end of the server or of recovery", func() bool {
			out, err := server.Try("select pg_is_in_recovery()")
			return ended(server) || err == nil && out == "f"
		})
		if !ended(server) { // every call that was to be killed was through before
			g.whole(server)
			server.Stop(t, "immediate")
			return
		}
		g.short(server)
	}
	g.remove("fault")
	server := pgtest.StartDir(t, g.version, g.dir, pgtest.Options{Version: g.version})
	g.whole(server)
	server.Stop(t, "immediate")
}

// short fails the test when a recovery that cannot have everything says that it is complete.
func (f *faulty) short(server *pgtest.Server) {
	f.t.Helper()
	for _, said := range []string{"archive recovery complete", "selected new timeline"} {
		if strings.Contains(server.Log(), said) {
			f.t.Fatalf("%s, with a fault on its way:\n%s", said, server.Log())
		}
	}
	if _, err := os.Stat(filepath.Join(f.dir, "recovery.signal")); err != nil {
		f.t.Errorf("PostgreSQL ended the recovery: %v", err)
	}
}

// whole waits for the end of recovery and compares the ledger.
func (f *faulty) whole(server *pgtest.Server) {
	f.t.Helper()
	awaitPromotion(f.t, server)
	holds(f.t, server, f.last)
}

// restore restores into a directory of its own, and puts a program in place of pgkeep that behaves like it until the
// call at which the fault begins, and then as the fault says.
func (f *faulty) restore(name, shell string) {
	t := f.t
	t.Helper()
	f.giveRepository()
	f.dir, f.control = filepath.Join(f.site.dir, name), filepath.Join(f.site.dir, name+"_control")
	f.segment = f.neededSegment()
	text := strings.Replace(fmt.Sprintf(recoveryHCL, name, "latest = true", owner(), f.pg.Bin), `tablespaces = {`, `# tablespaces = {`, 1)
	if f.port != 0 {
		text = strings.Replace(text, "owner ", fmt.Sprintf("port = %d\n    owner ", f.port), 1)
	}
	f.site.configure(t, f.hcl+text)
	f.site.run(t, "recover", name, "--yes", "--accept-loss") // of what an idle server writes by itself
	if err := os.Mkdir(f.control, 0o700); err != nil {
		t.Fatal(err)
	}
	f.write("nothing", "")
	f.write("calls", "0")
	f.write("fault", shell)
	f.write("pgkeep", standIn(f.site.bin, f.control, f.long.at))
	f.build("panics", "package main\n\nfunc main() { panic(\"as a mistake in wal-get would\") }\n")
	f.chown(f.control)
	f.replaceProgram()
}

// standIn is the program: it counts its calls and, from the one on, does what the fault says.
func standIn(real, control string, at int) string {
	return fmt.Sprintf(`#!/bin/sh
REAL='%s'; CONTROL='%s'
n=$(($(cat "$CONTROL/calls") + 1)); echo $n > "$CONTROL/calls"
if [ $n -ge %d ] && [ -e "$CONTROL/fault" ]; then
	echo $n > "$CONTROL/reached"
	while [ -e "$CONTROL/hold" ]; do sleep 0.02; done
	. "$CONTROL/fault"
fi
exec "$REAL" "$@"
`, real, control, at)
}

// replaceProgram has restore_command run the program in place of pgkeep, and for every segment: the shell serves nothing by itself.
func (f *faulty) replaceProgram() {
	f.t.Helper()
	path := filepath.Join(f.dir, "postgresql.auto.conf")
	b, err := os.ReadFile(path)
	if err != nil {
		f.t.Fatal(err)
	}
	f.command = string(b)
	text := shellServes.ReplaceAllString(f.command, "")
	text = strings.Replace(text, f.site.bin, filepath.Join(f.control, "pgkeep"), 1)
	if text == f.command || strings.Contains(text, "mv -f") {
		f.t.Fatalf("restore_command does not run %s:\n%s", f.site.bin, b)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil { // it has its owner
		f.t.Fatal(err)
	}
}

// shellServes is the part of restore_command that serves what was fetched ahead.
var shellServes = regexp.MustCompile(`\[ -f \S+ \] && mv -f \S+ %p && exit 0; `)

// build makes a program of one file beside the stand-in.
func (f *faulty) build(name, source string) {
	f.t.Helper()
	file := filepath.Join(f.t.TempDir(), "main.go")
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		f.t.Fatal(err)
	}
	if out, err := exec.Command("go", "build", "-o", filepath.Join(f.control, name), file).CombinedOutput(); err != nil {
		f.t.Fatalf("build %s: %v\n%s", name, err, out)
	}
}

// neededSegment gives the object of a segment that a recovery asks for late.
func (f *faulty) neededSegment() string {
	f.t.Helper()
	segment := f.pg.SQL(f.t, fmt.Sprintf("select pg_walfile_name('%s')", f.ledger.at(f.long.segments-2).lsn))
	pattern := filepath.Join(f.site.dir, "repository", "c", "orders", "*", "w", "*", "*", segment)
	var found []string
	eventually(f.t, pattern, func() bool {
		var err error
		found, err = filepath.Glob(pattern)
		return err == nil && len(found) == 1
	})
	return found[0]
}

// giveRepository lets the server's user read the repository, as one that is shared with it is.
func (f *faulty) giveRepository() { f.chown(filepath.Join(f.site.dir, "repository")) }

func (f *faulty) chown(dir string) {
	f.t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	to, err := host.LookupOwner(owner())
	if err != nil {
		f.t.Fatal(err)
	}
	err = filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err == nil {
			err = os.Lchown(path, to.UID, to.GID)
		}
		if os.IsNotExist(err) { // a temporary file of the receiver
			return nil
		}
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

// flip turns one bit in the middle of a file; twice is healed.
func (f *faulty) flip(path string) {
	f.t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		f.t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		f.t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err := file.ReadAt(b, info.Size()/2); err != nil {
		f.t.Fatal(err)
	}
	b[0] ^= 4
	if _, err := file.WriteAt(b, info.Size()/2); err != nil {
		f.t.Fatal(err)
	}
}

func (f *faulty) rename(from, to string) {
	f.t.Helper()
	if err := os.Rename(from, to); err != nil {
		f.t.Fatal(err)
	}
}

// write writes a file of the stand-in.
func (f *faulty) write(name, content string) {
	f.t.Helper()
	path := filepath.Join(f.control, name)
	mode := os.FileMode(0o600)
	if name == "pgkeep" {
		mode = 0o700
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		f.t.Fatal(err)
	}
	f.chown(path)
}

func (f *faulty) remove(name string) {
	f.t.Helper()
	if err := os.Remove(filepath.Join(f.control, name)); err != nil {
		f.t.Fatal(err)
	}
}

func (f *faulty) has(name string) bool {
	_, err := os.Stat(filepath.Join(f.control, name))
	return err == nil
}

func ended(server *pgtest.Server) bool {
	select {
	case <-server.Done():
		return true
	default:
		return false
	}
}
