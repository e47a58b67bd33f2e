package plan_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state/observe"
)

// TestPlanOfARecordedWorld: the plan of every story, made of what was recorded of its world, is the same byte for byte.
func TestPlanOfARecordedWorld(t *testing.T) {
	for _, path := range stories(t) {
		s := readStory(t, path)
		var file bytes.Buffer
		if err := observe.Record(&file, s.seen); err != nil {
			t.Fatal(err)
		}
		recorded, err := observe.Recorded(&file)
		if err != nil {
			t.Fatal(err)
		}
		live, _ := plan.Build(s.spec, s.seen, s.now, s.opt)
		again, _ := plan.Build(s.spec, recorded, s.now, s.opt)
		want, err := json.Marshal(live)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := json.Marshal(again); err != nil || !bytes.Equal(want, got) {
			t.Errorf("%s: the plans differ (%v):\n%s\n%s", path, err, want, got)
		}
	}
}
