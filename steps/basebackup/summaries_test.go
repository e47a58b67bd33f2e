package basebackup

import (
	"context"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/seal"
)

// summarizing runs a test on each version that keeps WAL summaries.
func summarizing(t *testing.T, do func(t *testing.T, version int)) {
	t.Helper()
	for _, version := range pgtest.SomeVersions(t, 17) {
		if version >= 17 {
			t.Run(fmt.Sprint(version), func(t *testing.T) { do(t, version) })
		}
	}
}

// links takes backups of one server into one repository, each on the one before.
type links struct {
	t    *testing.T
	s    *pgtest.Server
	c    *repository.Cluster
	o    Options
	last string
}

func newLinks(t *testing.T, s *pgtest.Server) *links {
	t.Helper()
	system, err := walsender(t, s).IdentifySystem(t.Context())
	check(t, err)
	repo, _ := newRepository(t, seal.Codec{})
	l := &links{t: t, s: s, c: clusterIn(t, repo, s, system.ID), o: testOptions(t)}
	l.o.Now, l.o.Truncated = stepping(), asking(t, s)
	return l
}

// take takes the next link; parent "" makes it full.
func (l *links) take(parent string) Result {
	l.t.Helper()
	l.o.Kind, l.o.Parent = "", parent
	if parent != "" {
		l.o.Kind = repository.KindIncremental
	}
	conn := walsender(l.t, l.s)
	result, err := Take(l.t.Context(), conn, []*repository.Cluster{l.c}, l.o)
	check(l.t, err)
	check(l.t, conn.Close())
	check(l.t, l.c.VerifyBackup(l.t.Context(), result.ID, true, func(f repository.Finding) { l.t.Errorf("%+v", f) }))
	checkContents(l.t, l.c, result)
	if len(result.Damaged)+len(result.Suspects) > 0 {
		l.t.Errorf("damaged %v, suspects %v", result.Damaged, result.Suspects)
	}
	l.last = result.ID
	return result
}

// sums gives a checksum of every page of relations, by file and page.
func (l *links) sums(id string) map[string]uint32 {
	l.t.Helper()
	b, err := l.c.OpenBackup(l.t.Context(), id)
	check(l.t, err)
	out := map[string]uint32{}
	want := func(f *repository.File) bool { return isRelation(inManifest(f.Folder, f.Path)) }
	check(l.t, b.Pieces(l.t.Context(), repository.PieceOptions{Workers: 1, Want: want}, func(p repository.Piece) error {
		for at := 0; at < len(p.Data); at += postgres.PageBytes {
			page := p.Data[at:min(at+postgres.PageBytes, len(p.Data))]
			out[fmt.Sprintf("%s page %d", inManifest(p.File.Folder, p.File.Path), (p.Offset+int64(at))/postgres.PageBytes)] = crc32.ChecksumIEEE(page)
		}
		return nil
	}))
	return out
}

// equal compares every page of a backup with those of a full one that was taken after it, with nothing between.
func (l *links) equal(id string) {
	l.t.Helper()
	got := l.sums(id)
	want := l.sums(l.take("").ID)
	wrong := 0
	for place, sum := range want {
		if have, ok := got[place]; !ok || have != sum {
			if wrong++; wrong < 10 {
				l.t.Errorf("%s is not that of a full backup (there: %v)", place, ok)
			}
		}
	}
	if wrong > 0 || len(got) != len(want) {
		l.t.Errorf("%d of %d pages differ from those of a full backup; the backup has %d", wrong, len(want), len(got))
	}
}

