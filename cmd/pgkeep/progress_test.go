package main

import (
	"context"
	"fmt"
	"testing"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/steps"
)

// TestOneCauseIsSaidOnce: a note that holds the error is not followed by it, and what was interrupted is not said to be
// unreachable.
func TestOneCauseIsSaidOnce(t *testing.T) {
	full := &state.Error{Code: state.CodeDiskFull, Text: "the repository's disk is full"}
	broken := &state.Error{Code: state.CodeUnreachable, Text: "stream a base backup", Err: context.Canceled}
	for _, c := range []struct {
		outcome steps.Outcome
		note    string
		err     error
		want    string
	}{
		{steps.OutcomeFailed, full.Error(), full, "the repository's disk is full"},
		{steps.OutcomeFailed, "", full, "the repository's disk is full"},
		{steps.OutcomeFailed, "create it", fmt.Errorf("no: %w", full), "create it: no: the repository's disk is full"},
		{steps.OutcomeCanceled, "interrupted", broken, "interrupted"},
		{steps.OutcomeDone, "freed 42 bytes", nil, "freed 42 bytes"},
	} {
		if got := explained(c.outcome, c.note, c.err); got != c.want {
			t.Errorf("%s, %q, %v: %q, want %q", c.outcome, c.note, c.err, got, c.want)
		}
	}
}
