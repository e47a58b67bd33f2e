package recovery

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/repository"
)

// unreadable names an object of the route in a repository of this machine that the owner of the restored files may not
// read, and so neither may wal-get, which PostgreSQL runs as that user; empty: there is none. A repository that several
// users write to holds objects of each: of all that are alike in owner and mode one is asked about.
func (r *restore) unreadable(ctx context.Context, p Place) string {
	if p.Path == "" {
		return ""
	}
	asked := map[string]bool{}
	for _, path := range r.objects(p.Path) {
		kind, ok := kindOf(path)
		if !ok || asked[kind] {
			continue // what is not there is in another place
		}
		asked[kind] = true
		if !host.CanRead(ctx, r.owner, path) {
			return path
		}
	}
	return ""
}

// kindOf gives what decides who may read an object.
func kindOf(path string) (string, bool) {
	info, err := os.Stat(path)
	if err != nil {
		return "", false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return path, true
	}
	return fmt.Sprint(filepath.Dir(path), st.Uid, st.Gid, info.Mode()), true
}

// objects lists what wal-get reads of the route, with the backup that it begins with.
func (r *restore) objects(root string) []string {
	key := repository.ClusterKey{Name: r.Route.Server, SystemID: r.Route.SystemID}
	out := []string{
		filepath.Join(root, "REPOSITORY.json"),
		filepath.Join(root, key.ClusterObject()),
		filepath.Join(root, key.BackupFolder(r.Route.Backup)),
		filepath.Join(root, key.HistoryObject(r.Route.TargetTimeline)),
	}
	route := routeFile{Path: r.Route.Path, SegmentSize: r.Route.SegmentSize}
	for _, seg := range route.segments() {
		whole := filepath.Join(root, key.SegmentObject(seg, r.Route.SegmentSize))
		if _, err := os.Lstat(whole); err == nil {
			out = append(out, whole)
			continue
		}
		parts, _ := filepath.Glob(whole + ".partial-*") // the pattern is good
		out = append(out, filepath.Dir(whole))
		out = append(out, parts...)
	}
	return out
}
