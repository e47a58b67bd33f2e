package recovery

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/observe"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store/file"
	"github.com/pgkeep/pgkeep/state/wal"
	"github.com/pgkeep/pgkeep/steps/basebackup"
)

// TestMain lets the test's own program be the pgkeep that restore_command runs.
func TestMain(m *testing.M) {
	if len(os.Args) == 6 && os.Args[1] == "wal-get" && os.Args[2] == "--route" {
		exit, err := WALGet(context.Background(), WALGetOptions{Route: os.Args[3], Name: os.Args[4], Into: os.Args[5]})
		if err != nil {
			fmt.Fprintln(os.Stderr, "wal-get:", err)
		}
		os.Exit(exit)
	}
	if len(os.Args) == 3 && os.Args[1] == "restore-child" {
		os.Exit(restoreChild(os.Args[2]))
	}
	if os.Getenv("TMPDIR") == "" && roomy("/dev/shm") {
		_ = os.Setenv("TMPDIR", "/dev/shm") // every restore fsyncs a thousand files
	}
	os.Exit(m.Run())
}

func roomy(dir string) bool {
	space, err := host.SpaceAt(dir)
	return err == nil && space.Free > 2<<30
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v (%s)", err, state.HintOf(err))
	}
}

// world is a server, a repository, and what stands between them.
type world struct {
	*pgtest.Server
	t        testing.TB
	repo     *repository.Repository
	dir      string // of the repository
	cluster  *repository.Cluster
	size     wal.SegmentSize
	systemID string
	program  string
	backups  int
	blind    bool // backups do not look at page checksums
}

const name = "orders.eu"

func newWorld(t testing.TB, version int, settings map[string]string) *world {
	t.Helper()
	return newWorldOf(t, pgtest.Options{Version: version, Settings: settings})
}

// newWorldOf makes a server with these options over the usual ones.
func newWorldOf(t testing.TB, o pgtest.Options) *world {
	t.Helper()
	all := map[string]string{"wal_keep_size": "1GB", "max_prepared_transactions": "5", "track_commit_timestamp": "on", "autovacuum": "off"}
	for k, v := range o.Settings {
		all[k] = v
	}
	o.SegmentMB, o.Settings = 1, all
	w := &world{t: t, Server: pgtest.Start(t, o), size: 1 << 20, blind: o.NoChecksums}
	w.systemID = w.SQL(t, "select system_identifier from pg_control_system()")
	w.dir = filepath.Join(pgtest.TempDir(t), "repo")
	st, err := file.Open(w.dir, file.Options{})
	check(t, err)
	w.repo, err = repository.Create(t.Context(), st, repository.CreateOptions{Now: time.Now(), Compression: seal.Codec{}})
	check(t, err)
	w.cluster = w.repo.Cluster(name, w.systemID)
	check(t, w.cluster.Ensure(t.Context(), repository.ClusterFacts{Major: o.Version, SegmentSize: w.size, PageSize: 8192, PageChecksums: !o.NoChecksums}))
	w.program = copyOfThisProgram(t)
	w.Exec(t, fmt.Sprintf("create tablespace fast location '%s'", w.Dir(t, "fast")))
	w.Exec(t, "create table ledger (n int primary key, note text) tablespace fast")
	return w
}

// copyOfThisProgram puts the test's program where the server's user can run it, under a name that needs quoting.
func copyOfThisProgram(t testing.TB) string {
	t.Helper()
	self, err := os.Executable()
	check(t, err)
	b, err := os.ReadFile(self)
	check(t, err)
	path := filepath.Join(pgtest.TempDir(t), "pg'keep 100%p")
	check(t, os.WriteFile(path, b, 0o755)) // #nosec: of a test
	return path
}

// commit writes one row and gives the transaction that did.
func (w *world) commit(n int) state.Commit {
	w.t.Helper()
	xid, err := strconv.ParseUint(w.SQL(w.t, fmt.Sprintf("insert into ledger values (%d, repeat('n', 500)) returning pg_current_xact_id()::text", n)), 10, 32)
	check(w.t, err)
	return state.Commit{XID: uint32(xid), LSN: w.lsn("select pg_current_wal_insert_lsn()"), Time: w.commitTime(uint32(xid))}
}

