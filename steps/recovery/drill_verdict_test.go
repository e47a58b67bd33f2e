package recovery

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
)

// TestDrillWithoutVerdict: what goes wrong with a copy because the repository does not answer, or because the machine cannot run it, is
// an error, and no finding of the drill. That WAL is gone is one.
func TestDrillWithoutVerdict(t *testing.T) {
	w := newDrilled(t, 15)
	w.backup = w.take()
	w.commit(1)
	space := w.Dir(t, "far")
	w.Exec(t, "create tablespace far location '"+space+"'")
	w.Exec(t, "drop tablespace far")
	w.Exec(t, "select pg_switch_wal()")
	w.commit(2)
	w.archive(1)
	away := func(path string) func(*testing.T, *DrillRun) func() {
		return func(t *testing.T, _ *DrillRun) func() {
			check(t, os.Rename(path, path+".away"))
			return func() { check(t, os.Rename(path+".away", path)) }
		}
	}
	for _, x := range []struct {
		name string
		harm func(*testing.T, *DrillRun) (mend func())
		code state.Code // empty: it is a finding
		says string
	}{
		{"the repository is away", away(w.dir), state.CodeUnreachable, "which says nothing of the backup: open repository"},
		{"a library is not installed", func(t *testing.T, d *DrillRun) func() {
			conf := filepath.Join(d.Route.Destination.Path, autoConf)
			content, err := os.ReadFile(conf)
			check(t, err)
			check(t, os.WriteFile(conf, append(content, "shared_preload_libraries = 'no_such_library'\n"...), 0o600))
			return func() {}
		}, state.CodeDestination, `could not access file "no_such_library"`},
		{"a tablespace lies in the way", func(t *testing.T, _ *DrillRun) func() {
			there := filepath.Join(space, "PG_15_202209061")
			check(t, os.Mkdir(there, 0o700))
			return func() { check(t, os.Remove(there)) }
		}, state.CodeDestination, "cannot replay all WAL on this machine"},
		{"the WAL is gone", away(w.segment(t)), "", "no repository has it"},
	} {
		t.Run(x.name, func(t *testing.T) {
			s, run := w.beginWaiting(t, 2*time.Second)
			defer s.Close()
			check(t, run.Restore(t.Context(), nil))
			mend := x.harm(t, run)
			err := run.Start(t.Context(), nil)
			mend()
			text := strings.Join(run.result.Failures, "\n")
			if err != nil {
				text = err.Error()
			}
			if state.CodeOf(err) != x.code || run.Failed() != (x.code == "") || !strings.Contains(text, x.says) {
				t.Errorf("%v\nfailures: %q", err, run.result.Failures)
			}
			check(t, run.Stop())
			check(t, s.Remove(run.ID()))
			check(t, s.Forget(run.ID()))
			w.nothingLeft(t)
		})
	}
}

// beginWaiting begins a drill of the newest moment that waits so long for WAL.
func (w *drilled) beginWaiting(t *testing.T, wait time.Duration) (*Scratch, *DrillRun) {
	t.Helper()
	s, run := w.begin(t, hclspec.Target{Latest: true})
	run.Route.WALWait = wait
	return s, run
}

// TestMachineFaults: only what the machine lacks, or a kill from outside, is none of the backup's.
func TestMachineFaults(t *testing.T) {
	for line, want := range map[string]bool{
		"FATAL:  could not map anonymous shared memory: Cannot allocate memory":          true,
		`FATAL:  could not access file "pg_stat_statements": No such file or directory`:  true,
		"PANIC:  could not write to file \"pg_wal/xlogtemp.7\": No space left on device": true,
		"LOG:  startup process (PID 7) was terminated by signal 9: Killed":               true,
		"ERROR:  out of memory": true,
		"read the rows: could not resize shared memory segment [53100]":                           true,
		"LOG:  startup process (PID 7) was terminated by signal 6: Aborted":                       false,
		"PANIC:  could not locate a valid checkpoint record":                                      false,
		"FATAL:  could not access status of transaction 7":                                        false,
		"WARNING:  page 53 of relation base/5/16384 does not exist":                               false,
		"FATAL:  could not restore file \"000000010000000000000002\" from archive: exit code 255": false,
		"ERROR:  invalid page in block 53100 of relation base/5/16384":                            false,
	} {
		if got := machineFault("LOG:  starting\n" + line + "\n"); (got != "") != want || want && got != line {
			t.Errorf("%s: %q", line, got)
		}
	}
}
