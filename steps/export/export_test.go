package export

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/file"
	"github.com/pgkeep/pgkeep/state/wal"
	"github.com/pgkeep/pgkeep/steps/basebackup"
)

// TestMain lets the tests write to memory: every export fsyncs a thousand files.
func TestMain(m *testing.M) {
	if space, err := host.SpaceAt("/dev/shm"); os.Getenv("TMPDIR") == "" && err == nil && space.Free > 2<<30 {
		_ = os.Setenv("TMPDIR", "/dev/shm")
	}
	os.Exit(m.Run())
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v (%s)", err, state.HintOf(err))
	}
}

// world is a server with a tablespace, and a repository with backups of it.
type world struct {
	*pgtest.Server
	t        *testing.T
	repo     *repository.Repository
	cluster  *repository.Cluster
	systemID string
	size     wal.SegmentSize
	dir      string // of the repository
	fast     uint32 // OID of the tablespace
	backups  int
	timeline wal.Timeline
}

func newWorld(t *testing.T, version int) *world {
	t.Helper()
	settings := map[string]string{"wal_keep_size": "1GB", "autovacuum": "off"}
	if version >= 17 {
		settings["summarize_wal"] = "on"
	}
	w := &world{t: t, Server: pgtest.Start(t, pgtest.Options{Version: version, SegmentMB: 1, Settings: settings}), size: 1 << 20, timeline: 1}
	w.systemID = w.SQL(t, "select system_identifier from pg_control_system()")
	w.dir = filepath.Join(pgtest.TempDir(t), "repo")
	st, err := file.Open(w.dir, file.Options{})
	check(t, err)
	t.Cleanup(func() { _ = st.Close() })
	repo, err := repository.Create(t.Context(), st, repository.CreateOptions{Now: time.Now()})
	check(t, err)
	w.repo, w.cluster = repo, repo.Cluster("orders.eu", w.systemID)
	check(t, w.cluster.Ensure(t.Context(), repository.ClusterFacts{Major: version, SegmentSize: w.size, PageSize: 8192, PageChecksums: true}))
	w.Exec(t, fmt.Sprintf("create tablespace fast location '%s'", w.Dir(t, "fast")))
	w.Exec(t, "create table ledger (n int primary key, note text) tablespace fast; create table many as select g n, repeat(md5(g::text), 10) t from generate_series(1, 40000) g; create table empty (n int)")
	oid, err := strconv.ParseUint(w.SQL(t, "select oid from pg_tablespace where spcname = 'fast'"), 10, 32)
	check(t, err)
	w.fast = uint32(oid)
	return w
}

// compressed makes the repository compress with an algorithm from now on.
func (w *world) compressed(a seal.Algorithm) {
	w.t.Helper()
	repo, err := w.repo.WithCompression(seal.Codec{Algorithm: a})
	check(w.t, err)
	w.cluster = repo.Cluster("orders.eu", w.systemID)
}

// take takes a backup, on a parent when there is one, and archives the WAL up to now.
func (w *world) take(parent string) string {
	w.t.Helper()
	info, err := postgres.ParseConninfo(w.Conninfo(), nil, nil)
	check(w.t, err)
	conn, err := postgres.ConnectReplication(w.t.Context(), info, postgres.ConnectOptions{ApplicationName: "test", Timeout: 5 * time.Minute})
	check(w.t, err)
	defer conn.Close()
	w.backups++
	o := basebackup.Options{
		Server: "orders.eu", Checkpoint: "fast", VerifyPages: true, Host: "here", Program: "test", LockDir: filepath.Join(w.t.TempDir(), "locks"),
		Now: time.Now, Random: func() uint32 { return uint32(w.backups) }, Kind: repository.KindFull,
	}
	if parent != "" {
		o.Kind, o.Parent = repository.KindIncremental, parent
		o.Truncated = func(ctx context.Context, in postgres.Since) (map[postgres.Relation]uint32, error) {
			sql, err := postgres.Connect(ctx, info, postgres.ConnectOptions{ApplicationName: "test"})
			if err != nil {
				return nil, err
			}
			defer func() { _ = sql.Close() }() // it only asks
			return sql.Truncated(ctx, in)
		}
	}
	result, err := basebackup.Take(w.t.Context(), conn, []*repository.Cluster{w.cluster}, o)
	check(w.t, err)
	if result.Kind != o.Kind {
		w.t.Fatalf("the backup is %s, because %s", result.Kind, result.WhyFull)
	}
	w.archive()
	return result.ID
}