func (w *world) commitTime(xid uint32) time.Time {
	w.t.Helper()
	micros, err := strconv.ParseInt(w.SQL(w.t, fmt.Sprintf("select (extract(epoch from pg_xact_commit_timestamp('%d'::xid)) * 1000000)::bigint", xid)), 10, 64)
	check(w.t, err)
	return time.UnixMicro(micros).UTC()
}

func (w *world) lsn(q string) wal.LSN {
	w.t.Helper()
	l, err := wal.ParseLSN(w.SQL(w.t, q))
	check(w.t, err)
	return l
}

// take takes a base backup and archives the WAL up to now.
func (w *world) take() string {
	w.t.Helper()
	return w.takeOn("")
}

// takeOn takes an incremental backup, of which the server tells what changed; a full one where there is no parent.
func (w *world) takeOn(parent string) string {
	w.t.Helper()
	kind := ""
	if parent != "" {
		kind = repository.KindIncremental
	}
	info, err := postgres.ParseConninfo(w.Conninfo(), nil, nil)
	check(w.t, err)
	conn, err := postgres.ConnectReplication(w.t.Context(), info, postgres.ConnectOptions{ApplicationName: "test", Timeout: 5 * time.Minute})
	check(w.t, err)
	defer conn.Close()
	w.backups++
	result, err := basebackup.Take(w.t.Context(), conn, []*repository.Cluster{w.cluster}, basebackup.Options{
		Server: name, Checkpoint: "fast", VerifyPages: !w.blind, Host: "here", Program: "test", LockDir: filepath.Join(w.t.TempDir(), "locks"),
		Now: time.Now, Random: func() uint32 { return uint32(w.backups) }, Kind: kind, Parent: parent,
		Truncated: func(ctx context.Context, in postgres.Since) (map[postgres.Relation]uint32, error) {
			sql, err := postgres.Connect(ctx, info, postgres.ConnectOptions{ApplicationName: "test"})
			if err != nil {
				return nil, err
			}
			defer func() { _ = sql.Close() }() // it only asks
			return sql.Truncated(ctx, in)
		},
	})
	check(w.t, err)
	if result.WhyFull != "" || result.Compared != "" {
		w.t.Fatalf("%+v", result)
	}
	w.archive(1)
	return result.ID
}

// archive puts every complete segment of the server's own pg_wal into the repository, and what there is of the last one.
func (w *world) archive(t wal.Timeline) {
	w.t.Helper()
	end := w.lsn("select pg_current_wal_flush_lsn()")
	dir := filepath.Join(w.DataDir, "pg_wal")
	id, err := strconv.ParseUint(w.systemID, 10, 64)
	check(w.t, err)
	scanner := wal.NewScanner(w.size, id, t)
	entries, err := os.ReadDir(dir)
	check(w.t, err)
	for _, e := range entries {
		w.archiveHistory(dir, e.Name())
		seg, err := wal.ParseSegmentName(e.Name(), w.size)
		if err != nil || seg.Timeline != t || seg.Start(w.size) >= end {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		check(w.t, err)
		if seg.End(w.size) > end {
			b = b[:w.size.Offset(end)]
			check(w.t, w.cluster.PutPartial(w.t.Context(), seg, end, bytes.NewReader(b)))
			continue
		}
		sum, err := scanner.Segment(seg, bytes.NewReader(b), nil)
		check(w.t, err)
		check(w.t, w.cluster.PutSegment(w.t.Context(), seg, sum, bytes.NewReader(b)))
	}
}

func (w *world) archiveHistory(dir, file string) {
	w.t.Helper()
	digits, ok := strings.CutSuffix(file, ".history")
	if !ok {
		return
	}
	n, err := strconv.ParseUint(digits, 16, 32)
	check(w.t, err)
	content, err := os.ReadFile(filepath.Join(dir, file))
	check(w.t, err)
	check(w.t, w.cluster.PutHistory(w.t.Context(), wal.Timeline(n), content))
}

// observed is the cluster as the repository shows it.
func (w *world) observed() state.Cluster {
	w.t.Helper()
	seen, err := w.repo.Observe(w.t.Context(), repository.ObserveOptions{Location: w.dir})
	check(w.t, err)
	return seen.Clusters[name][0]
}

func (w *world) target(x hclspec.Target) state.TargetFact {
	w.t.Helper()
	return observe.Target(w.t.Context(), observe.TargetOptions{Target: x, Cluster: w.observed(), Archive: observe.ArchiveOf(w.cluster)})
}

// route makes the route to a target from a backup, as the planner would.
func (w *world) route(x hclspec.Target, fact state.TargetFact, backup string) plan.Route {
	w.t.Helper()
	if fact.Unknown != nil || !fact.Reachable {
		w.t.Fatalf("%+v: %+v %+v", x, fact, fact.Unknown)
	}
	reader, err := w.cluster.OpenBackup(w.t.Context(), backup)
	check(w.t, err)
	h := wal.History{Timeline: fact.Timeline}
	if fact.Timeline > 1 {
		content, err := w.cluster.History(w.t.Context(), fact.Timeline)
		check(w.t, err)
		h, err = wal.ParseHistory(fact.Timeline, content)
		check(w.t, err)
	}
	path := h.Path(reader.Info().Redo, fact.End)
	for i := range path {
		if i > 0 {
			path[i-1].To = w.size.Floor(path[i-1].To)
			path[i].From = w.size.Floor(path[i].From)
		}
	}
	return plan.Route{
		Server: name, SystemID: w.systemID, Repository: "main", SegmentSize: w.size, Backup: backup, Target: x,
		Destination: hclspec.Destination{
			Path: filepath.Join(pgtest.TempDir(w.t), "it's here", "data"), Owner: serverUser(), WAL: "fetch",
		},
		WALWait: time.Second, Path: path, TargetTimeline: fact.Timeline, End: fact.End, Before: fact.Before, After: fact.After,
		AtEnd: fact.AtEnd, DataBytes: reader.Info().DataBytes,
	}
}

func serverUser() string {
	if os.Geteuid() == 0 {
		return "postgres"
	}
	return ""
}

// giveToServer lets the server's user read the repository.
func giveToServer(t testing.TB, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	owner, err := host.LookupOwner(serverUser())
	check(t, err)
	give(t, dir, owner.UID)
}

func give(t testing.TB, dir string, uid int) {
	t.Helper()
	check(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, -1)
	}))
}

