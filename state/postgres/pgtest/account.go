package pgtest

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// account is the user that servers run as. A nil account is the current user.
type account struct{ uid, gid int }

// serverAccount gives postgres, else nobody, when this is root; nil otherwise.
func serverAccount() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.Atoi(u.Uid)
		if err != nil {
			return nil, fmt.Errorf("user %s: %w", name, err)
		}
		gid, err := strconv.Atoi(u.Gid)
		if err != nil {
			return nil, fmt.Errorf("user %s: %w", name, err)
		}
		return &account{uid: uid, gid: gid}, nil
	}
	return nil, fmt.Errorf("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")
}

// credential makes a child process run as the account.
func (a *account) credential() *syscall.Credential {
	if a == nil {
		return nil
	}
	return &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
}

// own gives a tree, and what symbolic links in pg_tblspc point to, to the account.
func (a *account) own(dir string) error {
	if a == nil {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Type()&fs.ModeSymlink != 0 && filepath.Base(filepath.Dir(path)) == "pg_tblspc" {
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			if err := a.reach(target); err != nil {
				return err
			}
			if err := a.own(target); err != nil {
				return err
			}
		}
		return os.Lchown(path, a.uid, a.gid)
	})
}

// reach opens the folders above path that lie under the temporary directory for passage.
func (a *account) reach(path string) error {
	if a == nil {
		return nil
	}
	top := os.TempDir()
	for dir := filepath.Dir(path); strings.HasPrefix(dir, top+"/"); dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if err := os.Chmod(dir, info.Mode().Perm()|0o011); err != nil {
			return err
		}
	}
	return nil
}

// TempDir makes a folder on disk that the server's user may enter and write, removed when the test ends.
func TempDir(tb testing.TB) string {
	tb.Helper()
	dir, err := openDir(os.TempDir(), "pgkeep-test-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// openDir makes a folder of the server's user that everybody may enter.
func openDir(top, prefix string) (string, error) {
	dir, err := os.MkdirTemp(top, prefix)
	if err != nil {
		return "", err
	}
	a, err := serverAccount()
	if err != nil {
		return "", err
	}
	if err := a.own(dir); err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755) // #nosec: the server is another user
}
