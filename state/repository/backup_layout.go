package repository

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// The names of a backup's own objects, below its prefix. docs/format.md says what each holds.
const (
	startName    = "START.json"
	decisionName = "COMMIT.json"
	tombName     = "TOMB.json"
	holdPrefix   = "HOLD-"
	verifyPrefix = "VERIFY-"
	volumeDir    = "v/"
	filesDir     = "files/"
	hashDir      = "hash/"
	sumsDir      = "sums/"
	refsDir      = "refs/"
	manifestDir  = "backup_manifest/"
	labelName    = manifestDir + "backup_label"
	capturedName = manifestDir + "captured.json"
	relationName = manifestDir + "relations.json"
	serverDir    = manifestDir + "server/" // PostgreSQL's own backup_manifest, in pieces
)

var backupID = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}Z-[FI]-[0-9a-f]{4,16}$`)

// checkBackupID refuses what is not an id, before it becomes part of a key.
func checkBackupID(id string) error {
	if !backupID.MatchString(id) {
		return fmt.Errorf("%q is not the id of a backup: one looks like 20260210T211617Z-F-7f3a", id)
	}
	return nil
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

// numbered reads the number of "HOLD-12.json".
func numbered(name, prefix string) (int, bool) {
	digits, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return 0, false
	}
	digits, ok = strings.CutSuffix(digits, ".json")
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(digits)
	return n, err == nil && n > 0 && strconv.Itoa(n) == digits
}
