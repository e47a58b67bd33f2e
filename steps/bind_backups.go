package steps

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/steps/basebackup"
)

type realBackups struct{ real }

// Take needs two sessions: SQL for facts and settings, then the walsender for the data. When the parent of an incremental goes
// away as the backup begins, or a cut backup with which it was to go on does, a full one is taken.
func (r realBackups) Take(ctx context.Context, order plan.TakeBackup, report func(done, total int64)) (Taken, error) {
	taken, err := r.take(ctx, order, report)
	stands := order.Kind == repository.KindIncremental || len(order.Continues) > 0
	if !stands || state.CodeOf(err) != state.CodeStale || taken.Somewhere || ctx.Err() != nil {
		return taken, err
	}
	why := err.Error()
	order.Kind, order.Parent, order.Continues = repository.KindFull, "", nil
	taken, err = r.take(ctx, order, report)
	taken.WhyFull = why
	return taken, err
}

func (r realBackups) take(ctx context.Context, order plan.TakeBackup, report func(done, total int64)) (Taken, error) {
	s, err := r.server(order.Server)
	if err != nil {
		return Taken{}, err
	}
	from, err := r.source(ctx, order)
	if err != nil {
		return Taken{}, err
	}
	facts, captured, err := r.facts(ctx, from)
	if err == nil {
		err = from.check(order.Server, facts)
	}
	if err != nil {
		return Taken{}, err
	}
	clusters, closed, err := r.clusters(ctx, order, facts)
	if err != nil {
		return Taken{}, err
	}
	options := r.options(s, order, facts, captured, report)
	result, err := r.takeOver(ctx, from, clusters, options)
	if untold := (*basebackup.UntoldError)(nil); errors.As(err, &untold) && ctx.Err() == nil {
		options.Compare = untold.Error()
		result, err = r.takeOver(ctx, from, clusters, options)
	}
	taken := Taken{ID: result.ID, WhyFull: result.WhyFull, Continued: result.Continued, Stored: result.Stored, Referred: result.Referred}
	if facts.Major() >= postgres.SummariesSince {
		taken.Compared = result.Compared
	}
	for _, o := range result.Outcomes {
		taken.Somewhere = taken.Somewhere || o.Committed
	}
	if err != nil {
		return taken, err
	}
	return taken, verdictOn(result, closed)
}

// takeOver takes a backup over a walsender of its own.
func (r realBackups) takeOver(ctx context.Context, from backupSource, clusters []*repository.Cluster, o basebackup.Options) (basebackup.Result, error) {
	conn, err := postgres.ConnectReplication(ctx, from.conninfo, r.connectOptions())
	if err != nil {
		return basebackup.Result{}, err
	}
	o.Truncated = func(ctx context.Context, in postgres.Since) (map[postgres.Relation]uint32, error) {
		return r.truncated(ctx, from, conn.Host(), in)
	}
	result := basebackup.Result{}
	if err = sameSystem(ctx, conn, clusters[0].Key().SystemID); err == nil {
		result, err = basebackup.Take(ctx, conn, clusters, o)
	}
	if ended := conn.Close(); err == nil && ended != nil {
		err = ended
	}
	return result, err
}

func (r realBackups) connectOptions() postgres.ConnectOptions {
	return postgres.ConnectOptions{ApplicationName: applicationName("pgkeep backup " + r.o.Who), Timeout: connectTimeout}
}

// truncated asks the host that the backup is taken of.
func (r realBackups) truncated(ctx context.Context, from backupSource, host string, in postgres.Since) (found map[postgres.Relation]uint32, err error) {
	conn, err := postgres.Connect(ctx, from.conninfo, r.connectOptions())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if conn.Host() != host {
		return nil, fmt.Errorf("the backup is taken of %s, and %s answers", host, conn.Host())
	}
	return conn.Truncated(ctx, in)
}