// archive puts every complete segment of the server's own pg_wal into the repository, and what there is of the last one.
func (w *world) archive() {
	w.t.Helper()
	end, err := wal.ParseLSN(w.SQL(w.t, "select pg_current_wal_flush_lsn()"))
	check(w.t, err)
	id, err := strconv.ParseUint(w.systemID, 10, 64)
	check(w.t, err)
	scanner := wal.NewScanner(w.size, id, w.timeline)
	dir := filepath.Join(w.DataDir, "pg_wal")
	entries, err := os.ReadDir(dir)
	check(w.t, err)
	for _, e := range entries {
		seg, err := wal.ParseSegmentName(e.Name(), w.size)
		if err != nil || seg.Timeline != w.timeline || seg.Start(w.size) >= end {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		check(w.t, err)
		if seg.End(w.size) > end {
			check(w.t, w.cluster.PutPartial(w.t.Context(), seg, end, bytes.NewReader(b[:w.size.Offset(end)])))
			continue
		}
		sum, err := scanner.Segment(seg, bytes.NewReader(b), nil)
		check(w.t, err)
		check(w.t, w.cluster.PutSegment(w.t.Context(), seg, sum, bytes.NewReader(b)))
	}
}

// options export a backup into a new directory, with its WAL.
func (w *world) options(id string) Options {
	w.t.Helper()
	b, err := w.cluster.OpenBackup(w.t.Context(), id)
	check(w.t, err)
	owner, err := host.LookupOwner("")
	check(w.t, err)
	at := pgtest.TempDir(w.t)
	return Options{
		Backup: b, Archive: w.cluster, SystemID: w.systemID, Into: filepath.Join(at, "data"), Format: Plain, Owner: owner, WAL: true,
		Tablespaces: map[uint32]string{w.fast: filepath.Join(at, "fast")}, Now: time.Now,
	}
}

// proved checks every file against the manifest, and no file without one, and asks pg_verifybackup where it can read it.
func (w *world) proved(dir string) {
	w.t.Helper()
	f, err := os.Open(filepath.Join(dir, manifestName))
	check(w.t, err)
	defer f.Close()
	m, err := postgres.ParseManifest(f)
	check(w.t, err)
	if want := map[bool]string{true: w.systemID}[w.Version >= 17]; m.SystemID != want || m.Version != map[bool]int{true: 2, false: 1}[w.Version >= 17] {
		w.t.Errorf("manifest version %d with system identifier %q", m.Version, m.SystemID)
	}
	left := files(w.t, dir)
	for _, x := range m.Files {
		content, err := os.ReadFile(filepath.Join(dir, x.Path))
		check(w.t, err)
		if sum := postgres.ManifestCRC32C(crc32.Checksum(content, crc32.MakeTable(crc32.Castagnoli))); sum != x.Checksum || int64(len(content)) != x.Size {
			w.t.Errorf("%s has %d bytes with %s, the manifest %d with %s", x.Path, len(content), sum, x.Size, x.Checksum)
		}
		delete(left, x.Path)
	}
	for name := range left {
		if name != manifestName && !strings.HasPrefix(name, "pg_wal/") {
			w.t.Errorf("%s is not in the manifest", name)
		}
	}
	w.pgVerifybackup(dir)
}

// pgVerifybackup asks pg_verifybackup of the server's own version, which reads the WAL too, where PGKEEP_CLIENTS/VERSION/bin has it. That of the machine
// is of version 15: it reads no manifest of 17 and later, and no other version's WAL.
func (w *world) pgVerifybackup(dir string) {
	w.t.Helper()
	program, args := pgtest.Client(w.t, "pg_verifybackup"), []string{dir}
	own := filepath.Join(os.Getenv("PGKEEP_CLIENTS"), strconv.Itoa(w.Version), "bin", "pg_verifybackup")
	_, err := os.Stat(own)
	packed, globErr := filepath.Glob(filepath.Join(dir, "base.tar*"))
	check(w.t, globErr)
	switch {
	case err == nil:
		program = own
	case w.Version >= 17:
		return
	case w.Version != 15:
		args = []string{"--no-parse-wal", dir}
	}
	if len(packed) > 0 { // from 18 on it reads tar files, and never the WAL in them
		if w.Version < 18 {
			return
		}
		args = []string{"--no-parse-wal", dir}
	}
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		w.t.Errorf("%s %v: %v\n%s", program, args, err, out)
		return
	}
	w.t.Logf("%s %v: backup successfully verified", program, args)
}

