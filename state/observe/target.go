package observe

import (
	"context"
	"io"
	"iter"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/wal"
)

// WALArchive reads archived WAL of one cluster; ArchiveOf makes one of a repository's cluster.
type WALArchive interface {
	// Segment opens the whole segment, or else its longest partial.
	Segment(ctx context.Context, seg wal.Segment) (io.ReadCloser, error)
	// Summary tells what the segment or its longest partial holds.
	Summary(ctx context.Context, seg wal.Segment) (wal.Summary, error)
	// Summaries gives what the index knows of whole segments inside the range, in order, leaving out those it does not know.
	Summaries(ctx context.Context, r wal.Range) iter.Seq2[wal.Segment, wal.Summary]
}

// TargetOptions say what is asked of Target.
type TargetOptions struct {
	Target   hclspec.Target
	Cluster  state.Cluster   // as observed
	Archive  WALArchive      // the same cluster's WAL
	Receiver *state.Receiver // proves that the server was silent after its last commit; nil: nothing proves it
}

// Target tells what the archived WAL proves about a recovery target.
func Target(ctx context.Context, o TargetOptions) state.TargetFact {
	return state.TargetFact{Unknown: &state.Unknown{Code: state.CodeTarget, Because: "not built yet"}}
}

// ArchiveOf reads the WAL of a repository's cluster.
func ArchiveOf(c *repository.Cluster, z wal.SegmentSize) WALArchive { return nil }
