package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// canaries are secrets, one for each place in which one can stand. They have characters that JSON, URLs, HCL and
// conninfos write in other ways.
func canaries() map[string]string {
	return map[string]string{
		"conninfo":         `Canary1 it's\"&<>`,
		"uri":              `Canary2/?#:"x`,
		"passfile":         `Canary3:colon\back`,
		"service":          `Canary4=equals`,
		"pgpass":           `Canary5dotpgpass`,
		"PGPASSWORD":       `Canary6env`,
		"variable default": `Canary7default`,
		"--var":            `Canary8flag"quote`,
		"PGKEEP_VAR":       `Canary9environment`,
		"vars file":        `CanaryAvarsfile`,
		"plain local":      `CanaryBlocal`,
		"log":              `CanaryClog`,
		"named variable":   `CanaryDnamed`,
		"AWS":              `CanaryEaws/secret`,
		"json file":        `CanaryFjson`,
	}
}

const canaryConfiguration = `
variable "password" {
  type      = string
  sensitive = true
  default   = %q
  validation {
    condition     = var.password != "not ${%q}"
    error_message = "no"
  }
}
variable "flagged" {
  type      = string
  sensitive = true
}
variable "given" {
  type      = string
  sensitive = true
}
variable "filed" {
  type      = string
  sensitive = true
}
variable "api_token" {
  type    = string
  default = %q
}
locals {
  # an old one: password=%s
  dsn = "host=127.0.0.1 port=1 user=local password=%s"
}
repository "main" {
  path = %q
}
server "a" {
  conninfo     = "host=127.0.0.1 port=1 user=u password='%s'"
  repositories = [repository.main]
  receiver {
    spool = %q
  }
}
server "b" {
  conninfo     = "postgres://u:%s@127.0.0.1:1/postgres"
  repositories = [repository.main]
}
server "c" {
  conninfo     = "host=127.0.0.1 port=1 user=u passfile=%s"
  repositories = [repository.main]
}
server "d" {
  conninfo     = "service=orders servicefile=%s"
  repositories = [repository.main]
}
server "e" {
  conninfo     = "host=127.0.0.1 port=1 user=u password=${var.password}${var.flagged}${var.given}${var.filed}"
  repositories = [repository.main]
}
server "f" {
  conninfo     = local.dsn
  repositories = [repository.main]
}
server "g" {
  conninfo     = "host=127.0.0.1 port=1 user=u"
  repositories = [repository.main]
}
`

