package export

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestExportOfALaterTimeline exports a backup of a server that was promoted: the history file of its timeline stands beside the WAL, as pg_basebackup
// has it, pg_verifybackup finds the WAL of that timeline, and PostgreSQL starts.
func TestExportOfALaterTimeline(t *testing.T) {
	for _, version := range pgtest.SomeVersions(t, 15) {
		t.Run(strconv.Itoa(version), func(t *testing.T) {
			w := newWorld(t, version)
			o := w.options(w.take(""))
			_, err := Export(t.Context(), o)
			check(t, err)
			w.Stop(t, "fast")
			check(t, os.WriteFile(filepath.Join(o.Into, "recovery.signal"), nil, 0o600))
			w.Server = pgtest.StartDir(t, version, o.Into, pgtest.Options{Settings: map[string]string{"restore_command": "false", "autovacuum": "off"}})
			for w.SQL(t, "select pg_is_in_recovery()") != "f" {
				time.Sleep(10 * time.Millisecond)
			}
			w.timeline = 2
			history, err := os.ReadFile(filepath.Join(w.DataDir, "pg_wal", "00000002.history"))
			check(t, err)
			check(t, w.cluster.PutHistory(t.Context(), 2, history))
			w.Exec(t, "insert into ledger values (1, 'after the promotion')")
			id, want := w.take(""), w.SQL(t, contents)
			o = w.options(id)
			_, err = Export(t.Context(), o)
			check(t, err)
			if got, err := os.ReadFile(filepath.Join(o.Into, "pg_wal", "00000002.history")); err != nil || string(got) != string(history) {
				t.Errorf("the history file is %q, %v", got, err)
			}
			w.proved(o.Into)
			w.started(o.Into, want)
			w.exportedAsTar(id, "", want)
			o = w.options(id)
			o.Archive = withoutHistory{w.cluster}
			if _, err := Export(t.Context(), o); state.CodeOf(err) != state.CodeGap || !strings.Contains(err.Error(), "00000002.history") {
				t.Errorf("without the history file: %v", err)
			}
		})
	}
}

// withoutHistory is an archive that has lost its history files.
type withoutHistory struct{ *repository.Cluster }

func (withoutHistory) History(context.Context, wal.Timeline) ([]byte, error) {
	return nil, fmt.Errorf("none: %w", store.ErrNotExist)
}
