package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/observe"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/steps"
)

// paths lets hclspec open files by the names that the operator wrote, absolute ones and those with "..".
type paths struct{}

// Open opens a file of this machine.
func (paths) Open(name string) (fs.File, error) { return os.Open(filepath.FromSlash(name)) }

// loadOptions turns the flags into what a configuration may depend on.
func (a *app) loadOptions() (hclspec.LoadOptions, error) {
	o := hclspec.LoadOptions{Vars: map[string]string{}, VarFiles: a.varFiles, Env: a.env, Version: a.version, Zone: time.Local}
	o.Hostname, _ = host.Name()
	o.Conninfo = conninfoMistake
	for _, v := range a.vars {
		name, value, ok := strings.Cut(v, "=")
		if !ok || name == "" {
			return o, usage("--var wants NAME=VALUE")
		}
		o.Vars[name] = value
	}
	return o, nil
}

// conninfoMistake says what is wrong with a connection string as it is written.
func conninfoMistake(conninfo string) (what, hint string) {
	err := postgres.CheckConninfo(conninfo)
	if err == nil {
		return "", ""
	}
	return err.Error(), state.HintOf(err)
}

// load reads the configuration; what is wrong with it was drawn when it fails.
func (a *app) load() (*hclspec.Spec, error) {
	o, err := a.loadOptions()
	if err != nil {
		return nil, err
	}
	spec, diags := hclspec.Load(paths{}, filepath.ToSlash(a.dir), o)
	a.sources = spec.Files
	return spec, a.drawn(spec.Files, diags)
}

// drawn draws diagnostics, and fails when one is an error.
func (a *app) drawn(files map[string]*hcl.File, diags hcl.Diagnostics) error {
	if len(diags) == 0 {
		return nil
	}
	if a.lines != nil {
		if err := a.lines.diagnostics(files, diags); err != nil {
			return err
		}
	} else if err := hclspec.WriteDiagnostics(a.err, files, diags, a.width, a.color(a.errTerminal)); err != nil {
		return fmt.Errorf("draw diagnostics: %w", err)
	}
	if diags.HasErrors() {
		return exit{code: exitError}
	}
	return nil
}

// look observes the world, with the recoveries that are asked for.
func (a *app) look(ctx context.Context, spec *hclspec.Spec, recoveries []hclspec.Recovery) state.Observation {
	return observe.World(ctx, spec, observe.Options{Now: a.now(), Env: a.env, Stores: a.stores, Recoveries: recoveries})
}

// plan looks and plans. Warnings of the plan are among its findings, so only errors are drawn here.
func (a *app) plan(ctx context.Context, spec *hclspec.Spec, seen state.Observation, o plan.Options) (*plan.Plan, error) {
	return a.planAt(ctx, spec, seen, a.now(), o)
}

func (a *app) planAt(ctx context.Context, spec *hclspec.Spec, seen state.Observation, now time.Time, o plan.Options) (*plan.Plan, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	p, diags := plan.Build(spec, seen, now.UTC(), o)
	diags = slices.DeleteFunc(slices.Clone(diags), func(d *hcl.Diagnostic) bool { return d.Severity != hcl.DiagError })
	return p, a.drawn(spec.Files, diags)
}

// bindOptions give the steps this process's surroundings. A detached receiver gets the same directory and values of
// variables; the values, which can be secret, go through its standard input.
func (a *app) bindOptions() (steps.BindOptions, error) {
	dir, err := filepath.Abs(a.dir)
	if err != nil {
		return steps.BindOptions{}, fmt.Errorf("find the directory of the configuration: %w", err)
	}
	o := steps.BindOptions{Env: a.env, Stores: a.stores, Version: a.version, Args: []string{"--dir", dir}}
	for _, f := range a.varFiles {
		full, err := filepath.Abs(f)
		if err != nil {
			return o, fmt.Errorf("find %s: %w", f, err)
		}
		o.Args = append(o.Args, "--var-file", full)
	}
	handed := handedOver{Vars: a.vars, Env: map[string]string{}}
	for name, value := range a.env {
		if strings.HasPrefix(name, "PGKEEP_VAR_") {
			handed.Env[name] = value
		}
	}
	if len(handed.Vars)+len(handed.Env) > 0 {
		o.Args = append(o.Args, "--vars-from-stdin")
		o.Input, err = json.Marshal(handed)
	}
	return o, err
}

// handedOver is what a detached receiver reads from its standard input.
type handedOver struct {
	Vars []string          `json:"vars,omitempty"`
	Env  map[string]string `json:"env,omitempty"`
}

// readVars takes the values that bindOptions handed over.
func (a *app) readVars() error {
	b, err := io.ReadAll(io.LimitReader(a.in, 1<<20))
	if err != nil {
		return fmt.Errorf("read variables from standard input: %w", err)
	}
	var handed handedOver
	if err := json.Unmarshal(b, &handed); err != nil {
		return usage("--vars-from-stdin reads what pgkeep apply writes")
	}
	a.vars = append(a.vars, handed.Vars...)
	a.env = maps.Clone(a.env)
	maps.Copy(a.env, handed.Env)
	return nil
}

// logger writes text on a terminal and JSON otherwise.
func (a *app) logger() (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(a.logLevel)); err != nil {
		return nil, usage("--log-level is debug, info, warn or error")
	}
	o := &slog.HandlerOptions{Level: level}
	if a.errTerminal {
		return slog.New(slog.NewTextHandler(a.err, o)), nil
	}
	return slog.New(slog.NewJSONHandler(a.err, o)), nil
}

// server finds a server of the configuration by its stored name or address.
func server(spec *hclspec.Spec, name string) (*hclspec.Server, error) {
	var names []string
	for i := range spec.Servers {
		if spec.Servers[i].Name == name || spec.Servers[i].Address == name {
			return &spec.Servers[i], nil
		}
		names = append(names, spec.Servers[i].Name)
	}
	return nil, exit{exitUsage, &state.Error{Text: fmt.Sprintf("the configuration has no server %q", name), Hint: "it has " + orNone(names)}}
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
