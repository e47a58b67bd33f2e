package postgres

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"
)

// debianServiceFile is where Debian's libpq looks after ~/.pg_service.conf.
const debianServiceFile = "/etc/postgresql-common/pg_service.conf"

// service adds the settings of the named service that the conninfo does not set itself.
func (r *resolver) service() error {
	name := r.set["service"]
	if name == "" {
		return nil
	}
	files := []string{r.set["servicefile"]}
	if files[0] == "" {
		files = []string{r.home(".pg_service.conf"), debianServiceFile}
	}
	for _, file := range files {
		if file == "" {
			continue
		}
		content, err := r.read(file)
		if errors.Is(err, fs.ErrNotExist) && r.set["servicefile"] == "" {
			continue
		}
		if err != nil {
			return err
		}
		found, err := findService(content, name)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if found == nil {
			continue
		}
		for k, v := range found {
			if _, set := r.set[k]; !set {
				r.set[k] = v
			}
		}
		return nil
	}
	return fmt.Errorf("service %q is in no service file", cleanText(name))
}

// findService reads the section of a service file; nil when there is none of that name.
func findService(content []byte, name string) (settings, error) {
	var out settings
	in := false
	for i, line := range strings.Split(string(content), "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			if out != nil {
				return out, nil
			}
			if in = line == "["+name+"]"; in {
				out = settings{}
			}
		case in:
			k, v, ok := strings.Cut(line, "=")
			if !ok || k == "service" || k == "servicefile" || strings.HasPrefix(k, "ldap") {
				return nil, fmt.Errorf("line %d cannot be used", i+1)
			}
			if err := out.put(k, v); err != nil {
				return nil, fmt.Errorf("line %d: %w", i+1, err)
			}
		}
	}
	return out, nil
}

// findPassword gives the password of the first line host:port:database:user:password that fits; empty: none.
func findPassword(content []byte, h host, database, user string) string {
	name := h.name
	if strings.HasPrefix(name, "/") {
		name = "localhost"
	}
	for line := range strings.Lines(string(content)) {
		line = strings.TrimRight(line, "\r\n")
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := passwordFields(line)
		if len(f) != 5 {
			continue
		}
		fits := (f[0] == "*" || f[0] == name || f[0] == h.name) && fieldFits(f[1], strconv.Itoa(int(h.port))) &&
			fieldFits(f[2], database, "replication") && fieldFits(f[3], user)
		if fits {
			return f[4]
		}
	}
	return ""
}

func fieldFits(field string, values ...string) bool {
	for _, v := range values {
		if field == v {
			return true
		}
	}
	return field == "*"
}

// passwordFields parts a line at its colons; a backslash takes the next byte as it is.
func passwordFields(line string) []string {
	var fields []string
	var b strings.Builder
	for i := 0; i < len(line); i++ {
		switch {
		case line[i] == '\\' && i+1 < len(line):
			i++
			b.WriteByte(line[i])
		case line[i] == ':' && len(fields) < 4:
			fields = append(fields, b.String())
			b.Reset()
		default:
			b.WriteByte(line[i])
		}
	}
	return append(fields, b.String())
}

// dialSettings are about the TCP connection.
type dialSettings struct {
	keepalivesOff bool
	idle          time.Duration
	interval      time.Duration
	count         int
	userTimeout   time.Duration
}

// timeouts reads the settings that are numbers. The keepalive defaults find a dead peer in 45 seconds, not in the
// kernel's two hours.
func (r *resolver) timeouts(c *Conninfo) error {
	c.dial = dialSettings{idle: 15 * time.Second, interval: 5 * time.Second, count: 6}
	c.dial.keepalivesOff = r.set["keepalives"] == "0"
	for _, n := range []struct {
		name string
		unit time.Duration
		into *time.Duration
	}{
		{"connect_timeout", time.Second, &c.timeout},
		{"keepalives_idle", time.Second, &c.dial.idle},
		{"keepalives_interval", time.Second, &c.dial.interval},
		{"tcp_user_timeout", time.Millisecond, &c.dial.userTimeout},
	} {
		v, err := r.number(n.name)
		if err != nil {
			return err
		}
		if v > 0 {
			*n.into = time.Duration(v) * n.unit
		}
	}
	v, err := r.number("keepalives_count")
	if v > 0 {
		c.dial.count = v
	}
	return err
}

// number reads a whole number; 0 when there is none or it is negative, which libpq takes as "the default".
func (r *resolver) number(name string) (int, error) {
	s := r.set[name]
	if s == "" {
		return 0, nil
	}
	v, err := strconv.ParseInt(strings.TrimSpace(s), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%s is not a number", name)
	}
	return int(max(v, 0)), nil
}
