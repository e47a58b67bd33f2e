package main

import (
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"pgkeep": main})
}

// TestScripts runs the stories of testdata/script: help texts, exit codes, and what needs no server. PGKEEP_UPDATE=1
// rewrites what they compare.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: os.Getenv("PGKEEP_UPDATE") != "",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exit": exitWith,
		},
	})
}

// exitWith runs a command and compares its exit code: exit 64 pgkeep bogus.
func exitWith(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: exit CODE COMMAND [ARG...]")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := "0"
	if err != nil {
		code = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if code != args[0] {
		ts.Fatalf("%s ended with %s, want %s", strings.Join(args[1:], " "), code, args[0])
	}
}
