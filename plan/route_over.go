package plan

import (
	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
)

// overwrites tells whether a recovery restores over what is in its destination.
func overwrites(rec hclspec.Recovery, d state.Destination) bool {
	return rec.Destination.Overwrite && d.Exists && !d.Empty
}

func heldText(systemID string) string {
	if systemID == "" {
		return "no data directory of PostgreSQL"
	}
	return "the data directory of system " + systemID
}

// destinationText is what must hold of the destination when the step begins.
func destinationText(rec hclspec.Recovery, d state.Destination) string {
	path := rec.Destination.Path
	if overwrites(rec, d) {
		return path + " holds a data directory of the same cluster, and no server runs in it"
	}
	return path + " is absent or empty, and no server runs in it"
}
