package main

import (
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestVerifyCommand verifies a repository that an earlier version wrote: sound, and then damaged.
func TestVerifyCommand(t *testing.T) {
	golden, err := filepath.Abs("../../state/repository/testdata/golden/format1-backups")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:   "testdata/verify",
		Setup: func(e *testscript.Env) error { e.Setenv("GOLDEN", golden); return nil },
		Cmds:  map[string]func(*testscript.TestScript, bool, []string){"exit": exitWith},
	})
}

// TestCarried: of many missing stretches the first three are named, and the others counted, also those that the evidence left out.
func TestCarried(t *testing.T) {
	missing := func(n int) (out []wal.Range) {
		for i := range n {
			out = append(out, wal.Range{Timeline: 1, From: wal.LSN(i) << 24, To: wal.LSN(i)<<24 + 1<<20})
		}
		return out
	}
	for want, c := range map[string]state.Chain{
		"; its WAL is whole only to 0/1 of 0/2: missing or damaged is timeline 1, 0/0 to 0/100000":                                                                                     {Missing: missing(1)},
		"; its WAL is whole only to 0/1 of 0/2: missing or damaged is timeline 1, 0/0 to 0/100000; timeline 1, 0/1000000 to 0/1100000; timeline 1, 0/2000000 to 0/2100000; and 7 more": {Missing: missing(5), MoreMissing: 5},
		"; its WAL is whole to 0/1, where a recorded gap begins":                                                                                                                       {Missing: missing(1), Recorded: true},
	} {
		c.Backup, c.Timeline, c.Reaches, c.Tip = "b", 1, 1, 2
		if got := carried(state.VerifiedBackup{ID: "b"}, []state.Chain{c}); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
