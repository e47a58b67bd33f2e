package azure_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest/servers"
)

// TestLocks shares one server, which takes long to start: azurite behind a proxy that keeps versions and immutability policies.
func TestLocks(t *testing.T) {
	server := servers.AzureLocking(t)
	t.Run("contract", func(t *testing.T) { locks(t, server) })
	t.Run("conformance", func(t *testing.T) { lockContainerConforms(t, server) })
	t.Run("lifted", func(t *testing.T) { lifted(t, server) })
	t.Run("lost answer", func(t *testing.T) { lostAnswer(t, server) })
	t.Run("kept by the container", func(t *testing.T) { keptByContainer(t, server) })
	t.Run("rights", func(t *testing.T) { rights(t, server) })
}

// locks is the contract about locks; what was deleted is gone with its versions, and what is locked is not hidden.
func locks(t *testing.T, server *servers.AzureLockServer) {
	server.LockContainer(t, "locks")
	server.Container(t, "lockless")
	n := 0
	storetest.RunLocks(t, storetest.LockPlaces{
		Locking: func(t *testing.T) storetest.Locker {
			n++
			return open(t, server.URL("locks", fmt.Sprint(n)))
		},
		Lockless: func(t *testing.T) storetest.Locker { return open(t, server.URL("lockless", "")) },
	})
	kept := 0
	for name, versions := range server.Versions("locks") {
		for _, v := range versions {
			if !v.Current {
				t.Errorf("%s has an earlier version %+v", name, v)
			}
			if !v.Until.IsZero() {
				kept++
			}
		}
		if strings.HasSuffix(name, "free") && len(versions) > 0 {
			t.Errorf("%s was deleted and has %d versions", name, len(versions))
		}
	}
	if kept != 7 { // two of each mode, what each check tried, and what became stronger
		t.Errorf("%d blobs have a policy", kept)
	}
}

func lockContainerConforms(t *testing.T, server *servers.AzureLockServer) {
	server.LockContainer(t, "conforms")
	var n atomic.Int64
	storetest.Run(t, func(t *testing.T) store.Store {
		return open(t, server.URL("conforms", fmt.Sprintf("prefix-%d", n.Add(1))))
	})
}

// lifted: an unlocked policy is the owner's to take away, which governance is; a locked one nobody can. A weaker lock that is asked for
// makes none weaker.
func lifted(t *testing.T, server *servers.AzureLockServer) {
	server.LockContainer(t, "lifted")
	st, until := open(t, server.URL("lifted", "")), time.Now().Add(time.Hour).Truncate(time.Second)
	storetest.PutLocked(t, st, "governance", store.Retention{Until: until})
	storetest.PutLocked(t, st, "compliance", store.Retention{Until: until, Compliance: true})
	later := until.Add(time.Hour)
	if err := st.Extend(t.Context(), "compliance", store.Retention{Until: later}); err != nil {
		t.Errorf("extend: %v", err)
	}
	if r, err := st.Retained(t.Context(), "compliance"); err != nil || !r.Compliance || !r.Until.Equal(later) {
		t.Errorf("the stronger lock is %+v, %v", r, err)
	}
	for name, want := range map[string]int{"governance": http.StatusOK, "compliance": http.StatusConflict} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, "http://"+server.Address+"/"+servers.AzureAccount+"/lifted/"+name+"?comp=immutabilityPolicies", nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("to lift %s answers %s", name, answer.Status)
		}
	}
	if err := st.Delete(t.Context(), "governance"); err != nil {
		t.Errorf("delete what is locked no more: %v", err)
	}
	if err := st.Delete(t.Context(), "compliance"); !errors.Is(err, store.ErrRetained) || !strings.Contains(err.Error(), later.UTC().Format(time.RFC3339)) {
		t.Errorf("delete what is locked: %v", err)
	}
}

