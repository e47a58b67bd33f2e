package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/pgkeep/pgkeep/state"
)

// readAll joins the files below root whose names end so.
func readAll(t *testing.T, root string, suffixes ...string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && name != root && strings.HasPrefix(d.Name(), ".") {
			return fs.SkipDir
		}
		for _, s := range suffixes {
			if strings.HasSuffix(name, s) && d.Name() != "errors_doc_test.go" {
				text, err := os.ReadFile(name)
				b.Write(text)
				b.WriteByte('\n')
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestEveryExitCodeHasAStory: a script ends a command with each code of the table in exit.go.
func TestEveryExitCodeHasAStory(t *testing.T) {
	stories := readAll(t, "testdata", ".txtar")
	for _, code := range []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "64", "130", "143"} {
		if !regexp.MustCompile(`(?m)^(exit|interrupt) ` + code + ` .*pgkeep`).MatchString(stories) {
			t.Errorf("no script ends a command with %s", code)
		}
	}
}

// TestEveryErrorCodeIsShown: each code stands in a story, as the operator reads it.
func TestEveryErrorCodeIsShown(t *testing.T) {
	source, err := os.ReadFile("../../state/observation.go")
	if err != nil {
		t.Fatal(err)
	}
	codes := regexp.MustCompile(`(?m)^\s+Code[A-Za-z]+ +Code = "(E-[A-Z-]+)"`).FindAllStringSubmatch(string(source), -1)
	if len(codes) < 40 {
		t.Fatalf("only %d codes were found", len(codes))
	}
	told := wanted(t, "testdata") + wanted(t, "../../plan/testdata/stories")
	for _, c := range codes {
		if !regexp.MustCompile(`\b` + c[1] + `\b[^-]`).MatchString(told) {
			t.Errorf("no story shows %s: add one to testdata/refused or plan/testdata/stories", c[1])
		}
	}
}

// wanted joins what the stories below root compare with: a code in what a story starts from is not shown by it.
func wanted(t *testing.T, root string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, ".txtar") {
			return err
		}
		a, err := txtar.ParseFile(name)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(a.Comment)) {
			if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "!") { // what a script asserts is not there is not shown
				b.WriteString(line)
			}
		}
		for _, f := range a.Files {
			if f.Name == "want" || f.Name == "checked" {
				b.Write(f.Data)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestReceiverState: what status says of a receiver, a wait for a promotion among it.
func TestReceiverState(t *testing.T) {
	since := time.Date(2026, 2, 10, 8, 50, 0, 0, time.UTC)
	for want, r := range map[string]state.Receiver{
		"unknown: it is on backup2": {Unknown: &state.Unknown{Because: "it is on backup2"}},
		"not running":               {},
		"[E-STANDBY] 10.0.1.2 is a standby on timeline 1 and has no replication slot pgkeep_orders since 2026-02-10 08:50:00 UTC": {
			Running: true, Problem: &state.Problem{Code: state.CodeStandby, Text: "10.0.1.2 is a standby on timeline 1 and has no replication slot pgkeep_orders", Since: since},
		},
		"process 7, connecting": {Running: true, PID: 7},
		"streaming, in agent 7": {Running: true, Streaming: true, Agent: true, PID: 7},
		"streaming, process 7":  {Running: true, Streaming: true, PID: 7},
	} {
		if got := receiverState(r); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