// files names the regular files below a data directory, also those of its tablespaces.
func files(t *testing.T, dir string) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	add := func(root, prefix string) {
		check(t, filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				rel, rerr := filepath.Rel(root, name)
				out[prefix+rel], err = true, rerr
			}
			return err
		}))
	}
	add(dir, "")
	links, err := filepath.Glob(filepath.Join(dir, "pg_tblspc", "*"))
	check(t, err)
	for _, l := range links {
		target, err := os.Readlink(l)
		check(t, err)
		add(target, "pg_tblspc/"+filepath.Base(l)+"/")
	}
	return out
}

// started starts PostgreSQL in a directory and compares what it holds.
func (w *world) started(dir, want string) {
	w.t.Helper()
	s := pgtest.StartDir(w.t, w.Version, dir, pgtest.Options{})
	if got := s.SQL(w.t, contents); got != want {
		w.t.Errorf("it holds %s, the server held %s", got, want)
	}
	s.Stop(w.t, "immediate")
}

const contents = "select (select count(*) || ' ' || sum(hashtext(t)) from many), (select count(*) || ' ' || coalesce(sum(n), 0) from ledger)"

// TestExport exports a full and an incremental backup in both forms. Each is proved, and each starts by itself and holds what
// the server held when the backup was taken.
func TestExport(t *testing.T) {
	for _, version := range pgtest.SomeVersions(t, 15, 18) {
		t.Run(strconv.Itoa(version), func(t *testing.T) {
			w := newWorld(t, version)
			w.Exec(t, "insert into ledger select g, repeat('n', 500) from generate_series(1, 2000) g; checkpoint")
			held := map[string]string{}
			full := w.take("")
			held[full] = w.SQL(t, contents)
			w.Exec(t, "update many set t = md5(t) where n % 97 = 0; delete from ledger where n % 2 = 0")
			w.Exec(t, "vacuum ledger")
			w.Exec(t, "checkpoint")
			incremental := w.take(full)
			held[incremental] = w.SQL(t, contents)
			for id, want := range held {
				o := w.options(id)
				result, err := Export(t.Context(), o)
				check(t, err)
				if result.Files == 0 || result.Bytes == 0 || result.WALSegments == 0 || len(result.Notes) > 0 {
					t.Errorf("%+v", result)
				}
				if b, err := w.cluster.OpenBackup(t.Context(), id); err != nil || b.Info().Hold != nil {
					t.Errorf("it is held still: %v %v", b.Info().Hold, err)
				}
				w.proved(o.Into)
				w.started(o.Into, want)
				compression := Compression("")
				if id == incremental {
					compression = Zstd
				}
				w.exportedAsTar(id, compression, want)
			}
		})
	}
}

// exportedAsTar exports tar files and unpacks them with the machine's own tar.
func (w *world) exportedAsTar(id string, c Compression, want string) {
	w.t.Helper()
	o := w.options(id)
	o.Format, o.Compression = Tar, c
	_, err := Export(w.t.Context(), o)
	check(w.t, err)
	w.pgVerifybackup(o.Into)
	data, fast := filepath.Join(filepath.Dir(o.Into), "unpacked"), o.Tablespaces[w.fast]
	unpack := map[string]string{"base.tar": data, fmt.Sprintf("%d.tar", w.fast): fast, "pg_wal.tar": filepath.Join(data, "pg_wal")}
	for _, name := range []string{"base.tar", fmt.Sprintf("%d.tar", w.fast), "pg_wal.tar"} {
		check(w.t, os.MkdirAll(unpack[name], 0o700))
		unpackTar(w.t, filepath.Join(o.Into, name+c.suffix()), c, unpack[name])
	}
	if text, err := os.ReadFile(filepath.Join(data, "tablespace_map")); err != nil || string(text) != fmt.Sprintf("%d %s\n", w.fast, fast) {
		w.t.Errorf("tablespace_map is %q, %v", text, err)
	}
	check(w.t, os.Symlink(fast, filepath.Join(data, "pg_tblspc", fmt.Sprint(w.fast)))) // PostgreSQL would make it; it is proved before
	manifest, err := os.ReadFile(filepath.Join(o.Into, manifestName))
	check(w.t, err)
	check(w.t, os.WriteFile(filepath.Join(data, manifestName), manifest, 0o600))
	w.proved(data)
	check(w.t, os.Remove(filepath.Join(data, "pg_tblspc", fmt.Sprint(w.fast))))
	check(w.t, exec.Command("chown", "--reference="+w.DataDir, "-R", fast).Run())
	w.started(data, want)
}

