package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

// scriptedHolder answers with err and remembers what it was asked.
type scriptedHolder struct {
	err   error
	asked []state.Hold
}

func (h *scriptedHolder) Hold(_ context.Context, _ string, hold state.Hold, _ time.Time) error {
	h.asked = append(h.asked, hold)
	return h.err
}

// describedBackup is a backup of which only what the repository tells is asked.
type describedBackup struct {
	Backup
	info state.Backup
}

func (b describedBackup) Info() state.Backup { return b.info }

var holdClock = time.Date(2026, 2, 10, 21, 16, 17, 0, time.UTC)

func holding(h Holder, info state.Backup) *restore {
	return &restore{
		Options: Options{Route: plan.Route{Backup: "b"}, Holder: h, Backup: describedBackup{info: info}, Now: func() time.Time { return holdClock }},
		places:  map[uint32]string{0: "/srv/data"}, holder: "restore-here-1",
	}
}

func TestEachRestoreHoldsByItsOwnNameAndKeepsIt(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	first, err := holderOf(a)
	check(t, err)
	other, err := holderOf(b)
	check(t, err)
	if first == other || !strings.HasPrefix(first, "restore-") {
		t.Fatalf("%q and %q", first, other)
	}
	written, err := json.Marshal(marker{Version: 1, Holder: first})
	check(t, err)
	check(t, os.WriteFile(filepath.Join(a, markerName), written, 0o600))
	if again, err := holderOf(a); err != nil || again != first {
		t.Errorf("resumed as %q instead of %q, %v", again, first, err)
	}
	h := &scriptedHolder{}
	check(t, holding(h, state.Backup{}).hold(t.Context()))
	if len(h.asked) != 1 || h.asked[0].Holder != "restore-here-1" || !h.asked[0].Expires.Equal(holdClock.Add(holdFor)) {
		t.Errorf("asked for %+v", h.asked)
	}
}

func TestABackupThatIsBeingDeletedIsNotRestored(t *testing.T) {
	gone := &scriptedHolder{err: &state.Error{Code: state.CodeStale, Text: "it is being deleted"}}
	if err := holding(gone, state.Backup{State: state.BackupCommitted}).hold(t.Context()); state.CodeOf(err) != state.CodeStale {
		t.Errorf("restored all the same: %v", err)
	}
	short := state.Backup{State: state.BackupDeleted, Hold: &state.Hold{Expires: holdClock.Add(time.Hour)}}
	if err := holding(gone, short).hold(t.Context()); state.CodeOf(err) != state.CodeStale {
		t.Errorf("relies on a hold of an hour: %v", err)
	}
	check(t, holding(gone, state.Backup{State: state.BackupDeleted, Hold: &state.Hold{Reason: "audit"}}).hold(t.Context()))
	readOnly := holding(&scriptedHolder{err: errors.New("read-only file system")}, state.Backup{State: state.BackupCommitted})
	check(t, readOnly.hold(t.Context()))
	if len(readOnly.evidence.Notes) != 1 {
		t.Errorf("notes %v", readOnly.evidence.Notes)
	}
}
