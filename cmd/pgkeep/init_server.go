package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/observe"
	"github.com/pgkeep/pgkeep/state/postgres"
)

// draft is a configuration for one server, made from what the server showed.
type draft struct {
	name, repository, spool string
	conninfo                string // without passwords
	dropped                 []string
	dsn                     postgres.Conninfo
	seen                    state.Server
	decisions               []string
}

// labelled is what a label must look like so that server.LABEL can be written.
var labelled = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)

// initFromServer looks at a server, writes a configuration for it, and says what it saw, decided and misses.
func (a *app) initFromServer(ctx context.Context, dsn string, d draft) error {
	file := filepath.Join(a.dir, "pgkeep.hcl")
	if _, err := os.Lstat(file); err == nil {
		return existsAlready(file)
	}
	if err := d.connect(ctx, a, dsn); err != nil {
		return err
	}
	if err := d.decide(); err != nil {
		return err
	}
	if err := writeNew(file, d.hcl()); err != nil {
		return err
	}
	spec, err := a.load()
	if err != nil {
		return err
	}
	for i := range spec.Servers {
		spec.Servers[i].Conninfo = hclspec.NewSecret(dsn) // the file has no password
	}
	seen := observe.World(ctx, spec, observe.Options{Now: a.now(), Env: a.env, Stores: a.stores})
	p, diags := plan.Build(spec, seen, a.now().UTC(), plan.Options{})
	if err := a.drawn(spec.Files, diags); err != nil {
		return err
	}
	_, err = fmt.Fprint(a.out, d.report(file, p))
	return err
}

// connect looks at the server as an observation does, and over a replication connection too.
func (d *draft) connect(ctx context.Context, a *app, dsn string) error {
	var err error
	if d.dsn, err = postgres.ParseConninfo(dsn, a.env, thisMachine{}); err != nil {
		return err
	}
	if d.conninfo, d.dropped, err = postgres.WithoutSecrets(dsn); err != nil {
		return err
	}
	alone := &hclspec.Spec{Servers: []hclspec.Server{{Address: "server.new", Name: "new", Conninfo: hclspec.NewSecret(dsn)}}}
	world := observe.World(ctx, alone, observe.Options{
		Now: a.now(), Env: a.env, Walsenders: true, Only: func(k observe.Kind) bool { return k == observe.Servers },
	})
	if err := context.Cause(ctx); err != nil {
		return err
	}
	d.seen = world.Servers["new"]
	if u := d.seen.Unknown; u != nil {
		return &state.Error{Code: u.Code, Text: u.Because, Hint: u.Hint}
	}
	return nil
}

// decide fills in what nobody asked for, with the reason.
func (d *draft) decide() error {
	switch {
	case d.name != "" && !labelled.MatchString(d.name):
		return usage("--name wants lower-case letters, digits, _ and -, and a letter first")
	case d.name != "":
	case d.seen.Settings["cluster_name"] != "" && labelled.MatchString(d.seen.Settings["cluster_name"]):
		d.name = d.seen.Settings["cluster_name"]
		d.because("server %q: its cluster_name", d.name)
	default:
		d.name = "main"
		d.because("server \"main\": its cluster_name says nothing; choose another now with --name, for backups are stored under it")
	}
	for _, p := range []struct {
		at   *string
		flag string
	}{{&d.repository, "--repository"}, {&d.spool, "--spool"}} {
		full, err := filepath.Abs(*p.at)
		if err != nil {
			return fmt.Errorf("find %s: %w", *p.at, err)
		}
		if *p.at = full; full == "/" {
			return usage("%s wants a directory of its own", p.flag)
		}
	}
	d.because("identity %s: another cluster at this address will be refused until it is named", d.seen.SystemID)
	if !d.seen.PageChecksums {
		d.because("check_page_checksums = false: the cluster has no data checksums (pg_checksums --enable, while it is stopped, adds them)")
	}
	if n := d.seen.SizeBytes; n > 0 {
		d.because("a week's window, a full backup a week and what changed every night: room for some 3 backups of %s, before compression, and the WAL between", hclspec.FormatSize(roundSize(n)))
	}
	return nil
}

func (d *draft) because(format string, args ...any) {
	d.decisions = append(d.decisions, fmt.Sprintf(format, args...))
}

// roundSize leaves three digits or fewer before the unit.
func roundSize(n int64) int64 {
	unit := int64(1)
	for n/unit >= 1024 {
		unit *= 1024
	}
	return (n + unit/2) / unit * unit
}

// hcl writes the configuration.
func (d *draft) hcl() string {
	var b strings.Builder
	quoted := hclspec.QuoteHCL
	fmt.Fprintf(&b, "# What must be true. \"pgkeep plan\" shows what is missing, \"pgkeep apply\" does it.\n# Written from what %s showed; the whole language: docs/language.md\n\n", printable(d.seen.Host))
	fmt.Fprintf(&b, "repository \"main\" {\n  path = %s\n}\n\n", quoted(d.repository))
	fmt.Fprintf(&b, "server %s {\n", quoted(d.name))
	if len(d.dropped) > 0 {
		b.WriteString("  # The password belongs into ~/.pgpass (mode 0600), or behind service=NAME.\n")
	}
	fmt.Fprintf(&b, "  conninfo     = %s\n  repositories = [repository.main]\n\n", quoted(d.conninfo))
	fmt.Fprintf(&b, "  identity { # anything else that answers is refused\n    system_identifiers = [%s]\n  }\n\n", quoted(d.seen.SystemID))
	fmt.Fprintf(&b, "  receiver {\n    spool = %s\n  }\n", quoted(d.spool))
	if !d.seen.PageChecksums {
		b.WriteString("\n  backup {\n    check_page_checksums = false # the cluster has none\n  }\n")
	}
	b.WriteString("}\n\n")
	fmt.Fprintf(&b, "schedule \"nightly\" {\n  servers = [server.%s]\n  cron    = \"0 1 * * *\"\n}\n\n", d.name)
	fmt.Fprintf(&b, "retention \"standard\" {\n  servers         = [server.%s]\n  recovery_window = \"7d\" # any moment of the last 7 days\n}\n", d.name)
	if outside := d.outside(); len(outside) > 0 {
		fmt.Fprintf(&b, "\n# A recovery on the same machine must put the tablespaces elsewhere:\n#\n# recovery \"copy\" {\n#   server = server.%s\n#   target {\n#     latest = true\n#   }\n#   destination {\n#     path        = \"/restore/data\"\n#     tablespaces = {\n", d.name)
		for _, t := range outside {
			fmt.Fprintf(&b, "#       %s = %s\n", quoted(t.Name), quoted("/restore/"+t.Name))
		}
		b.WriteString("#     }\n#   }\n# }\n")
	}
	return b.String()
}

// outside gives the tablespaces whose names can stand in a comment.
func (d *draft) outside() []state.Tablespace {
	return slices.DeleteFunc(slices.Clone(d.seen.Tablespaces), func(t state.Tablespace) bool { return printable(t.Name) != t.Name })
}

// printable keeps a name that came from a server from ending a comment.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\u2028' || r == '\u2029' {
			return '?'
		}
		return r
	}, s)
}
