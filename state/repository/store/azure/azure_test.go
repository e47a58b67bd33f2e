package azure_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/azure"
	"github.com/pgkeep/pgkeep/state/repository/store/location"
	"github.com/pgkeep/pgkeep/state/repository/store/remote"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest/servers"
)

func open(t testing.TB, url string) *remote.Store {
	t.Helper()
	at, err := location.Parse(url)
	if err != nil {
		t.Fatal(err)
	}
	st, err := azure.Open(at, remote.Patience{First: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

// TestAzure shares one server, which takes long to start.
func TestAzure(t *testing.T) {
	server := servers.Azure(t)
	t.Run("conformance", func(t *testing.T) { conformance(t, server) })
	t.Run("races", func(t *testing.T) { races(t, server) })
	t.Run("troubles", func(t *testing.T) { troubles(t, server) })
}

func conformance(t *testing.T, server *servers.AzureServer) {
	server.Container(t, "conformance")
	var n atomic.Int64
	storetest.Run(t, func(t *testing.T) store.Store {
		return open(t, server.URL("conformance", fmt.Sprintf("prefix-%d", n.Add(1))))
	})
}

func races(t *testing.T, server *servers.AzureServer) {
	server.Container(t, "races")
	storetest.Race(t, func(t testing.TB) store.Store { return open(t, server.URL("races", "")) })
}

// troubles are failures that an operator can mend: each says what and how, and none holds a secret.
func troubles(t *testing.T, server *servers.AzureServer) {
	server.Container(t, "troubles")
	where := server.URL("troubles", "")
	for name, x := range map[string]struct {
		key, url string
		kind     store.Kind
	}{
		"no container": {"", strings.Replace(where, "troubles", "absent", 1), store.Missing},
		"wrong key":    {"Y2FuYXJ5LWNhbmFyeQ==", where, store.Denied},
		"no server":    {"", strings.Replace(where, server.Address, "127.0.0.1:9", 1), store.Unreachable},
	} {
		t.Run(name, func(t *testing.T) {
			if x.key != "" {
				t.Setenv("AZURE_STORAGE_KEY", x.key)
			}
			st := open(t, x.url)
			_, err := st.Stat(t.Context(), "a")
			for _, err := range []error{err, st.PutIfAbsent(t.Context(), "a", strings.NewReader("x"), 1, store.PutOptions{})} {
				var trouble *store.Trouble
				if !errors.As(err, &trouble) || trouble.Kind != x.kind || trouble.Hint == "" || errors.Is(err, store.ErrNotExist) {
					t.Errorf("%v", err)
				}
				if text := fmt.Sprintf("%v %+v", err, err); strings.Contains(text, "Y2FuYXJ5") || strings.Contains(text, servers.AzureKey) {
					t.Errorf("a secret is shown: %s", text)
				}
			}
		})
	}
}
