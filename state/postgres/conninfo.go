package postgres

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/state"
)

// Files gives the content of files by path: service file, password file, certificates. When it also has
// Stat(name string) (fs.FileInfo, error), secrets that others may read are refused, as libpq refuses them.
type Files interface {
	ReadFile(name string) ([]byte, error)
}

// Conninfo is a connection string that was read and found usable. It holds secrets: it prints redacted in every verb.
type Conninfo struct {
	hosts       []host
	user        string
	database    string
	application string
	options     string
	sslmode     string
	target      string        // target_session_attrs
	timeout     time.Duration // connect_timeout for each host; zero: the caller's
	binding     string        // channel_binding
	auth        string        // require_auth
	tls         tlsSettings
	dial        dialSettings
}

// host is one entry of the host list.
type host struct {
	name     string // as it was written: certificates and password files know it by this name
	address  string // hostaddr; empty: the name is looked up
	port     uint16
	password string
}

// String gives "name:port", or the socket's path.
func (h host) String() string {
	if strings.HasPrefix(h.name, "/") {
		return fmt.Sprintf("%s/.s.PGSQL.%d", h.name, h.port)
	}
	return net.JoinHostPort(h.name, strconv.Itoa(int(h.port)))
}

// Hosts gives the servers in the order in which they are tried, each as "name:port" or a socket's path.
func (c Conninfo) Hosts() []string {
	out := make([]string, len(c.hosts))
	for i, h := range c.hosts {
		out[i] = h.String()
	}
	return out
}

// User gives the role that connects.
func (c Conninfo) User() string { return c.user }

// Database gives the database that SQL sessions use.
func (c Conninfo) Database() string { return c.database }

// Passwords gives the passwords that would be sent, wherever they came from, so that they can be taken out of what is
// shown. They must never be printed, logged or put into an error.
func (c Conninfo) Passwords() []string {
	var out []string
	for _, h := range c.hosts {
		if h.password != "" && !slices.Contains(out, h.password) {
			out = append(out, h.password)
		}
	}
	return out
}

// SSLMode gives the sslmode in force: below "verify-full" somebody between may pose as the server.
func (c Conninfo) SSLMode() string { return c.sslmode }

// LocalOnly tells whether every host is a socket or a loopback address, where TLS adds nothing.
func (c Conninfo) LocalOnly() bool {
	for _, h := range c.hosts {
		at := h.address
		if at == "" {
			at = h.name
		}
		ip := net.ParseIP(at)
		if !strings.HasPrefix(h.name, "/") && h.name != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return false
		}
	}
	return true
}

// String gives what may be shown: hosts, user, database, sslmode.
func (c Conninfo) String() string {
	if len(c.hosts) == 0 {
		return "no conninfo"
	}
	return fmt.Sprintf("%s as %s, database %s, sslmode %s", strings.Join(c.Hosts(), ","), c.user, c.database, c.sslmode)
}

// GoString is String, for %#v.
func (c Conninfo) GoString() string { return c.String() }

// MarshalText is String, for JSON and logs.
func (c Conninfo) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// ParseConninfo reads libpq's keyword form or URI. Of env only HOME (default files) and PGPASSFILE are looked at:
// nothing else in an environment can change which server is meant or how it is protected. Unlike libpq the user must be
// named, the database is "postgres" when it is not, the host /var/run/postgresql, and a list of several hosts without
// target_session_attrs means the primary among them. Errors are state.Error with CodeConninfo and quote nothing but
// keywords and file names.
func ParseConninfo(s string, env map[string]string, files Files) (Conninfo, error) {
	set, err := parseSettings(s)
	if err != nil {
		return Conninfo{}, conninfoError(err)
	}
	r := resolver{set: set, env: env, files: files}
	if err := r.service(); err != nil {
		return Conninfo{}, conninfoError(err)
	}
	c, err := r.conninfo()
	if err != nil {
		return Conninfo{}, conninfoError(err)
	}
	return c, nil
}

func conninfoError(err error) error {
	e := &state.Error{Code: state.CodeConninfo, Text: "the conninfo cannot be used: " + err.Error()}
	var h hinted
	if errors.As(err, &h) {
		e.Hint = h.hint
	}
	return e
}

// hinted is an error with the advice that belongs to it.
type hinted struct{ text, hint string }

// Error gives the text alone.
func (h hinted) Error() string { return h.text }

func parseSettings(s string) (settings, error) {
	if strings.ContainsRune(s, 0) {
		return nil, errors.New("it holds a NUL byte")
	}
	for _, scheme := range []string{"postgresql://", "postgres://"} {
		if rest, ok := strings.CutPrefix(s, scheme); ok {
			return parseURI(rest)
		}
	}
	return parseKeywords(s)
}

// resolver turns settings into a Conninfo: defaults, files, checks.
type resolver struct {
	set   settings
	env   map[string]string
	files Files
}

// CheckConninfo says what is wrong with a conninfo as it is written: syntax, keywords, and values that can be told to be
// wrong without a file, the environment or a server. What a service adds is not looked at. Errors are as ParseConninfo's.
func CheckConninfo(s string) error {
	set, err := parseSettings(s)
	if err == nil && set["service"] == "" {
		_, err = (&resolver{set: set}).written()
	}
	if err != nil {
		return conninfoError(err)
	}
	return nil
}

func (r *resolver) conninfo() (Conninfo, error) {
	c, err := r.written()
	if err != nil {
		return Conninfo{}, err
	}
	for _, step := range []func(*Conninfo) error{r.tls, r.passwords} {
		if err := step(&c); err != nil {
			return Conninfo{}, err
		}
	}
	return c, nil
}

