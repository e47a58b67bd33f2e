package repository

import (
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/pgkeep/pgkeep/state/wal"
)

// The keys of a repository's own objects.
const (
	repositoryKey = "REPOSITORY.json"
	readmeKey     = "README.txt"
	clustersDir   = "c/"
)

// ClusterKey names one PostgreSQL cluster in a repository: the stored name and the system identifier, as decimal digits.
type ClusterKey struct {
	Name     string
	SystemID string
}

var (
	namePattern     = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}(\.[a-z0-9][a-z0-9_-]{0,62})?$`)
	systemIDPattern = regexp.MustCompile(`^[1-9][0-9]{0,19}$`)
)

// Check tells whether the name is a label, or two joined by a dot, and the system identifier a number.
func (k ClusterKey) Check() error {
	if !namePattern.MatchString(k.Name) {
		return fmt.Errorf("%q is not a stored server name: it is a-z 0-9 _ -, at most 63, in one part or two joined by a dot", k.Name)
	}
	if _, err := strconv.ParseUint(k.SystemID, 10, 64); err != nil || !systemIDPattern.MatchString(k.SystemID) {
		return fmt.Errorf("%q is not a system identifier: it is a decimal number of 64 bits", k.SystemID)
	}
	return nil
}

func (k ClusterKey) dir() string         { return clustersDir + k.Name + "/" + k.SystemID + "/" }
func (k ClusterKey) clusterFile() string { return k.dir() + "cluster.json" }

// WAL. Hexadecimal digits are upper case, as PostgreSQL's file names have them.

func (k ClusterKey) walDir() string                      { return k.dir() + "w/" }
func (k ClusterKey) timelineDir(t wal.Timeline) string   { return k.walDir() + t.Hex() + "/" }
func (k ClusterKey) historyDir() string                  { return k.walDir() + "history/" }
func (k ClusterKey) historyFile(t wal.Timeline) string   { return k.historyDir() + t.Hex() }
func (k ClusterKey) logDir(t wal.Timeline, l log) string { return k.timelineDir(t) + l.hex() + "/" }
func (k ClusterKey) indexDir() string                    { return k.dir() + "wx/" }
func (k ClusterKey) indexTimeline(t wal.Timeline) string { return k.indexDir() + t.Hex() + "/" }
func (k ClusterKey) gapDir() string                      { return k.dir() + "gap/" }
func (k ClusterKey) evidenceDir() string                 { return k.dir() + "evidence/" }
func (k ClusterKey) journalDir() string                  { return k.dir() + "journal/" }
func (k ClusterKey) evidenceFile(at time.Time) string    { return k.evidenceDir() + keyTime(at) }
func (k ClusterKey) journalFile(at time.Time, digest string) string {
	return k.journalDir() + keyTime(at) + "-" + digest
}

func (k ClusterKey) segmentFile(s wal.Segment, z wal.SegmentSize) string {
	return k.logDir(s.Timeline, logOf(s, z)) + s.Name(z)
}

func (k ClusterKey) partialFile(s wal.Segment, z wal.SegmentSize, offset int64) string {
	return fmt.Sprintf("%s.partial-%08X", k.segmentFile(s, z), offset)
}

// indexFile names one wx object: first and last are the last eight digits of the segments' names.
func (k ClusterKey) indexFile(x indexName) string {
	return fmt.Sprintf("%s%s.%08X-%08X.%d", k.indexTimeline(x.Timeline), x.Log.hex(), x.First, x.Last, x.Generation)
}

func (k ClusterKey) gapFile(r wal.Range) string {
	return fmt.Sprintf("%s%s-%016X-%016X", k.gapDir(), r.Timeline.Hex(), uint64(r.From), uint64(r.To))
}

// Backups. The names below a backup's directory are in backup_layout.go.

func (k ClusterKey) backupsDir() string         { return k.dir() + "b/" }
func (k ClusterKey) backupDir(id string) string { return k.backupsDir() + id + "/" }

// keyTime writes a moment so that keys sort by it and hold no colon.
func keyTime(t time.Time) string { return t.UTC().Format("20060102T150405.000000000Z") }

// log is the middle part of a segment's name: four gibibytes of WAL.
type log uint32

func (l log) hex() string { return fmt.Sprintf("%08X", uint32(l)) }

func perLog(z wal.SegmentSize) uint64               { return (1 << 32) / uint64(z) }
func logOf(s wal.Segment, z wal.SegmentSize) log    { return log(s.Number / perLog(z)) }
func inLog(s wal.Segment, z wal.SegmentSize) uint32 { return uint32(s.Number % perLog(z)) }

// indexName is what the name of a wx object says.
type indexName struct {
	Timeline    wal.Timeline
	Log         log
	First, Last uint32
	Generation  int
}
