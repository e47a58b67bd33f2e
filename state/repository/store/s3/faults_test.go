package s3_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/remote"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest/servers"
)

// unreliable stands before a real server: some requests never reach it, of some the answer is lost, some bodies are cut.
type unreliable struct {
	proxy *httputil.ReverseProxy
	mu    sync.Mutex
	r     *rand.Rand
	seen  map[string]int
}

func before(t testing.TB, endpoint string) string {
	t.Helper()
	to, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	u := &unreliable{proxy: httputil.NewSingleHostReverseProxy(to), r: rand.New(rand.NewPCG(3, 4)), seen: map[string]int{}}
	director := u.proxy.Director
	u.proxy.Director = func(r *http.Request) {
		host := r.Host // the signature is over it
		director(r)
		r.Host = host
	}
	server := httptest.NewServer(u)
	t.Cleanup(func() {
		server.Close()
		t.Logf("faults: %v", u.seen)
	})
	return server.URL
}

func (u *unreliable) draw() float64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.r.Float64()
}

func (u *unreliable) count(what string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.seen[what]++
}

// ServeHTTP passes a request on, or not.
func (u *unreliable) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch x := u.draw(); {
	case x < 0.05:
		u.count("503")
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>")
	case x < 0.08:
		u.count("500")
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusInternalServerError)
	case x < 0.12:
		u.count("reset")
		panic(http.ErrAbortHandler)
	case x < 0.20:
		u.count("answer lost")
		u.proxy.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	case x < 0.28 && r.Method == http.MethodGet:
		u.count("cut")
		whole := httptest.NewRecorder()
		u.proxy.ServeHTTP(whole, r)
		for name, v := range whole.Header() {
			w.Header()[name] = v
		}
		w.Header().Set("Content-Length", fmt.Sprint(whole.Body.Len()))
		w.WriteHeader(whole.Code)
		_, _ = w.Write(whole.Body.Bytes()[:whole.Body.Len()/2])
		panic(http.ErrAbortHandler)
	default:
		u.proxy.ServeHTTP(w, r)
	}
}

// TestUnreliableService passes the suite, but for what takes long, although a quarter of all requests to a real server goes wrong.
func TestUnreliableService(t *testing.T) {
	server := servers.S3(t)
	endpoint := before(t, server.Endpoint)
	n := 0
	storetest.RunSome(t, func(t *testing.T) store.Store {
		n++
		real := server.Bucket(t, fmt.Sprintf("unreliable-%d", n))
		st := open(t, strings.Replace(real, server.Endpoint, endpoint, 1), remote.Patience{First: time.Millisecond, Longest: 20 * time.Millisecond})
		for { // a service that has never answered is given up after three tries
			if _, err := st.Stat(t.Context(), "nothing"); errors.Is(err, store.ErrNotExist) {
				return st
			}
		}
	}, "put and get", "ranges", "second put", "one winner", "list stops", "list while changing", "delete")
}

func TestRaces(t *testing.T) {
	server := servers.S3(t)
	where := server.Bucket(t, "races")
	storetest.Race(t, func(t testing.TB) store.Store { return open(t, where, remote.Patience{}) })
}

// TestTroubles are failures that an operator can mend: each says what and how, and none holds a secret.
func TestTroubles(t *testing.T) {
	server := servers.S3(t)
	where := server.Bucket(t, "troubles")
	for name, x := range map[string]struct {
		env, url string
		kind     store.Kind
	}{
		"no bucket":       {"", strings.Replace(where, "troubles", "absent", 1), store.Missing},
		"wrong key":       {"AWS_ACCESS_KEY_ID=nobody", where, store.Denied},
		"wrong secret":    {"AWS_SECRET_ACCESS_KEY=canary-wrong-secret", where, store.Denied},
		"no credentials":  {"AWS_ACCESS_KEY_ID=", where, store.Denied},
		"no server":       {"", strings.Replace(where, server.Endpoint, "http://127.0.0.1:9", 1), store.Unreachable},
		"no such profile": {"", where + "&profile=nobody", store.Denied},
	} {
		t.Run(name, func(t *testing.T) {
			if key, value, ok := strings.Cut(x.env, "="); ok {
				t.Setenv(key, value)
			}
			t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
			t.Setenv("AWS_CONFIG_FILE", "/nonexistent")
			t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:9") // not the machine's own
			st := open(t, x.url, remote.Patience{First: time.Millisecond})
			errs := []error{st.PutIfAbsent(t.Context(), "a", strings.NewReader("x"), 1, store.PutOptions{})}
			_, err := st.Stat(t.Context(), "a")
			errs = append(errs, err)
			_, err = st.Get(t.Context(), "a", 0, -1)
			errs = append(errs, err)
			for _, err := range st.List(t.Context(), "", "", false) {
				errs = append(errs, err)
			}
			if len(errs) != 4 {
				t.Fatalf("%d errors: %v", len(errs), errs)
			}
			for i, err := range errs {
				var trouble *store.Trouble
				if !errors.As(err, &trouble) || trouble.Kind != x.kind || trouble.Hint == "" || errors.Is(err, store.ErrNotExist) {
					t.Errorf("call %d: %v", i, err)
				}
				if text := fmt.Sprintf("%v %+v %#v", err, err, trouble); strings.Contains(text, "canary") {
					t.Errorf("call %d shows a secret: %s", i, text)
				}
			}
		})
	}
}

// TestMaxRate holds the rate of an upload and of a download.
func TestMaxRate(t *testing.T) {
	server := servers.S3(t)
	st := open(t, server.Bucket(t, "slow")+"&max_rate=1MiB/s", remote.Patience{})
	body := bytes.Repeat([]byte("x"), 512<<10)
	begin := time.Now()
	if err := st.PutIfAbsent(t.Context(), "a", bytes.NewReader(body), int64(len(body)), store.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took < 400*time.Millisecond {
		t.Errorf("512 KiB went up in %s at 1 MiB/s", took)
	}
}
