package hclspec

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
)

const ruledServers = `repository "main" {
  path = "/srv/main"
}

repository "offsite" {
  path = "/srv/offsite"
}

server "orders" {
  conninfo     = "host=a user=u"
  repositories = [repository.main, repository.offsite]
}

server "broken" {
  conninfo     = "host=b user=u"
  repositories = %s
}

`

// loadRules loads retention blocks for a server with two repositories.
func loadRules(blocks, repositories string) (*Spec, string) {
	source := fmt.Sprintf(ruledServers, repositories) + blocks
	s, diags := Load(fstest.MapFS{"a.hcl": {Data: []byte(source)}}, ".", LoadOptions{})
	var b strings.Builder
	_ = WriteDiagnostics(&b, nil, diags, 0, false)
	return s, b.String()
}

// TestRetentionAsWritten: each attribute of a retention reaches the Spec, and each default.
func TestRetentionAsWritten(t *testing.T) {
	s, said := loadRules(`retention "all" {
  servers            = [server.orders]
  repositories       = [repository.main]
  recovery_window    = "9d"
  redundancy         = 4
  minimum_redundancy = 3
  max_delete         = 7
  enforce            = "approve"
}

retention "few" {
  servers      = [server.orders]
  repositories = [repository.offsite]
  redundancy   = 2
}
`, "[repository.main]")
	if said != "" {
		t.Fatal(said)
	}
	all, few := s.Retentions[0], s.Retentions[1]
	all.Where, few.Where = Where{}, Where{}
	want := Retention{
		Address: "retention.all", Name: "all", Servers: []string{"orders"}, Repositories: []string{"main"},
		RecoveryWindow: 9 * 24 * time.Hour, Redundancy: 4, MinimumRedundancy: 3, MaxDelete: 7, Enforce: "approve",
	}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Error(diff)
	}
	want = Retention{
		Address: "retention.few", Name: "few", Servers: []string{"orders"}, Repositories: []string{"offsite"},
		Redundancy: 2, MinimumRedundancy: 1, MaxDelete: 5, Enforce: "auto",
	}
	if diff := cmp.Diff(want, few); diff != "" {
		t.Error(diff)
	}
}

// TestRetentionRulesOnce: two blocks may share a server where they have different repositories, and no other way; a rule for
// a repository that nobody writes to is refused, unless the server's own mistake hides what it writes to.
func TestRetentionRulesOnce(t *testing.T) {
	block := func(name, server, repositories string) string {
		if repositories != "" {
			repositories = "  repositories = " + repositories + "\n"
		}
		return fmt.Sprintf("retention %q {\n  servers = [server.%s]\n  redundancy = 2\n%s}\n", name, server, repositories)
	}
	for name, c := range map[string]struct{ blocks, brokens, want string }{
		"two repositories":           {block("a", "orders", "[repository.main]") + block("b", "orders", "[repository.offsite]"), "[repository.main]", ""},
		"the same repository":        {block("a", "orders", "[repository.main]") + block("b", "orders", "[repository.main]"), "[repository.main]", "retention.a and retention.b both rule orders in repository.main."},
		"one and all":                {block("a", "orders", "[repository.offsite]") + block("b", "orders", ""), "[repository.main]", "retention.a and retention.b both rule orders in repository.offsite."},
		"nobody writes there":        {block("a", "broken", "[repository.offsite]"), "[repository.main]", "None of the servers of retention.a writes to repository.offsite."},
		"the server is wrong itself": {block("a", "broken", "[repository.offsite]"), "[repository.mian]", `There is no repository "mian".`},
	} {
		_, said := loadRules(c.blocks, c.brokens)
		if errors := strings.Count(said, "Error:"); (c.want == "") != (errors == 0) || errors > 1 || !strings.Contains(said, c.want) {
			t.Errorf("%s: %d errors:\n%s", name, errors, said)
		}
	}
}
