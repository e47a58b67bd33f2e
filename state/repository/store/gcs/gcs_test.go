package gcs_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/gcs"
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
	st, err := gcs.Open(at, remote.Patience{First: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

func TestConformance(t *testing.T) {
	server := servers.GCS(t)
	server.Bucket(t, "conformance")
	var n atomic.Int64
	storetest.Run(t, func(t *testing.T) store.Store {
		return open(t, server.URL("conformance", fmt.Sprintf("prefix-%d", n.Add(1))))
	})
}

func TestRaces(t *testing.T) {
	server := servers.GCS(t)
	server.Bucket(t, "races")
	storetest.Race(t, func(t testing.TB) store.Store { return open(t, server.URL("races", "")) })
}

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "credentials.json")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestTroubles are failures that an operator can mend: each says what and how, and none holds a secret.
func TestTroubles(t *testing.T) {
	server := servers.GCS(t)
	server.Bucket(t, "troubles")
	where := server.URL("troubles", "")
	good, err := os.ReadFile(server.Credentials)
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		credentials, url string
		kind             store.Kind
	}{
		"no bucket":         {"", strings.Replace(where, "troubles", "absent", 1), store.Missing},
		"no server":         {"", server.URL("troubles", "") + "9", store.Unreachable},
		"no credentials":    {"/nonexistent/canary", where, store.Denied},
		"not Google's":      {"", where + "&credentials_file=" + write(t, "[default]\naws_secret_access_key = canary"), store.Denied},
		"no such file":      {"", where + "&credentials_file=/nonexistent", store.Denied},
		"broken key":        {"", where + "&credentials_file=" + write(t, strings.Replace(string(good), "BEGIN PRIVATE", "BEGIN canary", 1)), store.Denied},
		"no authority":      {write(t, strings.Replace(string(good), `"token_uri":"http://127.0.0.1:`, `"token_uri":"http://127.0.0.1:9`, 1)), where, store.Unreachable},
		"revoked":           {write(t, strings.Replace(string(good), `"token_uri":"`, `"token_uri":"`+server.Endpoint+`/canary/`, 1)), where, store.Denied},
		"a type of its own": {"", where + "&credentials_file=" + write(t, `{"type": "canary", "secret": "canary"}`), store.Denied},
	} {
		t.Run(name, func(t *testing.T) {
			if x.credentials != "" {
				t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", x.credentials)
			}
			st := open(t, x.url)
			errs := []error{st.PutIfAbsent(t.Context(), "a", strings.NewReader("x"), 1, store.PutOptions{}), st.Delete(t.Context(), "a")}
			_, err := st.Stat(t.Context(), "a")
			errs = append(errs, err)
			_, err = st.Get(t.Context(), "a", 0, -1)
			errs = append(errs, err)
			for _, err := range st.List(t.Context(), "", "", false) {
				errs = append(errs, err)
			}
			if len(errs) != 5 {
				t.Fatalf("%d errors: %v", len(errs), errs)
			}
			for i, err := range errs {
				var trouble *store.Trouble
				if !errors.As(err, &trouble) || trouble.Kind != x.kind || trouble.Hint == "" || errors.Is(err, store.ErrNotExist) {
					t.Errorf("call %d: %v", i, err)
				}
				if text := fmt.Sprintf("%v %+v", err, err); strings.Contains(strings.ReplaceAll(text, "/canary", ""), "canary") || strings.Contains(text, "PRIVATE") {
					t.Errorf("call %d shows a secret: %s", i, text)
				}
			}
		})
	}
}

// TestTokensAreNeverSentInTheOpen but to this machine itself.
func TestTokensAreNeverSentInTheOpen(t *testing.T) {
	for _, host := range []string{"storage.example.com", "127.0.0.1.example.com"} {
		at, err := location.Parse("gs://b?endpoint=http://" + host)
		if err != nil {
			t.Fatal(err)
		}
		var trouble *store.Trouble
		if _, err := gcs.Open(at, remote.Patience{}); !errors.As(err, &trouble) || trouble.Kind != store.Insecure {
			t.Errorf("open %s: %v", host, err)
		}
	}
}
