package steps

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/observe"
	"github.com/pgkeep/pgkeep/state/spool"
)

// detachedReceivers are processes of their own: `pgkeep receiver run NAME`. They end with the machine; the agent is the
// normal way.
type detachedReceivers struct{ real }

// stopPatience is how long a receiver may take to end: it pushes what it holds and says goodbye to the server.
const stopPatience = 60 * time.Second

func (r real) Names(server string) (slot, application string) {
	s, err := r.server(server)
	if err != nil {
		return "", ""
	}
	return s.Slot.Name, s.Receiver.ApplicationName
}

// spoolOf gives the directory of a server's spool, refusing one that is on another machine.
func (r real) spoolOf(server string) (string, error) {
	s, err := r.server(server)
	if err != nil {
		if dir := observe.SpoolDir(r.spec, server); dir != "" {
			return dir, nil // of a `removed` block
		}
		return "", err
	}
	if !host.IsHere(s.Receiver.Host, r.o.Host) {
		return "", &state.Error{
			Code: state.CodeOtherHost,
			Text: fmt.Sprintf("the receiver of %s lives on %s, and this is %s", server, s.Receiver.Host, r.o.Host),
			Hint: "run pgkeep on " + s.Receiver.Host,
		}
	}
	return s.Receiver.Spool, nil
}

func (r detachedReceivers) Look(_ context.Context, server string) (state.Receiver, error) {
	dir, err := r.spoolOf(server)
	if err != nil {
		return state.Receiver{}, err
	}
	facts, err := spool.Look(dir, server)
	return facts.Receiver, err
}

// LogPath gives the file that a detached receiver of the server writes to, beside its spool.
func LogPath(spoolDir, server string) string {
	return filepath.Join(spoolDir, server, "receiver.log")
}

func (r detachedReceivers) Start(ctx context.Context, server string) error {
	seen, err := r.Look(ctx, server)
	if err != nil || seen.Running {
		return err
	}
	dir, err := r.spoolOf(server)
	if err != nil {
		return err
	}
	d := host.Detached{
		Program: r.o.Program,
		Args:    append([]string{"receiver", "run", server}, r.o.Args...),
		Env:     plainEnv(r.o.Env),
		Input:   r.o.Input,
		Log:     LogPath(dir, server),
	}
	log := logOf(d.Log)
	pid, err := host.StartDetached(d)
	if err != nil {
		return err
	}
	return r.awaitLock(ctx, server, pid, log)
}

// plainEnv passes on what finds programs and home directories, and nothing that could be a secret.
func plainEnv(env map[string]string) []string {
	var out []string
	for _, name := range []string{"HOME", "PATH", "LANG", "TZ", "USER", "LOGNAME", "TMPDIR"} {
		if v, ok := env[name]; ok {
			out = append(out, name+"="+v)
		}
	}
	return out
}

func (r detachedReceivers) Stop(ctx context.Context, server string) error {
	seen, err := r.Look(ctx, server)
	if err != nil || !seen.Running {
		return err
	}
	if seen.Agent {
		return &state.Error{
			Code: state.CodeLocked,
			Text: fmt.Sprintf("the receiver of %s lives in the agent (process %d), which would start it again", server, seen.PID),
			Hint: "stop the agent, or take the server out of its configuration: systemctl stop pgkeep-agent",
		}
	}
	dir, err := r.spoolOf(server)
	if err != nil {
		return err
	}
	ctx, done := context.WithTimeout(ctx, stopPatience)
	defer done()
	return host.Stop(ctx, seen.PID, spool.LockPath(dir, server))
}