// canaryWorld writes a configuration with a secret in every place, and gives the app that reads it.
func canaryWorld(t *testing.T, c map[string]string) (*app, *bytes.Buffer) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, content string) string {
		t.Helper()
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	inConninfo := strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(c["conninfo"])
	inHCL := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(inConninfo)
	passfile := write("secrets/passfile", "# host:port:database:user:x\n127.0.0.1:1:*:u:"+strings.ReplaceAll(c["passfile"], `\`, `\\`)+"\n")
	service := write("secrets/service", "[orders]\nhost=127.0.0.1\nport=1\nuser=u\npassword="+c["service"]+"\n")
	write(".pgpass", "*:*:*:u:"+c["pgpass"]+"\n")
	var everything strings.Builder
	for name, s := range c {
		if name != "log" && name != "json file" {
			fmt.Fprintf(&everything, "connect to 127.0.0.1 failed: %s was not taken\n{\"level\":\"ERROR\",\"msg\":%q}\n", s, s)
		}
	}
	everything.WriteString(strings.Join([]string{
		"PASSWORD = '" + c["log"] + "'", "postgres://u:" + c["log"] + "@db/x", `{"password":"` + c["log"] + `"}`, "secret_access_key: " + c["log"],
		"Authorization: Bearer " + c["log"], `msg="say \"password=` + c["log"] + ` now\""`,
	}, "\n"))
	write("spool/a/receiver.log", everything.String())
	write("pgkeep.hcl", fmt.Sprintf(canaryConfiguration, c["variable default"], c["variable default"], c["named variable"], c["plain local"], c["plain local"],
		dir+"/repository", inHCL, dir+"/spool", url.PathEscape(c["uri"]), passfile, service))
	write("pgkeep.vars.hcl", fmt.Sprintf("filed = %q\n", c["vars file"]))
	var out bytes.Buffer
	return &app{
		in: strings.NewReader(""), out: &out, err: &out, now: time.Now, version: "test", width: 100, dir: dir,
		vars: []string{"flagged=" + c["--var"]},
		env: map[string]string{
			"HOME": dir, "PGPASSWORD": c["PGPASSWORD"], "PGKEEP_VAR_given": c["PGKEEP_VAR"], "AWS_SECRET_ACCESS_KEY": c["AWS"],
		},
	}, &out
}

// unpacked gives everything in a bundle, names included.
func unpacked(t *testing.T, name string) map[string]string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		_, inner, _ := strings.Cut(h.Name, "/")
		out[inner] = string(b)
		if h.Mode != 0o600 {
			t.Errorf("%s has mode %o", h.Name, h.Mode)
		}
	}
}

// TestDiagnoseHoldsNoSecret looks for every canary, in every spelling, in every file of a bundle and in what is printed.
func TestDiagnoseHoldsNoSecret(t *testing.T) {
	secrets := canaries()
	a, out := canaryWorld(t, secrets)
	file := filepath.Join(t.TempDir(), "bundle.tar.gz")
	if code := run(context.Background(), a, a.args("diagnose", "--out", file)); code != 0 {
		t.Fatalf("diagnose ended with %d:\n%s", code, out)
	}
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
		t.Errorf("the bundle is %v, %v", info.Mode(), err)
	}
	all := unpacked(t, file)
	all["what is printed"] = out.String()
	noCanary(t, all, secrets)
	for _, name := range []string{"README.txt", "version.json", "machine.txt", "configuration/pgkeep.hcl", "configuration/pgkeep.vars.hcl", "observation.json", "plan.json", "plan.txt", "check.json", "receivers.json", "logs/receiver-a.log", "errors.txt"} {
		if _, ok := all[name]; !ok {
			t.Errorf("the bundle has no %s", name)
		}
	}
	for name, content := range all {
		if strings.HasSuffix(name, ".json") && !json.Valid([]byte(content)) {
			t.Errorf("%s is no JSON any more:\n%s", name, content)
		}
	}
	for _, want := range []string{`server "a"`, "127.0.0.1:1", "E-UNREACHABLE", `repositories = [repository.main]`} {
		if text := all["configuration/pgkeep.hcl"] + all["observation.json"]; !strings.Contains(text, want) {
			t.Errorf("%q is gone, too: nobody could help with this", want)
		}
	}
	if code := run(context.Background(), a, a.args("diagnose", "--out", file)); code != 1 || !strings.Contains(out.String(), "never overwrites") {
		t.Errorf("a bundle is overwritten: exit code %d\n%s", code, out)
	}
}

// TestDiagnoseOfABrokenConfiguration has a secret in a file that cannot be parsed, one of them where nothing says so.
func TestDiagnoseOfABrokenConfiguration(t *testing.T) {
	secrets := canaries()
	a, out := canaryWorld(t, secrets)
	broken := fmt.Sprintf("# %s\nserver \"x\" {\n conninfo = \"password=%s\"\n other = %q\n", secrets["conninfo"], secrets["plain local"], secrets["json file"])
	if err := os.WriteFile(filepath.Join(a.dir, "broken.hcl"), []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(a.dir, "more.hcl.json"), []byte(`{"server":{"y":{"conninfo":"host=x password=`+secrets["json file"]+`"}},"variable":{"v":{"sensitive":true,"default":"`+secrets["json file"]+`"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "bundle.tar.gz")
	if code := run(context.Background(), a, a.args("diagnose", "--out", file)); code != 0 {
		t.Fatalf("diagnose ended with %d:\n%s", code, out)
	}
	all := unpacked(t, file)
	all["what is printed"] = out.String()
	noCanary(t, all, secrets)
	if all["configuration/diagnostics.txt"] == "" || !strings.Contains(all["configuration/broken.hcl"], "server") {
		t.Errorf("what is wrong is not told: %q", all["configuration/broken.hcl"])
	}
}

func TestDiagnoseListWritesNothing(t *testing.T) {
	a, out := canaryWorld(t, canaries())
	t.Chdir(t.TempDir())
	if code := run(context.Background(), a, a.args("diagnose", "--list")); code != 0 {
		t.Fatalf("ended with %d:\n%s", code, out)
	}
	entries, err := os.ReadDir(".")
	if err != nil || len(entries) > 0 {
		t.Errorf("%v was written, %v", entries, err)
	}
	if !strings.Contains(out.String(), "observation.json") || !strings.Contains(out.String(), "Nothing was written") {
		t.Errorf("%s", out)
	}
}

// args adds what canaryWorld set, as flags: they are reset when the command line is read.
func (a *app) args(command ...string) []string {
	out := append(command, "--dir", a.dir)
	for _, v := range a.vars {
		out = append(out, "--var", v)
	}
	return out
}

func noCanary(t *testing.T, all, secrets map[string]string) {
	t.Helper()
	for name, content := range all {
		for place, secret := range secrets {
			for _, s := range append(spellings(secret), secret[:7]) {
				if i := strings.Index(content, s); i >= 0 {
					t.Errorf("%s holds the secret of %s: …%s…", name, place, content[max(0, i-40):min(len(content), i+60)])
					break
				}
			}
		}
	}
}
