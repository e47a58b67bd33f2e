package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/steps"
)

const verifyHelp = `Proves what repositories hold. Level full reads every byte: each object has the SHA-256 that was written, each page of each file
comes out of the reader that a restore uses, and every WAL segment is whole. Level quick reads records, lists and indexes, and looks
whether every object is there with its size.

For each backup it says whether it can be restored and how far the WAL carries it, across timelines. Each damaged object is named,
with the backups that cannot be restored because of it, the moments that are lost, and what to run next. Any damage ends with 8.

The result is kept in the repository as evidence, and status, check and plan read it there. A look that is broken off, also by
kill -9, goes on where it was when the same is asked for again. Servers and a running agent are not needed, and not disturbed:
what is written, deleted or pruned meanwhile is no damage.`

// verifyOrder is what the flags of verify say.
type verifyOrder struct {
	server, repository, level, sample, maxAge, maxRate string
	restart                                            bool
	backups                                            []string

	step    plan.Verify // what all clusters have in common
	options steps.VerifyOptions
}

func verifyCommand(a *app) *cobra.Command {
	var o verifyOrder
	var p printed
	c := &cobra.Command{
		Use: "verify [BACKUP...]", Short: "Prove backups and WAL, and say what damage makes unrecoverable; exit code 8 on any", Long: verifyHelp,
		Example: "  pgkeep verify\n  pgkeep verify --level quick\n  pgkeep verify --server orders.eu --repository main --max-rate 50MiB/s\n" +
			"  pgkeep verify --sample 10% --max-age 35d\n  pgkeep verify 20260210T211617Z-F-7f3a --json",
		RunE: func(c *cobra.Command, ids []string) error {
			o.backups = ids
			if err := o.read(); err != nil {
				return err
			}
			spec, err := a.load()
			if err != nil {
				return err
			}
			all, err := a.verify(c.Context(), spec, o, !p.json)
			if err := p.show(a, list(all), func() { a.showVerified(all) }); err != nil {
				return err
			}
			return errors.Join(err, verdict(all))
		},
	}
	f := c.Flags()
	f.StringVar(&o.server, "server", "", "only of this server, by stored name; also of one that the configuration does not name any more")
	f.StringVar(&o.repository, "repository", "", "only in this repository")
	f.StringVar(&o.level, "level", string(state.VerifyFull), "full reads every byte; quick looks for presence and sizes")
	f.StringVar(&o.sample, "sample", "", "of volumes and segments, read only this share, chosen anew each time: 10%")
	f.StringVar(&o.maxAge, "max-age", "", "do not read a backup that was read whole within this time: 35d")
	f.StringVar(&o.maxRate, "max-rate", "", "read at most so much a second: 50MiB/s")
	f.BoolVar(&o.restart, "restart", false, "begin anew instead of going on with a look that was broken off")
	_ = c.RegisterFlagCompletionFunc("level", cobra.FixedCompletions([]string{"quick", "full"}, cobra.ShellCompDirectiveNoFileComp))
	p.flag(c, "what was found")
	return c
}

// read reads the flags.
func (o *verifyOrder) read() error {
	o.step.Level, o.options.Restart = o.level, o.restart
	if o.level != string(state.VerifyFull) && o.level != string(state.VerifyQuick) {
		return usage("--level is quick or full")
	}
	if o.sample != "" {
		n, err := strconv.Atoi(strings.TrimSuffix(o.sample, "%"))
		if err != nil || n < 1 || n > 100 || o.level != string(state.VerifyFull) {
			return usage("--sample is a share of what a full look reads, from 1%% to 100%%")
		}
		o.step.Sample = n % 100 // all is no sample
	}
	if o.maxAge != "" {
		d, err := hclspec.ParseDuration(o.maxAge)
		if err != nil {
			return usage("--max-age: %s", err)
		}
		o.options.MaxAge = d
	}
	if o.maxRate != "" {
		n, err := hclspec.ParseSize(strings.TrimSuffix(o.maxRate, "/s"))
		if err != nil || n <= 0 {
			return usage("--max-rate is a size a second, as 50MiB/s")
		}
		o.step.MaxRate = n
	}
	return nil
}

// verifiedCluster is what came of verifying one cluster in one repository, as --json prints it.
type verifiedCluster struct {
	Repository string              `json:"repository"`
	Server     string              `json:"server"`
	SystemID   string              `json:"system_id"`
	Result     *state.Verification `json:"result,omitempty"`
	Skipped    string              `json:"skipped,omitempty"` // why it was not looked at: it is on another machine
	Code       state.Code          `json:"code,omitempty"`    // of what kept it from being verified to the end
	Error      string              `json:"error,omitempty"`
	Hint       string              `json:"hint,omitempty"`
	Next       string              `json:"next,omitempty"` // what to run after damage
}

