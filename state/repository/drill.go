package repository

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/store"
)

// drillSuffix ends the key of a drill's evidence, so that it is found among any number of verifications without reading them.
const drillSuffix = "-drill"

// maxDrills is how many drills are read at most, newest first.
const maxDrills = 50

func (k ClusterKey) drillFile(at time.Time) string { return k.evidenceFile(at) + drillSuffix }

func isDrill(key string) bool { return strings.HasSuffix(key, drillSuffix) }

// PutDrill keeps what a drill has shown, under the moment at which it ended. The same drill again is the same object.
func (c *Cluster) PutDrill(ctx context.Context, d state.Drill) error {
	d.Kind = state.DrillKind
	for at := d.Ended; ; at = at.Add(1) { // another machine's may have ended at the same nanosecond
		body, err := c.note(at, d)
		if err != nil {
			return fmt.Errorf("write evidence: %w", err)
		}
		if err := c.putNote(ctx, c.key.drillFile(at), body); !errors.Is(err, store.ErrExists) {
			return err
		}
	}
}

// Drills gives the drills whose evidence is there, newest first, at most fifty. One that cannot be read is passed over when it is
// damaged; a store that does not answer is an error.
func (c *Cluster) Drills(ctx context.Context) ([]state.Drill, error) {
	keys, err := c.noteKeys(ctx, c.key.evidenceDir(), time.Time{})
	if err != nil {
		return nil, err
	}
	keys = slices.DeleteFunc(keys, func(key string) bool { return !isDrill(key) })
	var out []state.Drill
	for _, key := range slices.Backward(keys[max(0, len(keys)-maxDrills):]) {
		n, err := c.readNote(ctx, key)
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("read evidence: %w", context.Cause(ctx))
		case unanswered(err):
			return nil, fmt.Errorf("read evidence: %w", err)
		case err != nil:
			continue
		}
		var d state.Drill
		if json.Unmarshal(n.Entry, &d) == nil && d.Kind == state.DrillKind {
			out = append(out, d)
		}
	}
	return out, nil
}

// newestDrills leaves of each drill the newest and the newest that passed, without the rows that were counted: what a plan asks for.
func newestDrills(all []state.Drill) []state.Drill {
	var out []state.Drill
	seen, passed := map[string]bool{}, map[string]bool{}
	for _, d := range all {
		if seen[d.Drill] && (passed[d.Drill] || !d.Passed) {
			continue
		}
		seen[d.Drill] = true
		passed[d.Drill] = passed[d.Drill] || d.Passed
		d.Rows = nil
		out = append(out, d)
	}
	return out
}
