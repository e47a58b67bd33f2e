package repository

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host/hosttest"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/file"
)

// TestAFullDiskCanBeEmptied: a backup that was abandoned filled the disk to its last page. Another process decides that it
// is aborted, and removes it.
func TestAFullDiskCanBeEmptied(t *testing.T) {
	dir := hosttest.Tmpfs(t, 4<<10)
	c := newArchive(t, must(file.Open(dir, file.Options{}))(t), mib)
	id := testIntent(1).ID
	must(c.BeginBackup(t.Context(), testIntent(1)))(t)
	for size, n := 256<<10, 0; size > 0; n++ {
		key := fmt.Sprintf("%sv/base/%06d", c.key.backupDir(id), n)
		body := bytes.Repeat([]byte("x"), size)
		if err := c.repo.Store().PutIfAbsent(t.Context(), key, bytes.NewReader(body), int64(size), store.PutOptions{}); err != nil {
			size /= 2
		}
	}
	key := c.key.backupDir(id) + "v/base/009999"
	err := c.putObject(t.Context(), key, make([]byte, 1<<20))
	if state.CodeOf(err) != state.CodeDiskFull || strings.Count(err.Error(), key) != 1 {
		t.Errorf("the object is not named once: %v", err)
	}
	c = newArchive(t, must(file.Open(dir, file.Options{}))(t), mib)
	if got, err := c.AbortBackup(t.Context(), id, "its writer died", testNow); err != nil || got != state.BackupAborted {
		t.Fatalf("%s, %v", got, err)
	}
	if freed := must(c.RemoveAborted(t.Context(), id))(t); freed < 2<<20 {
		t.Errorf("freed %d bytes", freed)
	}
}
