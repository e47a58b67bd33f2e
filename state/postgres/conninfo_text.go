package postgres

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// settings are the keywords of a conninfo with their values.
type settings map[string]string

func (s settings) or(name, otherwise string) string {
	if v := s[name]; v != "" {
		return v
	}
	return otherwise
}

func (s settings) oneOf(name string, values ...string) error {
	if !slices.Contains(values, s[name]) {
		return fmt.Errorf("%s is none of %s", name, strings.Join(slices.DeleteFunc(values, func(v string) bool { return v == "" }), ", "))
	}
	return nil
}

// keywords lists what libpq 18 knows.
func keywords() []string {
	return []string{
		"application_name", "channel_binding", "client_encoding", "connect_timeout", "dbname", "fallback_application_name",
		"gssdelegation", "gssencmode", "gsslib", "host", "hostaddr", "keepalives", "keepalives_count", "keepalives_idle",
		"keepalives_interval", "krbsrvname", "load_balance_hosts", "max_protocol_version", "min_protocol_version", "options",
		"passfile", "password", "port", "replication", "require_auth", "requirepeer", "scram_client_key", "scram_server_key",
		"service", "servicefile", "ssl_max_protocol_version", "ssl_min_protocol_version", "sslcert", "sslcertmode",
		"sslcompression", "sslcrl", "sslcrldir", "sslkey", "sslkeylogfile", "sslmode", "sslnegotiation", "sslpassword",
		"sslrootcert", "sslsni", "target_session_attrs", "tcp_user_timeout", "user",
	}
}

// put sets a keyword. An unknown one is not quoted, because in a string with a missing quote it may be half a password.
func (s settings) put(name, value string) error {
	if slices.Contains(keywords(), name) {
		s[name] = value
		return nil
	}
	e := hinted{text: fmt.Sprintf("keyword %d is none that libpq knows", len(s)+1)}
	if near := nearestKeyword(name); near != "" {
		e.hint = fmt.Sprintf("Did you mean %s?", near)
	}
	return e
}

func nearestKeyword(name string) string {
	best, at := "", 3
	for _, k := range keywords() {
		if d := editDistance(name, k, at); d < at {
			best, at = k, d
		}
	}
	return best
}

// editDistance is Levenshtein's, or limit when that is not above it.
func editDistance(a, b string, limit int) int {
	if len(a) > 40 || len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return min(row[len(b)], limit)
}

const blanks = " \t\n\r\v\f"

// parseKeywords reads "host=a port = 5432 password='it\'s'".
func parseKeywords(s string) (settings, error) {
	out := settings{}
	for s = strings.TrimLeft(s, blanks); s != ""; s = strings.TrimLeft(s, blanks) {
		end := strings.IndexAny(s, "="+blanks)
		if end < 0 {
			return nil, fmt.Errorf("\"=\" is missing after keyword %d", len(out)+1)
		}
		name := s[:end]
		rest, ok := strings.CutPrefix(strings.TrimLeft(s[end:], blanks), "=")
		if !ok {
			return nil, fmt.Errorf("\"=\" is missing after keyword %d", len(out)+1)
		}
		value, rest, err := keywordValue(strings.TrimLeft(rest, blanks))
		if err != nil {
			return nil, err
		}
		if err := out.put(name, value); err != nil {
			return nil, err
		}
		s = rest
	}
	return out, nil
}

// keywordValue reads one value, in quotes or up to a blank; a backslash takes the next byte as it is.
func keywordValue(s string) (value, rest string, err error) {
	quoted := strings.HasPrefix(s, "'")
	if quoted {
		s = s[1:]
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			i++
			if i < len(s) {
				b.WriteByte(s[i])
			}
		case quoted && c == '\'':
			return b.String(), s[i+1:], nil
		case !quoted && strings.IndexByte(blanks, c) >= 0:
			return b.String(), s[i:], nil
		default:
			b.WriteByte(c)
		}
	}
	if quoted {
		return "", "", errors.New("a quoted value has no end")
	}
	return b.String(), "", nil
}

// parseURI reads what follows postgresql://, with libpq's lists of hosts.
func parseURI(s string) (settings, error) {
	out := settings{}
	authority, query, _ := strings.Cut(s, "?")
	authority, path, _ := strings.Cut(authority, "/")
	parts := []struct{ name, raw string }{{"dbname", path}}
	if i := strings.LastIndex(authority, "@"); i >= 0 {
		user, password, _ := strings.Cut(authority[:i], ":")
		parts = append(parts, struct{ name, raw string }{"user", user}, struct{ name, raw string }{"password", password})
		authority = authority[i+1:]
	}
	hosts, ports, err := uriHosts(authority)
	if err != nil {
		return nil, err
	}
	parts = append(parts, struct{ name, raw string }{"host", hosts})
	for _, p := range parts {
		if err := out.putEscaped(p.name, p.raw); err != nil {
			return nil, err
		}
	}
	if strings.Trim(ports, ",") != "" {
		out["port"] = ports
	}
	for _, pair := range strings.Split(query, "&") {
		name, raw, ok := strings.Cut(pair, "=")
		switch {
		case pair == "":
			continue
		case !ok:
			return nil, errors.New("a parameter of the URI has no \"=\"")
		case name == "ssl" && raw == "true":
			name, raw = "sslmode", "require"
		}
		if err := out.putEscaped(name, raw); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// putEscaped sets a keyword to a percent-encoded value; an empty one is not set.
func (s settings) putEscaped(name, raw string) error {
	value, err := url.PathUnescape(raw)
	if err != nil || strings.ContainsRune(value, 0) {
		return fmt.Errorf("the URI's %s is not well encoded", strings.ToLower(cleanKeyword(name)))
	}
	if value == "" {
		return nil
	}
	return s.put(name, value)
}

// cleanKeyword gives a keyword that may be shown.
func cleanKeyword(name string) string {
	if slices.Contains(keywords(), name) {
		return name
	}
	return "parameter"
}

// uriHosts parts "a:1,[::1]:2,c" into "a,::1,c" and "1,2,".
func uriHosts(s string) (hosts, ports string, err error) {
	if s == "" {
		return "", "", nil
	}
	var hs, ps []string
	for _, h := range strings.Split(s, ",") {
		name, port := h, ""
		if inside, ok := strings.CutPrefix(h, "["); ok {
			var after string
			if name, after, ok = strings.Cut(inside, "]"); !ok || after != "" && after[0] != ':' {
				return "", "", errors.New("an IPv6 address of the URI is not closed")
			}
			port = strings.TrimPrefix(after, ":")
		} else {
			name, port, _ = strings.Cut(h, ":")
		}
		hs, ps = append(hs, name), append(ps, port)
	}
	return strings.Join(hs, ","), strings.Join(ps, ","), nil
}

// split parts a list by commas; an empty string has no elements.
func split(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return ""
}
