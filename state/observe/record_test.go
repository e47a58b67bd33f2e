package observe_test

import (
	"bytes"
	"encoding/json"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/observe"
)

func recordedBase(tb testing.TB) (state.Observation, []byte) {
	tb.Helper()
	text, err := os.ReadFile("../../plan/testdata/base.json")
	if err != nil {
		tb.Fatal(err)
	}
	var seen state.Observation
	if err := json.Unmarshal(text, &seen); err != nil {
		tb.Fatal(err)
	}
	var out bytes.Buffer
	if err := observe.Record(&out, seen); err != nil {
		tb.Fatal(err)
	}
	return seen, out.Bytes()
}

// TestRecordRoundTrip: what is read back is what was seen.
func TestRecordRoundTrip(t *testing.T) {
	seen, body := recordedBase(t)
	back, err := observe.Recorded(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(seen, back); diff != "" {
		t.Error(diff)
	}
}

// TestRecordLeavesOutCommands: a command of the server's configuration can hold a secret.
func TestRecordLeavesOutCommands(t *testing.T) {
	seen, _ := recordedBase(t)
	s := seen.Servers["orders"]
	s.Settings["archive_command"] = "AWS_SECRET=hunter2 copy %p"
	var out bytes.Buffer
	if err := observe.Record(&out, seen); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "hunter2") || s.Settings["archive_command"] == "" {
		t.Error("the command was recorded, or taken out of what was seen")
	}
}

// TestRecordedIsStrict: what is not whole, known and ours is refused.
func TestRecordedIsStrict(t *testing.T) {
	_, body := recordedBase(t)
	text := string(body)
	for name, c := range map[string]struct {
		body string
		code state.Code
	}{
		"empty":          {"", state.CodeCorrupt},
		"cut short":      {text[:len(text)/2], state.CodeCorrupt},
		"other JSON":     {`{"version": 1}`, state.CodeCorrupt},
		"no format":      {strings.Replace(text, `"version": 1`, `"version": 0`, 1), state.CodeCorrupt},
		"newer format":   {strings.Replace(text, `"version": 1`, `"version": 2`, 1), state.CodeNewerFormat},
		"unknown field":  {strings.Replace(text, `"version": 1`, `"version": 1, "more": 2`, 1), state.CodeCorrupt},
		"unknown inside": {strings.Replace(text, `"system_id"`, `"sistem_id"`, 1), state.CodeCorrupt},
		"two of them":    {text + text, state.CodeCorrupt},
		"a wrong type":   {strings.Replace(text, `"timeline": 1`, `"timeline": "x"`, 1), state.CodeCorrupt},
	} {
		if _, err := observe.Recorded(strings.NewReader(c.body)); state.CodeOf(err) != c.code {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
	}
}

// FuzzRecorded: nothing panics or takes more than a second or 256 MiB, and what is accepted is written the same again.
func FuzzRecorded(f *testing.F) {
	_, body := recordedBase(f)
	f.Add(body)
	f.Add([]byte(`{"kind":"pgkeep observation","version":1}`))
	f.Add([]byte(`{"kind":"pgkeep observation","version":1,"servers":{"a":{"slots":[{}],"history":null}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		began, worked := time.Now(), processorTime(t)
		recordTwice(t, body)
		took := min(time.Since(began), processorTime(t)-worked) // other processes may hold this one up
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; took > time.Second || used > 256<<20 {
			t.Fatalf("it took %s and %d bytes", took, used)
		}
	})
}

// processorTime is what this process used so far.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func recordTwice(t *testing.T, body []byte) {
	seen, err := observe.Recorded(bytes.NewReader(body))
	if err != nil {
		return
	}
	var first, second bytes.Buffer
	if err := observe.Record(&first, seen); err != nil {
		return // a time beyond what JSON writes
	}
	again, err := observe.Recorded(bytes.NewReader(first.Bytes()))
	if err != nil {
		t.Fatalf("what was written is refused: %v\n%s", err, first.String())
	}
	if err := observe.Record(&second, again); err != nil || !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Fatalf("it is not written the same again (%v):\n%s\n%s", err, first.String(), second.String())
	}
}