func unpackTar(t *testing.T, name string, c Compression, into string) {
	t.Helper()
	program := map[Compression]string{"": "cat", Gzip: "gzip -dc", Zstd: "zstd -dc", LZ4: "lz4 -dc"}[c]
	out, err := exec.Command("sh", "-c", program+` < "$1" | tar x -p -C "$2"`, "sh", name, into).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Fatalf("unpack %s: %v\n%s", name, err, out)
	}
}

// TestRefusedExports: nothing is written over what is there, and what fails leaves nothing.
func TestRefusedExports(t *testing.T) {
	w := newWorld(t, 15)
	id := w.take("")
	bad := func(name string, code state.Code, change func(o *Options)) {
		t.Helper()
		o := w.options(id)
		change(&o)
		before := listing(t, filepath.Dir(o.Into))
		_, err := Export(t.Context(), o)
		if state.CodeOf(err) != code || state.HintOf(err) == "" {
			t.Errorf("%s: %v (%s)", name, err, state.HintOf(err))
		}
		if after := listing(t, filepath.Dir(o.Into)); !slices.Equal(before, after) {
			t.Errorf("%s left %v where %v was", name, after, before)
		}
	}
	bad("a file there", state.CodeDestination, func(o *Options) {
		check(t, os.Mkdir(o.Into, 0o700))
		check(t, os.WriteFile(filepath.Join(o.Into, "mine"), nil, 0o600))
	})
	bad("a file there, tar", state.CodeDestination, func(o *Options) {
		o.Format = Tar
		check(t, os.Mkdir(o.Into, 0o700))
		check(t, os.WriteFile(filepath.Join(o.Into, "mine"), nil, 0o600))
	})
	bad("a link", state.CodeDestination, func(o *Options) { check(t, os.Symlink(t.TempDir(), o.Into)) })
	bad("no place for the tablespace", state.CodeDestination, func(o *Options) { o.Tablespaces = nil })
	bad("a tablespace inside", state.CodeDestination, func(o *Options) { o.Tablespaces[w.fast] = filepath.Join(o.Into, "fast") })
	bad("the tablespace is taken", state.CodeDestination, func(o *Options) {
		check(t, os.Mkdir(o.Tablespaces[w.fast], 0o700))
		check(t, os.WriteFile(filepath.Join(o.Tablespaces[w.fast], "mine"), nil, 0o600))
	})
	bad("no WAL", state.CodeGap, func(o *Options) { o.Archive = without{w.cluster} })
	bad("a full disk", state.CodeDiskFull, func(o *Options) { o.Backup = failing{o.Backup, syscall.ENOSPC} })
	o := w.options(id)
	o.Archive, o.WAL = without{w.cluster}, false
	result, err := Export(t.Context(), o)
	check(t, err)
	if result.WALSegments != 0 {
		t.Errorf("%+v", result)
	}
	if out, err := exec.Command(pgtest.Client(t, "pg_verifybackup"), "--no-parse-wal", o.Into).CombinedOutput(); err != nil {
		t.Errorf("pg_verifybackup: %v\n%s", err, out)
	}
	for _, c := range []Compression{Gzip, LZ4} {
		w.exportedAsTar(id, c, w.SQL(t, contents))
	}
}

func listing(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	check(t, filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		out = append(out, name)
		return err
	}))
	return out
}

// without is an archive that holds no WAL.
type without struct{ *repository.Cluster }

func (without) OpenSegment(context.Context, wal.Segment) (*repository.WALReader, error) {
	return nil, fmt.Errorf("none: %w", store.ErrNotExist)
}

func (without) OpenPartial(context.Context, wal.Segment) (*repository.WALReader, wal.LSN, error) {
	return nil, 0, fmt.Errorf("none: %w", store.ErrNotExist)
}

// failing is a backup whose writing fails in its midst.
type failing struct {
	Backup
	err error
}

func (f failing) InOrder(ctx context.Context, o repository.PieceOptions, visit func(*repository.File, int64, []byte) error) error {
	n := 0
	return f.Backup.InOrder(ctx, o, func(x *repository.File, off int64, data []byte) error {
		if n++; n == 300 {
			return writeError(x.Path, f.err)
		}
		return visit(x, off, data)
	})
}

var _ io.Reader = zeros{}
