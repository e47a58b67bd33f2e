package main

import (
	"bytes"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state/postgres"
)

// configFile is one source of the configuration.
type configFile struct {
	name    string // below the directory, or the base name of a --var-file
	content []byte
	values  bool // NAME = VALUE lines instead of blocks
	err     error
}

// configFiles reads every source that pgkeep reads, those included that it finds wrong.
func (a *app) configFiles() []configFile {
	var out []configFile
	entries, err := os.ReadDir(a.dir)
	if err != nil {
		out = append(out, configFile{name: a.dir, err: err})
	}
	read := func(path, name string) {
		b, err := os.ReadFile(path)
		out = append(out, configFile{name: name, content: b, values: strings.HasSuffix(name, ".vars.hcl"), err: err})
	}
	for _, e := range entries {
		if n := e.Name(); !e.IsDir() && (strings.HasSuffix(n, ".hcl") || strings.HasSuffix(n, ".hcl.json")) {
			read(filepath.Join(a.dir, n), n)
		}
	}
	for _, f := range a.varFiles {
		read(f, "var-file-"+strings.TrimSuffix(filepath.Base(f), ".vars.hcl")+".vars.hcl")
	}
	return out
}

// sensitiveVariables gives the names of variables that are declared sensitive, or are called so.
func sensitiveVariables(files []configFile) []string {
	var out []string
	for _, f := range files {
		for _, b := range blocksOf(f) {
			if b.Type != "variable" || len(b.Labels) != 1 {
				continue
			}
			s := b.Body.Attributes["sensitive"]
			if s != nil && strings.TrimSpace(string(s.Expr.Range().SliceBytes(f.content))) != "false" {
				out = append(out, b.Labels[0])
			}
		}
	}
	return out
}

func blocksOf(f configFile) hclsyntax.Blocks {
	if body := bodyOf(f); body != nil {
		return body.Blocks
	}
	return nil
}

// deepest is how many brackets may be open at once in a file that is parsed: the parser is recursive.
const deepest = 60

// bodyOf parses a source; nil: it cannot be, or is not worth the risk.
func bodyOf(f configFile) *hclsyntax.Body {
	if f.err != nil || len(f.content) > 1<<20 || strings.HasSuffix(f.name, ".json") {
		return nil
	}
	tokens, _ := hclsyntax.LexConfig(f.content, f.name, hcl.InitialPos)
	open := 0
	opening := []hclsyntax.TokenType{hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen, hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl}
	closing := []hclsyntax.TokenType{hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen, hclsyntax.TokenTemplateSeqEnd}
	for _, t := range tokens {
		if slices.Contains(opening, t.Type) {
			open++
		}
		if slices.Contains(closing, t.Type) {
			open--
		}
		if open > deepest {
			return nil
		}
	}
	parsed, diags := hclsyntax.ParseConfig(f.content, f.name, hcl.InitialPos)
	if diags.HasErrors() {
		return nil
	}
	body, _ := parsed.Body.(*hclsyntax.Body)
	return body
}

// knownSecrets gathers every secret that this configuration, its variables, the environment, and password and service
// files hold, so that each can be looked for wherever it may have strayed.
func (a *app) knownSecrets(spec *hclspec.Spec, files []configFile) []string {
	k := &secretList{}
	sensitive := sensitiveVariables(files)
	secret := func(name string) bool { return slices.Contains(sensitive, name) || secretName(name) }
	for _, f := range files {
		k.ofFile(f, secret)
	}
	for _, v := range a.vars {
		if name, value, _ := strings.Cut(v, "="); secret(name) {
			k.value(value)
		} else {
			k.inside(value)
		}
	}
	for name, value := range a.env {
		bare, ours := strings.CutPrefix(name, "PGKEEP_VAR_")
		switch {
		case ours && secret(bare), name == "PGPASSWORD", !ours && secretName(name) && len(value) >= 8 && !strings.HasPrefix(value, "/"):
			k.value(value)
		case ours:
			k.inside(value)
		}
	}
	conninfos := make([]string, 0, len(spec.Servers)+len(spec.Removed))
	for _, s := range spec.Servers {
		conninfos = append(conninfos, s.Conninfo.Reveal(), s.Backup.Conninfo.Reveal())
	}
	for _, r := range spec.Removed {
		conninfos = append(conninfos, r.Conninfo.Reveal())
	}
	for _, c := range conninfos {
		k.conninfo(c, a.env)
	}
	home := a.env["HOME"]
	k.passwordFile(a.env["PGPASSFILE"])
	k.passwordFile(filepath.Join(home, ".pgpass"))
	k.serviceFile(a.env["PGSERVICEFILE"])
	k.serviceFile(filepath.Join(home, ".pg_service.conf"))
	k.serviceFile("/etc/postgresql-common/pg_service.conf")
	return k.found
}

func secretName(name string) bool {
	return regexp.MustCompile(`(?i)conninfo|dsn|` + secretNames).MatchString(name)
}

// secretList gathers values.
type secretList struct{ found []string }

