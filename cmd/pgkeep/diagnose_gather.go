package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/plan/render"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/observe"
	"github.com/pgkeep/pgkeep/steps"
)

// gathering is one bundle in progress: everything goes through its redactor.
type gathering struct {
	*app
	*bundle
	secret *redactor
	spec   *hclspec.Spec
}

// gather looks at everything, and never fails: what could not be had is said in the bundle.
func (a *app) gather(ctx context.Context, logs []string) *bundle {
	files := a.configFiles()
	o, err := a.loadOptions()
	spec, diags := hclspec.Load(paths{}, filepath.ToSlash(a.dir), o)
	g := &gathering{app: a, bundle: newBundle(a.now()), secret: newRedactor(a.knownSecrets(spec, files)), spec: spec}
	g.miss("values of variables", err)
	g.version()
	g.machine(ctx)
	g.configuration(files, diags)
	if !diags.HasErrors() {
		seen := observe.World(ctx, spec, observe.Options{Now: a.now(), Env: a.env, Stores: a.stores, Walsenders: true})
		g.record("observation.json", "what was seen of servers, repositories, spools and receivers", seen)
		g.planned(seen)
		g.receiverLogs()
		g.repositories(ctx, seen)
	}
	for _, name := range logs {
		g.log("logs/"+strings.ReplaceAll(strings.Trim(filepath.ToSlash(name), "/"), "/", "-"), name)
	}
	g.agentLog(ctx)
	g.finish()
	return g.bundle
}

// miss notes what could not be gathered.
func (g *gathering) miss(what string, err error) {
	if err != nil {
		g.failed = append(g.failed, g.secret.text(what+": "+err.Error()))
	}
}

func (g *gathering) text(name, about, content string) {
	g.add(name, about, []byte(g.secret.text(content)))
}

// record adds a value as JSON.
func (g *gathering) record(name, about string, v any) {
	b, err := json.Marshal(v)
	if err == nil {
		b, err = g.secret.json(b)
	}
	g.miss(name, err)
	if err == nil {
		g.add(name, about, b)
	}
}

func (g *gathering) version() {
	built := map[string]any{"version": g.app.version}
	if info, ok := debug.ReadBuildInfo(); ok {
		built["go"], built["module"] = info.GoVersion, info.Main.Path
		settings, modules := map[string]string{}, map[string]string{}
		for _, s := range info.Settings {
			settings[s.Key] = s.Value
		}
		for _, d := range info.Deps {
			modules[d.Path] = d.Version
		}
		built["settings"], built["modules"] = settings, modules
	}
	g.record("version.json", "which pgkeep this is, and what it is made of", built)
}

// configuration adds the sources without secrets, and what is wrong with them.
func (g *gathering) configuration(files []configFile, diags hcl.Diagnostics) {
	sensitive := sensitiveVariables(files)
	for _, f := range files {
		g.miss("configuration "+f.name, f.err)
		about := "the configuration"
		if f.values {
			about = "values of variables"
		}
		switch {
		case f.err != nil:
		case strings.HasSuffix(f.name, ".json"):
			b, err := g.secret.json(f.content)
			g.miss("configuration "+f.name, err)
			if err == nil {
				g.add("configuration/"+f.name, about, b)
			}
		default:
			g.add("configuration/"+f.name, about, []byte(g.secret.hcl(f, sensitive)))
		}
	}
	if len(diags) == 0 {
		return
	}
	var out bytes.Buffer
	g.miss("diagnostics", hclspec.WriteDiagnostics(&out, g.spec.Files, diags, 120, false))
	g.text("configuration/diagnostics.txt", "what pgkeep says about the configuration", out.String())
}

// planned adds the plan, as JSON and as it is printed, and the verdicts of check.
func (g *gathering) planned(seen state.Observation) {
	p, diags := plan.Build(g.spec, seen, g.at, plan.Options{})
	if diags.HasErrors() {
		g.miss("plan", errors.New(diags.Error()))
		return
	}
	g.record("plan.json", "what would be done, and why", p)
	var out bytes.Buffer
	g.miss("plan.txt", render.Text(&out, p, render.TextOptions{Width: 120}))
	g.text("plan.txt", "the same, as pgkeep plan prints it", out.String())
	g.record("check.json", "the verdicts of pgkeep check", verdicts(g.spec, seen, p, nil))
	g.record("receivers.json", "what the receivers of this machine say of themselves", seen.Receivers)
}

// receiverLogs adds the end of the log of every receiver that ran here as a process of its own.
func (g *gathering) receiverLogs() {
	for _, s := range g.spec.Servers {
		name := steps.LogPath(s.Receiver.Spool, s.Name)
		if _, err := os.Stat(name); errors.Is(err, os.ErrNotExist) {
			continue // it lives in the agent, or elsewhere
		}
		g.log("logs/receiver-"+s.Name+".log", name)
	}
}

// finish adds what the bundle says of itself.
func (g *gathering) finish() {
	g.text("errors.txt", "what could not be gathered, and why", strings.Join(append(slices.Clone(g.failed), ""), "\n"))
	var out strings.Builder
	fmt.Fprintf(&out, "Written by pgkeep diagnose %s at %s.\n\n", g.app.version, plan.Moment(g.at))
	for _, f := range g.files {
		fmt.Fprintf(&out, "%-40s %s\n", f.Name, f.About)
	}
	out.WriteString("\nPasswords, connection strings, values of sensitive variables and keys were replaced by " + redacted + ".\n" +
		"Nothing in here comes from inside a database or from the files of a backup.\n")
	g.text("README.txt", "what is in here", out.String())
	i := len(g.files) - 1
	g.files = append([]bundled{g.files[i]}, g.files[:i]...)
}
