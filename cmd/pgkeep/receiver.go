package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/observe"
	"github.com/pgkeep/pgkeep/state/spool"
	"github.com/pgkeep/pgkeep/steps"
	"github.com/pgkeep/pgkeep/steps/receive"
)

func receiverCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "receiver", Short: "Run, stop and watch the WAL receivers of this machine",
		Long: `A receiver streams one server's WAL into its spool and from there into the repositories. The normal place for receivers is
the agent; pgkeep apply starts one as a process of its own where no agent runs. Such a process does not survive a reboot.`,
	}
	c.AddCommand(receiverRunCommand(a), receiverStopCommand(a), receiverStatusCommand(a))
	return c
}

func receiverRunCommand(a *app) *cobra.Command {
	var varsFromInput bool
	c := &cobra.Command{
		Use: "run SERVER", Short: "Receive a server's WAL here, until it is told to stop", Args: cobra.ExactArgs(1), ValidArgsFunction: a.servers(),
		Long:    "Runs in the foreground and logs to standard error. SIGTERM or Ctrl-C ends it tidily: what it holds is pushed first.",
		Example: "  pgkeep receiver run orders.eu",
		RunE: func(c *cobra.Command, args []string) error {
			if varsFromInput {
				if err := a.readVars(); err != nil {
					return err
				}
			}
			log, err := a.logger()
			if err != nil {
				return err
			}
			spec, err := a.load()
			if err != nil {
				return err
			}
			s, err := server(spec, args[0])
			if err != nil {
				return err
			}
			bind, err := a.bindOptions()
			if err != nil {
				return err
			}
			o, err := steps.ReceiverOptions(spec, s.Name, bind)
			if err != nil {
				return err
			}
			o.Log = log
			o.Holder = spool.Holder{PID: os.Getpid(), Who: host.Who(), Since: a.now().UTC()}
			spare()
			if err := receive.Run(c.Context(), o); err != nil {
				return fmt.Errorf("receive WAL of %s: %w", s.Name, err)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&varsFromInput, "vars-from-stdin", false, "read values of variables that pgkeep apply hands over")
	_ = c.Flags().MarkHidden("vars-from-stdin") // it exists
	return c
}

func receiverStopCommand(a *app) *cobra.Command {
	var p printed
	c := &cobra.Command{
		Use: "stop SERVER...", Short: "Stop receivers of this machine, tidily", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.servers(),
		Long: `Tells the receiver to push what it holds and to end, and waits for it. The slot stays, so the server keeps all WAL from
then on: do not leave it so. A receiver that lives in the agent is stopped with the agent.`,
		Example: "  pgkeep receiver stop orders.eu",
		RunE: func(c *cobra.Command, names []string) error {
			spec, err := a.load()
			if err != nil {
				return err
			}
			bind, err := a.bindOptions()
			if err != nil {
				return err
			}
			world := steps.Bind(spec, bind)
			var ended []stoppedReceiver
			for _, n := range names {
				r, err := stopReceiver(c.Context(), spec, world, n)
				if err != nil {
					return err
				}
				ended = append(ended, r)
				if !p.json {
					r.draw(a)
				}
			}
			return p.show(a, ended, func() {})
		},
	}
	p.flag(c, "which receivers have ended")
	return c
}

// stoppedReceiver is a receiver that does not run any more, as --json prints it.
type stoppedReceiver struct {
	Server string `json:"server"`
	Ran    bool   `json:"ran"`           // until it was stopped
	PID    int    `json:"pid,omitempty"` // it had
	Slot   string `json:"slot"`          // keeps the server's WAL
}

func (r stoppedReceiver) draw(a *app) {
	if !r.Ran {
		fmt.Fprintf(a.out, "No receiver of %s runs here.\n", r.Server)
		return
	}
	fmt.Fprintf(a.out, "The receiver of %s (process %d) has ended. The server keeps its WAL in slot %s.\n→ pgkeep apply starts it again\n", r.Server, r.PID, r.Slot)
}

func stopReceiver(ctx context.Context, spec *hclspec.Spec, world steps.World, name string) (stoppedReceiver, error) {
	s, err := server(spec, name)
	if err != nil {
		return stoppedReceiver{}, err
	}
	before, err := world.Receivers.Look(ctx, s.Name)
	if err != nil || !before.Running {
		return stoppedReceiver{Server: s.Name, Slot: s.Slot.Name}, err
	}
	if err := world.Receivers.Stop(ctx, s.Name); err != nil {
		return stoppedReceiver{}, fmt.Errorf("stop the receiver of %s: %w", s.Name, err)
	}
	return stoppedReceiver{Server: s.Name, Ran: true, PID: before.PID, Slot: s.Slot.Name}, nil
}

func receiverStatusCommand(a *app) *cobra.Command {
	var p printed
	c := &cobra.Command{
		Use: "status [SERVER...]", Short: "Show the receivers; exit code 8 when one does not stream", ValidArgsFunction: a.servers(),
		Example: "  pgkeep receiver status\n  pgkeep receiver status orders.eu --json",
		RunE: func(c *cobra.Command, names []string) error {
			spec, err := a.load()
			if err != nil {
				return err
			}
			for i, n := range names {
				s, err := server(spec, n)
				if err != nil {
					return err
				}
				names[i] = s.Name
			}
			seen := observe.World(c.Context(), spec, observe.Options{Now: a.now(), Env: a.env, Stores: a.stores, Only: func(k observe.Kind) bool { return k != observe.Repositories }})
			err = p.show(a, chosen(seen.Receivers, names), func() { a.showReceivers(seen, names) })
			if err == nil && !streaming(seen, names) {
				return exit{code: exitCheck}
			}
			return err
		},
	}
	p.flag(c, "what the receivers say of themselves")
	return c
}

// chosen gives those of the names; all without any.
func chosen[T any](in map[string]T, names []string) map[string]T {
	if len(names) == 0 {
		return in
	}
	out := map[string]T{}
	for _, n := range names {
		if v, ok := in[n]; ok {
			out[n] = v
		}
	}
	return out
}

// streaming tells whether every receiver named, or every one of this machine, streams.
func streaming(seen state.Observation, names []string) bool {
	if len(names) == 0 {
		for name, r := range seen.Receivers {
			if r.Unknown == nil || r.Unknown.Code != state.CodeOtherHost {
				names = append(names, name)
			}
		}
	}
	for _, n := range names {
		if r := seen.Receivers[n]; r.Unknown != nil || !r.Running || !r.Streaming {
			return false
		}
	}
	return true
}
