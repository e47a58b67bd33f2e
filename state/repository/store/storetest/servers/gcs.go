package servers

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// GCSToken is the access token that the test's authority gives. It is a canary: no output of pgkeep may hold it.
const GCSToken = "canary-gcs-token-5e2d"

// GCSServer is a running fake-gcs-server, with an authority that gives access tokens to one service account.
type GCSServer struct {
	Endpoint    string // http://127.0.0.1:port
	Credentials string // file of the service account
	Kill        func() // ends the server; it ends with the test anyway
}

// GCS starts fake-gcs-server, which keeps its objects in memory, and sets GOOGLE_APPLICATION_CREDENTIALS for the test.
func GCS(tb testing.TB) *GCSServer {
	tb.Helper()
	path := program(tb, "fake-gcs-server")
	s := &GCSServer{Credentials: ServiceAccount(tb)}
	var address string
	address, s.Kill = listen(tb, func(port int) *exec.Cmd {
		cmd := exec.Command(path, "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1", "-port", fmt.Sprint(port), "-log-level", "error")
		cmd.Env = environment()
		return cmd
	})
	s.Endpoint = "http://" + address
	tb.Setenv("GOOGLE_APPLICATION_CREDENTIALS", s.Credentials)
	return s
}

// ServiceAccount writes the file of a service account whose authority gives GCSToken to who shows a signed assertion.
func ServiceAccount(tb testing.TB) string {
	tb.Helper()
	authority := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if strings.Count(r.PostFormValue("assertion"), ".") != 2 {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error": "invalid_grant", "error_description": "canary"}`)
			return
		}
		_, _ = fmt.Fprintf(w, `{"access_token": %q, "token_type": "Bearer", "expires_in": 3600}`, GCSToken)
	}))
	tb.Cleanup(authority.Close)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		tb.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	text, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "pgkeep@test.iam.gserviceaccount.com", "token_uri": authority.URL,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), "private_key_id": "1",
	})
	if err != nil {
		tb.Fatal(err)
	}
	file := filepath.Join(tb.TempDir(), "service-account.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		tb.Fatal(err)
	}
	return file
}

// Bucket makes a bucket.
func (s *GCSServer) Bucket(tb testing.TB, name string) {
	tb.Helper()
	answer, err := http.Post(s.Endpoint+"/storage/v1/b?project=test", "application/json", strings.NewReader(fmt.Sprintf(`{"name": %q}`, name)))
	if err != nil {
		tb.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		tb.Fatalf("make bucket %s: %s", name, answer.Status)
	}
}

// URL gives the URL of a repository in a bucket.
func (s *GCSServer) URL(name, prefix string) string {
	return strings.TrimSuffix("gs://"+name+"/"+prefix, "/") + "?endpoint=" + s.Endpoint
}
