package s3_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/remote"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest/servers"
)

// TestBucketThatBeganWithoutVersions has objects from before it kept versions, which are named "null": beside them locked ones are
// not hidden, and they themselves go for good.
func TestBucketThatBeganWithoutVersions(t *testing.T) {
	server := servers.S3Locking(t)
	where, client := server.Bucket(t, "mixed"), server.Client(t)
	st := open(t, where, remote.Patience{})
	put := func(key string, r store.Retention) {
		t.Helper()
		if err := st.PutIfAbsent(t.Context(), key, strings.NewReader("x"), 1, store.PutOptions{Retain: r}); err != nil {
			t.Fatal(err)
		}
	}
	put("a/1", store.Retention{})
	put("a/2", store.Retention{})
	if err := client.EnableVersioning(t.Context(), "mixed"); err != nil {
		t.Fatal(err)
	}
	if err := client.SetBucketObjectLockConfig(t.Context(), "mixed", nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	put("a/3", store.Retention{Until: time.Now().Add(time.Hour)})
	put("a/4", store.Retention{})
	for _, keys := range [][]string{{"a/1", "a/3"}, {"a/2", "a/3", "a/4"}} {
		if err := st.Delete(t.Context(), keys...); !errors.Is(err, store.ErrRetained) {
			t.Errorf("delete %v: %v", keys, err)
		}
	}
	left := map[string]bool{} // whether it is a marker
	for o := range client.ListObjectsIter(t.Context(), "mixed", minio.ListObjectsOptions{WithVersions: true, Recursive: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		if strings.HasPrefix(o.Key, "a/") {
			left[o.Key] = left[o.Key] || o.IsDeleteMarker
		}
	}
	delete(left, "a/1") // this server finds no "null" where it locks
	delete(left, "a/2")
	if want := map[string]bool{"a/3": false}; !maps.Equal(left, want) {
		t.Errorf("left are %v, want %v", left, want)
	}
}

// guarded is a bucket with one object "p/a" of version 1, of which only what a test says may be known or done.
type guarded struct {
	absent bool
	old    bool   // the object shows no version
	status string // what the bucket says of its versions; empty: nobody may know
	unsaid string // the code of the 404 that the question for versions gets; "html": one of a proxy's own
	until  string // what a HEAD says of its lock
	asked  string // the code of the answer to the question for its lock
	ahead  time.Duration
	done   []string
}

// ServeHTTP answers, and keeps what was deleted and how.
func (g *guarded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	refuse := func(status int, code string) {
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>said so</Message></Error>", code)
	}
	w.Header().Set("Date", time.Now().Add(g.ahead).UTC().Format(http.TimeFormat))
	w.Header().Set("Last-Modified", time.Unix(0, 0).UTC().Format(http.TimeFormat))
	w.Header().Set("ETag", `"1"`)
	switch {
	case r.Method == http.MethodDelete:
		version := r.URL.Query().Get("versionId")
		g.done = append(g.done, version)
		if version != "" {
			refuse(http.StatusForbidden, "AccessDenied")
		} else {
			w.WriteHeader(http.StatusNoContent)
		}
	case r.URL.Query().Has("versioning") && g.unsaid == "html":
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, "<html>not found</html>")
	case r.URL.Query().Has("versioning") && g.unsaid != "":
		refuse(http.StatusNotFound, g.unsaid)
	case r.Method == http.MethodPut:
	case r.URL.Query().Has("list-type"):
		_, _ = io.WriteString(w, "<ListBucketResult></ListBucketResult>")
	case r.URL.Query().Has("versioning"):
		if g.status == "" {
			refuse(http.StatusForbidden, "AccessDenied")
			return
		}
		_, _ = io.WriteString(w, "<VersioningConfiguration><Status>"+strings.TrimSpace(g.status)+"</Status></VersioningConfiguration>")
	case g.absent:
		refuse(http.StatusNotFound, "NoSuchKey")
	case r.URL.Query().Has("retention"):
		refuse(http.StatusForbidden, g.asked)
	default:
		if !g.old {
			w.Header().Set("X-Amz-Version-Id", "1")
		}
		if g.until != "" {
			w.Header().Set("X-Amz-Object-Lock-Mode", "COMPLIANCE")
			w.Header().Set("X-Amz-Object-Lock-Retain-Until-Date", g.until)
		}
		if r.Method == http.MethodGet {
			w.Header().Set("Content-Range", "bytes 0-0/1")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write([]byte("x"))
		}
	}
}

// TestHide puts a marker over an object whose version may not be deleted only where it is known not to be locked, by the service's clock.
func TestHide(t *testing.T) {
	at := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339) }
	for name, x := range map[string]struct {
		g    guarded
		done string // the versions that were to be deleted; the last, empty one is the marker
		err  error
	}{
		"not locked":                   {guarded{asked: "NoSuchObjectLockConfiguration"}, "1,", nil},
		"locked":                       {guarded{until: at(time.Hour)}, "1", store.ErrRetained},
		"was locked":                   {guarded{until: at(-time.Hour)}, "1,", nil},
		"locked, by its own clock":     {guarded{until: at(-time.Hour), ahead: -2 * time.Hour}, "1", store.ErrRetained},
		"was locked, by its own clock": {guarded{until: at(time.Hour), ahead: 2 * time.Hour}, "1,", nil},
		"may not know it":              {guarded{asked: "AccessDenied"}, "1", store.ErrRetained},
		"not there":                    {guarded{absent: true}, "", nil},
		"not there, with versions":     {guarded{absent: true, status: "Enabled"}, "", nil},
		"from before versions":         {guarded{old: true, status: "Enabled", until: at(time.Hour)}, "null", store.ErrRetained},
		"from before they ended":       {guarded{old: true, status: "Suspended", until: at(time.Hour)}, "null", store.ErrRetained},
		"nothing is said of versions":  {guarded{old: true, until: at(-time.Hour)}, "", nil},
		"does not know the question":   {guarded{unsaid: "NoSuchKey", asked: "NoSuchObjectLockConfiguration"}, "1,", nil},
		"a bucket without versions":    {guarded{old: true, status: " ", until: at(-time.Hour)}, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(&x.g)
			defer server.Close()
			t.Setenv("AWS_ACCESS_KEY_ID", "a")
			t.Setenv("AWS_SECRET_ACCESS_KEY", "b")
			st := open(t, "s3://bucket/p?region=eu&path_style=true&endpoint="+server.URL, remote.Patience{First: time.Millisecond})
			if err := st.Delete(t.Context(), "a"); !errors.Is(err, x.err) || x.err == nil && err != nil {
				t.Errorf("delete: %v", err)
			}
			if got := strings.Join(x.g.done, ","); got != x.done || (len(x.g.done) == 0) != x.g.absent {
				t.Errorf("deleted %q, want %q", x.g.done, x.done)
			}
			r, err := st.Retained(t.Context(), "a")
			var trouble *store.Trouble
			switch {
			case x.g.asked == "AccessDenied":
				if !errors.As(err, &trouble) || trouble.Kind != store.Denied {
					t.Errorf("the lock that nobody may tell is %+v, %v", r, err)
				}
			case x.g.absent:
			case err != nil || r.IsZero() == (x.err != nil):
				t.Errorf("the lock is %+v, %v", r, err)
			}
		})
	}
}

// TestLockUntriable is a gateway that takes objects and knows no question for versions: the check says what is wrong, and not that
// an object does not exist.
func TestLockUntriable(t *testing.T) {
	for unsaid, want := range map[string]string{
		"NoSuchKey": "deleted an object that it was to keep locked", "html": "so whether it locks cannot be tried", "NoSuchBucket": "so whether it locks cannot be tried",
	} {
		t.Run(unsaid, func(t *testing.T) {
			server := httptest.NewServer(&guarded{unsaid: unsaid, old: true})
			defer server.Close()
			t.Setenv("AWS_ACCESS_KEY_ID", "a")
			t.Setenv("AWS_SECRET_ACCESS_KEY", "b")
			st := open(t, "s3://bucket/p?region=eu&path_style=true&endpoint="+server.URL, remote.Patience{First: time.Millisecond})
			var trouble *store.Trouble
			err := st.CheckLock(t.Context(), true, time.Now())
			if !errors.As(err, &trouble) || trouble.Kind != store.Unlocked || trouble.Hint == "" || !strings.Contains(err.Error(), want) {
				t.Errorf("the check says %v", err)
			}
		})
	}
}
