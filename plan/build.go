package plan

import (
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
)

// Build plans what must be done for the world seen to match spec at the time now. It is a pure function: the same
// arguments give the same plan, byte for byte.
//
// Diagnostics of severity error mean that something was asked that cannot be planned at all; warnings stand for a block
// of the configuration that a server or privilege keeps from being planned, with the statement to run. They are the
// plan's Diagnostics, and what they say is also among its Findings.
func Build(spec *hclspec.Spec, seen state.Observation, now time.Time, opt Options) (*Plan, hcl.Diagnostics) {
	b := newBuilder(spec, seen, now, opt)
	var err error
	if b.scope, err = opt.scope(spec); err != nil {
		b.refuseAsked("No such address", joinHint(err.Error(), state.HintOf(err)), nil)
		return b.plan, b.diags
	}
	if opt.RefreshOnly {
		b.drift()
		return b.plan, b.diags
	}
	if opt.alone() {
		b.buildAlone()
		return b.plan, append(b.diags, b.plan.warned()...)
	}
	for i := range spec.Repositories {
		b.owner = spec.Repositories[i].Address
		b.repository(&spec.Repositories[i])
	}
	for i := range spec.Servers {
		b.owner = "server." + spec.Servers[i].Name
		b.server(&spec.Servers[i])
	}
	for i := range spec.Removed {
		b.owner = "removed." + spec.Removed[i].Name
		b.removed(&spec.Removed[i])
	}
	b.finish()
	return b.plan, append(b.diags, b.plan.warned()...)
}

// builder gathers a plan. It lives for one Build.
type builder struct {
	spec  *hclspec.Spec
	seen  state.Observation
	now   time.Time
	opt   Options
	plan  *Plan
	diags hcl.Diagnostics
	scope scope
	owner string // of what is planned now: the beginning of its step ids

	repositories map[string]*place
	schedules    map[string][]*due // by server
	retentions   map[string][]*hclspec.Retention
	claimed      map[string]bool // slot names of the configuration
}

// place is one repository as the plan may use it.
type place struct {
	spec   *hclspec.Repository
	seen   state.Repository
	known  bool   // seen, or to be created by this plan
	create string // id of the step that creates it; empty: exists
}

func newBuilder(spec *hclspec.Spec, seen state.Observation, now time.Time, opt Options) *builder {
	b := &builder{
		spec: spec, seen: seen, now: now, opt: opt,
		plan:         &Plan{Now: now, Host: seen.Host, Options: opt, Auto: autoOf(spec)},
		repositories: map[string]*place{},
		schedules:    map[string][]*due{},
		retentions:   map[string][]*hclspec.Retention{},
		claimed:      map[string]bool{},
	}
	for i := range spec.Repositories {
		r := &spec.Repositories[i]
		p := &place{spec: r}
		if s, ok := seen.Repositories[r.Name]; ok && s.Unknown == nil {
			p.seen, p.known = s, true
		} else {
			p.seen = s
		}
		b.repositories[r.Name] = p
	}
	for i := range spec.Servers {
		b.claimed[spec.Servers[i].Slot.Name] = true
	}
	for i := range spec.Removed {
		b.claimed[spec.Removed[i].SlotName] = true
	}
	for i := range spec.Schedules {
		d := newDue(&spec.Schedules[i], now)
		for _, s := range spec.Schedules[i].Servers {
			b.schedules[s] = append(b.schedules[s], d)
		}
	}
	for i := range spec.Retentions {
		for _, s := range spec.Retentions[i].Servers {
			b.retentions[s] = append(b.retentions[s], &spec.Retentions[i])
		}
	}
	return b
}

// autoOf gives the impacts that the configuration lets run without a name. An empty list there means none at all.
func autoOf(spec *hclspec.Spec) []Impact {
	if spec.Approval.Auto == nil {
		return []Impact{Safe, Declared}
	}
	out := make([]Impact, 0, len(spec.Approval.Auto))
	for _, name := range spec.Approval.Auto {
		out = append(out, Impact(name))
	}
	return out
}

// here tells whether a thing with this `host` lives on the machine that plans.
func (b *builder) here(host string) bool { return host == "" || host == b.seen.Host }

func (b *builder) step(s Step) string {
	b.plan.Steps = append(b.plan.Steps, s)
	return s.ID
}

// finding records something true.
func (b *builder) finding(f Finding) { b.plan.Findings = append(b.plan.Findings, f) }

func joinHint(text, hint string) string {
	if hint == "" {
		return text
	}
	return text + "\n" + hint
}

func (b *builder) notDone(n NotDone) {
	n.Owner = b.owner
	b.plan.NotDone = append(b.plan.NotDone, n)
}

// because makes a reason that an HCL line asks for.
func because(code, text string, at hcl.Range) Reason {
	r := Reason{Code: code, Text: text}
	if at.Filename != "" {
		r.Range = &at
	}
	return r
}

func rangeOf(at hcl.Range) *hcl.Range {
	if at.Filename == "" {
		return nil
	}
	return &at
}

// finish puts what was gathered into the plan's order and drops what points nowhere.
func (b *builder) finish() {
	ids := make(map[string]bool, len(b.plan.Steps))
	for i := range b.plan.Steps {
		s := &b.plan.Steps[i]
		s.After = slices.DeleteFunc(s.After, func(id string) bool { return !ids[id] })
		if len(s.After) == 0 {
			s.After = nil
		}
		ids[s.ID] = true
	}
	b.limit()
	slices.SortStableFunc(b.plan.NextDue, func(x, y Due) int { return x.At.Compare(y.At) })
}