func (r realBackups) facts(ctx context.Context, from backupSource) (facts state.Server, captured []byte, err error) {
	conn, err := postgres.Connect(ctx, from.conninfo, r.connectOptions())
	if err != nil {
		return facts, nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	facts, err = conn.Facts(ctx)
	if err != nil {
		return facts, nil, err
	}
	if settings, refused := conn.Captured(ctx); refused == nil { // a role without the grant backs up without them
		captured, err = json.Marshal(settings)
	}
	return facts, captured, err
}

// clusters opens the repositories of the order. closed says which could not be opened: the backup goes into the others, and
// is copied there later.
func (r realBackups) clusters(ctx context.Context, order plan.TakeBackup, facts state.Server) (out []*repository.Cluster, closed, err error) {
	for _, label := range order.Repositories {
		cluster, err := r.cluster(ctx, label, order, facts)
		if state.CodeOf(err) == state.CodeIdentity || ctx.Err() != nil {
			return nil, nil, err // another cluster is stored under this name
		}
		if err != nil {
			closed = errors.Join(closed, err)
			continue
		}
		out = append(out, cluster)
	}
	if len(out) == 0 {
		return nil, nil, closed
	}
	return out, closed, nil
}

func (r realBackups) cluster(ctx context.Context, label string, order plan.TakeBackup, facts state.Server) (*repository.Cluster, error) {
	repo, err := r.writable(ctx, label, order.Server)
	if err == nil {
		err = sameID(repo.ID(), label, order.RepositoryIDs[label], untouched)
	}
	if err != nil {
		return nil, fmt.Errorf("open repository %q: %w", label, err)
	}
	cluster := repo.Cluster(order.Server, facts.SystemID)
	err = cluster.Ensure(ctx, repository.ClusterFacts{
		Major: facts.Major(), SegmentSize: facts.SegmentSize, PageSize: facts.PageSize, PageChecksums: facts.PageChecksums,
	})
	if err != nil {
		return nil, fmt.Errorf("repository %q: %w", label, err)
	}
	return cluster, nil
}

func (r realBackups) options(s *hclspec.Server, order plan.TakeBackup, facts state.Server, captured []byte, report func(done, total int64)) basebackup.Options {
	checkpoint := s.Backup.Checkpoint
	if order.Fast {
		checkpoint = "fast"
	}
	return basebackup.Options{
		Server:      order.Server,
		Label:       order.Label,
		Kind:        order.Kind,
		Parent:      order.Parent,
		Continues:   order.Continues,
		Schedule:    order.Schedule,
		Checkpoint:  checkpoint,
		MaxRate:     s.Backup.MaxRate,
		Compression: transferCompression(s.Backup.TransferCompression),
		VerifyPages: s.Backup.CheckPageChecksums && facts.PageChecksums,
		FromStandby: facts.InRecovery,
		Host:        r.o.Host,
		Machine:     host.Machine(),
		Program:     "pgkeep " + r.o.Version,
		LockDir:     r.o.LockDir,
		Captured:    captured,
		Now:         r.o.Now,
		Random:      rand.Uint32,
		Report:      func(p basebackup.Progress) { report(p.Done, p.Total) },
		Budget:      r.budget,
	}
}

// verdictOn turns what became of the backup in each repository into one answer: it is taken when it is committed in all
// of them, and whole. closed is of those that could not be opened.
func verdictOn(result basebackup.Result, closed error) error {
	all := closed
	for _, o := range result.Outcomes {
		if !o.Committed {
			all = errors.Join(all, fmt.Errorf("write it into %s: %w", o.Repository, o.Err))
		}
	}
	if all != nil {
		return all
	}
	if len(result.Damaged) > 0 || result.Info.Damaged != nil {
		return &state.Error{
			Code: state.CodeCorrupt,
			Text: fmt.Sprintf("backup %s is complete, and pages of %d files fail their checksum: it is kept as damaged and never counted", result.ID, len(result.Damaged)),
			Hint: "look at them: pgkeep backups show " + result.ID,
		}
	}
	return nil
}
