package repository

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/store"
)

// drillMark stands in the key of a drill's evidence, behind its time and before a digest of the drill's name, so that the newest of each
// drill is found among any number of others without reading them. A key that ends with it is of any name.
const drillMark = "-drill"

// maxDrills is how many drills of a name are read at most, newest first.
const maxDrills = 50

func (k ClusterKey) drillFile(at time.Time, name string) string {
	sum := sha256.Sum256([]byte(name))
	return k.evidenceFile(at) + drillMark + "-" + hex.EncodeToString(sum[:8])
}

func isDrill(key string) bool { return strings.Contains(path.Base(key), drillMark) }

// nameOf gives what a key tells of the drill's name; empty: nothing.
func nameOf(key string) string {
	_, name, _ := strings.Cut(path.Base(key), drillMark)
	return name
}

// isOf tells whether a piece of evidence lies where it belongs.
func (k ClusterKey) isOf(key string, n Note) bool {
	if key == k.evidenceFile(n.At) || key == k.evidenceFile(n.At)+drillMark {
		return true
	}
	var d state.Drill
	return isDrill(key) && json.Unmarshal(n.Entry, &d) == nil && key == k.drillFile(n.At, d.Drill)
}

// PutDrill keeps what a drill has shown, under the moment at which it ended. The same drill again is the same object.
func (c *Cluster) PutDrill(ctx context.Context, d state.Drill) error {
	d.Kind = state.DrillKind
	for at := d.Ended; ; at = at.Add(1) { // another machine's may have ended at the same nanosecond
		body, err := c.note(at, d)
		if err != nil {
			return fmt.Errorf("write evidence: %w", err)
		}
		if err := c.putNote(ctx, c.key.drillFile(at, d.Drill), body); !errors.Is(err, store.ErrExists) {
			return err
		}
	}
}

// Drills gives the drills whose evidence is there, newest first, at most fifty of a name. One that cannot be read is passed over when
// it is damaged; a store that does not answer is an error.
func (c *Cluster) Drills(ctx context.Context) ([]state.Drill, error) {
	return c.readDrills(ctx, func(_ string, read []state.Drill) bool { return len(read) < maxDrills })
}

// NewestDrills gives of each drill the newest and the newest that passed, newest first, without the rows that were counted: what a plan
// asks for. It reads no more than that, as Drills does.
func (c *Cluster) NewestDrills(ctx context.Context) ([]state.Drill, error) {
	all, err := c.readDrills(ctx, func(name string, read []state.Drill) bool {
		found := name != "" && slices.ContainsFunc(read, func(d state.Drill) bool { return d.Passed })
		return !found && len(read) < maxDrills
	})
	return newestDrills(all), err
}

// readDrills reads drills, newest first, while more of a name are wanted than were read.
func (c *Cluster) readDrills(ctx context.Context, wanted func(name string, read []state.Drill) bool) ([]state.Drill, error) {
	keys, err := c.noteKeys(ctx, c.key.evidenceDir(), time.Time{})
	if err != nil {
		return nil, err
	}
	read := map[string][]state.Drill{}
	var out []state.Drill
	for _, key := range slices.Backward(keys) {
		name := nameOf(key)
		if !isDrill(key) || !wanted(name, read[name]) {
			continue
		}
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
			read[name] = append(read[name], d)
			out = append(out, d)
		}
	}
	return out, nil
}

// newestDrills leaves of each drill the newest and the newest that passed, without the rows that were counted.
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
