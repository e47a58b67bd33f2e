package postgres_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// directory is a sink that lays a backup out as files: the data directory, and tablespaces beside it.
type directory struct {
	dir      string
	start    postgres.BackupStart
	archives []uint32
	manifest []byte
	progress int64
	fail     error // given back by the first Archive
}

func (d *directory) Begin(s postgres.BackupStart) error {
	d.start = s
	return os.Mkdir(filepath.Join(d.dir, "data"), 0o700)
}

func (d *directory) Archive(ts postgres.BackupTablespace, r io.Reader) error {
	if d.fail != nil {
		return d.fail
	}
	d.archives = append(d.archives, ts.OID)
	root := filepath.Join(d.dir, "data")
	if ts.OID != 0 {
		root = filepath.Join(d.dir, fmt.Sprint(ts.OID))
		if err := os.Mkdir(root, 0o700); err != nil {
			return err
		}
	}
	in := tar.NewReader(r)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && len(h.Name) == 0 {
			return nil
		}
		if err != nil {
			return err
		}
		path := filepath.Join(root, h.Name)
		switch h.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(path, 0o700)
		case tar.TypeSymlink:
			err = os.Symlink(filepath.Join(d.dir, filepath.Base(path)), path)
		default:
			var content []byte
			if content, err = io.ReadAll(in); err == nil {
				err = os.WriteFile(path, content, 0o600)
			}
		}
		if err != nil {
			return err
		}
	}
}

func (d *directory) Manifest(r io.Reader) (err error) {
	d.manifest, err = io.ReadAll(r)
	return err
}

func (d *directory) Progress(done int64) { d.progress = done }

