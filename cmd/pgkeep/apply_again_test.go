package main

import (
	"bytes"
	"context"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/steps"
)

// TestSaysWhatIsLeft: after the second round of an apply, what a plan still holds is named, and nothing is said where it holds
// nothing.
func TestSaysWhatIsLeft(t *testing.T) {
	spec := &hclspec.Spec{Repositories: []hclspec.Repository{{
		Address: "repository.main", Name: "main", Path: filepath.Join(t.TempDir(), "new"), Compression: hclspec.Compression{Algorithm: "zstd", Level: 1},
	}}}
	var out bytes.Buffer
	a := &app{out: &out, err: io.Discard, width: 100, env: map[string]string{}, now: time.Now}
	say := func() string {
		t.Helper()
		out.Reset()
		if err := a.sayLeft(context.Background(), spec, plan.Options{}); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	if got, want := say(), "\nThis is left for the next apply: create-repository repository.main/create.\n\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if err := steps.Bind(spec, steps.BindOptions{}).Repositories.Create(t.Context(), "main"); err != nil {
		t.Fatal(err)
	}
	if got := say(); got != "" {
		t.Errorf("nothing is left, and it says %q", got)
	}
}