func (w *world) options(route plan.Route) Options {
	w.t.Helper()
	reader, err := w.cluster.OpenBackup(w.t.Context(), route.Backup)
	check(w.t, err)
	giveToServer(w.t, w.dir)
	if route.Destination.Tablespaces == nil {
		route.Destination.Tablespaces = map[string]string{"fast": route.Destination.Path + "-fast"}
	}
	return Options{Route: route, Backup: reader, Places: []Place{{Label: "main", Path: w.dir}}, Program: w.program, Now: time.Now}
}

// restore restores, proves the files against PostgreSQL's manifest, and starts the server.
func (w *world) restore(route plan.Route) *pgtest.Server {
	w.t.Helper()
	o := w.options(route)
	evidence, err := Restore(w.t.Context(), o)
	check(w.t, err)
	for _, p := range evidence.Phases {
		w.t.Logf("%s: %.2f s", p.Name, p.Seconds)
	}
	w.prove(o.Route)
	return pgtest.StartDir(w.t, w.Version, route.Destination.Path, pgtest.Options{Version: w.Version})
}

// prove checks a restored directory with our own check, and with pg_verifybackup where it can.
func (w *world) prove(route plan.Route) {
	w.t.Helper()
	reader, err := w.cluster.OpenBackup(w.t.Context(), route.Backup)
	check(w.t, err)
	manifest, err := reader.PGManifest(w.t.Context())
	check(w.t, err)
	differences, err := Check(w.t.Context(), route.Destination.Path, bytes.NewReader(manifest), nil)
	check(w.t, err)
	for _, d := range differences {
		w.t.Errorf("%s: %s", d.Path, d.Why)
	}
	if w.Version > 16 {
		return // pg_verifybackup 15 does not read their manifests
	}
	path := filepath.Join(w.t.TempDir(), "backup_manifest")
	check(w.t, os.WriteFile(path, manifest, 0o600))
	out, err := exec.Command("/usr/lib/postgresql/15/bin/pg_verifybackup", "-n", "-m", path, route.Destination.Path).CombinedOutput()
	if err != nil {
		w.t.Errorf("pg_verifybackup: %v\n%s", err, out)
	}
}

// rows gives the ledger of a server.
func rows(t testing.TB, s *pgtest.Server) string {
	t.Helper()
	return s.SQL(t, "select coalesce(string_agg(n::text, ' ' order by n), '') from ledger")
}
