package postgres_test

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
)

// memory is a set of files.
type memory map[string]string

func (m memory) ReadFile(name string) ([]byte, error) {
	if s, ok := m[name]; ok {
		return []byte(s), nil
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

func TestParseConninfo(t *testing.T) {
	files := memory{
		"/home/x/.pg_service.conf": "# ours\n[other]\nhost=no\n[shop]\nhost=db1,db2\nport=6000\nuser=svc\n",
		"/etc/shop.service":        "[shop]\nhost=elsewhere\nuser=svc\n",
	}
	env := map[string]string{
		"HOME": "/home/x", "PGHOST": "evil", "PGUSER": "evil", "PGSERVICE": "other", "PGSSLMODE": "disable", "PGSERVICEFILE": "/evil",
		"PGPORT": "1", "PGDATABASE": "evil", "PGTARGETSESSIONATTRS": "standby",
	}
	for in, want := range map[string]string{
		"user=a": "/var/run/postgresql/.s.PGSQL.5432 as a, database postgres, sslmode prefer",
		"host=db user=a dbname=shop port=5433 sslmode=require":          "db:5433 as a, database shop, sslmode require",
		"  host = db   user='a b' password = 'it\\'s \\\\ ok' ":         "db:5432 as a b, database postgres, sslmode prefer",
		"host=a,b port=1,2 user=x":                                      "a:1,b:2 as x, database postgres, sslmode prefer",
		"host=a,b port=7 user=x":                                        "a:7,b:7 as x, database postgres, sslmode prefer",
		"hostaddr=10.0.0.1 user=x":                                      "10.0.0.1:5432 as x, database postgres, sslmode prefer",
		"service=shop":                                                  "db1:6000,db2:6000 as svc, database postgres, sslmode prefer",
		"service=shop host=me port=5":                                   "me:5 as svc, database postgres, sslmode prefer",
		"service=shop servicefile=/etc/shop.service":                    "elsewhere:5432 as svc, database postgres, sslmode prefer",
		"postgresql://a:sec%3Aret@db:5433/shop?sslmode=require":         "db:5433 as a, database shop, sslmode require",
		"postgres://a@[::1]:1,b/?connect_timeout=3&ssl=true":            "[::1]:1,b:5432 as a, database postgres, sslmode require",
		"postgresql:///shop?user=a&host=/tmp":                           "/tmp/.s.PGSQL.5432 as a, database shop, sslmode prefer",
		"postgresql://a:p@ss@db/":                                       "db:5432 as a, database postgres, sslmode prefer",
		"host=db user=a sslrootcert=system":                             "db:5432 as a, database postgres, sslmode verify-full",
		"host=db user=a application_name=x options='-c work_mem=1MB'":   "db:5432 as a, database postgres, sslmode prefer",
		"host=db user=a keepalives_idle=-1 tcp_user_timeout=5000 port=": "db:5432 as a, database postgres, sslmode prefer",
	} {
		if err := postgres.CheckConninfo(in); err != nil {
			t.Errorf("%s as it is written: %v", in, err)
		}
		c, err := postgres.ParseConninfo(in, env, files)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		for _, got := range []string{c.String(), fmt.Sprintf("%v", c), fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", c)} {
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: %s", in, diff)
			}
		}
	}
}

func TestParseConninfoRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"":                                     "names no user",
		"host=db":                              "names no user",
		"host=db user=a ssl_mode=require":      "Did you mean sslmode?",
		"host=db user=a sslmode=verify_full":   "sslmode is none of disable, allow",
		"host=db user=a sslmode=verify-full":   "no root certificate",
		"host=db user=a sslrootcert=/no":       "/no",
		"host=a,b,c port=1,2 user=x":           "different length",
		"host=a user=x port=0":                 "port is not",
		"host=a user=x port=65536":             "port is not",
		"host=a user=x password='canary":       "no end",
		"host=a user=x password=canary canary": "\"=\" is missing after keyword 4",
		"host=a user=x password=ca canary=1":   "keyword 4",
		"postgresql://x:canary@db:por/":        "port is not",
		"postgresql://x:canary@db/?a":          "no \"=\"",
		"postgresql://x:canary%@db/":           "not well encoded",
		"postgresql://x:ca:nary@[::1/":         "not closed",
		"host=a user=x replication=database":   "replication cannot be used",
		"host=a user=x sslcrl=/x":              "revocation",
		"host=a user=x service=none":           "in no service file",
		"host=a user=x passfile=/none":         "/none",
		"host=a user=x hostaddr=db":            "not an IP",
		"host=a user=x\x00":                    "NUL",
		"host=a user=x connect_timeout=soon":   "connect_timeout is not a number",
	} {
		_, err := postgres.ParseConninfo(in, map[string]string{"HOME": "/home/x"}, memory{})
		if err == nil {
			t.Errorf("%q was taken", in)
			continue
		}
		asWritten := postgres.CheckConninfo(in)
		if aboutFiles := slices.Contains([]string{"no root certificate", "/no", "in no service file", "/none"}, want); aboutFiles != (asWritten == nil) {
			t.Errorf("%q as it is written: %v", in, asWritten)
		} else if !aboutFiles && asWritten.Error() != err.Error() {
			t.Errorf("%q as it is written: %v, and with its files %v", in, asWritten, err)
		}
		text := err.Error() + " " + state.HintOf(err)
		if state.CodeOf(err) != state.CodeConninfo || !strings.Contains(text, want) {
			t.Errorf("%q: %s %s, want %q", in, state.CodeOf(err), text, want)
		}
		if strings.Contains(text, "canary") || strings.Contains(text, "nary") {
			t.Errorf("%q: a secret in %s", in, text)
		}
	}
}