// check compares the files with the manifest.
func (d *directory) check(t *testing.T) postgres.Manifest {
	t.Helper()
	m, err := postgres.ParseManifest(bytes.NewReader(d.manifest))
	if err != nil {
		t.Fatal(err)
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	for _, f := range m.Files {
		content, err := os.ReadFile(filepath.Join(d.dir, "data", f.Path))
		if err != nil {
			t.Fatal(err)
		}
		if int64(len(content)) != f.Size || f.Algorithm != "CRC32C" || f.Checksum != postgres.ManifestCRC32C(crc32.Checksum(content, table)) {
			t.Fatalf("%+v does not describe its file of %d bytes", f, len(content))
		}
		if f.ModTime.Year() < 2020 {
			t.Fatalf("%s is of %s", f.Path, f.ModTime)
		}
	}
	if len(m.Files) < 500 {
		t.Fatalf("only %d files", len(m.Files))
	}
	return m
}

func TestBaseBackup(t *testing.T) {
	for _, v := range pgtest.SomeVersions(t, 13, 15, 18) {
		t.Run(fmt.Sprint(v), func(t *testing.T) {
			s := pgtest.Start(t, pgtest.Options{Version: v, Settings: map[string]string{"wal_keep_size": "256MB"}})
			s.Exec(t, "create role least login replication")
			s.Exec(t, "create tablespace fast location '"+s.Dir(t, "fast")+"'")
			s.Exec(t, "create table a tablespace fast as select g from generate_series(1, 50000) g")
			s.Exec(t, "create unlogged table u as select 1")
			d := &directory{dir: pgtest.TempDir(t)}
			r := walsender(t, as(s, "least"))
			result, err := r.BaseBackup(t.Context(), postgres.BackupOptions{Label: "it's ours", Checkpoint: "fast", VerifyPages: true, MaxRate: 500 << 20}, d)
			if err != nil {
				t.Fatal(err)
			}
			checkBackup(t, s, d, result)
			if _, err := r.IdentifySystem(t.Context()); err != nil { // the session goes on
				t.Fatal(err)
			}
			startBackup(t, s, d)
		})
	}
}

func checkBackup(t *testing.T, s *pgtest.Server, d *directory, result postgres.BackupResult) {
	t.Helper()
	if result.StartLSN != d.start.LSN || result.StopLSN <= result.StartLSN || result.Timeline != 1 || result.Damaged != nil {
		t.Fatalf("result %+v", result)
	}
	if len(d.start.Tablespaces) != 2 || len(d.archives) != 2 || d.start.Tablespaces[1].OID != 0 || d.archives[1] != 0 {
		t.Fatalf("archives %v of %+v", d.archives, d.start.Tablespaces)
	}
	if size := d.start.Tablespaces[1].Size; size < 10<<20 || d.progress < size/2 {
		t.Fatalf("%d bytes announced, %d reported", size, d.progress)
	}
	m := d.check(t)
	version, id := 1, ""
	if s.Version >= 17 {
		version, id = 2, s.SQL(t, "select system_identifier from pg_control_system()")
	}
	if m.Version != version || m.SystemID != id || len(m.WALRanges) != 1 || m.WALRanges[0].From != result.StartLSN || m.WALRanges[0].To != result.StopLSN {
		t.Fatalf("manifest %d of %q, WAL %v", m.Version, m.SystemID, m.WALRanges)
	}
	content, err := os.ReadFile(filepath.Join(d.dir, "data", "backup_label"))
	if err != nil {
		t.Fatal(err)
	}
	label, err := postgres.ParseBackupLabel(content)
	if err != nil || label.Start != result.StartLSN || label.Label != "it's ours" || label.Timeline != 1 || label.FromStandby || label.IncrementalFrom != 0 {
		t.Fatalf("label %+v, %v", label, err)
	}
}

// startBackup runs pg_verifybackup where 15's reads the manifest, and the backup itself, with the WAL of the server.
func startBackup(t *testing.T, s *pgtest.Server, d *directory) {
	t.Helper()
	data := filepath.Join(d.dir, "data")
	if s.Version <= 16 {
		if err := os.WriteFile(filepath.Join(data, "backup_manifest"), d.manifest, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(pgtest.Client(t, "pg_verifybackup"), "--no-parse-wal", data).CombinedOutput()
		if err != nil {
			t.Fatalf("pg_verifybackup: %v\n%s", err, out)
		}
	}
	segments, err := filepath.Glob(filepath.Join(s.DataDir, "pg_wal", strings.Repeat("?", 24)))
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range segments {
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(data, "pg_wal", filepath.Base(from)), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	restored := pgtest.StartDir(t, s.Version, data, pgtest.Options{})
	if got := restored.SQL(t, "select count(*) from a"); got != "50000" {
		t.Fatalf("%s rows", got)
	}
}

func TestBaseBackupFindsDamage(t *testing.T) {
	for _, v := range pgtest.SomeVersions(t, 13, 18) {
		t.Run(fmt.Sprint(v), func(t *testing.T) {
			s := pgtest.Start(t, pgtest.Options{Version: v})
			s.Exec(t, "create table a as select g, md5(g::text) from generate_series(1, 5000) g")
			file := filepath.Join(s.DataDir, s.SQL(t, "select pg_relation_filepath('a')"))
			s.Stop(t, "fast")
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			content[8192+5000] ^= 1
			s.WriteFile(t, strings.TrimPrefix(file, s.DataDir+"/"), string(content))
			s.StartAgain(t)
			for _, verify := range []bool{true, false} {
				d := &directory{dir: pgtest.TempDir(t)}
				r := walsender(t, s.Conninfo())
				result, err := r.BaseBackup(t.Context(), postgres.BackupOptions{Checkpoint: "fast", VerifyPages: verify}, d)
				if err != nil {
					t.Fatal(err)
				}
				d.check(t) // everything came all the same
				if (result.Damaged != nil) != verify || verify && result.Damaged.Code != state.CodeCorrupt {
					t.Fatalf("pages verified: %t, damaged: %v", verify, result.Damaged)
				}
				if _, err := r.IdentifySystem(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestBaseBackupGivesTheSinksErrorBack(t *testing.T) {
	s := pgtest.Start(t, pgtest.Options{})
	full := errors.New("no space")
	_, err := walsender(t, s.Conninfo()).BaseBackup(t.Context(), postgres.BackupOptions{Checkpoint: "fast"}, &directory{dir: pgtest.TempDir(t), fail: full})
	if err != full { //nolint:errorlint // the very error
		t.Fatalf("%v", err)
	}
}

func TestBaseBackupIncremental(t *testing.T) {
	for _, v := range pgtest.SomeVersions(t, 17) {
		if v < 17 {
			continue
		}
		s := pgtest.Start(t, pgtest.Options{Version: v, Settings: map[string]string{"summarize_wal": "on"}})
		full := &directory{dir: pgtest.TempDir(t)}
		r := walsender(t, s.Conninfo())
		if _, err := r.BaseBackup(t.Context(), postgres.BackupOptions{Checkpoint: "fast"}, full); err != nil {
			t.Fatal(err)
		}
		s.Exec(t, "create table a as select g from generate_series(1, 1000) g")
		next := &directory{dir: pgtest.TempDir(t)}
		result, err := r.BaseBackup(t.Context(), postgres.BackupOptions{Checkpoint: "fast", Incremental: bytes.NewReader(full.manifest)}, next)
		if err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(filepath.Join(next.dir, "data", "backup_label"))
		if err != nil {
			t.Fatal(err)
		}
		label, err := postgres.ParseBackupLabel(content)
		if err != nil || label.Start != result.StartLSN || label.IncrementalFrom != full.start.LSN || label.IncrementalTimeline != 1 {
			t.Fatalf("label %+v, %v", label, err)
		}
		if next.progress*2 > full.progress {
			t.Fatalf("an incremental backup of %d bytes after %d", next.progress, full.progress)
		}
		_, err = r.BaseBackup(t.Context(), postgres.BackupOptions{Incremental: strings.NewReader("{}")}, next)
		if state.CodeOf(err) != state.CodeSettings {
			t.Fatalf("a manifest that is none: %s, %v", state.CodeOf(err), err)
		}
	}
}
