package observe

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/postgres"
)

// servers asks every server, the standbys that backups are taken from, and those of `removed` blocks whose slot can still be looked at.
func (l *look) servers(ctx context.Context) {
	l.seen.Servers = map[string]state.Server{}
	for _, s := range l.spec.Servers {
		l.server(ctx, s.Name, s.Conninfo, func(seen state.Server) { l.seen.Servers[s.Name] = seen })
		if !s.Backup.Conninfo.Empty() {
			l.server(ctx, "the standby of "+s.Name, s.Backup.Conninfo, func(seen state.Server) {
				if l.seen.Standbys == nil {
					l.seen.Standbys = map[string]state.Server{}
				}
				l.seen.Standbys[s.Name] = seen
			})
		}
	}
	for _, r := range l.spec.Removed {
		if !r.Conninfo.Empty() {
			l.server(ctx, r.Name, r.Conninfo, func(seen state.Server) { l.seen.Servers[r.Name] = seen })
		}
	}
}

func (l *look) server(ctx context.Context, name string, conninfo hclspec.Secret, store func(state.Server)) {
	late := func(err error) state.Server {
		return state.Server{Unknown: &state.Unknown{
			Code:    state.CodeUnreachable,
			Because: fmt.Sprintf("%s did not answer within %s: %v", name, l.o.Timeout, err),
			Hint:    "look whether the server hangs, or the network between",
		}}
	}
	ask(ctx, l, question[state.Server]{
		limit: l.o.Timeout, late: late,
		see:   func(ctx context.Context) state.Server { return l.askServer(ctx, conninfo) },
		store: store,
	})
}

func (l *look) askServer(ctx context.Context, secret hclspec.Secret) state.Server {
	conninfo, err := postgres.ParseConninfo(secret.Reveal(), l.o.Env, osFiles{})
	if err != nil {
		return state.Server{Unknown: unknown(err)}
	}
	conn, err := postgres.Connect(ctx, conninfo, postgres.ConnectOptions{ApplicationName: "pgkeep observe " + host.Who(), Timeout: l.o.Timeout})
	if err != nil {
		return state.Server{Unknown: unknown(err)}
	}
	facts, err := conn.Facts(ctx)
	if err = errors.Join(err, conn.Close()); err != nil {
		return state.Server{Unknown: unknown(err)}
	}
	if l.o.Walsenders {
		facts.Walsender = l.askWalsender(ctx, conninfo)
	}
	return facts
}

// osFiles reads service and password files of this machine.
type osFiles struct{}

func (osFiles) ReadFile(name string) ([]byte, error) { return os.ReadFile(name) }
