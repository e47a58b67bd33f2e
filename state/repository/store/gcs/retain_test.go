package gcs_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// lockable answers as a bucket does that locks objects, or does not.
type lockable struct {
	locks bool
	there bool // an object of the name is there
}

func (l *lockable) answer() func(w http.ResponseWriter, r *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPost && !l.locks:
			refuse(w, http.StatusPreconditionFailed, "conditionNotMet", "Object retention is not enabled on the bucket.")
		case r.Method == http.MethodPost:
			refuse(w, http.StatusPreconditionFailed, "conditionNotMet", "")
		case r.Method == http.MethodPatch && !l.locks:
			_, _ = io.WriteString(w, "{}")
		case r.Method == http.MethodPatch:
			_, _ = io.WriteString(w, `{"retention": {"mode": "Locked", "retainUntilTime": "2030-01-01T00:00:00Z"}}`)
		case r.Method == http.MethodDelete && r.URL.Query().Get("generation") != "17": // hides what is there
		case r.Method == http.MethodDelete:
			refuse(w, http.StatusForbidden, "retentionPolicyNotMet", "Object is subject to object retention until 2030.")
		case strings.Contains(r.RequestURI, "maxResults=1"):
			_, _ = io.WriteString(w, "{}")
		case !l.there:
			refuse(w, http.StatusNotFound, "notFound", "No such object")
		case strings.Contains(r.RequestURI, "fields=retention"):
			_, _ = io.WriteString(w, `{"retention": {"mode": "Unlocked", "retainUntilTime": "2029-01-01T00:00:00Z"}}`)
		default:
			_, _ = io.WriteString(w, `{"size": "1", "generation": "17", "timeCreated": "2026-01-01T00:00:00Z"}`)
		}
	}
}

func until(year int) store.Retention {
	return store.Retention{Until: time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC), Compliance: true}
}

// TestRetain describes the lock with the object, and only ever makes it longer and stronger.
func TestRetain(t *testing.T) {
	l := &lockable{locks: true, there: true}
	s, where := scripted(t, l.answer())
	st := open(t, where)
	err := st.PutIfAbsent(t.Context(), "a", strings.NewReader("x"), 1, store.PutOptions{Retain: until(2030)})
	sent := s.bodies[len(s.bodies)-2] // the last one asks whether the name is taken
	if !errors.Is(err, store.ErrExists) || !strings.Contains(sent, `"retention":{"mode":"Locked","retainUntilTime":"2030-01-01T00:00:00Z"}`) {
		t.Errorf("put: %v, with\n%s", err, sent)
	}
	if r, err := st.Retained(t.Context(), "a"); err != nil || r.Compliance || !r.Until.Equal(until(2029).Until) {
		t.Errorf("retained %+v, %v", r, err)
	}
	for year, want := range map[int]string{2030: "2030", 2028: "2029"} {
		if err := st.Extend(t.Context(), "a", until(year)); err != nil {
			t.Errorf("extend: %v", err)
		}
		d := cmp.Diff(`{"retention":{"mode":"Locked","retainUntilTime":"`+want+`-01-01T00:00:00Z"}}`, s.bodies[len(s.bodies)-1][strings.Index(s.bodies[len(s.bodies)-1], "{"):])
		if asked := s.asked[len(s.asked)-1]; d != "" || asked != "PATCH /storage/v1/b/bucket/o/p%2Fa?fields=retention" {
			t.Errorf("%s (-want +got):\n%s", asked, d)
		}
	}
	n := len(s.asked)
	if err := st.Extend(t.Context(), "a", store.Retention{Until: until(2028).Until}); err != nil || len(s.asked) != n+1 {
		t.Errorf("a shorter lock of the same kind changed something in %v: %v", s.asked[n:], err)
	}
	if err := st.Delete(t.Context(), "a"); !errors.Is(err, store.ErrRetained) || !strings.Contains(err.Error(), "until 2030") {
		t.Errorf("delete: %v", err)
	}
}

// TestLockless tells a bucket that does not lock from a name that is taken, although the service answers both alike.
func TestLockless(t *testing.T) {
	l := &lockable{}
	_, where := scripted(t, l.answer())
	st := open(t, where)
	var trouble *store.Trouble
	err := st.PutIfAbsent(t.Context(), "a", strings.NewReader("x"), 1, store.PutOptions{Retain: until(2030)})
	if !errors.As(err, &trouble) || trouble.Kind != store.Unlocked || trouble.Hint == "" {
		t.Errorf("put: %v", err)
	}
	l.there = true
	err = st.Extend(t.Context(), "a", until(2030))
	if !errors.As(err, &trouble) || trouble.Kind != store.Unlocked {
		t.Errorf("extend: %v", err)
	}
}
