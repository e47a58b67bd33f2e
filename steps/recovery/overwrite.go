package recovery

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/repository"
)

// checkOverwrite refuses to write over anything but a stopped data directory of the very cluster that is restored: what is
// there has a pg_control of that system, or is the directory of a restore of it that was cut short.
func (r *restore) checkOverwrite(ctx context.Context, m *marker) error {
	path := r.places[0]
	if err := r.checkStopped(); err != nil {
		return err
	}
	id, err := host.ClusterOf(path)
	if err != nil {
		return err
	}
	was := id != "" // and its pg_wal is untouched
	if id == "" && m != nil && !m.Complete && m.into(path) {
		id = m.SystemID
	}
	switch {
	case id == "":
		return refuse("empty it yourself, or choose another directory", "%s is not empty and is no data directory of PostgreSQL: only one of the same cluster is restored over", path)
	case id != r.Route.SystemID:
		return refuse("choose another directory", "%s is the data directory of system %s, and backup %s is of system %s", path, id, r.Route.Backup, r.Route.SystemID)
	case was:
		return r.checkArchived(ctx, m != nil && m.Complete)
	}
	return nil
}

// cameSince says what tells that a directory is no longer what a restore left that was cut short: another one, another cluster's,
// or one in which a server was started, whose pg_control is neither that which is written last nor that which was there before
// the first file was touched. Empty: nothing does.
func (r *restore) cameSince(m *marker, d host.Directory) (string, error) {
	path := r.places[0]
	if !d.Exists || d.Empty {
		return "", nil
	}
	id, err := host.ClusterOf(path)
	if err != nil {
		return "", err
	}
	if id != "" && id != r.Route.SystemID {
		return fmt.Sprintf("%s is the data directory of system %s, and no longer the restore of backup %s that was cut short", path, id, m.Backup), nil
	}
	if !m.into(path) {
		return fmt.Sprintf("%s is another directory than the one that backup %s was restored into when that was cut short", path, m.Backup), nil
	}
	was, err := controlDigest(path)
	if err != nil || was == "" || was == m.Control || was == m.Was || m.Control == "" { // an older pgkeep noted neither
		return "", err
	}
	return fmt.Sprintf("%s holds a restore of backup %s that was cut short, and a server was started there since", path, m.Backup), nil
}

// checkStopped refuses a data directory in which a server runs, also one whose lock file somebody has removed.
func (r *restore) checkStopped() error {
	path := r.places[0]
	pid, err := host.Postmaster(path)
	if err == nil && pid == 0 {
		pid, err = host.ServerIn(path)
	}
	if err != nil {
		return err
	}
	if pid != 0 {
		return refuse("choose another directory, or stop that server first", "a PostgreSQL server runs in %s, process %d", path, pid)
	}
	return nil
}

// checkTablespace refuses to write over a directory that is not the tablespace of the data directory that is restored over.
func (r *restore) checkTablespace(oid uint32) error {
	link := filepath.Join(r.places[0], "pg_tblspc", strconv.FormatUint(uint64(oid), 10))
	target, err := os.Readlink(link)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look at %s: %w", link, err)
	}
	if err != nil || filepath.Clean(target) != r.places[oid] {
		return refuse("give the tablespace an empty directory, or the one that it has there", "%s is not empty, and is not where %s leads", r.places[oid], link)
	}
	return nil
}

// checkUnshared refuses the directory of a tablespace that a server which runs has, as one does whose data directory was copied with
// its links.
func checkUnshared(path string) error {
	pid, err := host.ServerWith(path)
	if err != nil {
		return err
	}
	if pid != 0 {
		return refuse("give the tablespace another directory, or stop that server first", "%s is a tablespace of a PostgreSQL server that runs, process %d", path, pid)
	}
	return nil
}

// removeOthers removes from directories that are restored over what the backup does not have, what it has as something else,
// and files that have other names elsewhere, as pg_upgrade --link leaves them: written to, they would change there too. Of a
// tablespace's directory it looks only at what this cluster has in it.
func (r *restore) removeOthers(ctx context.Context) error {
	directories, files, tops := &kept{}, &kept{}, &kept{}
	for f, err := range r.Backup.Files(ctx) {
		if err != nil {
			return err
		}
		if ours(&f) {
			continue
		}
		if f.Type == repository.Directory {
			directories.add(keyOf(&f))
		} else {
			files.add(keyOf(&f))
		}
		top, _, _ := strings.Cut(f.Path, "/")
		tops.add(keyOf(&repository.File{Folder: f.Folder, Path: top}))
	}
	for _, id := range r.folderIDs() {
		root := r.roots[id]
		err := fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil || name == "." {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			k := keyOf(&repository.File{Folder: id, Path: name})
			switch {
			case d.IsDir() && (directories.has(k) || d.Name() == "lost+found"):
				return nil
			case id != 0 && !strings.Contains(name, "/") && !tops.has(k):
				return skipOf(d)
			case d.Type().IsRegular() && files.has(k):
				info, err := d.Info()
				if st, ok := info.Sys().(*syscall.Stat_t); err != nil || ok && st.Nlink == 1 {
					return err
				}
			case d.IsDir() || d.Type().IsRegular():
			default:
				r.noteLink(name, d)
			}
			r.removed++
			if err := root.RemoveAll(name); err != nil {
				return err
			}
			return skipOf(d)
		})
		if err != nil {
			return fmt.Errorf("remove what the backup does not have from %s: %w", root.Name(), err)
		}
	}
	return nil
}

// skipOf lets a walk pass over a directory.
func skipOf(d fs.DirEntry) error {
	if d.IsDir() {
		return fs.SkipDir
	}
	return nil
}

// noteLink says that a link was removed; what it leads to is left alone.
func (r *restore) noteLink(name string, d fs.DirEntry) {
	if d.Type()&fs.ModeSymlink != 0 && filepath.Dir(name) != "pg_tblspc" {
		r.note(name + " was a symbolic link: it is a directory or file now, and what the link led to was left alone")
	}
}

// usedBy gives the bytes that the files of a directory occupy, and that a restore over them uses again.
func usedBy(dir string) (int64, error) {
	var used int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && info.Mode().IsRegular() {
			used += st.Blocks * 512
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look how much %s holds: %w", dir, err)
	}
	return used, nil
}