// written takes what needs no file.
func (r *resolver) written() (Conninfo, error) {
	c := Conninfo{
		user: r.set["user"], database: r.set.or("dbname", "postgres"), options: r.set["options"],
		application: r.set.or("application_name", r.set["fallback_application_name"]),
		binding:     r.set.or("channel_binding", "prefer"), auth: r.set["require_auth"],
	}
	if c.user == "" {
		return Conninfo{}, hinted{"it names no user", "add user=NAME, a role with LOGIN and REPLICATION"}
	}
	if err := r.refuse(); err != nil {
		return Conninfo{}, err
	}
	steps := []func(*Conninfo) error{r.hosts, r.target, r.timeouts, r.sslmode}
	for _, step := range steps {
		if err := step(&c); err != nil {
			return Conninfo{}, err
		}
	}
	return c, nil
}

// refuse stops at settings that are about safety and that pgkeep cannot keep, rather than to pass over them.
func (r *resolver) refuse() error {
	never := map[string]string{
		"replication":      "pgkeep sets it itself",
		"sslcrl":           "certificate revocation lists are not supported",
		"sslcrldir":        "certificate revocation lists are not supported",
		"sslpassword":      "encrypted client keys are not supported",
		"requirepeer":      "the owner of a socket is not checked",
		"gsslib":           "GSSAPI is not supported",
		"sslkeylogfile":    "session keys are not written to files",
		"scram_client_key": "keys in place of a password are not supported",
		"scram_server_key": "keys in place of a password are not supported",
	}
	allowed := map[string][]string{
		"gssencmode":         {"", "disable", "prefer"},
		"load_balance_hosts": {"", "disable"},
		"channel_binding":    {"", "disable", "prefer", "require"},
		"sslnegotiation":     {"", "postgres", "direct"},
		"sslsni":             {"", "0", "1"},
		"sslcertmode":        {"", "disable", "allow"},
	}
	for _, name := range keywords() {
		if why := never[name]; why != "" && r.set[name] != "" {
			return fmt.Errorf("%s cannot be used: %s", name, why)
		}
		if values, ok := allowed[name]; ok {
			if err := r.set.oneOf(name, values...); err != nil {
				return err
			}
		}
	}
	return nil
}

// hosts splits the lists of hosts, addresses and ports, which go together by position.
func (r *resolver) hosts(c *Conninfo) error {
	names, addresses := split(r.set["host"]), split(r.set["hostaddr"])
	n := max(len(names), len(addresses), 1)
	ports := split(r.set["port"])
	if len(names) != n && len(names) != 0 || len(addresses) != n && len(addresses) != 0 || len(ports) > 1 && len(ports) != n {
		return errors.New("host, hostaddr and port are lists of different length")
	}
	for i := range n {
		h := host{name: at(names, i), address: at(addresses, i), port: 5432}
		if h.name == "" {
			h.name = h.address
		}
		if h.name == "" {
			h.name = "/var/run/postgresql"
		}
		if h.address != "" && net.ParseIP(h.address) == nil {
			return errors.New("hostaddr is not an IP address")
		}
		p := at(ports, i)
		if len(ports) == 1 {
			p = ports[0]
		}
		if p != "" {
			v, err := strconv.ParseUint(p, 10, 16)
			if err != nil || v == 0 {
				return errors.New("a port is not a number from 1 to 65535")
			}
			h.port = uint16(v)
		}
		c.hosts = append(c.hosts, h)
	}
	return nil
}

func (r *resolver) target(c *Conninfo) error {
	err := r.set.oneOf("target_session_attrs", "", "any", "read-write", "read-only", "primary", "standby", "prefer-standby")
	if err != nil {
		return err
	}
	c.target = r.set["target_session_attrs"]
	switch {
	case c.target != "":
	case len(c.hosts) > 1:
		c.target = "primary"
	default:
		c.target = "any"
	}
	return nil
}

// passwords gives each host its own: the conninfo's, else the password file's.
func (r *resolver) passwords(c *Conninfo) error {
	if p := r.set["password"]; p != "" {
		for i := range c.hosts {
			c.hosts[i].password = p
		}
		return nil
	}
	file, named := r.passfile()
	if file == "" {
		return nil
	}
	content, err := r.secret(file)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return nil
	}
	if err != nil {
		return err
	}
	for i, h := range c.hosts {
		c.hosts[i].password = findPassword(content, h, c.database, c.user)
	}
	return nil
}

func (r *resolver) passfile() (file string, named bool) {
	if f := r.set["passfile"]; f != "" {
		return f, true
	}
	if f := r.env["PGPASSFILE"]; f != "" {
		return f, true
	}
	return r.home(".pgpass"), false
}

// home gives the path of a file under the home directory; empty when that is not known.
func (r *resolver) home(name string) string {
	if h := r.env["HOME"]; h != "" {
		return h + "/" + name
	}
	return ""
}

// secret reads a file that must be the reader's alone.
func (r *resolver) secret(name string) ([]byte, error) {
	if s, ok := r.files.(interface {
		Stat(name string) (fs.FileInfo, error)
	}); ok {
		info, err := s.Stat(name)
		if err != nil {
			return nil, fmt.Errorf("look at %s: %w", name, err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			return nil, hinted{fmt.Sprintf("%s can be read by others", name), "chmod 0600 " + name}
		}
	}
	return r.read(name)
}

func (r *resolver) read(name string) ([]byte, error) {
	b, err := r.files.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}
