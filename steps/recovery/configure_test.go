package recovery

import (
	"context"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/repository"
)

// lacking is a backup of a server that keeps its configuration outside the data directory.
type lacking struct {
	Backup
	captured string
}

func (l lacking) Captured(context.Context) ([]byte, error) { return []byte(l.captured), nil }

func (l lacking) Files(ctx context.Context) iter.Seq2[repository.File, error] {
	return func(yield func(repository.File, error) bool) {
		for f, err := range l.Backup.Files(ctx) {
			if outside(&f) {
				continue
			}
			if !yield(f, err) {
				return
			}
		}
	}
}

func (l lacking) Pieces(ctx context.Context, o repository.PieceOptions, write func(repository.Piece) error) error {
	want := o.Want
	o.Want = func(f *repository.File) bool { return !outside(f) && want(f) }
	return l.Backup.Pieces(ctx, o, write)
}

func outside(f *repository.File) bool {
	return f.Folder == 0 && (f.Path == mainConf || f.Path == hbaConf || f.Path == identConf)
}

func TestConfigurationOutsideTheDataDirectory(t *testing.T) {
	w := newWorld(t, 15, map[string]string{"max_connections": "150"})
	w.commit(1)
	backup := w.take()
	target := hclspec.Target{Latest: true}
	o := w.options(w.route(target, w.target(target), backup))
	o.Backup = lacking{o.Backup, `{"settings":[
		{"name":"work_mem","value":"8192","source":"configuration file"},
		{"name":"hba_file","value":"/etc/postgresql/15/main/pg_hba.conf","source":"override"},
		{"name":"unix_socket_directories","value":"/nowhere/at/all","source":"configuration file"},
		{"name":"primary_conninfo","value":"********","source":"configuration file"},
		{"name":"archive_command","value":"false","source":"configuration file"}],
		"hba":["host all all 127.0.0.1/32 trust","local all all trust"]}`}
	cutShort := o
	cutShort.Backup = &cut{Backup: o.Backup, left: 100}
	if _, err := Restore(t.Context(), cutShort); err == nil {
		t.Fatal("it was not cut")
	}
	evidence, err := Restore(t.Context(), o)
	check(t, err)
	if !strings.Contains(strings.Join(evidence.Notes, "\n"), "no postgresql.conf") {
		t.Errorf("nothing is said of it: %q", evidence.Notes)
	}
	if _, err := os.Stat(filepath.Join(stateDir(o.Route.Destination.Path), originalsDir, mainConf)); err == nil {
		t.Error("our own postgresql.conf is kept as an original")
	}
	s := pgtest.StartDir(t, 15, o.Route.Destination.Path, pgtest.Options{Version: 15})
	awaitPromotion(t, s)
	if got := rows(t, s); got != "1" {
		t.Errorf("the ledger has %q", got)
	}
	if got := s.SQL(t, "show work_mem") + s.SQL(t, "show max_connections") + s.SQL(t, "show archive_command"); got != "8MB150(disabled)" {
		t.Errorf("settings are %q", got)
	}
}

// TestTheOriginsPathsDoNotLead starts a copy whose configuration names the origin's own directories.
func TestTheOriginsPathsDoNotLead(t *testing.T) {
	w := newWorld(t, 15, nil)
	w.commit(1)
	conf := filepath.Join(w.DataDir, mainConf)
	b, err := os.ReadFile(conf)
	check(t, err)
	evil := "\ndata_directory = '" + w.DataDir + "'\nhba_file = '" + w.DataDir + "/pg_hba.conf'\ninclude_if_exists '/etc/nothing'\n" +
		"synchronous_standby_names = '*'\nrecovery_target_xid = '1'\ncluster_name = 'origin'\nlog_directory = '/var/log/origin'\n"
	check(t, os.WriteFile(conf, append(b, evil...), 0o600))
	check(t, os.WriteFile(filepath.Join(w.DataDir, "standby.signal"), nil, 0o644)) // #nosec: the server is another user
	backup := w.take()
	check(t, os.WriteFile(conf, b, 0o600))
	check(t, os.Remove(filepath.Join(w.DataDir, "standby.signal")))
	target := hclspec.Target{Latest: true}
	o := w.options(w.route(target, w.target(target), backup))
	_, err = Restore(t.Context(), o)
	check(t, err)
	s := pgtest.StartDir(t, 15, o.Route.Destination.Path, pgtest.Options{Version: 15})
	awaitPromotion(t, s)
	for setting, want := range map[string]string{
		"data_directory": o.Route.Destination.Path, "hba_file": o.Route.Destination.Path + "/pg_hba.conf", "synchronous_standby_names": "",
		"cluster_name": "", "log_directory": "log", "recovery_target_xid": "",
	} {
		if got := s.SQL(t, "show "+setting); got != want {
			t.Errorf("%s is %q, not %q", setting, got, want)
		}
	}
	original, err := os.ReadFile(filepath.Join(stateDir(o.Route.Destination.Path), originalsDir, mainConf))
	if err != nil || !strings.HasSuffix(string(original), evil) {
		t.Errorf("the original is not kept: %v", err)
	}
}

