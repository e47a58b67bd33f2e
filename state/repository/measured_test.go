package repository

import (
	"testing"

	"github.com/pgkeep/pgkeep/state"
)

// TestMeasuredIsReadFromEvidence: recoveries, starts and drills write the same phases; verifications, and restores that
// were resumed, measure nothing.
func TestMeasuredIsReadFromEvidence(t *testing.T) {
	for entry, want := range map[string]state.Measured{
		`{"backup":"a","phases":[{"name":"look","seconds":1},{"name":"files","seconds":3,"bytes":100},{"name":"wal","seconds":2,"bytes":7},{"name":"sync","seconds":1}]}`: {
			What: "recovery", Backup: "a", Restore: state.Work{Bytes: 100, Seconds: 5}, CopyWAL: state.Work{Bytes: 7, Seconds: 2},
		},
		`{"kind":"drill","phases":[{"name":"start","seconds":2},{"name":"replay","seconds":4,"bytes":9},{"name":"checks","seconds":50}]}`: {
			What: "drill", Replay: state.Work{Bytes: 9, Seconds: 4}, Start: state.Work{Seconds: 2},
		},
		`{"resumed":true,"phases":[{"name":"files","seconds":3,"bytes":100}]}`: {},
		`{"kind":"verify","phases":[{"name":"files","seconds":3}]}`:            {},
		`[]`: {},
		`{"phases":[{"name":"files","seconds":-3,"bytes":-1}]}`: {What: "recovery"},
	} {
		if got := measuredIn(Note{Entry: []byte(entry)}); got != want {
			t.Errorf("%s:\n%+v\n%+v", entry, got, want)
		}
	}
}
