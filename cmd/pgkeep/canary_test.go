package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// secretPlaces are secrets that nothing may repeat, by where they stand.
func secretPlaces() map[string]string {
	out := map[string]string{}
	for _, place := range []string{"keyword", "uri", "passfile", "service", "sslpassword", "var", "env", "varfile"} {
		out[place] = "CANARY" + strings.ToUpper(place) + "x7Q"
	}
	return out
}

// TestCanaries puts a secret into every place that takes one, lets commands succeed and fail at debug level, and looks for
// the secrets in all that they print and write, and in the command lines of all processes meanwhile.
func TestCanaries(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	s := pgtest.Start(t, pgtest.Options{})
	root, err := os.MkdirTemp("/var/tmp", "pgkeep-canary-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	place := writeCanaries(t, root, s)
	var printed bytes.Buffer
	self, err := exec.LookPath("pgkeep")
	if err != nil {
		t.Fatal(err)
	}
	stop, seen := watchCommandLines()
	for _, args := range [][]string{
		{"validate"},
		{"validate", "-C", place.refused},
		{"validate", "--json", "-C", place.refused},
		{"plan", "-C", place.refused},
		{"apply", "--yes", "--json", "-C", place.refused},
		{"plan"},
		{"plan", "--json"},
		{"apply", "--yes", "--json"},
		{"apply", "--yes"},
		{"status"},
		{"status", "--json"},
		{"check"},
		{"journal"},
		{"journal", "--json"},
		{"observe", "--out", place.work + "/world.json"},
		{"plan", "--refresh-only"},
		{"backup", "good"},
		{"plan", "--observed", place.work + "/world.json", "--json"},
		{"receiver", "status"},
		{"receiver", "stop", "good"},
		{"validate", "--var", "absent=" + secretPlaces()["var"]},
		{"plan", "--var", "byflag"},
		{"apply", "--yes", "--target", "server.none"},
	} {
		cmd := exec.Command(self, append([]string{"--log-level=debug", "-C", place.config, "--var-file", place.varFile}, args...)...)
		cmd.Env = append(os.Environ(), "PGKEEP_VAR_byenv="+secretPlaces()["env"], "HOME="+place.config, "PGKEEP_VAR_good="+s.Conninfo()+" password="+secretPlaces()["keyword"])
		cmd.Stdout, cmd.Stderr = &printed, &printed
		fmt.Fprintf(&printed, "\n$ pgkeep %s\n", args[0])
		_ = cmd.Run() // some are to fail
	}
	stop()
	for where, secret := range secretPlaces() {
		find := func(what, text string) {
			if i := strings.Index(text, secret); i >= 0 {
				t.Errorf("the secret of %s stands in %s: …%s…", where, what, text[max(0, i-200):min(len(text), i+80)])
			}
		}
		find("what was printed", printed.String())
		if where != "var" { // which the test itself passes on a command line
			find("the command line of a process", seen())
		}
		err := filepath.WalkDir(place.work, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !d.Type().IsRegular() {
				return err
			}
			body, err := os.ReadFile(name)
			find(name, string(body))
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	for _, want := range []string{"E-UNREACHABLE", "Invalid conninfo", `"event":"done"`, "server.good/backup"} {
		if !strings.Contains(printed.String(), want) {
			t.Errorf("nothing was tried: %q was not printed:\n%s", want, printed.String())
		}
	}
}

// places are where the test keeps things: config holds the secrets, refused those of connection strings that validate refuses, work all that pgkeep writes.
type places struct{ config, refused, work, varFile string }

func writeCanaries(t *testing.T, root string, s *pgtest.Server) places {
	t.Helper()
	c := secretPlaces()
	p := places{config: root + "/config", refused: root + "/refused", work: root + "/work", varFile: root + "/config/more.vars"}
	dead := "host=127.0.0.1 port=1 user=pgkeep dbname=postgres connect_timeout=2"
	var hcl, refused strings.Builder
	head := (`
variable "good" {
  type      = string
  sensitive = true
}
variable "byenv" {
  type      = string
  sensitive = true
}
variable "byfile" {
  type      = string
  sensitive = true
}
repository "main" {
  path = "` + p.work + `/repository"
}
`)
	hcl.WriteString(head)
	refused.WriteString(head)
	for name, conninfo := range map[string]string{
		"good": "var.good", "env": `"` + dead + ` password=${var.byenv}"`, "varfile": `"` + dead + ` password=${var.byfile}"`,
		"keyword": `"` + dead + " password='" + c["keyword"] + `'"`, "uri": `"postgres://pgkeep:` + c["uri"] + `@127.0.0.1:1/postgres"`,
		"sslpassword": `"` + dead + " sslpassword=" + c["sslpassword"] + `"`, "passfile": `"` + dead + " passfile=" + p.config + `/pass"`,
		"service":     `"service=canary servicefile=` + p.config + `/services"`,
		"nonsense":    `"host=127.0.0.1 password=` + c["keyword"] + ` prot=x"`,
		"wrongport":   `"postgres://pgkeep:` + c["uri"] + `@127.0.0.1:x/postgres"`,
		"rejected":    `"` + s.Conninfo() + " user=nobody password=" + c["keyword"] + `"`,
		"unreachable": `"host=/nowhere user=pgkeep password=` + c["keyword"] + `"`,
	} {
		into := &hcl
		if name == "sslpassword" || name == "nonsense" || name == "wrongport" {
			into = &refused
		}
		fmt.Fprintf(into, "server %q {\n  conninfo     = %s\n  repositories = [repository.main]\n  receiver {\n    spool = %q\n  }\n}\n", name, conninfo, p.work+"/spool")
	}
	for name, text := range map[string]string{
		p.config + "/pgkeep.hcl": hcl.String(), p.refused + "/pgkeep.hcl": refused.String(), p.varFile: "byfile = \"" + c["varfile"] + "\"\n",
		p.config + "/pass":     "*:*:*:*:" + c["passfile"] + "\n",
		p.config + "/services": "[canary]\nhost=127.0.0.1\nport=1\nuser=pgkeep\npassword=" + c["service"] + "\n",
		p.work + "/.keep":      "",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// watchCommandLines reads the command lines of all processes of the machine until it is stopped.
func watchCommandLines() (stop func(), seen func() string) {
	end, ended := make(chan struct{}), make(chan struct{})
	lines := map[string]bool{}
	go func() {
		defer close(ended)
		for tick := time.NewTicker(20 * time.Millisecond); ; {
			names, _ := filepath.Glob("/proc/[0-9]*/cmdline")
			for _, name := range names {
				if text, err := os.ReadFile(name); err == nil && bytes.Contains(text, []byte("CANARY")) {
					lines[string(text)] = true
				}
			}
			select {
			case <-end:
				tick.Stop()
				return
			case <-tick.C:
			}
		}
	}()
	return func() { close(end); <-ended }, func() string { return strings.Join(sorted(lines), "\n") }
}