// lostAnswer: a version that the first try did not delete is deleted by the next, although the blob is gone by name.
func lostAnswer(t *testing.T, server *servers.AzureLockServer) {
	server.LockContainer(t, "lost")
	st := open(t, server.URL("lost", ""))
	storetest.PutLocked(t, st, "a", store.Retention{})
	var tries atomic.Int64
	server.Refuse(func(r *http.Request) int {
		if r.URL.Query().Has("versionid") && tries.Add(1) == 1 {
			return http.StatusServiceUnavailable
		}
		return 0
	})
	defer server.Refuse(nil)
	if err := st.Delete(t.Context(), "a"); err != nil {
		t.Errorf("delete: %v", err)
	}
	if left := server.Versions("lost")["a"]; tries.Load() != 2 || len(left) > 0 {
		t.Errorf("after %d tries there are %+v", tries.Load(), left)
	}
}

// keptByContainer: a policy of the whole container refuses whatever is there already, so a put over it is one of a name that is taken.
func keptByContainer(t *testing.T, server *servers.AzureLockServer) {
	server.Container(t, "kept")
	st := open(t, server.URL("kept", ""))
	storetest.PutLocked(t, st, "a", store.Retention{})
	server.Refuse(func(r *http.Request) int {
		if r.Method == http.MethodPut || r.Method == http.MethodDelete {
			return http.StatusConflict
		}
		return 0
	})
	defer server.Refuse(nil)
	if err := st.PutIfAbsent(t.Context(), "a", strings.NewReader("y"), 1, store.PutOptions{}); !errors.Is(err, store.ErrExists) {
		t.Errorf("put: %v", err)
	}
	if err := st.Delete(t.Context(), "a"); !errors.Is(err, store.ErrRetained) {
		t.Errorf("delete: %v", err)
	}
}

// rights are users who may not do everything: who may not lock is told which right is missing, who may not delete is told that nothing was,
// and who may not delete versions leaves them.
func rights(t *testing.T, server *servers.AzureLockServer) {
	server.LockContainer(t, "rights")
	st := open(t, server.URL("rights", ""))
	until := store.Retention{Until: time.Now().Add(time.Hour), Compliance: true}
	for _, key := range []string{"a", "b"} {
		storetest.PutLocked(t, st, key, store.Retention{})
	}
	deny := func(which func(r *http.Request) bool) {
		server.Refuse(func(r *http.Request) int {
			if which(r) {
				return http.StatusForbidden
			}
			return 0
		})
	}
	defer server.Refuse(nil)

	deny(func(r *http.Request) bool { return r.Header.Get("X-Ms-Immutability-Policy-Mode") != "" })
	for what, err := range map[string]error{
		"put":    st.PutIfAbsent(t.Context(), "c", strings.NewReader("x"), 1, store.PutOptions{Retain: until}),
		"extend": st.Extend(t.Context(), "a", until),
		"check":  st.CheckLock(t.Context(), true, time.Now()),
	} {
		var trouble *store.Trouble
		if !errors.As(err, &trouble) || trouble.Kind != store.Denied || !strings.Contains(trouble.Hint, "immutableStorage/runAsSuperUser/action") {
			t.Errorf("%s without the right to lock: %v", what, err)
		}
	}

	deny(func(r *http.Request) bool { return r.Method == http.MethodDelete })
	storetest.PutLocked(t, st, "locked", until)
	if err := st.Delete(t.Context(), "a"); !errors.Is(err, store.ErrRetained) {
		t.Errorf("delete without the right to: %v", err)
	}
	if err := st.Extend(t.Context(), "a", until); err != nil {
		t.Errorf("extend without the right to delete: %v", err)
	}
	if err := st.CheckLock(t.Context(), true, time.Now()); err != nil {
		t.Errorf("check without the right to delete: %v", err)
	}

	deny(func(r *http.Request) bool { return r.URL.Query().Has("versionid") })
	if err := st.Delete(t.Context(), "b"); err != nil {
		t.Errorf("delete without the right to delete versions: %v", err)
	}
	if left := server.Versions("rights")["b"]; len(left) != 1 || left[0].Current {
		t.Errorf("there are %+v", left)
	}
}
