package repository

import "github.com/pgkeep/pgkeep/state/wal"

// The names of objects, for those who ask the file system whether they can be read. In a repository on a file system a key
// is a path below its directory.

// ClusterObject gives the key of the cluster's own description.
func (k ClusterKey) ClusterObject() string { return k.clusterFile() }

// BackupFolder gives what the keys of all objects of a backup begin with.
func (k ClusterKey) BackupFolder(id string) string { return k.backupDir(id) }

// HistoryObject gives the key of a timeline's history file; timeline 1 has none.
func (k ClusterKey) HistoryObject(t wal.Timeline) string { return k.historyFile(t) }

// SegmentObject gives the key of a whole segment. The keys of its partials are that, ".partial-" and a number.
func (k ClusterKey) SegmentObject(s wal.Segment, z wal.SegmentSize) string {
	return k.segmentFile(s, z)
}
