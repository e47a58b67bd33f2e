package hclspec

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/hashicorp/hcl/v2"
)

// rightOne is a configuration in which each pair of singleMistakes makes one mistake.
const rightOne = `variable "env" {
  type    = string
  default = "prod"

  validation {
    condition     = contains(["prod", "staging"], var.env)
    error_message = "env is ${var.env}."
  }
}

locals {
  clusters = { eu = { host = "10.0.1.1" }, us = { host = "10.0.2.1" } }
}

repository "main" {
  path = "/srv/pgkeep"
}

server "orders" {
  for_each     = local.clusters
  conninfo     = "host=${each.value.host} user=pgkeep"
  repositories = [repository.main]

  slot {
    on_lost = "replace"
  }

  receiver {
    spool = "/var/lib/pgkeep/spool"
  }

  backup {
    full_every = "7d"
    max_rate   = "200MiB/s"
  }
}

schedule "nightly" {
  servers  = [server.orders]
  cron     = "0 1 * * *"
  timezone = "Europe/Berlin"
}

retention "standard" {
  servers         = [server.orders]
  recovery_window = "7d"
}

recovery "copy" {
  server = server.orders["eu"]

  target {
    time = "2026-02-10T21:16:17Z"
  }

  destination {
    path = "/restore"
  }
}

moved {
  from = server.old
  to   = server.orders["us"]
}

output "servers" {
  value = keys(server.orders)
}
`

// singleMistakes replace text of rightOne.
func singleMistakes() [][2]string {
	return [][2]string{
		{"variable \"env\"", "variabel \"env\""},
		{"type    = string", "type    = strin"},
		{"type    = string", "tipe    = string"},
		{"\"prod\"\n\n", "[1]\n\n"},
		{"\"prod\"\n\n", "\"test\"\n\n"},
		{"condition     =", "conditoin     ="},
		{"contains([", "contain(["},
		{"var.env)", "var.evn)"},
		{"${var.env}.", "${var.enw}."},
		{"locals {", "local {"},
		{"clusters = {", "cluster = {"},
		{"{ host = \"10.0.1.1\" }", "{ hots = \"10.0.1.1\" }"},
		{"repository \"main\" {", "repository \"mian\" {"},
		{"repository \"main\" {", "repositry \"main\" {"},
		{"repository \"main\" {", "repository {"},
		{"path = \"/srv/pgkeep\"", "pth = \"/srv/pgkeep\""},
		{"path = \"/srv/pgkeep\"", "path = \"srv/pgkeep\""},
		{"path = \"/srv/pgkeep\"", ""},
		{"path = \"/srv/pgkeep\"", "path = 5"},
		{"server \"orders\" {", "server \"orders\" \"x\" {"},
		{"for_each     = local.clusters", "for_each     = local.clustres"},
		{"for_each     = local.clusters", "for_each     = [\"eu\", \"us\"]"},
		{"for_each     = local.clusters", "foreach      = local.clusters"},
		{"for_each     = local.clusters\n", ""},
		{"server \"orders\" {", "server \"ordres\" {"},
		{"variable \"env\" {", "variable \"evn\" {"},
		{"eu = {", "ue = {"},
		{"us = {", "su = {"},
		{"conninfo     =", "coninfo      ="},
		{"user=pgkeep", "usr=pgkeep"},
		{"user=pgkeep", "user=pgkeep slmode=require"},
		{"user=pgkeep", "user=pgkeep sslmode=requier"},
		{"user=pgkeep", "user=pgkeep port=fivethousand"},
		{" user=pgkeep", ""},
		{"each.value.host", "each.value.hst"},
		{"each.value.host", "each.vale.host"},
		{"[repository.main]", "[repository.mian]"},
		{"[repository.main]", "[main]"},
		{"[repository.main]", "\"main\""},
		{"repositories = [repository.main]", ""},
		{"slot {", "slots {"},
		{"on_lost = \"replace\"", "on_lost = \"replce\""},
		{"on_lost = \"replace\"", "on_lost = replace"},
		{"spool = \"/var", "spol = \"/var"},
		{"spool = \"/var/lib/pgkeep/spool\"", "spool = \"/srv/pgkeep\""},
		{"\"7d\"\n    max", "\"7 fortnights\"\n    max"},
		{"200MiB/s", "200MB/h"},
		{"backup {", "backup = {"},
		{"  backup {", "  slot {\n  }\n\n  backup {"},
		{"schedule \"nightly\" {", "schedule \"nightly\" {\n  cron = \"0 2 * * *\""},
		{"0 1 * * *", "0 25 * * *"},
		{"cron     =", "corn     ="},
		{"Europe/Berlin", "Europe/Berlni"},
		{"[server.orders]\n  cron", "[server.order]\n  cron"},
		{"[server.orders]\n  cron", "[server.orders[\"ue\"]]\n  cron"},
		{"recovery_window =", "recovery_windw  ="},
		{"recovery_window = \"7d\"", ""},
		{"recovery_window = \"7d\"", "recovery_window = 7"},
		{"retention \"standard\"", "retentoin \"standard\""},
		{"server.orders[\"eu\"]", "server.orders"},
		{"server.orders[\"eu\"]", "server.orders[\"ue\"]"},
		{"21:16:17Z", "21:16:17"},
		{"time = \"2026", "tme = \"2026"},
		{"destination {", "destinaton {"},
		{"path = \"/restore\"", "paht = \"/restore\""},
		{"target {", "target {\n    latest = true"},
		{"moved {", "moves {"},
		{"server.old", "server.orders[\"eu\"]"},
		{"from = server.old", "form = server.old"},
		{"server.orders[\"us\"]", "server.orders[\"su\"]"},
		{"keys(", "kesy("},
		{"value = keys", "vlaue = keys"},
		{"  }\n\n  receiver {", "\n  receiver {"},
		{"user=pgkeep\"", "user=pgkeep"},
		{"output \"servers\" {", "server \"orders\" {\n  conninfo = \"host=x\"\n  repositories = [repository.main]\n}\n\noutput \"servers\" {"},
		{"local.clusters", "local.clusters)"},
		{"= [server.orders]\n  cron", "[server.orders]\n  cron"},
	}
}

// TestOneMistakeIsOneError makes one mistake at a time, in HCL, and in JSON where it can be written so.
func TestOneMistakeIsOneError(t *testing.T) {
	load := func(name, source string) (*Spec, hcl.Diagnostics) {
		return Load(fstest.MapFS{name: {Data: []byte(source)}}, ".", LoadOptions{Conninfo: libpq})
	}
	if _, diags := load("a.hcl", rightOne); diags.HasErrors() {
		t.Fatal(diags)
	}
	inBoth := 0
	for _, m := range singleMistakes() {
		source := strings.Replace(rightOne, m[0], m[1], 1)
		if source == rightOne {
			t.Errorf("%q is not in the configuration", m[0])
		}
		_, diags := load("a.hcl", source)
		oneError(t, m, diags)
		if twin, ok := inJSON([]byte(source), languageBlock()); ok {
			inBoth++
			_, diags = load("a.hcl.json", twin)
			oneError(t, m, diags)
		}
	}
	if inBoth < 65 {
		t.Errorf("only %d mistakes were made in JSON", inBoth)
	}
}

func oneError(t *testing.T, m [2]string, diags hcl.Diagnostics) {
	t.Helper()
	if len(diags) == 1 && diags.HasErrors() {
		return
	}
	var b strings.Builder
	_ = WriteDiagnostics(&b, nil, diags, 100, false)
	t.Errorf("%q instead of %q makes %d errors:\n%s", m[1], m[0], len(diags), b.String())
}
