package plan_test

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/plan"
)

// TestCheckedListsOnlyWhatIsInOrder looks at the base world, and at worlds in which one thing is wrong: that line goes.
func TestCheckedListsOnlyWhatIsInOrder(t *testing.T) {
	hcl, err := os.ReadFile("testdata/base.hcl")
	if err != nil {
		t.Fatal(err)
	}
	spec := loadHCL(t, hcl)
	kinds := func(patch string) []string {
		seen := loadObservation(t, []byte(patch))
		p, diags := plan.Build(spec, seen, baseTime, plan.Options{})
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		var out []string
		for _, f := range p.Checked(spec, seen) {
			if f.Severity != plan.OK || f.Subject == "" || f.Code != "" {
				t.Errorf("%+v", f)
			}
			kind, _, _ := strings.Cut(f.Text, ":")
			out = append(out, kind)
		}
		return out
	}
	for _, c := range []struct{ name, patch, want string }{
		{"all is well", "", "repository connection role identity settings slot receiver spool backups WAL retention"},
		{"no answer", `{"servers": {"orders": {"unknown": {"code": "E-UNREACHABLE", "because": "nothing listens"}}}}`, "repository receiver spool backups WAL retention"},
		{"another cluster", `{"servers": {"orders": {"system_id": "8"}}}`, "repository connection role settings slot receiver spool"},
		{"wal_level", `{"servers": {"orders": {"settings": {"wal_level": "minimal"}}}}`, "repository connection role identity slot receiver spool backups WAL retention"},
		{"no role", `{"servers": {"orders": {"role": {"replication": false}}}}`, "repository connection identity settings slot receiver spool backups WAL retention"},
		{"slot lost", `{"servers": {"orders": {"slots": [{"name": "pgkeep_orders", "physical": true, "wal_status": "lost"}]}}}`, "repository connection role identity settings receiver spool backups WAL retention"},
		{"no receiver", `{"receivers": {"orders": {"running": false}}}`, "repository connection role identity settings slot spool backups WAL retention"},
		{"spool full", `{"spools": {"orders": {"free": 1}}}`, "repository connection role identity settings slot receiver backups WAL retention"},
		{"repository unmounted", `{"repositories": {"main": {"unknown": {"code": "E-NOT-MOUNTED", "because": "not mounted"}}}}`, "connection role identity settings slot receiver spool"},
	} {
		if diff := cmp.Diff(c.want, strings.Join(kinds(c.patch), " ")); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}