// TestToldChainIsWhatAFullIs takes a chain of which the server told what changed, with every kind of change between the links, and then
// compares every page of every relation, maps included, with a full backup of the quiet server. The server is restarted on the way.
func TestToldChainIsWhatAFullIs(t *testing.T) {
	summarizing(t, func(t *testing.T, version int) {
		s := pgtest.Start(t, pgtest.Options{Version: version, Settings: map[string]string{"summarize_wal": "on", "autovacuum": "off"}})
		s.Exec(t, fmt.Sprintf("create tablespace fast location '%s'", s.Dir(t, "fast")))
		s.Exec(t, "create table orders (id int primary key, note text) tablespace fast")
		s.Exec(t, "insert into orders select i, repeat('n', i % 500) from generate_series(1, 20000) i")
		s.Exec(t, "create table lines as select i, md5(i::text) m from generate_series(1, 200000) i")
		s.Exec(t, "create table cut as select generate_series(1, 50000) i")
		s.Exec(t, "create table seen as select generate_series(1, 50000) i")
		s.Exec(t, "vacuum seen") // all pages are marked visible to all
		s.Exec(t, "create unlogged table scratch as select 1 x")
		l := newLinks(t, s)
		full := l.take("")
		for n, round := range append([][]string{{"update seen set i = -i where i % 1000 = 0"}}, linkChanges...) {
			for _, sql := range round {
				s.Exec(t, sql)
			}
			if n == 2 {
				s.Stop(t, "fast")
				s.StartAgain(t)
			}
			s.Exec(t, "checkpoint")
			r := l.take(l.last)
			if !r.told() || r.Kind != repository.KindIncremental || n == 0 && r.Stored*4 > full.Stored {
				t.Fatalf("%+v stored %d of %d", r, r.Stored, full.Stored)
			}
		}
		l.equal(l.last)
	})
}

// TestRelationOverOneGibibyteTold changes, cuts and lets grow a relation of three files, of which the first stay as they are. Most of its
// pages are empty.
func TestRelationOverOneGibibyteTold(t *testing.T) {
	if os.Getenv("PGKEEP_LARGE") == "" {
		t.Skip("set PGKEEP_LARGE: it reads and compares several gigabytes")
	}
	summarizing(t, func(t *testing.T, version int) {
		s := pgtest.Start(t, pgtest.Options{Version: version, OnDisk: true, Settings: map[string]string{"summarize_wal": "on", "autovacuum": "off"}})
		widen(t, s, 2)
		l := newLinks(t, s)
		l.take("")
		for _, sql := range []string{
			"update wide set m = upper(m) where i in (23000, 23500)", "delete from wide where i > 3000", "vacuum (truncate) wide",
			"insert into wide select i, repeat('y', 900) from generate_series(5000, 9000) i", "delete from wide where i > 400", "vacuum (truncate) wide",
		} {
			s.Exec(t, sql)
			s.Exec(t, "checkpoint")
			if r := l.take(l.last); !r.told() {
				t.Fatalf("%s: %+v", sql, r)
			}
			l.equal(l.last)
			t.Logf("%s: the relation has %s pages", sql, s.SQL(t, "select pg_relation_size('wide') / 8192"))
		}
	})
}

// widen makes the relation wide of one file more than full ones, which are of a gibibyte. Most of its pages are empty.
func widen(t *testing.T, s *pgtest.Server, full int) {
	t.Helper()
	s.Exec(t, "create table wide (i int, m text)")
	s.Exec(t, "insert into wide select i, repeat('w', 900) from generate_series(1, 400) i")
	path := s.SQL(t, "select pg_relation_filepath('wide')")
	s.Stop(t, "fast")
	for n := range full {
		name := path
		if n > 0 {
			name = fmt.Sprintf("%s.%d", path, n)
			s.WriteFile(t, name, "")
		}
		check(t, os.Truncate(filepath.Join(s.DataDir, name), postgres.SegmentPages*postgres.PageBytes))
	}
	s.StartAgain(t)
	s.Exec(t, "insert into wide select i, repeat('x', 900) from generate_series(401, 24000) i")
	s.Exec(t, "checkpoint")
}

