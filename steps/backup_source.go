package steps

import (
	"context"
	"fmt"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
)

// backupSource is how to reach the server that a backup is taken from.
type backupSource struct {
	conninfo postgres.Conninfo
	primary  *state.Server // of a standby: the server whose WAL is archived; nil: it is that server
}

// source gives the server that a backup is taken from. Of a standby it looks at the primary too: what is copied from the one
// becomes consistent by the WAL of the other, so they must be of one cluster and on one line of history.
func (r realBackups) source(ctx context.Context, order plan.TakeBackup) (backupSource, error) {
	conninfo, err := r.conninfo(order.Server)
	if err != nil || !order.Standby {
		return backupSource{conninfo: conninfo}, err
	}
	primary, _, err := r.facts(ctx, backupSource{conninfo: conninfo})
	if err != nil {
		return backupSource{}, err
	}
	s, err := r.server(order.Server)
	if err != nil {
		return backupSource{}, err
	}
	if conninfo, err = postgres.ParseConninfo(s.Backup.Conninfo.Reveal(), r.o.Env, osFiles{}); err != nil {
		return backupSource{}, fmt.Errorf("read backup.conninfo: %w", err)
	}
	return backupSource{conninfo: conninfo, primary: &primary}, nil
}

// check refuses what is not, or no longer, a standby of the server. One that is promoted later ends the backup itself: the
// server says so when all has been sent, or ends the session.
func (f backupSource) check(server string, facts state.Server) error {
	if f.primary == nil {
		return nil
	}
	e := &state.Error{Code: state.CodeStale, Hint: "look again: pgkeep plan"}
	switch {
	case facts.SystemID != f.primary.SystemID:
		e.Code = state.CodeIdentity
		e.Text = fmt.Sprintf("%s has system identifier %s, and %s has %s: it is no standby of it", facts.Host, facts.SystemID, server, f.primary.SystemID)
		e.Hint = "point backup.conninfo at a standby of " + server
	case !facts.InRecovery:
		e.Text = facts.Host + " is no standby any more"
	case facts.Timeline != f.primary.Timeline:
		e.Text = fmt.Sprintf("%s is on timeline %d, and %s on %d", facts.Host, facts.Timeline, server, f.primary.Timeline)
	default:
		return nil
	}
	return e
}

// sameSystem makes sure that the host which sends the data is of the cluster that it is stored as: with several hosts in a
// conninfo, another one may answer than was asked before.
func sameSystem(ctx context.Context, conn *postgres.Replication, want string) error {
	is, err := conn.IdentifySystem(ctx)
	if err != nil {
		return err
	}
	if is.ID == want {
		return nil
	}
	return &state.Error{
		Code: state.CodeIdentity, Text: fmt.Sprintf("%s has system identifier %s, and the backup is to be of %s", conn.Host(), is.ID, want),
		Hint: "look which hosts the conninfo names",
	}
}

// transferCompression gives what BASE_BACKUP is asked for. The level is the lowest that there is: one walsender compresses, on
// one core of the server, and at higher levels that core is the limit and not the network.
func transferCompression(word string) string {
	switch word {
	case "zstd", "gzip":
		return word + ":1"
	case "none":
		return ""
	}
	return word
}