// value takes a value that is secret as a whole, and what is secret inside it.
func (k *secretList) value(v string) {
	v = strings.TrimSpace(v)
	if v != "" && !slices.Contains(k.found, v) {
		k.found = append(k.found, v)
	}
	if bare := strings.Trim(v, `"'`); bare != v {
		k.value(bare)
	}
	k.inside(v)
}

// inside takes the passwords of conninfos and URIs that stand in a text.
func (k *secretList) inside(v string) {
	for _, m := range regexp.MustCompile(`(?i)(?:ssl)?password\s*=\s*('(?:[^'\\]|\\.)*'|[^\s'"]+)`).FindAllStringSubmatch(v, -1) {
		k.password(strings.Trim(m[1], "'"))
	}
	for _, m := range regexp.MustCompile(`://[^\s:/@"']*:([^\s"']*)@`).FindAllStringSubmatch(v, -1) {
		k.password(m[1])
	}
}

func (k *secretList) password(v string) {
	for _, x := range []string{v, strings.NewReplacer(`\'`, `'`, `\\`, `\`).Replace(v)} {
		if x != "" && !strings.Contains(x, "${") && !slices.Contains(k.found, x) {
			k.found = append(k.found, x)
		}
	}
	if plain, err := url.PathUnescape(v); err == nil && plain != v && plain != "" {
		k.found = append(k.found, plain)
	}
}

// conninfo takes a connection string, its passwords, and those of the files that it names.
func (k *secretList) conninfo(s string, env map[string]string) {
	k.inside(s)
	if c, err := postgres.ParseConninfo(s, env, thisMachine{}); err == nil {
		for _, p := range c.Passwords() {
			k.password(p)
		}
	}
	if strings.Contains(strings.ToLower(s), "password") || strings.Contains(s, "@") {
		k.value(s)
	}
	for _, m := range regexp.MustCompile(`(passfile|servicefile)\s*=\s*('(?:[^'\\]|\\.)*'|[^\s'"&]+)`).FindAllStringSubmatch(s, -1) {
		file := strings.Trim(m[2], "'")
		if plain, err := url.PathUnescape(file); err == nil && strings.Contains(s, "://") {
			file = plain
		}
		if m[1] == "passfile" {
			k.passwordFile(file)
		} else {
			k.serviceFile(file)
		}
	}
}

// passwordFile takes the last field of every line host:port:database:user:password.
func (k *secretList) passwordFile(name string) {
	for line := range bytes.Lines(smallFile(name)) {
		fields := regexp.MustCompile(`^((?:[^:\\]|\\.)*:){4}`).FindIndex(line)
		if fields != nil && !bytes.HasPrefix(line, []byte("#")) {
			k.password(strings.TrimRight(string(line[fields[1]:]), "\r\n"))
		}
	}
}

// serviceFile takes what is set as a password in any section.
func (k *secretList) serviceFile(name string) {
	for line := range bytes.Lines(smallFile(name)) {
		key, value, ok := strings.Cut(strings.TrimSpace(string(line)), "=")
		if ok && secretName(strings.TrimSpace(key)) {
			k.password(strings.TrimSpace(value))
		}
	}
}

// ofFile takes the strings of sensitive variables' values, of every conninfo and of what has the name of a secret.
func (k *secretList) ofFile(f configFile, secret func(string) bool) {
	k.inside(string(f.content))
	body := bodyOf(f)
	if body == nil {
		return
	}
	k.ofBody(f, body, secret)
}

func (k *secretList) ofBody(f configFile, body *hclsyntax.Body, secret func(string) bool) {
	for _, at := range body.Attributes {
		if at.Name != "conninfo" && secret(at.Name) {
			k.literals(f, at.Expr.Range())
		}
	}
	for _, b := range body.Blocks {
		if b.Type != "variable" || len(b.Labels) != 1 {
			k.ofBody(f, b.Body, secretName)
			continue
		}
		if d := b.Body.Attributes["default"]; d != nil && secret(b.Labels[0]) {
			k.literals(f, d.Expr.Range())
		}
	}
}

// literals takes the strings that are written in a range of a file.
func (k *secretList) literals(f configFile, r hcl.Range) {
	tokens, _ := hclsyntax.LexConfig(f.content, f.name, hcl.InitialPos)
	for _, t := range tokens {
		if (t.Type == hclsyntax.TokenQuotedLit || t.Type == hclsyntax.TokenStringLit) && t.Range.Start.Byte >= r.Start.Byte && t.Range.End.Byte <= r.End.Byte {
			k.value(string(t.Bytes))
			k.value(strings.NewReplacer(`\"`, `"`, `\\`, `\`, `\n`, "\n", `\t`, "\t", `$${`, `${`).Replace(string(t.Bytes)))
		}
	}
}

// smallFile reads a file that may be absent; what is too long for what it should be is left alone.
func smallFile(name string) []byte {
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() || info.Size() > 1<<20 {
		return nil
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil
	}
	return b
}

// thisMachine reads service and password files of this machine.
type thisMachine struct{}

func (thisMachine) ReadFile(name string) ([]byte, error) { return os.ReadFile(name) }
