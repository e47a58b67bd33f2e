package recovery

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestWhatIsThereIsServedAtOnce measures wal-get where the segment was fetched ahead: what it does itself, and the whole process, which
// is mostly its start. The bound is for machines that do much else.
func TestWhatIsThereIsServedAtOnce(t *testing.T) {
	const each = 20
	r := newReplaying(t, 3+2*each)
	program := copyOfThisProgram(t)
	ended := r.fetch(3)
	var inside, whole []time.Duration
	for n := uint64(4); n <= 3+2*each; n++ {
		name := seg(1, n).Name(mib)
		r.until(name, func() bool {
			return slices.ContainsFunc(r.lying(), func(path string) bool { return filepath.Base(path) == name })
		})
		began := time.Now()
		if n%2 == 0 {
			if exit := r.get(n, false); exit != ExitGot {
				t.Fatalf("%s: %d", name, exit)
			}
			inside = append(inside, time.Since(began)) // reading it again is in it
			continue
		}
		into := filepath.Join(r.data, "RECOVERYXLOG")
		out, err := exec.Command(program, "wal-get", "--route", r.route, name, into).CombinedOutput()
		whole = append(whole, time.Since(began))
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		check(t, os.Remove(into))
	}
	r.ended(ended, false)
	slices.Sort(inside)
	slices.Sort(whole)
	t.Logf("wal-get of a segment that is there: %s inside, %s with the start of the process (medians of %d)", inside[each/2], whole[each/2], each)
	if inside[each/2] > 50*time.Millisecond {
		t.Errorf("%s inside", inside[each/2])
	}
}
