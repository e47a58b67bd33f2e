package hclspec

import (
	"fmt"
	"slices"
	"strings"

	"pgregory.net/rapid"
)

// randomHCL writes a configuration with every block of the language: each attribute stands or not, with a value that is
// right, that a refusal of its kind shows, or that is an expression. A benign one is meant to load.
func randomHCL(t *rapid.T, benign bool) string {
	g := generator{T: t, benign: benign}
	var b strings.Builder
	variables := []string{`"x"`, "7", "null", `["a", "b"]`, `{ a = 1 }`}
	if benign { // it is put into a text
		variables = variables[:2]
	}
	b.WriteString("variable \"v\" {\n  default = " + rapid.SampledFrom(variables).Draw(t, "v") + "\n}\n")
	b.WriteString("locals {\n  eu = \"eu\"\n  text = \"a $${b} \\\" %%{c} \\n é ${var.v}\"\n}\n")
	for _, s := range language() {
		if s.name == "variable" || s.name == "locals" || s.later || benign && (s.name == "removed" || s.name == "moved") {
			continue
		}
		least, most := 0, 2
		if benign {
			most = 1
		}
		if benign && (s.name == "repository" || s.name == "server") {
			least = 1
		}
		for n := range rapid.IntRange(least, most).Draw(t, s.name) {
			label := ""
			if s.label != "" {
				label = fmt.Sprintf(" %q", []string{"main", "orders"}[n])
			}
			if s.label == "" && n > 0 {
				break
			}
			fmt.Fprintf(&b, "%s%s {\n", s.name, label)
			g.body(&b, s, n)
			b.WriteString("}\n")
		}
	}
	return b.String()
}

type generator struct {
	*rapid.T
	benign bool
}

// alone are the attributes that contradict others.
func alone() []string {
	return []string{"for_each", "stored_as", "quorum", "inclusive", "time", "lsn", "xid", "immediate", "name", "on_spool_full", "algorithm", "required_version", "passphrase_file", "passphrase_command", "random", "primary_slot_name"}
}

func (g generator) body(b *strings.Builder, s block, n int) {
	t := g.T
	elsewhere := []string{"path", "host"} // a place is a path or a URL, and only one of these locks
	if s.name == "repository" && rapid.Bool().Draw(t, "path") {
		elsewhere = []string{"url", "object_lock"}
	}
	primary := rapid.Bool().Draw(t, "a standby") // which has all databases, and no other target than the latest
	for _, a := range s.attributes {
		if g.benign && a.name == "primary_conninfo" && !primary {
			continue
		}
		if g.benign && slices.Contains(alone(), a.name) {
			continue
		}
		if g.benign && (s.name == "repository" && slices.Contains(elsewhere, a.name) || s.name == "backup" && a.name == "conninfo" || a.name == "databases" && primary) {
			continue
		}
		if a.required || g.benign && a.name == "url" || s.name == "repository" && a.name == "path" || g.benign && (a.name == "latest" || a.name == "identity_files" || a.name == "recovery_window" || a.name == "weekly" || a.name == "rpo") || rapid.IntRange(0, 3).Draw(t, a.name) == 0 {
			fmt.Fprintf(b, "  %s = %s\n", a.name, g.value(s, a, n))
		}
	}
	for _, inner := range s.blocks {
		if g.benign && slices.Contains(elsewhere, inner.name) {
			continue
		}
		if !inner.later && (inner.name == "target" || inner.name == "destination" || rapid.IntRange(0, 2).Draw(t, inner.name) == 0) {
			label := ""
			if inner.label != "" {
				label = ` "one"`
			}
			fmt.Fprintf(b, "  %s%s {\n", inner.name, label)
			g.body(b, inner, n)
			b.WriteString("  }\n")
		}
	}
}

// right are values for the attributes that have no default to take.
func right(a attribute, n int) string {
	known := map[string]string{
		"path": fmt.Sprintf(`"/srv/%d/${local.eu}"`, n), "url": fmt.Sprintf(`"s3://bucket/%d/${local.eu}"`, n),
		"conninfo": `"host=a user=${local.eu}"`, "repositories": "[repository.main]",
		"data_recipients": `["age1elensdykn4x0wsyrx8hfva703muwevqn8v325sq4gxjn82dgvscq7zrdpa"]`, "meta_recipients": `["age1elensdykn4x0wsyrx8hfva703muwevqn8v325sq4gxjn82dgvscq7zrdpa"]`, "trusted_writers": `["` + writerExample + `"]`, "signing_key": `"/etc/writer.key"`,
		"identity_files": `["/etc/host.key"]`, "identity_command": `["/usr/bin/vault", "kv"]`,
		"servers": "[for s in [server.main] : s]", "server": "server.main", "cron": `"0 1 * * *"`, "system_identifiers": `["7335180256203400928"]`,
		"from": "server.legacy", "to": `server.main["eu"]`, "value": "local.text", "recovery_window": `"7d"`, "redundancy": "2", "latest": "true", "rpo": `"10s"`, "rto": `"30m"`, "max_age": `"8d"`, "scratch": `"/srv/scratch"`, "repository": "repository.main", "database": `"shop"`, "sql": `"select 1"`, "mode": `"governance"`,
		"primary_conninfo": `"host=a user=b"`, "databases": `["shop"]`, "wal_window": `"2d"`, "sample": `"10%"`,
		"for_each": `{ eu = "a", us = "b" }`, "condition": "var.v != null", "error_message": `"no: ${var.v}"`, "tablespaces": `{ fast = "/mnt/fast" }`,
	}
	if v, ok := known[a.name]; ok {
		return v
	}
	if examples := map[string]string{
		"size/s": `"200MiB/s"`, "size or %": `"80%"`, "whole number": "7", "absolute path": `"/opt/x"`, "`server.NAME` or": "server.x",
	}; examples[a.kind.name] != "" {
		return examples[a.kind.name]
	}
	if a.standard != "" {
		return a.standard
	}
	return `"${local.eu}"`
}

func (g generator) value(s block, a attribute, n int) string {
	t := g.T
	if g.benign {
		return right(a, n)
	}
	pick := rapid.IntRange(0, 11).Draw(t, s.name+"."+a.name)
	switch {
	case a.kind.static && pick == 0:
		return "server.main"
	case a.kind.static:
		return right(a, n)
	case pick == 0 && len(a.kind.refused) > 0:
		if r := rapid.SampledFrom(a.kind.refused).Draw(t, "refused"); r.example != "" {
			return r.example
		}
	case pick == 1:
		return rapid.SampledFrom([]string{
			"null", "var.v", "local.text", "var.w", "[]", "{}", `"${upper(local.eu)}-${1 + 1}"`, "local.eu == \"eu\" ? 1 : 2", `"a\"b\\c\td"`, "1.5e3",
			"[for i in [1, 2] : i * 2]", `{ (local.eu) = [true, null] }`, `server.main["eu"]`, `repository.main["us"]`, "nonsense", "1 / 0", `"%{ if true }x%{ endif }"`,
		}).Draw(t, "odd")
	}
	return right(a, n)
}
