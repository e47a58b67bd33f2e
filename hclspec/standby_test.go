package hclspec

import (
	"testing"

	"github.com/zclconf/go-cty/cty"
)

// TestPrimaryConninfoHasNoSecret: plans show it, so that what is a secret to libpq is refused wherever it stands.
func TestPrimaryConninfoHasNoSecret(t *testing.T) {
	for conninfo, good := range map[string]bool{
		"host=a user=b":                        true,
		"host=a passfile=/home/b/.pgpass":      true,
		"host=a options='-c geqo=off' user=b":  true,
		"host=a password=x":                    false,
		"password = x host=a":                  false,
		"host='a'password=x":                   false,
		"host=a scram_client_key=x":            false,
		"host=a user=b scram_server_key = 'x'": false,
		"host=a sslpassword=x":                 false,
		"host=a oauth_client_secret=x":         false,
	} {
		if _, err := primaryText().read(cty.StringVal(conninfo), nil); (err == nil) != good {
			t.Errorf("%s: %v", conninfo, err)
		}
	}
}
