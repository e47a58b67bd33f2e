package repository

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

var errSoon = errors.New("not built yet")

// CreateOptions go with Create.
type CreateOptions struct {
	Now         time.Time
	Compression seal.Codec
	Random      io.Reader // nil: crypto/rand
}

// Repository is an open repository.
type Repository struct{ st store.Store }

// Create writes REPOSITORY.json and README.txt.
func Create(ctx context.Context, st store.Store, o CreateOptions) (*Repository, error) {
	return nil, errSoon
}

// Open reads REPOSITORY.json.
func Open(ctx context.Context, st store.Store) (*Repository, error) { return nil, errSoon }

// ID gives the repository's identity.
func (r *Repository) ID() string { return "" }

// Store gives the store below.
func (r *Repository) Store() store.Store { return r.st }

// HashSeed gives the secret seed of page hashes.
func (r *Repository) HashSeed() uint64 { return 0 }

// Compression gives what new objects are compressed with.
func (r *Repository) Compression() seal.Codec { return seal.Codec{} }

// WithCompression gives the same repository writing with another codec.
func (r *Repository) WithCompression(c seal.Codec) (*Repository, error) { return r, c.Check() }

// WriterAlive tells of the process that wrote START on a host whether it lives.
type WriterAlive func(host string, key ClusterKey, id string) (alive, known bool)

// ObserveOptions go with Observe.
type ObserveOptions struct {
	Location    string
	Expected    string // what points to an earlier repository here, as a sentence; empty: nothing
	WriterAlive WriterAlive
}

// Look opens and observes; what keeps it from doing so is in Unknown.
func Look(ctx context.Context, st store.Store, o ObserveOptions) state.Repository {
	return state.Repository{}
}

// Observe reads everything of state.Repository.
func (r *Repository) Observe(ctx context.Context, o ObserveOptions) (state.Repository, error) {
	return state.Repository{}, errSoon
}

// Cluster gives a handle, without I/O.
func (r *Repository) Cluster(name, systemID string) *Cluster {
	return &Cluster{repo: r, key: ClusterKey{Name: name, SystemID: systemID}}
}

// Clusters lists the clusters.
func (r *Repository) Clusters(ctx context.Context) ([]ClusterKey, error) { return nil, errSoon }

// Cluster is a handle on one cluster's objects.
type Cluster struct {
	repo *Repository
	key  ClusterKey
}

// ClusterFacts is cluster.json.
type ClusterFacts struct {
	Major         int             `json:"major"`
	SegmentSize   wal.SegmentSize `json:"segment_size"`
	PageSize      int             `json:"page_size"`
	PageChecksums bool            `json:"page_checksums"`
}

// Ensure puts cluster.json.
func (c *Cluster) Ensure(ctx context.Context, f ClusterFacts) error { return errSoon }

// Facts reads cluster.json.
func (c *Cluster) Facts(ctx context.Context) (ClusterFacts, error) { return ClusterFacts{}, errSoon }

// PutSegment archives a whole segment.
func (c *Cluster) PutSegment(ctx context.Context, seg wal.Segment, sum wal.Summary, plain io.ReaderAt) error {
	return errSoon
}

// WALReader reads plain WAL.
type WALReader struct{}

// Read gives plain bytes; the SHA-256 is checked by EOF.
func (w *WALReader) Read(p []byte) (int, error) { return 0, errSoon }

// Close ends the read.
func (w *WALReader) Close() error { return nil }

// Summary gives what the segment holds.
func (w *WALReader) Summary() wal.Summary { return wal.Summary{} }

// Size gives the number of plain bytes.
func (w *WALReader) Size() int64 { return 0 }

// SHA256 gives the hex SHA-256 of the plain bytes.
func (w *WALReader) SHA256() string { return "" }

// OpenSegment opens a whole segment.
func (c *Cluster) OpenSegment(ctx context.Context, seg wal.Segment) (*WALReader, error) {
	return nil, errSoon
}

// PutPartial archives the first bytes of an unfinished segment, up to upTo.
func (c *Cluster) PutPartial(ctx context.Context, seg wal.Segment, upTo wal.LSN, plain io.ReaderAt) error {
	return errSoon
}

// OpenPartial opens the longest partial of a segment.
func (c *Cluster) OpenPartial(ctx context.Context, seg wal.Segment) (*WALReader, wal.LSN, error) {
	return nil, 0, errSoon
}

// PutHistory archives a history file.
func (c *Cluster) PutHistory(ctx context.Context, t wal.Timeline, content []byte) error {
	return errSoon
}

// History reads a history file.
func (c *Cluster) History(ctx context.Context, t wal.Timeline) ([]byte, error) { return nil, errSoon }

// Histories reads all.
func (c *Cluster) Histories(ctx context.Context) ([]wal.History, error) { return nil, errSoon }

// RecordGap records lost WAL.
func (c *Cluster) RecordGap(ctx context.Context, g state.Gap) error { return errSoon }

// Gaps lists recorded gaps.
func (c *Cluster) Gaps(ctx context.Context) ([]state.Gap, error) { return nil, errSoon }

// WALRanges tells what is archived.
func (c *Cluster) WALRanges(ctx context.Context) ([]state.WALRange, error) { return nil, errSoon }

// DurableEnd tells where the newest stretch of archived WAL of a timeline ends, partials included.
func (c *Cluster) DurableEnd(ctx context.Context, t wal.Timeline) (wal.LSN, error) {
	return 0, errSoon
}

// WriteIndex brings the index of a timeline up to date.
func (c *Cluster) WriteIndex(ctx context.Context, t wal.Timeline) error { return errSoon }

// DeleteWAL deletes whole segments inside the ranges, and every partial of an archived segment.
func (c *Cluster) DeleteWAL(ctx context.Context, r []wal.Range) (freed int64, err error) {
	return 0, errSoon
}
