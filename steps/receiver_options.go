package steps

import (
	"context"
	"fmt"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/spool"
	"github.com/pgkeep/pgkeep/steps/receive"
)

// ReceiverOptions gives what receive.Run needs for one server of the configuration: for `pgkeep receiver run` and for
// the agent. Holder, Log and Notice are the caller's to add.
func ReceiverOptions(spec *hclspec.Spec, server string, o BindOptions) (receive.Options, error) {
	r := real{spec: spec, o: o.withDefaults()}
	s, err := r.server(server)
	if err != nil {
		return receive.Options{}, err
	}
	if _, err := r.spoolOf(server); err != nil {
		return receive.Options{}, err
	}
	out := receive.Options{
		Server:             s.Name,
		Slot:               s.Slot.Name,
		Identity:           s.Identity,
		Spool:              s.Receiver.Spool,
		SpoolLimit:         spool.Limit(s.Receiver.SpoolLimit),
		OnSpoolFull:        receive.Full(s.Receiver.OnSpoolFull),
		AllowVolatileSpool: r.o.AllowVolatileSpool,
		Acknowledge:        receive.Acknowledge(s.Receiver.Acknowledge),
		Quorum:             s.Receiver.Quorum,
		PushEvery:          s.Receiver.PushEvery,
		Timeout:            s.Receiver.Timeout,
	}
	application := s.Receiver.ApplicationName
	out.Connect = func(ctx context.Context) (*postgres.Replication, error) {
		return realServers{r}.replication(ctx, server, application)
	}
	out.Control = func(ctx context.Context) (receive.Control, error) { return r.control(ctx, server) }
	for _, label := range s.Repositories {
		out.Archives = append(out.Archives, receive.Archive{
			Name: label,
			Open: func(ctx context.Context, id receive.ClusterIdentity) (receive.Cluster, error) {
				return r.archive(ctx, label, id)
			},
			SystemIDs: func(ctx context.Context) ([]string, error) { return r.archivedSystems(ctx, label, s.Name) },
		})
	}
	return out, nil
}

func (r real) control(ctx context.Context, server string) (receive.Control, error) {
	conninfo, err := r.conninfo(server)
	if err != nil {
		return nil, err
	}
	conn, err := postgres.Connect(ctx, conninfo, postgres.ConnectOptions{ApplicationName: applicationName("pgkeep receiver " + r.o.Who), Timeout: connectTimeout})
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// archivedSystems lists the system identifiers that a repository holds anything of under a server's stored name.
func (r real) archivedSystems(ctx context.Context, label, name string) ([]string, error) {
	repo, err := r.openRepository(ctx, label)
	if err != nil {
		return nil, err
	}
	keys, err := repo.Clusters(ctx)
	if err != nil {
		return nil, fmt.Errorf("repository %q: %w", label, err)
	}
	var ids []string
	for _, k := range keys {
		if k.Name == name {
			ids = append(ids, k.SystemID)
		}
	}
	return ids, nil
}

func (r real) archive(ctx context.Context, label string, id receive.ClusterIdentity) (receive.Cluster, error) {
	repo, err := r.writable(ctx, label, id.Name)
	if err != nil {
		return nil, err
	}
	cluster := repo.Cluster(id.Name, id.SystemID)
	if err := r.ensure(ctx, cluster, id); err != nil {
		return nil, fmt.Errorf("repository %q: %w", label, err)
	}
	return receive.InRepository(cluster), nil
}

// ensure writes cluster.json with what SQL knows of the cluster, when it is not there yet.
func (r real) ensure(ctx context.Context, cluster *repository.Cluster, id receive.ClusterIdentity) error {
	if have, err := cluster.Facts(ctx); err == nil && have.SegmentSize == id.SegmentSize {
		return nil
	}
	conn, err := realServers{r}.Connect(ctx, id.Name)
	if err != nil {
		return err
	}
	facts, err := conn.Facts(ctx)
	closed := conn.Close()
	if err != nil {
		return err
	}
	if closed != nil {
		return closed
	}
	if facts.SystemID != id.SystemID {
		return &state.Error{
			Code: state.CodeIdentity, Text: fmt.Sprintf("%s answers with system identifier %s, and its spool holds WAL of %s", id.Name, facts.SystemID, id.SystemID),
			Hint: "look again: pgkeep plan",
		}
	}
	return cluster.Ensure(ctx, repository.ClusterFacts{ // what only a spool tells of has no version
		Major: facts.Major(), SegmentSize: id.SegmentSize, PageSize: facts.PageSize, PageChecksums: facts.PageChecksums,
	})
}
