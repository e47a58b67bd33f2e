package observe

import (
	"context"
	"errors"
	"fmt"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/wal"
)

// LiveNames asks a server what it calls relations now, in each of their databases: those whose files it still has. The
// server must be of the cluster with that system identifier. Beside an error there may be some names.
func LiveNames(ctx context.Context, s hclspec.Server, systemID string, o Options, want []wal.Relation) (map[wal.Relation]state.NamedRelation, error) {
	o = o.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	conninfo, err := postgres.ParseConninfo(s.Conninfo.Reveal(), o.Env, osFiles{})
	if err != nil {
		return nil, err
	}
	options := postgres.ConnectOptions{ApplicationName: "pgkeep observe " + host.Who(), Timeout: o.Timeout}
	conn, err := postgres.Connect(ctx, conninfo, options)
	if err != nil {
		return nil, err
	}
	facts, err := conn.Facts(ctx)
	if err == nil && facts.SystemID != systemID {
		err = fmt.Errorf("%s is another cluster, with system identifier %s", conn.Host(), facts.SystemID)
	}
	var databases map[uint32]string
	if err == nil {
		databases, err = conn.DatabaseNames(ctx)
	}
	if err = errors.Join(err, conn.Close()); err != nil {
		return nil, err
	}
	byDatabase := map[uint32][]wal.Relation{}
	for _, r := range want {
		byDatabase[r.Database] = append(byDatabase[r.Database], r)
	}
	out := map[wal.Relation]state.NamedRelation{}
	var failed []error
	for oid, files := range byDatabase {
		if name, ok := databases[oid]; ok {
			failed = append(failed, namesIn(ctx, conninfo.WithDatabase(name), options, files, out))
		}
	}
	return out, errors.Join(failed...)
}

// namesIn asks in one database.
func namesIn(ctx context.Context, c postgres.Conninfo, o postgres.ConnectOptions, files []wal.Relation, out map[wal.Relation]state.NamedRelation) error {
	conn, err := postgres.Connect(ctx, c, o)
	if err != nil {
		return fmt.Errorf("connect to database %q: %w", c.Database(), err)
	}
	names, err := conn.RelationNames(ctx, files)
	for _, n := range names {
		out[n.File] = state.NamedRelation{Relation: n.File, Name: c.Database() + "." + n.Name, Kind: n.Kind}
	}
	return errors.Join(err, conn.Close())
}