// TestWALOfTheSpoolIsTaken recovers to a commit that only the receiver's spool holds, in a file that grew and in one that was prepared
// with zeros.
func TestWALOfTheSpoolIsTaken(t *testing.T) {
	for name, length := range map[string]int64{"grown": 0, "prepared": 16 << 20} {
		t.Run(name, func(t *testing.T) { walOfTheSpoolIsTaken(t, length) })
	}
}

func walOfTheSpoolIsTaken(t *testing.T, length int64) {
	w := newWorld(t, 15, nil)
	backup := w.take()
	w.commit(1)
	w.SQL(t, "select pg_switch_wal()")
	w.commit(2)
	target := hclspec.Target{Latest: true}
	fact := w.target(target)
	spool := filepath.Join(t.TempDir(), "spool")
	check(t, os.MkdirAll(spool, 0o700))
	archivedEnd := fact.End
	fact.End = w.lsn("select pg_current_wal_flush_lsn()")
	for s := w.size.SegmentAt(1, archivedEnd); s.Start(w.size) < fact.End; s = s.Next() {
		b, err := os.ReadFile(filepath.Join(w.DataDir, "pg_wal", s.Name(w.size)))
		check(t, err)
		name := s.Name(w.size)
		if s.End(w.size) > fact.End {
			name, b = name+".partial", b[:w.size.Offset(fact.End)]
		}
		check(t, os.WriteFile(filepath.Join(spool, name), b, 0o600))
		if length > 0 {
			check(t, os.Truncate(filepath.Join(spool, name), min(length, w.size.Bytes())))
		}
	}
	o := w.options(w.route(target, fact, backup))
	o.Spool = spool
	part, end, err := (&restore{Options: o}).spooled().partial(t.Context(), w.size.SegmentAt(1, fact.End-1))
	check(t, err)
	check(t, part.Close())
	if end != fact.End {
		t.Errorf("the unfinished segment reaches to %s, not to %s", end, fact.End)
	}
	_, err = Restore(t.Context(), o)
	check(t, err)
	check(t, os.RemoveAll(spool))
	s := pgtest.StartDir(t, 15, o.Route.Destination.Path, pgtest.Options{Version: 15})
	awaitPromotion(t, s)
	if got := rows(t, s); got != "1 2" {
		t.Errorf("the ledger has %q", got)
	}
}

// TestSettingsThatWereRaisedAfterTheBackup are in the WAL only.
func TestSettingsThatWereRaisedAfterTheBackup(t *testing.T) {
	w := newWorld(t, 15, nil)
	backup := w.take()
	w.commit(1)
	w.Exec(t, "alter system set max_connections = 333")
	w.Stop(t, "fast")
	w.StartAgain(t)
	w.commit(2)
	w.archive(1)
	target := hclspec.Target{Latest: true}
	s := w.restore(w.route(target, w.target(target), backup))
	awaitPromotion(t, s)
	if got := rows(t, s) + " " + s.SQL(t, "show max_connections"); got != "1 2 333" {
		t.Errorf("the ledger and max_connections are %q", got)
	}
}

func TestAFullDiskIsRefusedBeforeTheFirstWrite(t *testing.T) {
	w := newWorld(t, 15, nil)
	backup := w.take()
	target := hclspec.Target{Latest: true}
	o := w.options(w.route(target, w.target(target), backup))
	o.Backup = huge{o.Backup}
	_, err := Restore(t.Context(), o)
	if state.CodeOf(err) != state.CodeDiskFull {
		t.Fatalf("got %v", err)
	}
	if _, err := os.Stat(o.Route.Destination.Path); err == nil {
		t.Error("something was written")
	}
}

// huge says that it has more bytes than any disk.
type huge struct{ Backup }

func (h huge) Folders() []repository.Folder {
	out := append([]repository.Folder{}, h.Backup.Folders()...)
	out[len(out)-1].Bytes = 1 << 60
	return out
}
