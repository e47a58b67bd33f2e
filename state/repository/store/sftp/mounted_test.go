package sftp

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/location"
	"github.com/pgkeep/pgkeep/state/repository/store/remote"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest/servers"
)

// TestUnmountedIsNotEmpty: where a file system of the server's fstab is not mounted, nothing is said to be absent.
func TestUnmountedIsNotEmpty(t *testing.T) {
	at, err := location.Parse(servers.SFTP(t).Dir(t))
	if err != nil {
		t.Fatal(err)
	}
	table := filepath.Join(t.TempDir(), "fstab")
	b := &backend{at: at, dialer: remote.NewDialer(remote.Wire{}), fstab: table}
	st := remote.New(b, remote.Patience{})
	defer st.Close()
	for text, unmounted := range map[string]bool{
		"# nothing\n": false,
		"/dev/sdb1 " + strings.ReplaceAll(at.Path, " ", `\040`) + " ext4 defaults 0 2\n": true,
		"/dev/sdb1 " + at.Path + "x ext4 defaults 0 2\n":                                 false,
		"/dev/sda1 / ext4 defaults 0 1\nUUID=1 none swap sw 0 0\n":                       false,
		"/dev/sdb1 " + filepath.Dir(at.Path) + "/ ext4 defaults 0 2\n":                   true,
	} {
		if err := os.WriteFile(table, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := st.Stat(t.Context(), "REPOSITORY.json")
		var trouble *store.Trouble
		switch {
		case unmounted && (!errors.As(err, &trouble) || trouble.Kind != store.Missing || !strings.Contains(err.Error(), "is not mounted") || trouble.Hint == ""):
			t.Errorf("%q: %v", text, err)
		case !unmounted && !errors.Is(err, store.ErrNotExist):
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestDirectoriesAreOurs: whatever the server's umask is, nobody else may enter what is made.
func TestDirectoriesAreOurs(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0)) // which the server inherits
	at, err := location.Parse(servers.SFTP(t).Dir(t))
	if err != nil {
		t.Fatal(err)
	}
	st := Open(at, remote.Patience{})
	defer st.Close()
	if err := st.PutIfAbsent(t.Context(), "a/b/c/d", strings.NewReader("x"), 1, store.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"a", "a/b", "a/b/c"} {
		info, err := os.Stat(filepath.Join(at.Path, dir))
		if err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", dir, info.Mode(), err)
		}
	}
}