// TestNotTold: where the server does not tell what changed, the backup is compared with its parent and says why, or is full where it cannot
// be compared.
func TestNotTold(t *testing.T) {
	summarizing(t, func(t *testing.T, version int) {
		s := pgtest.Start(t, pgtest.Options{Version: version})
		s.Exec(t, "create table lines as select i, md5(i::text) m from generate_series(1, 20000) i")
		l := newLinks(t, s)
		set := func(value string) {
			t.Helper()
			for range 2 { // so that WAL from before is gone and cannot be summarized later
				s.SQL(t, "select pg_switch_wal()")
				s.Exec(t, "checkpoint")
			}
			s.Exec(t, "alter system set summarize_wal = "+value)
			s.Reload(t)
			for s.SQL(t, "show summarize_wal") != value {
				time.Sleep(10 * time.Millisecond)
			}
			s.Exec(t, "update lines set m = 'x' || m where i % 500 = 0")
			s.Exec(t, "checkpoint")
		}
		why := func(r Result, kind, compared, whyFull string) {
			t.Helper()
			if r.Kind != kind || !strings.Contains(r.Compared, compared) || (r.Compared == "") != (compared == "") ||
				!strings.Contains(r.WhyFull, whyFull) || (r.WhyFull == "") != (whyFull == "") {
				t.Errorf("%s, compared because %q, full because %q; want %s, %q, %q", r.Kind, r.Compared, r.WhyFull, kind, compared, whyFull)
			}
		}
		full := l.take("")
		why(full, "full", "", "")
		compared := l.take(full.ID)
		why(compared, "incremental", "summarize_wal is off", "")
		set("on")
		why(l.take(compared.ID), "incremental", "WAL summaries are required", "") // none of the time before
		told := l.take(l.take("").ID)
		why(told, "incremental", "", "")
		why(l.take(told.ID), "incremental", "", "")
		if backups, err := l.c.Backups(t.Context()); err != nil || !backups[len(backups)-1].Chain.Summaries {
			t.Errorf("%v, %+v", err, backups[len(backups)-1].Chain)
		}
		set("off")
		why(l.take(told.ID), "full", "", "summarize_wal is off")
		set("on") // there is no summary of the time between
		why(l.take(told.ID), "full", "", "WAL summaries are required")
		l.equal(l.take(l.take("").ID).ID)
	})
}

// TestNotToldAcrossPromotion: what a server that was promoted says of changes since a backup of the timeline that it comes from is not taken
// on trust, because its summaries may be of WAL that it never replayed.
func TestNotToldAcrossPromotion(t *testing.T) {
	summarizing(t, func(t *testing.T, version int) {
		s := pgtest.Start(t, pgtest.Options{Version: version, Settings: map[string]string{"summarize_wal": "on", "autovacuum": "off"}})
		s.Exec(t, "create table lines as select i, md5(i::text) m from generate_series(1, 20000) i")
		l := newLinks(t, s)
		full := l.take("")
		s.Exec(t, "update lines set m = 'x' || m where i % 500 = 0")
		sparse := l.take(full.ID)
		s.Stop(t, "fast")
		s.WriteFile(t, "recovery.signal", "")
		s.WriteFile(t, "postgresql.auto.conf", "restore_command = 'false'\n")
		s.StartAgain(t)
		for s.SQL(t, "select pg_is_in_recovery()") != "f" {
			time.Sleep(10 * time.Millisecond)
		}
		s.Exec(t, "update lines set m = 'y' || m where i % 700 = 0")
		s.Exec(t, "checkpoint")
		r := l.take(full.ID)
		if r.told() || !strings.Contains(r.Compared, "is of timeline 1 and the server of 2") || r.Kind != repository.KindIncremental || r.Info.Timeline != 2 || r.Stored*3 > full.Stored {
			t.Fatalf("%+v stored %d of %d", r, r.Stored, full.Stored)
		}
		if r := l.take(sparse.ID); !sparse.told() || r.Kind != repository.KindFull || !strings.Contains(r.WhyFull, "is of timeline 1") {
			t.Errorf("%+v", r)
		}
		s.Exec(t, "update lines set m = 'z' || m where i % 900 = 0")
		s.Exec(t, "checkpoint")
		if r := l.take(r.ID); !r.told() {
			t.Errorf("on one of its own timeline: %+v", r)
		}
		l.equal(l.last)
	})
}

