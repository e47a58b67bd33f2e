package steps

import (
	"testing"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
)

// TestPlacesHaveNoSigningKey: what fetches WAL for a restored server only reads. It asks for no signing key, which the server's owner need not see.
func TestPlacesHaveNoSigningKey(t *testing.T) {
	e := &hclspec.Encryption{SigningKey: "/etc/pgkeep/writer.key", IdentityFiles: []string{"/etc/pgkeep/team.key"}}
	r := realRecoveries{real{spec: &hclspec.Spec{Repositories: []hclspec.Repository{{Name: "main", Path: "/r", Encryption: e}, {Name: "open", Path: "/o"}}}}}
	for label, encrypted := range map[string]bool{"main": true, "open": false} {
		got := r.places(plan.Route{Server: "shop", Repository: label})
		if len(got) != 1 || (got[0].Encryption != nil) != encrypted {
			t.Fatalf("%s: %+v", label, got)
		}
		if x := got[0].Encryption; encrypted && (x.SigningKey != "" || len(x.IdentityFiles) != 1 || e.SigningKey == "") {
			t.Errorf("%s: %+v", label, x)
		}
	}
}
