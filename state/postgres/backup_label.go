package postgres

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/pgkeep/pgkeep/state/wal"
)

// BackupLabel is what the file backup_label of a base backup says.
type BackupLabel struct {
	Start               wal.LSN // where replay begins: the redo position of the backup's checkpoint
	Segment             string  // the file name of the segment that holds Start
	Checkpoint          wal.LSN
	Timeline            wal.Timeline
	FromStandby         bool
	StartTime           string // as the server wrote it, in its log_timezone
	Label               string
	IncrementalFrom     wal.LSN      // 17 and later, incremental backups only; zero: a full backup
	IncrementalTimeline wal.Timeline // likewise
}

// maxBackupLabel bounds a backup_label: seven short lines, and a label of at most a kilobyte.
const maxBackupLabel = 16 << 10

// ParseBackupLabel reads a backup_label, from a server or an archive that is not trusted.
func ParseBackupLabel(content []byte) (BackupLabel, error) {
	var b BackupLabel
	if len(content) > maxBackupLabel {
		return b, fmt.Errorf("parse backup_label: %d bytes are too many", len(content))
	}
	for i, line := range strings.Split(strings.TrimSuffix(string(content), "\n"), "\n") {
		key, value, ok := strings.Cut(line, ": ")
		if !ok {
			return BackupLabel{}, fmt.Errorf("parse backup_label: line %d has no colon", i+1)
		}
		if err := b.set(key, value); err != nil {
			return BackupLabel{}, fmt.Errorf("parse backup_label: %s: %w", key, err)
		}
	}
	if b.Start == 0 || b.Checkpoint < b.Start {
		return BackupLabel{}, fmt.Errorf("parse backup_label: start %s and checkpoint %s do not fit", b.Start, b.Checkpoint)
	}
	if b.Timeline == 0 || !strings.HasPrefix(b.Segment, b.Timeline.Hex()) {
		return BackupLabel{}, fmt.Errorf("parse backup_label: timeline %d and segment %q do not fit", b.Timeline, b.Segment)
	}
	return b, nil
}

// set takes one line. Lines that a newer server may add are passed over.
func (b *BackupLabel) set(key, value string) (err error) {
	switch key {
	case "START WAL LOCATION":
		lsn, file, ok := strings.Cut(value, " (file ")
		if !ok || len(file) != 25 || !strings.HasSuffix(file, ")") {
			return fmt.Errorf("no segment in %q", value)
		}
		b.Segment = file[:24]
		b.Start, err = wal.ParseLSN(lsn)
	case "CHECKPOINT LOCATION":
		b.Checkpoint, err = wal.ParseLSN(value)
	case "START TIMELINE":
		b.Timeline, err = parseTimeline(value)
	case "BACKUP FROM":
		b.FromStandby = value == "standby"
	case "START TIME":
		b.StartTime = value
	case "LABEL":
		b.Label = value
	case "INCREMENTAL FROM LSN":
		b.IncrementalFrom, err = wal.ParseLSN(value)
	case "INCREMENTAL FROM TLI":
		b.IncrementalTimeline, err = parseTimeline(value)
	}
	return err
}

// parseTimeline reads a decimal timeline number; there is no timeline 0.
func parseTimeline(s string) (wal.Timeline, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a timeline", s)
	}
	return wal.Timeline(n), nil
}

// WholeBackupLabel drops the lines of an incremental backup's backup_label that keep PostgreSQL from starting: what comes out of
// a repository is a whole cluster.
func WholeBackupLabel(label []byte) []byte {
	var out []byte
	for line := range bytes.Lines(label) {
		if !bytes.HasPrefix(line, []byte("INCREMENTAL FROM ")) {
			out = append(out, line...)
		}
	}
	return out
}
