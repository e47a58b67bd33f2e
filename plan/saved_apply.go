package plan

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
)

// Applicable tells whether the plan may be applied at all by this version of pgkeep at the time now; the error has the code
// E-STALE and says why not: it answers a question only, it has expired, or another version made it.
func (s *Saved) Applicable(version string, now time.Time) error {
	stale := func(format string, args ...any) error {
		return &state.Error{Code: state.CodeStale, Text: "the saved plan is not applied: " + fmt.Sprintf(format, args...), Hint: "plan again: pgkeep plan --out FILE"}
	}
	switch {
	case s.Options.Suppose:
		return stale("it was made for a supposed moment (--now)")
	case s.Options.Recorded:
		return stale("it was made of a recorded observation (--observed)")
	case s.Options.RefreshOnly:
		return stale("it only tells what changed (--refresh-only)")
	case s.Made.Version != version:
		return stale("it was made by pgkeep %s, and this is %s, which may decide otherwise", s.Made.Version, version)
	case now.After(s.Expires):
		return stale("it expired at %s, %s ago", Moment(s.Expires), Span(now.Sub(s.Expires)))
	}
	return nil
}

// StillValid tells whether the plan may be applied to this configuration and world: the configuration is the same, the same
// clusters and repositories answer, and planning again decides the same. Else it lists what differs, and what that means.
func (s *Saved) StillValid(spec *hclspec.Spec, seen state.Observation) (bool, []Difference) {
	if out := s.Configured(spec); len(out) > 0 {
		return false, out
	}
	out := s.others(seen)
	_, more := s.Plan.StillValid(spec, seen)
	out = append(out, more...)
	return len(out) == 0, out
}

// Configured tells what differs between a configuration and the one that the plan was made of; nothing: they are the same.
// Sensitive values are not compared, nor where something stands in the HCL.
func (s *Saved) Configured(spec *hclspec.Spec) []Difference {
	config, err := configuration(spec)
	if err != nil {
		return []Difference{{Text: err.Error()}}
	}
	if digestOf(config) == s.SpecDigest && digestOf(s.Spec) == s.SpecDigest {
		return nil
	}
	if out := configurationChanges(s.Spec, config); len(out) > 0 {
		return out
	}
	return []Difference{{Text: "the configuration is not the one that the plan was made of"}}
}

// others tells which servers and repositories are not those that the plan saw under the same names.
func (s *Saved) others(seen state.Observation) []Difference {
	var out []Difference
	now := seenOf(seen)
	for _, name := range sortedNames(s.Seen.Servers) {
		was, is := s.Seen.Servers[name], now.Servers[name]
		if was.SystemID != "" && is.SystemID != "" && was.SystemID != is.SystemID {
			out = append(out, Difference{
				Step: "server." + name, Was: "system identifier " + was.SystemID, Is: "system identifier " + is.SystemID,
				Text: fmt.Sprintf("server %s is another cluster: its system identifier is %s, and was %s; the plan is not for it", name, is.SystemID, was.SystemID),
			})
		}
		if had, has := (state.Server{Version: was.Version}).Major(), (state.Server{Version: is.Version}).Major(); was.Version != 0 && is.Version != 0 && had != has {
			out = append(out, Difference{
				Step: "server." + name, Was: fmt.Sprintf("PostgreSQL %d", had), Is: fmt.Sprintf("PostgreSQL %d", has),
				Text: fmt.Sprintf("server %s is PostgreSQL %d now, and was %d; the plan is not for it", name, has, had),
			})
		}
	}
	for _, label := range sortedNames(s.Seen.Repositories) {
		was, is := s.Seen.Repositories[label], now.Repositories[label]
		if was.ID != "" && is.ID != "" && was.ID != is.ID {
			out = append(out, Difference{
				Step: "repository." + label, Was: "repository " + was.ID, Is: "repository " + is.ID,
				Text: fmt.Sprintf("repository %s is another one: its id is %s, and was %s; the plan is not for it", label, is.ID, was.ID),
			})
		}
	}
	return out
}

// configurationChanges names what differs between two configurations, by the address of the block.
func configurationChanges(was, is json.RawMessage) []Difference {
	facts := func(raw json.RawMessage) []fact {
		var tree map[string]any
		if json.Unmarshal(raw, &tree) != nil {
			return nil
		}
		var out []fact
		for _, kind := range sortedNames(tree) {
			list, ok := tree[kind].([]any)
			if !ok {
				out = flatten(kind, tree[kind], out)
				continue
			}
			for i, item := range list {
				out = flatten(addressOf(kind, i, item), item, out)
			}
		}
		return out
	}
	var out []Difference
	for _, c := range changed(facts(was), facts(is), true) {
		block, attribute, _ := strings.Cut(c.Name, blockEnd)
		name := block
		if attribute != "" {
			name += ": " + strings.TrimPrefix(attribute, ".")
		}
		out = append(out, Difference{
			Was: c.Was, Is: c.Is,
			Text: fmt.Sprintf("the configuration differs: %s is %s, and was %s when the plan was made", name, orNothing(c.Is), orNothing(c.Was)),
		})
	}
	return out
}

// blockEnd sets a block's address, which has dots of its own, apart from the attribute.
const blockEnd = "\x00"

func addressOf(kind string, i int, item any) string {
	if block, ok := item.(map[string]any); ok {
		for _, key := range []string{"address", "from"} {
			if s, ok := block[key].(string); ok {
				return s + blockEnd
			}
		}
	}
	return fmt.Sprintf("%s[%d]", kind, i) + blockEnd
}
