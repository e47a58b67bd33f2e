package plan

import (
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
)

// Build plans what must be done for the world seen to match spec at the time now. It is a pure function: the same
// arguments give the same plan, byte for byte.
//
// Diagnostics of severity error mean that something was asked that cannot be planned at all; warnings stand for a block
// of the configuration that a server or privilege keeps from being planned, with the statement to run. What they say is
// also among the plan's Findings.
func Build(spec *hclspec.Spec, seen state.Observation, now time.Time, opt Options) (*Plan, hcl.Diagnostics) {
	return &Plan{Now: now, Host: seen.Host}, nil
}
