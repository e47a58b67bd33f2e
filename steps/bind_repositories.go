package steps

import (
	"context"
	"fmt"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/seal/keyfile"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/open"
)

type realRepositories struct{ real }

// store opens what is below a repository. A path of another machine is never looked at here.
func (r real) store(x *hclspec.Repository) (store.Store, error) {
	if !host.IsHere(x.Host, r.o.Host) {
		return nil, &state.Error{
			Code: state.CodeOtherHost,
			Text: fmt.Sprintf("repository %q is on %s, and this is %s", x.Name, x.Host, r.o.Host),
			Hint: "run pgkeep on " + x.Host,
		}
	}
	return r.o.Stores.Open(x.Location())
}

func (r real) openRepository(ctx context.Context, label string) (*repository.Repository, error) {
	x, err := r.repository(label)
	if err != nil {
		return nil, err
	}
	keys, err := keyfile.Ring(ctx, x.Encryption)
	if err != nil {
		return nil, err
	}
	st, err := r.store(x)
	if err != nil {
		return nil, err
	}
	repo, err := repository.OpenWith(ctx, st, keys)
	if err != nil {
		return nil, err
	}
	return repo.WithCompression(codec(x.Compression))
}

// writable gives the repository as a server's backups and WAL are to be put: locked for as long as the configuration says.
func (r real) writable(ctx context.Context, label, server string) (*repository.Repository, error) {
	repo, err := r.openRepository(ctx, label)
	if err != nil {
		return nil, err
	}
	x, err := r.repository(label)
	if err != nil {
		return nil, err
	}
	return repo.WithLock(r.lock(x, server)), nil
}

// lock gives how objects of a server are locked in a repository; no server: those of the repository itself.
func (r real) lock(x *hclspec.Repository, server string) repository.Lock {
	return repository.Lock{For: r.spec.LockTime(x.Name, server), WAL: r.spec.WALLockTime(x.Name, server), Compliance: x.ObjectLock.Mode == "compliance", Now: r.o.Now}
}

func codec(c hclspec.Compression) seal.Codec {
	return seal.Codec{Algorithm: seal.Algorithm(c.Algorithm), Level: c.Level}
}

func (r realRepositories) Identify(ctx context.Context, label string) (string, error) {
	repo, err := r.openRepository(ctx, label)
	if err != nil {
		return "", err
	}
	return repo.ID(), nil
}

func (r realRepositories) Create(ctx context.Context, label string) error {
	x, err := r.repository(label)
	if err != nil {
		return err
	}
	keys, err := keyfile.Ring(ctx, x.Encryption)
	if err != nil {
		return err
	}
	st, err := r.store(x)
	if err != nil {
		return err
	}
	lock := r.lock(x, "")
	if lock.For > 0 {
		if err := open.CheckLock(ctx, x.Location(), lock.Compliance, r.o.Now()); err != nil {
			return repository.Explain(err)
		}
	}
	_, err = repository.Create(ctx, st, repository.CreateOptions{Now: r.o.Now(), Compression: codec(x.Compression), Lock: lock, Keys: keys})
	return err
}

func (r realRepositories) Of(server string) []string {
	s, err := r.server(server)
	if err != nil {
		return nil
	}
	return s.Repositories
}

func (r realRepositories) Cluster(ctx context.Context, label, server, systemID string) (Cluster, error) {
	repo, err := r.writable(ctx, label, server)
	if err != nil {
		return nil, err
	}
	x, err := r.repository(label)
	if err != nil {
		return nil, err
	}
	return liveCluster{
		Cluster: repo.Cluster(server, systemID), repository: repo.ID(), local: repository.LockedWriters(r.o.LockDir, r.o.Host, host.Machine()), now: r.o.Now,
		compliance: x.ObjectLock.Mode == "compliance", reach: r.spec.LockReach(label, server),
	}, nil
}

// liveCluster tells backups of dead writers from running ones.
type liveCluster struct {
	*repository.Cluster
	repository string // its id
	local      repository.Witness
	now        func() time.Time
	compliance bool          // what its locks are
	reach      time.Duration // how far from now a lock is extended at most; 0: not at all
}

func (c liveCluster) RepositoryID() string { return c.repository }

// ExtendLock refuses what no plan of this configuration asks for: a lock that is too long cannot be taken back.
func (c liveCluster) ExtendLock(ctx context.Context, n plan.LockNeed) (int, error) {
	if last := c.now().Add(c.reach); n.Until.After(last) {
		return 0, &state.Error{
			Code: state.CodeStale, Text: fmt.Sprintf("no lock is extended beyond %s, and the plan says %s", plan.Moment(last), plan.Moment(n.Until)),
			Hint: "plan again: pgkeep plan",
		}
	}
	return c.Cluster.ExtendLock(ctx, repository.Extension{
		Backups: n.Backups, WAL: n.WAL, Opening: n.Opening, Until: store.Retention{Until: n.Until, Compliance: c.compliance},
	})
}

func (c liveCluster) Backups(ctx context.Context) ([]state.Backup, error) {
	return c.Trusted(ctx, c.local, c.now())
}
