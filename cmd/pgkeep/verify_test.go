package main

import (
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
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
