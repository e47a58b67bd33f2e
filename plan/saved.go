package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
)

// SavedFormat is the number of the format of saved plans. docs/plan.schema.json describes it.
const SavedFormat = 1

// Saved is a plan with all that must be known to read it elsewhere and to apply it later. No sensitive value is in it,
// nor anything made from one: an apply reads the configuration again.
type Saved struct {
	Format     int             `json:"format"`
	Made       Made            `json:"made"`
	Expires    time.Time       `json:"expires"`
	Seen       Seen            `json:"seen"`
	Spec       json.RawMessage `json:"spec"`        // the configuration without sensitive values and line numbers
	SpecDigest string          `json:"spec_digest"` // of Spec
	Review     string          `json:"review_digest,omitempty"`
	Summary    string          `json:"summary"`
	Plan
	Digest string `json:"digest,omitempty"` // of all that stands before it; always the last member
}

// Made says by whom, when, where and with which pgkeep a plan was made.
type Made struct {
	Version string    `json:"pgkeep"`
	Who     string    `json:"who"`  // user@host
	Host    string    `json:"host"` // the machine's name, as `host` in the HCL means it
	At      time.Time `json:"at"`   // by that machine's clock; of a recorded observation, Plan.Now
}

// Seen says of what the plan was made: which clusters and repositories answered. Nothing is planned from it; an apply
// compares it, so that a plan is never applied to another cluster or repository behind the same name.
type Seen struct {
	At           time.Time                 `json:"at"`
	Servers      map[string]SeenServer     `json:"servers"`      // by stored name
	Repositories map[string]SeenRepository `json:"repositories"` // by label
}

// SeenServer is who answered for a server.
type SeenServer struct {
	SystemID string `json:"system_id,omitempty"`
	Version  int    `json:"version,omitempty"` // server_version_num
	Unknown  string `json:"unknown,omitempty"` // why nothing was seen
}

// SeenRepository is what lay where a repository should be.
type SeenRepository struct {
	ID       string `json:"id,omitempty"`
	Location string `json:"location,omitempty"`
	Unknown  string `json:"unknown,omitempty"`
}

// Save puts a plan together with what it was made of. It can be applied for the time valid, which must be positive.
func Save(p *Plan, spec *hclspec.Spec, seen state.Observation, made Made, valid time.Duration) (*Saved, error) {
	if valid <= 0 {
		return nil, fmt.Errorf("save a plan: a plan is valid for a positive time, not %s", valid)
	}
	config, err := configuration(spec)
	if err != nil {
		return nil, err
	}
	made.At = made.At.UTC()
	s := &Saved{
		Format: SavedFormat, Made: made, Expires: made.At.Add(valid), Seen: seenOf(seen), Spec: config, SpecDigest: digestOf(config),
		Review: p.Review().String(), Summary: p.Summary(), Plan: *p,
	}
	s.Steps, s.NotDone, s.Findings = orEmpty(s.Steps), orEmpty(s.NotDone), orEmpty(s.Findings)
	s.Windows, s.NextDue = orEmpty(s.Windows), orEmpty(s.NextDue)
	return s, nil
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func seenOf(o state.Observation) Seen {
	out := Seen{At: o.At, Servers: map[string]SeenServer{}, Repositories: map[string]SeenRepository{}}
	for name, s := range o.Servers {
		if s.Unknown != nil {
			out.Servers[name] = SeenServer{Unknown: s.Unknown.Because}
			continue
		}
		out.Servers[name] = SeenServer{SystemID: s.SystemID, Version: s.Version}
	}
	for label, r := range o.Repositories {
		if r.Unknown != nil {
			out.Repositories[label] = SeenRepository{Unknown: r.Unknown.Because}
			continue
		}
		out.Repositories[label] = SeenRepository{ID: r.ID, Location: r.Location}
	}
	return out
}

// Encode writes the saved plan as a file, with the digest of all that stands before it. The same plan gives the same
// bytes. A plan that is too big to be read again is an error of code E-PLAN.
func (s *Saved) Encode() ([]byte, error) {
	out := *s
	out.Digest = ""
	body, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("write plan: %w", err)
	}
	body = body[:len(body)-1] // the closing brace
	body = append(body, `,"digest":"`+digestOf(body)+`"}`+"\n"...)
	if len(body) > MaxSaved {
		return nil, &state.Error{
			Code: state.CodePlan, Hint: "plan a part of it: --target, --exclude, or a directory for each group of servers",
			Text: fmt.Sprintf("this plan of %s cannot be saved: it takes %s, and %s is the most that is read again", count(len(s.Steps), "step"), Size(int64(len(body))), Size(MaxSaved)),
		}
	}
	return body, nil
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}
