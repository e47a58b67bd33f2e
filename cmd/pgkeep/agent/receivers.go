package agent

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/observe"
	"github.com/pgkeep/pgkeep/state/spool"
	"github.com/pgkeep/pgkeep/state/wal"
	"github.com/pgkeep/pgkeep/steps"
)

// receivers are the receivers of this machine as goroutines of the agent. One that ends is not started again here: its
// end wakes the loop, and the next plan says whether starting it helps, or its slot is lost and must be replaced first.
type receivers struct {
	log   *slog.Logger
	run   func(ctx context.Context, server string) error
	ended chan ending // unbuffered: read by the loop for as long as the agent lives

	mu   sync.Mutex
	live map[string]*running
	stop bool // no further start
	ctx  context.Context
	all  sync.WaitGroup
}

type running struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// ending tells the loop that a receiver ended by itself.
type ending struct {
	server string
	err    error
}

// start starts a server's receiver unless it runs. It lives as long as the agent, not as the step that asked for it.
func (r *receivers) start(server string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stop {
		return fmt.Errorf("start the receiver of %s: the agent is ending", server)
	}
	if _, lives := r.live[server]; lives {
		return nil
	}
	ctx, cancel := context.WithCancel(r.ctx)
	one := &running{cancel: cancel, done: make(chan struct{})}
	r.live[server] = one
	r.all.Go(func() { r.follow(ctx, server, one) })
	return nil
}

func (r *receivers) follow(ctx context.Context, server string, one *running) {
	r.log.Info("receiver started", "server", server)
	err := r.run(ctx, server)
	asked := ctx.Err() != nil
	one.cancel()
	r.mu.Lock()
	delete(r.live, server)
	r.mu.Unlock()
	close(one.done)
	if asked {
		r.log.Info("receiver stopped", "server", server)
		return
	}
	select {
	case r.ended <- ending{server: server, err: err}:
	case <-r.ctx.Done():
	}
}

// end stops a server's receiver and waits until it has ended, or ctx has.
func (r *receivers) end(ctx context.Context, server string) error {
	r.mu.Lock()
	one := r.live[server]
	r.mu.Unlock()
	if one == nil {
		return nil
	}
	one.cancel()
	select {
	case <-one.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the receiver of %s to end: %w", server, ctx.Err())
	}
}

// endAll stops all and lets none start any more.
func (r *receivers) endAll() {
	r.mu.Lock()
	r.stop = true
	for _, one := range r.live {
		one.cancel()
	}
	r.mu.Unlock()
	r.all.Wait()
}

func (r *receivers) servers() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for name := range r.live {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// reload ends the receivers of servers that left the configuration, and of those that it wants otherwise now; the next
// plan starts these again.
func (r *receivers) reload(ctx context.Context, before, after *hclspec.Spec) error {
	for _, name := range r.servers() {
		if reflect.DeepEqual(receiving(before, name), receiving(after, name)) {
			continue
		}
		r.log.Info("the configuration of the receiver changed", "server", name)
		if err := r.end(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// receiving gives all of a configuration that a receiver depends on; nil for a server that is not in it.
func receiving(spec *hclspec.Spec, server string) []any {
	i := slices.IndexFunc(spec.Servers, func(s hclspec.Server) bool { return s.Name == server })
	if i < 0 {
		return nil
	}
	s := spec.Servers[i]
	out := []any{s.Conninfo, s.Identity, s.Slot, s.Receiver}
	for _, label := range s.Repositories {
		for _, x := range spec.Repositories {
			if x.Name == label {
				x.Where = hclspec.Where{}
				out = append(out, x)
			}
		}
	}
	return out
}

// inProcess is how a plan's steps see the agent's receivers.
type inProcess struct {
	receivers *receivers
	spec      *hclspec.Spec
	host      string
}

func (p inProcess) server(name string) *hclspec.Server {
	i := slices.IndexFunc(p.spec.Servers, func(s hclspec.Server) bool { return s.Name == name })
	if i < 0 {
		return nil
	}
	return &p.spec.Servers[i]
}

// spool gives the directory of the server's spool, also of one that is being removed.
func (p inProcess) spool(name string) (string, error) {
	if s := p.server(name); s != nil && !host.IsHere(s.Receiver.Host, p.host) {
		return "", &state.Error{Code: state.CodeOtherHost, Text: "the receiver of " + name + " lives on " + s.Receiver.Host}
	}
	dir := observe.SpoolDir(p.spec, name)
	if dir == "" {
		return "", fmt.Errorf("find the spool of %q: it is in no directory that the configuration names", name)
	}
	return dir, nil
}

// Names gives the slot and the application_name.
func (p inProcess) Names(name string) (slot, application string) {
	s := p.server(name)
	if s == nil {
		return "", ""
	}
	return s.Slot.Name, s.Receiver.ApplicationName
}

// Look tells what the spool says: a receiver that a one-shot apply left running is seen too.
func (p inProcess) Look(_ context.Context, name string) (state.Receiver, error) {
	dir, err := p.spool(name)
	if err != nil {
		return state.Receiver{}, err
	}
	facts, err := spool.Look(dir, name)
	return facts.Receiver, err
}

// Start starts it as a goroutine.
func (p inProcess) Start(_ context.Context, name string) error {
	if _, err := p.spool(name); err != nil {
		return err
	}
	return p.receivers.start(name)
}

// Push asks this very process, or the one that a one-shot apply left, by the signal that every receiver takes.
func (p inProcess) Push(ctx context.Context, name string, upTo wal.LSN) (wal.LSN, error) {
	dir, err := p.spool(name)
	if err != nil {
		return 0, err
	}
	return steps.PushByReceiver(ctx, dir, name, upTo)
}

// Stop ends the goroutine, or the process that a one-shot apply left.
func (p inProcess) Stop(ctx context.Context, name string) error {
	if err := p.receivers.end(ctx, name); err != nil {
		return err
	}
	dir, err := p.spool(name)
	if err != nil {
		return err
	}
	facts, err := spool.Look(dir, name)
	if err != nil || !facts.Receiver.Running {
		return err
	}
	return host.Stop(ctx, facts.Receiver.PID, spool.LockPath(dir, name))
}
