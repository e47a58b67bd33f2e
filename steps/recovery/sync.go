package recovery

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"
)

// sync makes everything durable before pg_control is there: every file, every directory, and what holds the directories.
func (r *restore) sync(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2 * r.workers())
	for f, err := range r.Backup.Files(ctx) {
		if err != nil {
			return errors.Join(err, group.Wait())
		}
		if ours(&f) {
			continue
		}
		group.Go(func() error { return syncName(r.roots[f.Folder], f.Path) })
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("restore backup %s: %w", r.Route.Backup, err)
	}
	for _, id := range r.folderIDs() {
		if err := r.syncDirectory(id); err != nil {
			return err
		}
	}
	return nil
}

func (r *restore) syncDirectory(id uint32) error {
	root := r.roots[id]
	names := []string{"."}
	if id == 0 {
		names = []string{"pg_tblspc", "."}
	}
	for _, name := range names {
		if err := syncName(root, name); err != nil {
			return err
		}
	}
	parent, err := os.Open(filepath.Dir(r.places[id]))
	if err != nil {
		return fmt.Errorf("fsync the directory above %s: %w", r.places[id], err)
	}
	if err := errors.Join(parent.Sync(), parent.Close()); err != nil {
		return fmt.Errorf("fsync the directory above %s: %w", r.places[id], err)
	}
	return nil
}
