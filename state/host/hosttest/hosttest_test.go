package hosttest

import (
	"errors"
	"fmt"
	"os"
	"testing"
)

// outcome is a test that only notes how it ended.
type outcome struct {
	testing.TB
	ended string
}

func (o *outcome) Helper()                   {}
func (o *outcome) Logf(string, ...any)       {}
func (o *outcome) Skip(...any)               { o.ended = "skipped"; panic(o) }
func (o *outcome) Fatalf(f string, a ...any) { o.ended = "failed: " + fmt.Sprintf(f, a...); panic(o) }

func ending(run func(tb testing.TB)) (how string) {
	o := &outcome{ended: "went on"}
	defer func() {
		if r := recover(); r != nil && r != any(o) {
			panic(r)
		}
		how = o.ended
	}()
	run(o)
	return o.ended
}

// TestNothingIsSkippedUnseen: what is missing skips a test on a desk, and fails it in continuous integration.
func TestNothingIsSkippedUnseen(t *testing.T) {
	missing := errors.New("no strace")
	for _, c := range []struct {
		ci      string
		missing error
		want    string
	}{
		{"true", missing, "failed: no strace: in continuous integration every test must run"},
		{"", missing, "skipped"},
		{"true", nil, "went on"},
		{"", nil, "went on"},
	} {
		t.Setenv("CI", c.ci)
		if got := ending(func(tb testing.TB) { Need(tb, c.missing) }); got != c.want {
			t.Errorf("CI=%q, %v: the test %s, want %s", c.ci, c.missing, got, c.want)
		}
	}
	t.Setenv("CI", "")
	if Can(&outcome{}, missing) || Program("no-such-program-anywhere") == nil || Program("sh") != nil {
		t.Error("what is missing is not seen, or what is there is missed")
	}
	t.Setenv("PATH", t.TempDir())
	if os.Geteuid() != 0 && FUSE() == nil {
		t.Error("FUSE without root and fusermount")
	}
}
