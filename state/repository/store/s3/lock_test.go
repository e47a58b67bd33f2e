package s3_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/remote"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest/servers"
)

// TestLocks retains objects in a bucket that keeps versions: they can neither be deleted nor hidden, and locks only grow.
func TestLocks(t *testing.T) {
	server := servers.S3Locking(t)
	where := server.LockBucket(t, "locks")
	for _, compliance := range []bool{false, true} {
		t.Run(fmt.Sprint("compliance ", compliance), func(t *testing.T) {
			st := open(t, strings.Replace(where, "?", fmt.Sprintf("/%t?", compliance), 1), remote.Patience{})
			until := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
			put := func(key string, r store.Retention) {
				t.Helper()
				if err := st.PutIfAbsent(t.Context(), key, strings.NewReader("x"), 1, store.PutOptions{Retain: r}); err != nil {
					t.Fatal(err)
				}
			}
			lockedUntil := func(key string, want time.Time) {
				t.Helper()
				if r, err := st.Retained(t.Context(), key); err != nil || !r.Until.Equal(want) || r.Compliance != (compliance && !want.IsZero()) {
					t.Errorf("%s has %+v, want until %s: %v", key, r, want, err)
				}
			}
			put("a/locked", store.Retention{Until: until, Compliance: compliance})
			put("a/free", store.Retention{})
			put("a/later", store.Retention{})
			lockedUntil("a/locked", until)
			lockedUntil("a/free", time.Time{})

			if err := st.Extend(t.Context(), "a/locked", store.Retention{Until: until.Add(-time.Minute), Compliance: compliance}); err != nil {
				t.Errorf("a shorter lock: %v", err)
			}
			lockedUntil("a/locked", until)
			until = until.Add(time.Hour)
			for _, key := range []string{"a/locked", "a/later"} {
				if err := st.Extend(t.Context(), key, store.Retention{Until: until, Compliance: compliance}); err != nil {
					t.Errorf("extend %s: %v", key, err)
				}
				lockedUntil(key, until)
			}
			if err := st.Extend(t.Context(), "a/none", store.Retention{Until: until}); !errors.Is(err, store.ErrNotExist) {
				t.Errorf("extend what is not there: %v", err)
			}

			for _, keys := range [][]string{{"a/locked"}, {"a/none", "a/free", "a/locked", "a/later"}} {
				if err := st.Delete(t.Context(), keys...); !errors.Is(err, store.ErrRetained) {
					t.Errorf("delete %v: %v", keys, err)
				}
			}
			lockedUntil("a/locked", until)
			lockedUntil("a/later", until)
			if _, err := st.Stat(t.Context(), "a/free"); !errors.Is(err, store.ErrNotExist) {
				t.Errorf("what is free beside what is locked stays: %v", err)
			}
			if err := st.CheckLock(t.Context(), compliance, time.Now()); err != nil {
				t.Errorf("check: %v", err)
			}
		})
	}
	// what was deleted is gone with its versions, and nothing is hidden
	for o := range server.Client(t).ListObjectsIter(t.Context(), "locks", minio.ListObjectsOptions{WithVersions: true, Recursive: true}) {
		if o.Err != nil || o.IsDeleteMarker || strings.HasSuffix(o.Key, "free") {
			t.Errorf("there is %s, a marker %t: %v", o.Key, o.IsDeleteMarker, o.Err)
		}
	}
}

// TestLockEnds deletes an object once its lock has ended.
func TestLockEnds(t *testing.T) {
	server := servers.S3Locking(t)
	st := open(t, server.LockBucket(t, "ends"), remote.Patience{})
	if err := st.PutIfAbsent(t.Context(), "first", strings.NewReader("x"), 1, store.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	var until time.Time
	for d := 2 * time.Second; ; d *= 2 { // a slow machine asks for a lock that has ended already
		until = time.Now().Add(d)
		err := st.PutIfAbsent(t.Context(), "a", strings.NewReader("x"), 1, store.PutOptions{Retain: store.Retention{Until: until, Compliance: true}})
		if err == nil {
			break
		}
		if d > time.Minute {
			t.Fatal(err)
		}
	}
	servers.Waited(until.Add(time.Second))
	if err := st.Delete(t.Context(), "a"); err != nil {
		t.Errorf("delete after the lock's end: %v", err)
	}
}

// TestLocklessBucket is told by the first object that is to be retained, and by the check.
func TestLocklessBucket(t *testing.T) {
	server := servers.S3Locking(t)
	where := server.Bucket(t, "lockless")
	st := open(t, where, remote.Patience{})
	r := store.Retention{Until: time.Now().Add(time.Hour)}
	if err := st.PutIfAbsent(t.Context(), "b", strings.NewReader("x"), 1, store.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"put":    st.PutIfAbsent(t.Context(), "a", strings.NewReader("x"), 1, store.PutOptions{Retain: r}),
		"extend": st.Extend(t.Context(), "b", r),
		"check":  st.CheckLock(t.Context(), false, time.Now()),
	} {
		var trouble *store.Trouble
		if !errors.As(err, &trouble) || trouble.Kind != store.Unlocked || trouble.Hint == "" {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestLockBucketConforms keeps the whole contract in a bucket with versions.
func TestLockBucketConforms(t *testing.T) {
	server := servers.S3Locking(t)
	n := 0
	storetest.RunSome(t, func(t *testing.T) store.Store {
		n++
		return open(t, server.LockBucket(t, fmt.Sprintf("conforms-%d", n)), remote.Patience{})
	}, "put and get", "second put", "one winner", "absent", "list", "delete")
}

// TestWithoutDelete is a user who may put and read only: nothing is deleted or hidden, and said why.
func TestWithoutDelete(t *testing.T) {
	server := servers.S3Locking(t)
	where := server.LockBucket(t, "writeonly")
	server.User(t, "writeonly", "writer", "canary-writer-secret", "s3:PutObject", "s3:GetObject", "s3:ListBucket", "s3:PutObjectRetention", "s3:GetObjectRetention")
	t.Setenv("AWS_ACCESS_KEY_ID", "writer")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "canary-writer-secret")
	st := open(t, where, remote.Patience{})
	r := store.Retention{Until: time.Now().Add(time.Hour), Compliance: true}
	for key, o := range map[string]store.PutOptions{"free": {}, "locked": {Retain: r}} {
		if err := st.PutIfAbsent(t.Context(), key, strings.NewReader("x"), 1, o); err != nil {
			t.Fatal(err)
		}
		if err := st.Delete(t.Context(), key); !errors.Is(err, store.ErrRetained) || strings.Contains(err.Error(), "canary") {
			t.Errorf("delete %s: %v", key, err)
		}
		if err := st.Extend(t.Context(), key, r); err != nil {
			t.Errorf("extend %s: %v", key, err)
		}
	}
	if err := st.CheckLock(t.Context(), true, time.Now()); err != nil {
		t.Errorf("check: %v", err)
	}
}