func TestPasswordOfEachHost(t *testing.T) {
	files := memory{"/home/x/.pgpass": strings.Join([]string{
		"# comment", "other:5432:*:a:no", "db1:*:postgres:a:first\\:one", "db2:6000:*:*:second", "localhost:*:*:a:socket", "*:*:*:*:rest",
	}, "\n")}
	c, err := postgres.ParseConninfo("host=db1,db2,/tmp,db3 port=1,6000,1,1 user=a", map[string]string{"HOME": "/home/x"}, files)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"first:one", "second", "socket", "rest"}, postgres.Passwords(c)); diff != "" {
		t.Fatal(diff)
	}
	if strings.Contains(fmt.Sprintf("%v %+v %#v", c, c, c), "second") {
		t.Fatal("the password prints")
	}
}

// loose is memory whose files everybody may read.
type loose struct{ memory }

type looseInfo struct{ fs.FileInfo }

func (looseInfo) Mode() fs.FileMode { return 0o644 }

func (l loose) Stat(name string) (fs.FileInfo, error) {
	if _, err := l.ReadFile(name); err != nil {
		return nil, err
	}
	return looseInfo{}, nil
}

func TestSecretFilesMustBeClosed(t *testing.T) {
	files := loose{memory{"/p": "*:*:*:*:x"}}
	_, err := postgres.ParseConninfo("host=a user=b", map[string]string{"PGPASSFILE": "/p"}, files)
	if state.HintOf(err) != "chmod 0600 /p" {
		t.Fatalf("got %v", err)
	}
	if _, err := postgres.ParseConninfo("host=a user=b", map[string]string{"HOME": "/none"}, files); err != nil {
		t.Fatal(err)
	}
}

func FuzzParseConninfo(f *testing.F) {
	for _, s := range []string{"host=a user=b", "host = 'a\\'b' user=c port=1,2", "postgresql://u:p@[::1]:5,b/db?sslmode=require&x=y", "service=x", "'", "=", "postgres://%zz@"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := postgres.ParseConninfo(s, nil, memory{})
		var e *state.Error
		if err != nil && (!errors.As(err, &e) || e.Code != state.CodeConninfo) {
			t.Fatalf("%q: %v", s, err)
		}
		if err == nil && (len(c.Hosts()) == 0 || c.User() == "" || c.Database() == "") {
			t.Fatalf("%q: %#v", s, c)
		}
	})
}
