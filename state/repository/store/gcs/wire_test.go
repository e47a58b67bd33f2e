package gcs_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest/servers"
)

// script answers requests as a test says, and keeps them.
type script struct {
	asked  []string
	bodies []string
	answer func(w http.ResponseWriter, r *http.Request)
}

func scripted(t *testing.T, answer func(w http.ResponseWriter, r *http.Request)) (*script, string) {
	t.Helper()
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", servers.ServiceAccount(t))
	s := &script{answer: answer}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return s, "gs://bucket/p?endpoint=" + server.URL
}

// ServeHTTP keeps and answers a request.
func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.asked = append(s.asked, r.Method+" "+r.RequestURI)
	s.bodies = append(s.bodies, r.Header.Get("Authorization")+"\n"+r.Header.Get("Content-Type")+"\n"+string(body))
	s.answer(w, r)
}

func refuse(w http.ResponseWriter, status int, reason, message string) {
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"error": {"code": %d, "message": %q, "errors": [{"reason": %q}]}}`, status, message, reason)
}

// TestUpload is one request with the condition, the checksums and the token of the put.
func TestUpload(t *testing.T) {
	s, where := scripted(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && !strings.Contains(r.RequestURI, "never") {
			refuse(w, http.StatusPreconditionFailed, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")
		}
	})
	err := open(t, where).PutIfAbsent(t.Context(), "a/b", strings.NewReader("123456789"), 9, store.PutOptions{})
	if !errors.Is(err, store.ErrExists) {
		t.Fatalf("put: %v", err)
	}
	want := "POST /upload/storage/v1/b/bucket/o?uploadType=multipart&ifGenerationMatch=0&fields=crc32c"
	if d := cmp.Diff([]string{want, want}, s.asked); d != "" { // the probe's, and ours
		t.Fatalf("asked (-want +got):\n%s", d)
	}
	parts := strings.SplitN(s.bodies[1], "\n", 3)
	if parts[0] != "Bearer "+servers.GCSToken {
		t.Errorf("asked as %q", parts[0])
	}
	_, params, err := mime.ParseMediaType(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	body := multipart.NewReader(strings.NewReader(parts[2]), params["boundary"])
	read := func() []byte {
		p, err := body.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var got map[string]any
	if err := json.Unmarshal(read(), &got); err != nil {
		t.Fatal(err)
	}
	d := cmp.Diff(map[string]any{
		"name": "p/a/b", "contentType": "application/octet-stream", "md5Hash": "JfnnlDI7RTiF9RgfG2JNCw==", "crc32c": "4waSgw==",
		"metadata": map[string]any{"pgkeepput": params["boundary"]},
	}, got)
	if bytes := string(read()); d != "" || bytes != "123456789" {
		t.Errorf("sent %q with (-want +got):\n%s", bytes, d)
	}
}

// TestOtherBytesStored is said of a service that does not compare what it stored with what it was told.
func TestOtherBytesStored(t *testing.T) {
	_, where := scripted(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"crc32c": "AAAAAA=="}`) })
	err := open(t, where).PutIfAbsent(t.Context(), "a", strings.NewReader("x"), 1, store.PutOptions{})
	var trouble *store.Trouble
	if !errors.As(err, &trouble) || trouble.Kind != store.Unconditional || !strings.Contains(err.Error(), "other bytes") {
		t.Errorf("put: %v", err)
	}
}

// TestAnswers gives the service's refusals their meaning, and tries again what passes.
func TestAnswers(t *testing.T) {
	for name, x := range map[string]struct {
		status         int
		reason         string
		stat, deletion string
		tries          int // of a Stat
	}{
		"forbidden":   {http.StatusForbidden, "forbidden", "the credentials are refused", "object is retained", 1},
		"retained":    {http.StatusForbidden, "retentionPolicyNotMet", "the credentials are refused", "object is retained", 1},
		"expired":     {http.StatusUnauthorized, "authError", "the credentials are refused", "the credentials are refused", 1},
		"too many":    {http.StatusTooManyRequests, "rateLimitExceeded", "429", "429", 3},
		"too many 2":  {http.StatusForbidden, "rateLimitExceeded", "403", "403", 3},
		"server":      {http.StatusServiceUnavailable, "backendError", "503", "503", 3},
		"bad request": {http.StatusBadRequest, "invalid", "400", "400", 1},
	} {
		t.Run(name, func(t *testing.T) {
			s, where := scripted(t, func(w http.ResponseWriter, _ *http.Request) { refuse(w, x.status, x.reason, "said so") })
			_, err := open(t, where).Stat(t.Context(), "a")
			if err == nil || !strings.Contains(err.Error(), x.stat) || !strings.Contains(err.Error(), "said so") || len(s.asked) != x.tries {
				t.Errorf("stat in %d tries: %v", len(s.asked), err)
			}
			if err := open(t, where).Delete(t.Context(), "a"); err == nil || !strings.Contains(err.Error(), x.deletion) {
				t.Errorf("delete: %v", err)
			}
		})
	}
}

// TestPages follows a list over its pages, and takes a prefix that goes on behind a page's end once.
func TestPages(t *testing.T) {
	_, where := scripted(t, func(w http.ResponseWriter, r *http.Request) {
		switch q := r.URL.Query(); {
		case q.Get("startOffset") != "p/a" || q.Get("delimiter") != "/" || q.Get("prefix") != "p/":
			refuse(w, http.StatusBadRequest, "invalid", "not asked so")
		case q.Get("pageToken") == "":
			_, _ = io.WriteString(w, `{"nextPageToken": "2", "items": [{"name": "p/a", "size": "1"}, {"name": "p/c", "size": "2"}], "prefixes": ["p/b/", "p/d/"]}`)
		case q.Get("pageToken") == "2":
			_, _ = io.WriteString(w, `{"nextPageToken": "3"}`)
		default:
			_, _ = io.WriteString(w, `{"items": [{"name": "p/e", "size": "3"}], "prefixes": ["p/d/"]}`)
		}
	})
	var got []string
	for info, err := range open(t, where).List(t.Context(), "", "a", true) {
		got = append(got, fmt.Sprint(info.Key, info.Size, err))
	}
	if d := cmp.Diff([]string{"b/0 <nil>", "c2 <nil>", "d/0 <nil>", "e3 <nil>"}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestRangeThatIsIgnored never takes the beginning of an object for what was asked for.
func TestRangeThatIsIgnored(t *testing.T) {
	_, where := scripted(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "0123456789") })
	for _, n := range []int64{2, -1} {
		r, err := open(t, where).Get(t.Context(), "a", 4, n)
		if err == nil {
			r.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "Content-Range") {
			t.Errorf("%d bytes from 4 on: %v", n, err)
		}
	}
}

// TestRedirectIsRefused keeps the token and the objects where they are configured.
func TestRedirectIsRefused(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("asked elsewhere: %s", r.RequestURI) }))
	defer elsewhere.Close()
	_, where := scripted(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) })
	if _, err := open(t, where).Stat(t.Context(), "a"); err == nil || !strings.Contains(err.Error(), "sends us to") {
		t.Errorf("stat: %v", err)
	}
}