// verify looks at everything that the order means, one cluster after another. The error is for what is not about one of them.
func (a *app) verify(ctx context.Context, spec *hclspec.Spec, o verifyOrder, draw bool) ([]verifiedCluster, error) {
	bind, err := a.bindOptions()
	if err != nil {
		return nil, err
	}
	world := steps.Bind(spec, bind)
	var all []verifiedCluster
	found, asked := map[string]bool{}, false
	for i := range spec.Repositories {
		r := &spec.Repositories[i]
		if o.repository != "" && o.repository != r.Name {
			continue
		}
		asked = true
		held, err := world.Verifications.Held(ctx, r.Name)
		if err != nil {
			all = append(all, failed(verifiedCluster{Repository: r.Name}, err))
			continue
		}
		for _, h := range held {
			ids := here(h, o.backups)
			if o.server != "" && o.server != h.Server || len(o.backups) > 0 && len(ids) == 0 {
				continue
			}
			found[h.Server] = true
			for _, id := range ids {
				found[id] = true
			}
			all = append(all, a.verifyCluster(ctx, world, o.of(r.Name, h, ids), draw))
			if err := context.Cause(ctx); err != nil {
				return all, err
			}
		}
	}
	return all, o.unmet(spec, asked, found, all)
}

// unmet says what was asked for and is nowhere.
func (o verifyOrder) unmet(spec *hclspec.Spec, asked bool, found map[string]bool, all []verifiedCluster) error {
	if !asked && o.repository != "" {
		return exit{exitUsage, &state.Error{Text: fmt.Sprintf("the configuration has no repository %q", o.repository), Hint: "pgkeep validate"}}
	}
	if slices.ContainsFunc(all, func(c verifiedCluster) bool { return c.Result == nil }) {
		return nil // it may be where nothing could be seen
	}
	for _, id := range o.backups {
		if !found[id] {
			return &state.Error{Code: state.CodeAbsent, Text: fmt.Sprintf("no repository has a backup %q", id), Hint: "pgkeep backups list"}
		}
	}
	if o.server != "" && !found[o.server] {
		if _, err := server(spec, o.server); err != nil {
			return err
		}
	}
	return nil
}

// here gives those of the backups asked for that a cluster has.
func here(h steps.HeldCluster, asked []string) []string {
	var out []string
	for _, id := range asked {
		if slices.Contains(h.Backups, id) {
			out = append(out, id)
		}
	}
	return out
}

func (o verifyOrder) of(repository string, h steps.HeldCluster, ids []string) verifyOrder {
	o.step.Repository, o.step.Server, o.step.SystemID, o.options.Backups = repository, h.Server, h.SystemID, ids
	return o
}

func (a *app) verifyCluster(ctx context.Context, world steps.World, o verifyOrder, draw bool) verifiedCluster {
	out := verifiedCluster{Repository: o.step.Repository, Server: o.step.Server, SystemID: o.step.SystemID}
	unlock, err := world.Locks.TryLock(ctx, "verify "+o.step.Server+" "+o.step.Repository)
	if err != nil {
		return failed(out, err)
	}
	defer unlock()
	result, err := world.Verifications.Verify(ctx, o.step, o.options, a.verifyProgress(o.step, draw))
	if !result.Ended.IsZero() {
		out.Result = &result
	}
	if result.Wrong > 0 {
		out.Next = "pgkeep backup " + o.step.Server + ", so that what comes is safe; what is lost in " + o.step.Repository + " may be whole in another repository: pgkeep verify --server " + o.step.Server
	}
	if err != nil {
		return failed(out, err)
	}
	return out
}

func failed(c verifiedCluster, err error) verifiedCluster {
	if state.CodeOf(err) == state.CodeOtherHost {
		c.Skipped = err.Error()
		return c
	}
	c.Code, c.Error, c.Hint = state.CodeOf(err), err.Error(), state.HintOf(err)
	return c
}

// verifyProgress says now and then on the terminal how far a look is.
func (a *app) verifyProgress(s plan.Verify, draw bool) func(done, total int64) {
	if !draw || !a.errTerminal {
		return nil
	}
	var said time.Time
	return func(done, total int64) {
		now := a.now()
		if total == 0 || now.Sub(said) < 500*time.Millisecond {
			return
		}
		said = now
		fmt.Fprintf(a.err, "\r\x1b[K%s in %s: %s of %s, %d %%\r", s.Server, s.Repository, plan.Size(done), plan.Size(total), done*100/total)
	}
}

// verdict is 8 on damage, 6 when only a lock kept it from looking, else 1 when something could not be looked at.
func verdict(all []verifiedCluster) error {
	var first error
	locked := false
	for _, c := range all {
		if c.Result != nil && c.Result.Wrong > 0 {
			return exit{code: exitCheck}
		}
		if c.Error != "" {
			locked = locked || c.Code == state.CodeLocked
			first = exit{code: exitError}
		}
	}
	if locked {
		return exit{code: exitLocked}
	}
	if first == nil && len(all) > 0 && !slices.ContainsFunc(all, func(c verifiedCluster) bool { return c.Skipped == "" }) {
		return &state.Error{Code: state.CodeOtherHost, Text: "nothing was verified: " + all[0].Skipped, Hint: "run pgkeep on that machine, not on " + hostName()}
	}
	return first
}

func hostName() string {
	name, err := host.Name()
	if err != nil {
		return "this one"
	}
	return name
}
