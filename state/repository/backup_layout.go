package repository

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// The names of a backup's own objects, below its prefix. docs/format.md says what each holds.
const (
	startName      = "START.json"
	decisionName   = "COMMIT.json"
	tombName       = "TOMB.json"
	holdPrefix     = "HOLD-"
	verifyPrefix   = "VERIFY-"
	volumeDir      = "v/"
	filesDir       = "files/"
	hashDir        = "hash/"
	sumsDir        = "sums/"
	refsDir        = "refs/"
	manifestDir    = "backup_manifest/"
	labelName      = manifestDir + "backup_label"
	folderListName = manifestDir + "folders.json"
	capturedName   = manifestDir + "captured.json"
	relationName   = manifestDir + "relations.json"
	serverDir      = manifestDir + "server/" // PostgreSQL's own backup_manifest, in pieces
)

var backupIDPattern = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}Z-[FI]-[0-9a-f]{4,16}$`)

// CheckBackupID tells whether id is one that NewBackupID could have made, before it becomes part of a key.
func CheckBackupID(id string) error {
	if !backupIDPattern.MatchString(id) {
		return fmt.Errorf("%.60q is not a backup id: one looks like 20260210T211617Z-F-7f3a", id)
	}
	return nil
}

func (k ClusterKey) startFile(id string) string  { return k.backupDir(id) + startName }
func (k ClusterKey) commitFile(id string) string { return k.backupDir(id) + decisionName }
func (k ClusterKey) tombFile(id string) string   { return k.backupDir(id) + tombName }
func (k ClusterKey) holdFile(id string, n int) string {
	return fmt.Sprintf("%s%s%06d.json", k.backupDir(id), holdPrefix, n)
}

func (k ClusterKey) verifyFile(id string, at time.Time) string {
	return k.backupDir(id) + verifyPrefix + keyTime(at) + ".json"
}

// volumeName gives the name of one volume of a folder: "v/base/000000", "v/16384/000012".
func volumeName(folder uint32, n int) string {
	return fmt.Sprintf("%s%s/%06d", volumeDir, folderName(folder), n)
}

// folderName gives "base" for the data directory, else the tablespace's number.
func folderName(oid uint32) string {
	if oid == 0 {
		return "base"
	}
	return strconv.FormatUint(uint64(oid), 10)
}

// shardName gives the name of the n-th shard of a directory: "files/000000".
func shardName(dir string, n int) string { return fmt.Sprintf("%s%06d", dir, n) }

// numberOf reads the number of "HOLD-000012.json".
func numberOf(name, prefix string) (int, bool) {
	digits, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return 0, false
	}
	digits, ok = strings.CutSuffix(digits, ".json")
	if !ok || len(digits) < 6 {
		return 0, false
	}
	n, err := strconv.Atoi(digits)
	return n, err == nil && n > 0 && fmt.Sprintf("%06d", n) == digits
}
