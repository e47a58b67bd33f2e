package plan_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/plan/render"
)

// TestRecoverableStories draws what can be recovered in each world of testdata/recoverable.
func TestRecoverableStories(t *testing.T) {
	paths, err := filepath.Glob("testdata/recoverable/*.txtar")
	if err != nil || len(paths) < 6 {
		t.Fatalf("%d stories: %v", len(paths), err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			s := readStory(t, path)
			all := plan.Recoverable(s.spec, s.seen, s.now, "orders")
			checkStretches(t, all)
			var got bytes.Buffer
			if err := render.RecoverableText(&got, all, render.TextOptions{Width: 110}); err != nil {
				t.Fatal(err)
			}
			want := -1
			for i, f := range s.archive.Files {
				if f.Name == "want" {
					want = i
				}
			}
			if *update {
				if want < 0 {
					s.archive.Files = append(s.archive.Files, txtar.File{Name: "want"})
					want = len(s.archive.Files) - 1
				}
				s.archive.Files[want].Data = got.Bytes()
				if err := os.WriteFile(path, txtar.Format(s.archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want < 0 {
				t.Fatalf("the story wants nothing; run with -update. It gives:\n%s", got.String())
			}
			if diff := cmp.Diff(string(s.archive.Files[want].Data), got.String()); diff != "" {
				t.Errorf("what is drawn differs (-want +got):\n%s", diff)
			}
		})
	}
}

// checkStretches asserts what holds of every drawing: stretches touch, none is twice, gaps have causes.
func checkStretches(t *testing.T, all []plan.Recoverability) {
	t.Helper()
	for _, r := range all {
		for _, x := range r.Lines {
			for i, s := range x.Stretches {
				if s.Why == "" || s.ToLSN < s.FromLSN || !s.To.IsZero() && s.To.Before(s.From) {
					t.Errorf("timeline %d: %+v", x.Timeline, s)
				}
				if i > 0 && (x.Stretches[i-1].ToLSN != s.FromLSN || x.Stretches[i-1].Kind == s.Kind) {
					t.Errorf("timeline %d: %+v after %+v", x.Timeline, s, x.Stretches[i-1])
				}
			}
		}
	}
}
