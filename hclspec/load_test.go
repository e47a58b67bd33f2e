package hclspec

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
)

var update = flag.Bool("update", false, "rewrite golden files")

func berlin(t testing.TB) *time.Location {
	t.Helper()
	z, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func drawn(t testing.TB, s *Spec, diags hcl.Diagnostics) string {
	t.Helper()
	var b bytes.Buffer
	if err := WriteDiagnostics(&b, s.Files, diags, 100, false); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestCompleteLoads loads every block and attribute that is built, and keeps what became of them in a golden file.
func TestCompleteLoads(t *testing.T) {
	o := LoadOptions{Version: "0.1.0", Zone: berlin(t)}
	s, diags := Load(os.DirFS("testdata"), ".", o)
	if len(diags) > 0 {
		t.Fatal(drawn(t, s, diags))
	}
	got := asJSON(t, s)
	again, _ := Load(os.DirFS("testdata"), ".", o)
	if d := cmp.Diff(got, asJSON(t, again)); d != "" {
		t.Fatalf("a second Load differs:\n%s", d)
	}
	golden(t, "testdata/complete.golden.json", got)
}

func asJSON(t testing.TB, s *Spec) string {
	t.Helper()
	j, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	var any any
	if err := json.Unmarshal(j, &any); err != nil {
		t.Fatal(err)
	}
	dropWhere(any)
	j, _ = json.MarshalIndent(any, "", "  ")
	return string(j) + "\n"
}

// dropWhere leaves the line numbers out of the golden file.
func dropWhere(v any) {
	switch v := v.(type) {
	case map[string]any:
		delete(v, "Where")
		for _, e := range v {
			dropWhere(e)
		}
	case []any:
		for _, e := range v {
			dropWhere(e)
		}
	}
}

func golden(t testing.TB, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s differs (-want +got), -update rewrites it:\n%s", name, d)
	}
}
