package postgres

import (
	"slices"
	"strings"
)

// WithoutSecrets gives a conninfo or URI as keywords in a fixed order, without the passwords in it, for files that others
// may read. dropped lists the keywords that were left out. The error is that of ParseConninfo.
func WithoutSecrets(s string) (conninfo string, dropped []string, err error) {
	set, err := parseSettings(s)
	if err != nil {
		return "", nil, conninfoError(err)
	}
	order := []string{"service", "host", "hostaddr", "port", "user", "dbname", "sslmode"}
	for _, k := range keywords() {
		if !slices.Contains(order, k) {
			order = append(order, k)
		}
	}
	secret := []string{"password", "sslpassword", "scram_client_key", "scram_server_key"}
	var out []string
	for _, k := range order {
		v, ok := set[k]
		switch {
		case !ok:
		case slices.Contains(secret, k):
			dropped = append(dropped, k)
		default:
			out = append(out, k+"="+keywordQuoted(v))
		}
	}
	return strings.Join(out, " "), dropped, nil
}

// keywordQuoted writes a value of a keyword as libpq reads it.
func keywordQuoted(v string) string {
	if v != "" && !strings.ContainsAny(v, " '\\\t\n\r\f\v") {
		return v
	}
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(v) + "'"
}
