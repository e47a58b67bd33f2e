package observe

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/jsonlist"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/store"
)

// unreadable gives the repositories that the owner of restored files may not read, judged by what a recovery to the
// latest moment begins and ends with; the restore looks at all WAL of its route once more.
func unreadable(ctx context.Context, name string, sources []source) []string {
	owner, err := host.LookupOwner(name)
	if err != nil {
		return nil // that the user is absent is said otherwise
	}
	var out []string
	for _, s := range sources {
		if s.asksProgram() {
			out = append(out, s.label)
			continue
		}
		for _, object := range append(s.wantedObjects(), s.keyFiles()...) {
			if !host.CanRead(ctx, owner, object) && ctx.Err() == nil {
				out = append(out, s.label)
				break
			}
		}
	}
	return out
}

// asksProgram tells whether keys come from a program, which may not answer the owner of restored files as it answers this user.
func (s source) asksProgram() bool {
	return s.keys != nil && len(s.keys.IdentityCommand)+len(s.keys.PassphraseCommand) > 0
}

// keyFiles lists the files with keys that wal-get reads to open the repository.
func (s source) keyFiles() []string {
	if s.keys == nil {
		return nil
	}
	out := slices.Clone(s.keys.IdentityFiles)
	if s.keys.PassphraseFile != "" {
		out = append(out, s.keys.PassphraseFile)
	}
	return out
}

// wantedObjects lists what is read for a recovery: the repository's and the cluster's own descriptions, the newest
// committed backup, its first segment and the last that is archived. Those that are not there are left out: whole ones
// may be elsewhere.
func (s source) wantedObjects() []string {
	if s.path == "" {
		return nil // who may read there is decided by credentials and not by this machine's users
	}
	key, c := repository.ClusterKey{Name: s.cluster.Name, SystemID: s.cluster.SystemID}, s.cluster
	keys := []string{key.ClusterObject()}
	for _, b := range slices.Backward(c.Backups) {
		if b.State == state.BackupCommitted {
			keys = append(keys, key.BackupFolder(b.ID), key.SegmentObject(c.SegmentSize.SegmentAt(b.Timeline, b.Redo), c.SegmentSize))
			break
		}
	}
	if n := len(c.WAL); n > 0 && c.WAL[n-1].To > c.WAL[n-1].From {
		last := c.WAL[n-1]
		keys = append(keys, key.SegmentObject(c.SegmentSize.SegmentAt(last.Timeline, last.To-1), c.SegmentSize))
	}
	out := []string{filepath.Join(s.path, "REPOSITORY.json")}
	for _, k := range keys {
		path := filepath.Join(s.path, k)
		if _, err := os.Lstat(path); err == nil {
			out = append(out, path)
		}
	}
	return out
}

// tablespaces reads which tablespaces the committed backups of one repository have, the newest backup first: when time
// runs out, or one cannot be read, the rest stays unknown, and the restore finds out.
func (s source) tablespaces(ctx context.Context, into map[string][]state.BackupTablespace) {
	repo, closeStore, err := s.open(ctx)
	if err != nil {
		return
	}
	defer closeStore()
	cluster := repo.Cluster(s.cluster.Name, s.cluster.SystemID)
	for _, b := range slices.Backward(s.cluster.Backups) {
		if _, known := into[b.ID]; known || b.State != state.BackupCommitted && b.Hold == nil || ctx.Err() != nil {
			continue
		}
		if found, err := tablespacesOf(ctx, cluster, b.ID); err == nil {
			into[b.ID] = found
		}
	}
}

func tablespacesOf(ctx context.Context, cluster *repository.Cluster, id string) ([]state.BackupTablespace, error) {
	b, err := cluster.OpenBackup(ctx, id)
	if err != nil {
		return nil, err
	}
	names, err := tablespaceNames(ctx, b)
	if err != nil {
		return nil, err
	}
	var out []state.BackupTablespace
	for _, f := range b.Folders() {
		if f.OID == 0 {
			continue
		}
		at, err := host.LookAt(f.Location)
		if err != nil {
			at.Exists = true // something is there that cannot be looked at
		}
		out = append(out, state.BackupTablespace{OID: f.OID, Name: names[f.OID], Location: f.Location, Bytes: f.Bytes, Exists: at.Exists})
	}
	return out, nil
}

// tablespaceNames reads the names from the captured settings, where the role could see them.
func tablespaceNames(ctx context.Context, b *repository.BackupReader) (map[uint32]string, error) {
	content, err := b.Captured(ctx)
	if errors.Is(err, store.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var captured struct {
		Tablespaces jsonlist.Of[state.Tablespace] `json:"tablespaces"`
	}
	if err := json.Unmarshal(content, &captured); err != nil {
		return nil, err
	}
	names := map[uint32]string{}
	for _, t := range captured.Tablespaces {
		names[t.OID] = t.Name
	}
	return names, nil
}
