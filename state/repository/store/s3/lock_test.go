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

// TestLocks keeps the contract about locks in a bucket that keeps versions: what is locked can neither be deleted nor hidden, and what was
// deleted is gone with its versions.
func TestLocks(t *testing.T) {
	server := servers.S3Locking(t)
	where, n := server.LockBucket(t, "locks"), 0
	storetest.RunLocks(t, storetest.LockPlaces{
		Locking: func(t *testing.T) storetest.Locker {
			n++
			return open(t, strings.Replace(where, "?", fmt.Sprintf("/%d?", n), 1), remote.Patience{})
		},
		Lockless: func(t *testing.T) storetest.Locker { return open(t, server.Bucket(t, "lockless"), remote.Patience{}) },
	})
	for o := range server.Client(t).ListObjectsIter(t.Context(), "locks", minio.ListObjectsOptions{WithVersions: true, Recursive: true}) {
		if o.Err != nil || o.IsDeleteMarker || strings.HasSuffix(o.Key, "free") {
			t.Errorf("there is %s, a marker %t: %v", o.Key, o.IsDeleteMarker, o.Err)
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
