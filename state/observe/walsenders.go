package observe

import (
	"context"
	"errors"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/postgres"
)

// askWalsender opens a replication connection as a receiver would, asks who answers, and closes it: a stream that began
// long ago says nothing about whether it could begin again.
func (l *look) askWalsender(ctx context.Context, conninfo postgres.Conninfo) *state.Walsender {
	r, err := postgres.ConnectReplication(ctx, conninfo, postgres.ConnectOptions{ApplicationName: "pgkeep check " + host.Who(), Timeout: l.o.Timeout})
	if err != nil {
		return &state.Walsender{Unknown: unknown(err)}
	}
	system, err := r.IdentifySystem(ctx)
	if err = errors.Join(err, r.Close()); err != nil {
		return &state.Walsender{Unknown: unknown(err)}
	}
	return &state.Walsender{Host: r.Host(), SystemID: system.ID, Timeline: system.Timeline}
}
