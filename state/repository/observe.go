package repository

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

// ObserveOptions go with Look and Observe.
type ObserveOptions struct {
	Location string // path or URL without credentials, for messages
	// Expected says what points to an earlier repository at this place ("slot pgkeep_orders of server orders reserves WAL"); empty: nothing.
	Expected    string
	WriterAlive Witness       // of writers on this machine; nil: only their leases are asked
	Now         time.Time     // this machine's clock, for leases; zero: only the store's times count
	Keys        *seal.Keyring // of an encrypted repository; nil: it has none
	Locks       bool          // look at the object lock of each backup
}

// Look opens the repository of a store and observes it. What keeps it from being seen stands in Unknown, and then nothing else but free space
// and mount point is told.
func Look(ctx context.Context, st store.Store, o ObserveOptions) state.Repository {
	r, err := OpenWith(ctx, st, o.Keys)
	if err == nil {
		var seen state.Repository
		if seen, err = r.Observe(ctx, o); err == nil {
			return seen
		}
	}
	seen := state.Repository{Location: o.Location, Free: -1, Total: -1, Unknown: unknown(err, o)}
	if placeErr := look(ctx, st, &seen); placeErr != nil {
		seen.Free, seen.Total = -1, -1
	}
	return seen
}

// unknown says why nothing was seen.
func unknown(err error, o ObserveOptions) *state.Unknown {
	u := &state.Unknown{Code: state.CodeOf(err), Because: err.Error(), Hint: state.HintOf(err)}
	switch {
	case u.Code == "":
		u.Code = state.CodeIO
	case u.Code == state.CodeAbsent && o.Expected != "":
		u.Code = state.CodeNotMounted
		u.Because = fmt.Sprintf("%s, but %s: an earlier repository was here", u.Because, o.Expected)
		u.Hint = "mount the file system of the repository, or name where it is now"
	}
	return u
}

// look fills in how the place stands.
func look(ctx context.Context, st store.Store, seen *state.Repository) error {
	if c, ok := st.(*coded); ok {
		st = c.Store
	}
	place, ok := st.(store.Place)
	if !ok {
		seen.Free, seen.Total = -1, -1
		return nil
	}
	facts, err := place.Look(ctx)
	if err != nil {
		return fmt.Errorf("look at %s: %w", seen.Location, code(err))
	}
	seen.Free, seen.Total, seen.FstabMount = facts.Free, facts.Total, facts.FstabMount
	return nil
}

// Observe reads everything that state.Repository tells. What cannot be read of one cluster makes that cluster Unknown as
// a whole, because half a list of backups is no basis for a plan, and hides no other; one bad object of a backup makes
// only that backup corrupt.
func (r *Repository) Observe(ctx context.Context, o ObserveOptions) (state.Repository, error) {
	seen := state.Repository{Location: o.Location, ID: r.file.ID, Format: r.file.Format, Encryption: r.encryption()}
	if err := look(ctx, r.times, &seen); err != nil {
		return seen, err
	}
	keys, err := r.Clusters(ctx)
	if err != nil {
		return seen, err
	}
	clusters := make([]state.Cluster, len(keys))
	g, inner := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for i, k := range keys {
		g.Go(func() error {
			seen, err := r.Cluster(k.Name, k.SystemID).observe(inner, o)
			if untrusted(err) {
				seen, err = state.Cluster{Name: k.Name, SystemID: k.SystemID, Unknown: unknown(err, o)}, nil
			}
			clusters[i] = seen
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return seen, err
	}
	seen.Clusters = map[string][]state.Cluster{}
	for i, k := range keys {
		seen.Clusters[k.Name] = append(seen.Clusters[k.Name], clusters[i])
	}
	seen.Now = r.times.now().UTC()
	return seen, nil
}

func (c *Cluster) observe(ctx context.Context, o ObserveOptions) (state.Cluster, error) {
	seen := state.Cluster{Name: c.key.Name, SystemID: c.key.SystemID}
	facts, err := c.Facts(ctx)
	if errors.Is(err, store.ErrNotExist) {
		return seen, corrupt(c.key.clusterFile(), err)
	}
	if err != nil {
		return seen, err
	}
	seen.Major, seen.SegmentSize = facts.Major, facts.SegmentSize
	archived, err := c.lookAtWAL(ctx)
	if err != nil {
		return seen, err
	}
	seen.WAL, seen.StalePartialBytes = archived.ranges, archived.stale
	if seen.Gaps, err = c.Gaps(ctx); err != nil {
		return seen, err
	}
	histories, err := c.Histories(ctx)
	if err != nil {
		return seen, err
	}
	for _, h := range histories {
		seen.Histories = append(seen.Histories, historyFact(h))
	}
	if seen.Backups, seen.Verified, err = c.trusted(ctx, o.WriterAlive, o.Now); err != nil {
		return seen, err
	}
	if o.Locks {
		if err := c.locks(ctx, seen.Backups); err != nil {
			return seen, err
		}
		if seen.Locks, err = c.lookAtLocks(ctx, &seen); err != nil {
			return seen, err
		}
	}
	if seen.Drills, err = c.NewestDrills(ctx); err != nil {
		return seen, err
	}
	if seen.Measured, err = c.Measured(ctx); err != nil {
		return seen, err
	}
	seen.RestorePoints, err = c.restorePoints(ctx, archived.views, seen.Backups)
	return seen, err
}

// Trusted is Writers; what verification has found damaged is `corrupt`.
func (c *Cluster) Trusted(ctx context.Context, local Witness, now time.Time) ([]state.Backup, error) {
	backups, _, err := c.trusted(ctx, local, now)
	return backups, err
}

func (c *Cluster) trusted(ctx context.Context, local Witness, now time.Time) ([]state.Backup, *state.Verification, error) {
	backups, err := c.Writers(ctx, local, now)
	if err != nil {
		return nil, nil, err
	}
	v, err := c.Verified(ctx)
	if err != nil {
		return nil, nil, err
	}
	distrust(backups, v)
	return backups, v, nil
}

// distrust makes backups corrupt that verification has found damaged: they are told and kept, and counted on by nobody.
func distrust(backups []state.Backup, v *state.Verification) {
	if v == nil {
		return
	}
	for _, v := range v.Backups {
		i := slices.IndexFunc(backups, func(b state.Backup) bool { return b.ID == v.ID })
		if v.Damaged && i >= 0 && backups[i].State == state.BackupCommitted {
			backups[i].State, backups[i].Failure = state.BackupCorrupt, "verification found it damaged: "+v.Why
		}
	}
}

func historyFact(h wal.History) state.History {
	out := state.History{Timeline: h.Timeline}
	for _, p := range h.Parents {
		out.Parents = append(out.Parents, state.Parent{Timeline: p.Timeline, Switch: p.Switch, Reason: p.Reason})
	}
	return out
}
