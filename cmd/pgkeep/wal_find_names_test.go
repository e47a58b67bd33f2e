package main

import (
	"testing"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestNamesAreOfTheNewestBackup: of two backups that were taken in one second, the id does not tell which came later.
func TestNamesAreOfTheNewestBackup(t *testing.T) {
	older := state.Backup{ID: "20261123T070538Z-F-fa7b4298", State: state.BackupCommitted, Timeline: 1, Redo: 0x200, Stop: 0x300}
	newer := state.Backup{ID: "20261123T070538Z-F-ed3efc3b", State: state.BackupCommitted, Timeline: 1, Redo: 0x400, Stop: 0x500}
	c := state.Cluster{Backups: []state.Backup{newer, older}, WAL: []state.WALRange{{Range: wal.Range{Timeline: 1, To: 0x1000}}}}
	for at, want := range map[wal.LSN]string{0x299: "", 0x300: older.ID, 0x499: older.ID, 0x600: newer.ID} {
		if got := backupBefore(c, state.Moment{LSN: at}); got != want {
			t.Errorf("at %s: %q, not %q", at, got, want)
		}
	}
}
