package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
)

// planValid is how long a saved plan can be applied, unless --expires says otherwise: a working day and the night after it.
const planValid = 24 * time.Hour

// save puts a plan together with what it was made of.
func (a *app) save(spec *hclspec.Spec, p planned, valid time.Duration) (*plan.Saved, error) {
	if valid <= 0 {
		return nil, usage("--expires is a positive duration, for example 24h")
	}
	here, err := host.Name()
	if err != nil {
		return nil, fmt.Errorf("ask for this machine's name: %w", err)
	}
	at := a.now()
	if p.plan.Options.Recorded {
		at = p.plan.Now // the same recorded world gives the same bytes
	}
	return plan.Save(p.plan, spec, p.seen, plan.Made{Version: a.version, Who: host.Who(), Host: here, At: at}, valid)
}

// writePlan writes a saved plan into a file that only its owner can read: at once and whole, or not at all.
func writePlan(name string, s *plan.Saved) error {
	if base := filepath.Base(name); strings.HasSuffix(base, ".hcl") || strings.HasSuffix(base, ".hcl.json") {
		return usage("--out %s would replace a configuration: give the plan another name, for example plan.json", name)
	}
	if at, err := os.Lstat(name); err == nil && !at.Mode().IsRegular() {
		return usage("--out %s is there and no regular file", name)
	}
	data, err := s.Encode()
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*") // mode 0600
	if err != nil {
		return fmt.Errorf("write plan: %w", err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write plan %s: %w", name, err), os.Remove(f.Name()))
	}
	return nil
}

// keep writes a plan into a file, and says on a plan for people how it is applied.
func (a *app) keep(name string, s *plan.Saved, quiet bool) error {
	if err := writePlan(name, s); err != nil || quiet {
		return err
	}
	if err := s.Applicable(a.version, a.now()); err != nil {
		fmt.Fprintf(a.out, "\nWritten to %s, to be read: it is never applied.\n", name)
		return nil
	}
	fmt.Fprintf(a.out, "\nWritten to %s. Until %s it can be applied: pgkeep apply %s\n", name, plan.Moment(s.Expires), name)
	return nil
}

// readPlan reads a saved plan from a file, or from standard input when it is called "-".
func (a *app) readPlan(name string) (*plan.Saved, error) {
	in := a.in
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("read plan: %w", err)
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, plan.MaxSaved+1))
	if err != nil {
		return nil, fmt.Errorf("read plan %s: %w", name, err)
	}
	s, err := plan.ReadSaved(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

// applicable reads a saved plan and tells whether it may be applied to the configuration and to the world as it is now. All
// that keeps it from that is exit code 4, and nothing was done.
func (a *app) applicable(ctx context.Context, spec *hclspec.Spec, name string, parallel int) (*plan.Saved, error) {
	s, err := a.readPlan(name)
	if err == nil {
		err = s.Applicable(a.version, a.now())
	}
	if code := state.CodeOf(err); code == state.CodePlan || code == state.CodeStale {
		return nil, exit{exitStale, err}
	}
	if err != nil {
		return nil, err
	}
	if differ := s.Configured(spec); len(differ) > 0 {
		return nil, stale(differ)
	}
	asked := planning{recover: s.Options.Recover, parallel: parallel}
	_, recoveries, err := asked.options(spec)
	if err != nil {
		return nil, err
	}
	seen, err := asked.look(ctx, a, spec, recoveries)
	if err != nil {
		return nil, err
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if ok, differ := s.StillValid(spec, seen); !ok {
		return nil, stale(differ)
	}
	return s, nil
}

// stale lists what a saved plan was made of and is otherwise now.
func stale(differ []plan.Difference) error {
	var text strings.Builder
	text.WriteString("the saved plan is stale, and nothing was done:")
	for _, d := range differ {
		text.WriteString("\n  " + d.Text)
	}
	return exit{exitStale, &state.Error{Code: state.CodeStale, Text: text.String(), Hint: "plan again: pgkeep plan --out FILE"}}
}
