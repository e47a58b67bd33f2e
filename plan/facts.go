package plan

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/state/wal"
)

// fact is one particular of a step, as a name and a value that an operator can read.
type fact struct{ name, value string }

// decides gives what makes a step the same step: its act without positions and sizes that move on by themselves, its
// impact, its place in the order and what must hold when it runs. Two steps with the same facts do the same.
func decides(s *Step) []fact {
	out := []fact{{"action", Verb(s.Action)}, {"change", string(s.Change)}, {"impact", string(s.Impact)}}
	if s.Host != "" {
		out = append(out, fact{"host", s.Host})
	}
	if len(s.After) > 0 {
		out = append(out, fact{"after", strings.Join(s.After, ", ")})
	}
	if len(s.Requires) > 0 {
		needs := make([]string, len(s.Requires))
		for i, c := range s.Requires {
			needs[i] = c.Code
			if c.Value != "" {
				needs[i] += " " + c.Value
			}
		}
		out = append(out, fact{"requires", strings.Join(needs, ", ")})
	}
	return append(out, parameters(settled(s.Action))...)
}

// explains gives what is said of a step and changes nothing of what it does.
func explains(s *Step) []fact {
	why := make([]string, len(s.Because))
	for i, r := range s.Because {
		why[i] = r.Text
	}
	out := []fact{{"why", strings.Join(why, "; ")}, {"effect", s.Effect}}
	if s.Loses != nil {
		out = append(out, fact{"loses", strings.Join(s.Loses.Sentences(), "; ")})
	}
	if len(s.Keeps) > 0 {
		out = append(out, fact{"keeps", strings.Join(s.KeptSentences(), "; ")})
	}
	return out
}

// settled gives the act without what moves on while nothing is decided otherwise: positions, sizes and clocks.
func settled(a Action) Action {
	switch a := a.(type) {
	case RecordGap:
		a.Range = wal.Range{Timeline: a.Range.Timeline}
		a.Reason = ""
		return a
	case Prune:
		a.Clock = time.Time{}
		return a
	case PruneWAL:
		a.Clock = time.Time{}
		return a
	case ExtendLock:
		a.Locks = slices.Clone(a.Locks)
		for i, n := range a.Locks {
			a.Locks[i].WAL = beginnings(n.WAL)
		}
		return a
	case TakeBackup:
		a.Known = nil
		return a
	case CopyWAL: // the end moves on with what is archived; where it begins is a decision
		a.Ranges = beginnings(a.Ranges)
		return a
	case Drill:
		return settledDrill(a)
	case RecoverTo:
		a.Route.WALBytes, a.Route.DataBytes = 0, 0
		if a.Route.Target.Latest || a.Route.AtEnd { // the end moves on with what is archived; that of a target never
			a.Route.Path, a.Route.End, a.Route.Before, a.Route.After = nil, 0, nil, nil
		}
		return a
	}
	return a
}

// settledDrill leaves out where the archive ends, of a drill that goes to the end, and which moment chance has chosen, with the way
// there: what is archived moves on, and chance with it.
func settledDrill(a Drill) Drill {
	switch r := &a.Route; {
	case r.Target.Immediate: // the end of a backup never moves
	case r.Target.LSN != 0:
		r.Target.LSN, r.Backup, r.DataBytes, r.WALBytes, r.Path, r.End = 1, "", 0, 0, nil, 0
	default:
		r.WALBytes, r.Path, r.End = 0, beginnings(r.Path), 0
	}
	return a
}

// beginnings gives ranges without their ends.
func beginnings(ranges []wal.Range) []wal.Range {
	out := make([]wal.Range, len(ranges))
	for i, r := range ranges {
		out[i] = wal.Range{Timeline: r.Timeline, From: r.From}
	}
	return out
}

// parameters flattens an action into facts, sorted by name: "backups", "route.destination.path".
func parameters(a Action) []fact {
	var tree any
	text, err := json.Marshal(a)
	if err == nil {
		err = json.Unmarshal(text, &tree)
	}
	if err != nil { // no action has such a field; two that cannot be compared are never taken to be the same
		return []fact{{"parameters", err.Error()}}
	}
	return flatten("", tree, nil)
}

func flatten(name string, v any, out []fact) []fact {
	switch v := v.(type) {
	case nil:
		return out
	case map[string]any:
		for _, key := range sortedNames(v) {
			full := key
			if name != "" {
				full = name + "." + key
			}
			out = flatten(full, v[key], out)
		}
		return out
	case []any:
		items := make([]string, len(v))
		for i, item := range v {
			items[i] = plainly(item)
		}
		return append(out, fact{name, strings.Join(items, ", ")})
	}
	return append(out, fact{name, plainly(v)})
}

func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// plainly writes a value of a JSON tree: a string as it is, all else as JSON.
func plainly(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(text)
}
