package sftp_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/location"
	"github.com/pgkeep/pgkeep/state/repository/store/remote"
	"github.com/pgkeep/pgkeep/state/repository/store/sftp"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest/servers"
)

func open(t testing.TB, url string) *remote.Store {
	t.Helper()
	at, err := location.Parse(url)
	if err != nil {
		t.Fatal(err)
	}
	st := sftp.Open(at, remote.Patience{First: time.Millisecond})
	t.Cleanup(func() { st.Close() })
	return st
}

func TestConformance(t *testing.T) {
	server := servers.SFTP(t)
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, server.Dir(t)) })
}

func TestRaces(t *testing.T) {
	where := servers.SFTP(t).Dir(t)
	storetest.Race(t, func(t testing.TB) store.Store { return open(t, where) })
}

// TestTroubles are failures that an operator can mend: each says what and how.
func TestTroubles(t *testing.T) {
	server := servers.SFTP(t)
	other := servers.SFTP(t)
	where := server.Dir(t)
	for name, x := range map[string]struct {
		url  string
		kind store.Kind
	}{
		"no directory":      {strings.Replace(where, "?", "/absent?", 1), store.Missing},
		"another's key":     {strings.Replace(where, server.Identity, other.Identity, 1), store.Denied},
		"no key":            {strings.Replace(where, server.Identity, "/nonexistent", 1), store.Denied},
		"unknown host":      {strings.Replace(where, server.KnownHosts, other.KnownHosts, 1), store.Insecure},
		"no server":         {strings.Replace(where, server.Address, "127.0.0.1:9", 1), store.Unreachable},
		"no known_hosts":    {strings.Replace(where, server.KnownHosts, "/nonexistent", 1), store.Insecure},
		"another's hostkey": {strings.Replace(where, server.KnownHosts, changedHost(t, server, other), 1), store.Insecure},
	} {
		t.Run(name, func(t *testing.T) {
			st := open(t, x.url)
			_, err := st.Stat(t.Context(), "a")
			for _, err := range []error{err, st.PutIfAbsent(t.Context(), "a", strings.NewReader("x"), 1, store.PutOptions{})} {
				var trouble *store.Trouble
				if !errors.As(err, &trouble) || trouble.Kind != x.kind || trouble.Hint == "" || errors.Is(err, store.ErrNotExist) {
					t.Errorf("%v", err)
				}
			}
		})
	}
}

// changedHost knows the server's address with another's key.
func changedHost(t *testing.T, server, other *servers.SFTPServer) string {
	t.Helper()
	b, err := os.ReadFile(other.KnownHosts)
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(server.Address, ":")
	_, key, _ := strings.Cut(string(b), " ")
	file := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(file, []byte("[127.0.0.1]:"+port+" "+key), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