// TestToldIsInterrupted while the manifest is on its way. The next one is taken.
func TestToldIsInterrupted(t *testing.T) {
	summarizing(t, func(t *testing.T, version int) {
		s := pgtest.Start(t, pgtest.Options{Version: version, Settings: map[string]string{"summarize_wal": "on"}})
		s.Exec(t, "create table lines as select i, md5(i::text) m from generate_series(1, 20000) i")
		l := newLinks(t, s)
		full := l.take("")
		ctx, cancel := context.WithCancel(t.Context())
		l.o.Kind, l.o.Parent = repository.KindIncremental, full.ID
		l.o.Report = func(p Progress) {
			if p.Phase == PhaseCheckpoint {
				cancel() // while the manifest is composed and sent
			}
		}
		conn := walsender(t, s)
		if _, err := Take(ctx, conn, []*repository.Cluster{l.c}, l.o); err == nil {
			t.Error("it was taken")
		}
		l.o.Report = nil
		if r := l.take(full.ID); !r.told() {
			t.Errorf("after one that was interrupted: %+v", r)
		}
	})
}

// TestToldFindsDamage: pages that come in part are checked by the server and here, and named by their place in the relation.
func TestToldFindsDamage(t *testing.T) {
	summarizing(t, func(t *testing.T, version int) {
		s := pgtest.Start(t, pgtest.Options{Version: version, Settings: map[string]string{"summarize_wal": "on", "autovacuum": "off"}})
		s.Exec(t, "create table lines as select i, md5(i::text) m from generate_series(1, 20000) i")
		path := s.SQL(t, "select pg_relation_filepath('lines')")
		l := newLinks(t, s)
		full := l.take("")
		s.Exec(t, "select from lines where ctid = '(3,1)' for update")
		s.Exec(t, "checkpoint")
		s.Stop(t, "fast")
		spoil(t, filepath.Join(s.DataDir, path), 3*postgres.PageBytes+4000)
		s.StartAgain(t)
		l.o.Kind, l.o.Parent = repository.KindIncremental, full.ID
		result, err := Take(t.Context(), walsender(t, s), []*repository.Cluster{l.c}, l.o)
		check(t, err)
		if !result.told() || result.Info.Damaged == nil || len(result.Damaged) != 1 || result.Damaged[0].Path != path || fmt.Sprint(result.Damaged[0].Blocks) != "[3]" {
			t.Errorf("told %v, damage %+v, server %v", result.told(), result.Damaged, result.Info.Damaged)
		}
	})
}

// TestToldByAStandby: a standby tells what changed too; where little happened since its last backup it cannot, and the backup is compared.
func TestToldByAStandby(t *testing.T) {
	summarizing(t, func(t *testing.T, version int) {
		settings := map[string]string{"summarize_wal": "on", "autovacuum": "off"}
		primary := pgtest.Start(t, pgtest.Options{Version: version, Settings: settings})
		primary.Exec(t, "create table lines as select i, md5(i::text) m from generate_series(1, 20000) i")
		s := primary.Standby(t, pgtest.Options{Settings: settings})
		l := newLinks(t, s)
		l.o.FromStandby = true
		step := func(sql string) {
			t.Helper()
			primary.Exec(t, sql)
			primary.SQL(t, "select pg_switch_wal()")
			primary.Exec(t, "checkpoint")
			s.AwaitReplay(t, primary)
			s.Exec(t, "checkpoint") // a restartpoint
		}
		step("update lines set m = 'w' || m where i % 400 = 0")
		full := l.take("")
		if r := l.take(full.ID); r.Kind != repository.KindIncremental || r.told() == (r.Compared != "") {
			t.Errorf("just after it: %+v", r)
		}
		step("update lines set m = 'x' || m where i % 500 = 0")
		step("update lines set m = 'y' || m where i % 600 = 0")
		r := l.take(full.ID)
		if !r.told() || r.Kind != repository.KindIncremental || r.Stored*3 > full.Stored {
			t.Fatalf("%+v stored %d of %d", r, r.Stored, full.Stored)
		}
		l.equal(r.ID)
	})
}
