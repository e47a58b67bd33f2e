package repository

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

// Cluster is a handle on what a repository holds of one PostgreSQL cluster. It is safe for many goroutines.
type Cluster struct {
	repo *Repository
	key  ClusterKey
}

// ClusterFacts are what never changes in a cluster, and decides how its WAL and pages are read.
type ClusterFacts struct {
	Major         int             `json:"major"`
	SegmentSize   wal.SegmentSize `json:"segment_size"`   // bytes
	PageSize      int             `json:"page_size"`      // bytes
	PageChecksums bool            `json:"page_checksums"` // when the cluster was first seen; pg_checksums may change it
}

// clusterFile is cluster.json.
type clusterFile struct {
	Format   int    `json:"format"`
	Name     string `json:"name"`
	SystemID string `json:"system_id"`
	ClusterFacts
}

// Cluster gives a handle, without looking. A name that could not be stored is refused by what is done with the handle.
func (r *Repository) Cluster(name, systemID string) *Cluster {
	return &Cluster{repo: r, key: ClusterKey{Name: name, SystemID: systemID}}
}

// Clusters lists the clusters that the repository holds anything of, by name and system identifier. Directories that pgkeep could
// not have made are left out.
func (r *Repository) Clusters(ctx context.Context) ([]ClusterKey, error) {
	var out []ClusterKey
	for name, err := range r.st.List(ctx, clustersDir, "", true) {
		if err != nil {
			return nil, fmt.Errorf("list clusters: %w", err)
		}
		if !name.Prefix {
			continue
		}
		for dir, err := range r.st.List(ctx, name.Key, "", true) {
			if err != nil {
				return nil, fmt.Errorf("list clusters: %w", err)
			}
			if k, err := parseClusterDir(dir.Key); err == nil {
				out = append(out, k)
			}
		}
	}
	slices.SortFunc(out, func(a, b ClusterKey) int {
		return strings.Compare(a.Name+"/"+a.SystemID, b.Name+"/"+b.SystemID)
	})
	return out, nil
}

// Key gives the cluster's stored name and system identifier.
func (c *Cluster) Key() ClusterKey { return c.key }

// Ensure makes the cluster known to the repository before anything of it is stored. Facts that contradict what is stored are
// refused with CodeIdentity; whether pages have checksums may change.
func (c *Cluster) Ensure(ctx context.Context, f ClusterFacts) error {
	if err := c.key.Check(); err != nil {
		return fmt.Errorf("add cluster: %w", err)
	}
	if err := f.SegmentSize.Check(); err != nil {
		return fmt.Errorf("add cluster %s: %w", c.key.Name, err)
	}
	body, err := encodeRecord(clusterFile{Format: 1, Name: c.key.Name, SystemID: c.key.SystemID, ClusterFacts: f})
	if err != nil {
		return err
	}
	err = c.repo.st.PutIfAbsent(ctx, c.key.clusterFile(), bytes.NewReader(body), int64(len(body)), store.PutOptions{})
	if err != nil && !errors.Is(err, store.ErrExists) {
		return fmt.Errorf("add cluster %s: %w", c.key.Name, err)
	}
	there, err := c.Facts(ctx)
	if err != nil {
		return err
	}
	there.PageChecksums = f.PageChecksums
	if there != f {
		return &state.Error{
			Code: state.CodeIdentity,
			Text: fmt.Sprintf("cluster %s with system identifier %s is stored with PostgreSQL %d, segments of %d and pages of %d bytes; the server has %d, %d and %d",
				c.key.Name, c.key.SystemID, there.Major, there.SegmentSize, there.PageSize, f.Major, f.SegmentSize, f.PageSize),
			Hint: "give the server another stored name (stored_as)",
		}
	}
	return nil
}

// Facts reads cluster.json, once for each open repository. The error wraps store.ErrNotExist where the cluster is not known.
func (c *Cluster) Facts(ctx context.Context) (ClusterFacts, error) {
	if err := c.key.Check(); err != nil {
		return ClusterFacts{}, fmt.Errorf("look at cluster: %w", err)
	}
	s := c.repo.shared
	s.mu.Lock()
	known, ok := s.facts[c.key]
	s.mu.Unlock()
	if ok {
		return known, nil
	}
	f, err := c.readFacts(ctx)
	if err != nil {
		return ClusterFacts{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.facts[c.key] = f
	return f, nil
}

func (c *Cluster) readFacts(ctx context.Context) (ClusterFacts, error) {
	key := c.key.clusterFile()
	b, err := readAll(ctx, c.repo.st, key, maxRecord)
	if err != nil {
		return ClusterFacts{}, fmt.Errorf("look at cluster %s: %w", c.key.Name, err)
	}
	var f clusterFile
	if err := decodeRecord(b, &f); err != nil {
		return ClusterFacts{}, corrupt(key, err)
	}
	if f.Name != c.key.Name || f.SystemID != c.key.SystemID || f.SegmentSize.Check() != nil {
		return ClusterFacts{}, corrupt(key, fmt.Errorf("it is of cluster %s with system identifier %s", f.Name, f.SystemID))
	}
	return f.ClusterFacts, nil
}

// segmentSize is asked before every key of WAL.
func (c *Cluster) segmentSize(ctx context.Context) (wal.SegmentSize, error) {
	f, err := c.Facts(ctx)
	return f.SegmentSize, err
}
