package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Promote makes a standby a primary on a new timeline and waits until it is one.
func (s *Server) Promote(tb testing.TB) {
	tb.Helper()
	if got := s.SQL(tb, "select pg_promote(true, 120)"); got != "t" {
		tb.Fatalf("pg_promote gave %q\n%s", got, s.Log())
	}
}

// Standby makes a hot standby of a running server by the low-level backup functions and a copy of its files, tablespaces
// included, and starts it; Version and SegmentMB of the options do not matter. It streams from s over TCP.
func (s *Server) Standby(tb testing.TB, o Options) *Server {
	tb.Helper()
	o.Version = s.Version
	b := prepare(tb, &o)
	b.DataDir = filepath.Join(b.root, "data")
	if err := s.copyTo(b); err != nil {
		tb.Fatalf("copy the server for a standby: %v", err)
	}
	conf := fmt.Sprintf("primary_conninfo = 'host=127.0.0.1 port=%d user=postgres application_name=standby%d'\n", s.Port, b.Port)
	all := b.settings(o)
	for _, name := range sortedKeys(all) {
		conf += fmt.Sprintf("%s = '%s'\n", name, strings.ReplaceAll(all[name], "'", "''"))
	}
	if err := b.account.own(b.DataDir); err != nil {
		tb.Fatal(err)
	}
	b.appendFile(tb, "postgresql.conf", conf)
	b.WriteFile(tb, "standby.signal", "")
	b.launch(tb)
	return b
}

// AwaitReplay waits until a standby has replayed everything that the primary had flushed when it was called.
func (s *Server) AwaitReplay(tb testing.TB, primary *Server) {
	tb.Helper()
	at := primary.SQL(tb, "select pg_current_wal_flush_lsn()")
	for limit := time.Now().Add(startLimit); ; time.Sleep(10 * time.Millisecond) {
		if s.SQL(tb, "select pg_last_wal_replay_lsn() >= '"+at+"'") == "t" {
			return
		}
		if time.Now().After(limit) {
			tb.Fatalf("the standby did not reach %s within %s\n%s", at, startLimit, s.Log())
		}
	}
}

// copyTo makes b's data directory a base backup of s.
func (s *Server) copyTo(b *Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	conn, err := s.connect(ctx, "postgres", "postgres")
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	begin, end := "select pg_backup_start('standby', true)", "select labelfile from pg_backup_stop(false)"
	if s.Version < 15 {
		begin, end = "select pg_start_backup('standby', true, false)", "select labelfile from pg_stop_backup(false, false)"
	}
	if _, err := conn.Exec(ctx, begin).ReadAll(); err != nil {
		return err
	}
	if err := copyTree(s.DataDir, b.DataDir, filepath.Join(b.root, "tablespace-")); err != nil {
		return err
	}
	results, err := conn.Exec(ctx, end).ReadAll()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.DataDir, "backup_label"), results[0].Rows[0][0], 0o600)
}

// copyTree copies a live data directory: files that vanish meanwhile are none. A tablespace goes to tablespaces+oid.
func copyTree(from, to, tablespaces string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case d.IsDir() && filepath.Dir(rel) == "pg_replslot":
			return fs.SkipDir // slots are not copied to standbys; an empty folder of one keeps a server from starting
		case d.IsDir():
			return os.Mkdir(target, 0o700)
		case rel == "postmaster.pid" || rel == "postmaster.opts" || strings.HasPrefix(rel, "pg_replslot/"):
			return nil
		case d.Type()&fs.ModeSymlink != 0:
			return copyTablespace(path, target, tablespaces+filepath.Base(path))
		case d.Type().IsRegular():
			return copyFile(path, target)
		}
		return nil
	})
}

func copyTablespace(link, newLink, dir string) error {
	from, err := os.Readlink(link)
	if err != nil {
		return err
	}
	if err := copyTree(from, dir, ""); err != nil {
		return err
	}
	return os.Symlink(dir, newLink)
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}
