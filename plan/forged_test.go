package plan_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/plan"
)

// harmless are the parameters that may differ between a saved plan and what is planned now, because they move on by
// themselves. None of them lets a step do more: a clock only bounds from above, Known only spares a backup, a gap may only be
// narrower, the rest is told and not acted upon, or is the end of what is copied, or of a
// recovery that goes to whatever the end is.
var harmless = []string{
	"prune/clock", "prune-wal/clock", "record-gap/reason", "record-gap/range.from", "take-backup/known", "recover-to/route.data_bytes", "recover-to/route.wal_bytes",
	"copy-wal/ranges.to", "extend-lock/locks.wal.to", "drill/route.path.to", "drill/route.end", "drill/route.wal_bytes",
	"drill by chance/route.target.lsn", "drill by chance/route.backup", "drill by chance/route.data_bytes", "drill by chance/route.wal_bytes",
	"drill by chance/route.path.timeline", "drill by chance/route.path.from", "drill by chance/route.path.to", "drill by chance/route.end",
}

// TestForgedPlans: whoever edits a saved plan and makes its digest anew gets nothing done that would not be planned.
// Every parameter of every step of every story is edited in turn.
func TestForgedPlans(t *testing.T) {
	tried, passed := 0, map[string]bool{}
	for _, path := range stories(t) {
		if strings.Contains(path, "recover-latest") { // goes to the end, wherever it is
			continue
		}
		_, data, s := saved(t, path)
		var tree map[string]any
		if err := json.Unmarshal(data, &tree); err != nil {
			t.Fatal(err)
		}
		steps, _ := tree["steps"].([]any)
		for _, step := range steps {
			step := step.(map[string]any)
			action := fmt.Sprint(step["action"])
			if action == "drill" && strings.Contains(path, "random") { // any moment is as good as any other
				action = "drill by chance"
			}
			for _, e := range edits(step["parameters"], "") {
				undo := e.do()
				tried++
				if stillValid(t, tree, s) {
					name := action + "/" + e.name
					passed[name] = true
					if !slices.Contains(harmless, name) {
						t.Errorf("%s: %s was edited, and the plan is applied", path, name)
					}
				}
				undo()
			}
		}
	}
	if tried < 200 {
		t.Errorf("only %d edits were tried", tried)
	}
	for _, name := range harmless {
		if !passed[name] {
			t.Errorf("no story shows that %s may differ: take it off the list", name)
		}
	}
}

// edit changes one value of a JSON tree and gives back how it was.
type edit struct {
	name string
	do   func() (undo func())
}

func edits(v any, name string) []edit {
	var out []edit
	switch v := v.(type) {
	case map[string]any:
		for key, item := range v {
			full := strings.TrimPrefix(name+"."+key, ".")
			if other, ok := otherThan(item); ok {
				out = append(out, edit{full, func() func() { v[key] = other; return func() { v[key] = item } }})
			}
			out = append(out, edits(item, full)...)
		}
	case []any:
		for i, item := range v {
			if other, ok := otherThan(item); ok {
				out = append(out, edit{name, func() func() { v[i] = other; return func() { v[i] = item } }})
			}
			out = append(out, edits(item, name)...)
		}
	}
	return out
}

// otherThan gives another value that may well be read: a later digit, or one more letter.
func otherThan(v any) (any, bool) {
	switch v := v.(type) {
	case bool:
		return !v, true
	case float64:
		return v + 1, true
	case string:
		if i := strings.LastIndexAny(v, "0123456789"); i >= 0 {
			return v[:i] + string('0'+(v[i]-'0'+1)%10) + v[i+1:], true
		}
		return v + "x", true
	}
	return nil, false
}

// stillValid seals a tree as a saved plan and tells whether it would be applied to its own world.
func stillValid(t *testing.T, tree map[string]any, s story) bool {
	t.Helper()
	delete(tree, "digest")
	body, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	body = body[:len(body)-1]
	p, err := plan.ReadSaved([]byte(string(body) + `,"digest":"` + plan.DigestOf(body) + `"}`))
	if err != nil {
		return false
	}
	p.SpecDigest = plan.DigestOf(p.Spec)
	_, why := p.Plan.StillValid(s.spec, s.seen)
	return len(why) == 0
}

// TestStepsAskAgain: in any world each step that changes a server asks again who it is, and each deletion whether it is still
// needless and enough is left: what was approved is not done to a world that changed since.
func TestStepsAskAgain(t *testing.T) {
	want := map[string][]string{
		"create-slot": {plan.NeedSystem, plan.NeedSlotAbsent}, "replace-slot": {plan.NeedSystem}, "drop-slot": {plan.NeedSystem, plan.NeedSlotInactive},
		"take-backup": {plan.NeedSystem}, "switch-wal": {plan.NeedSystem}, "record-gap": {plan.NeedLoss}, "remove-incomplete": {plan.NeedUndecided},
		"prune-wal": {plan.NeedStillNeedless}, "recover-to": {plan.NeedDestination, plan.NeedBackup, plan.NeedWAL}, "create-repository": {plan.NeedNoRepository},
		"stop-receiver": {plan.NeedReceiver}, "start-receiver": {plan.NeedSlotPresent}, "follow-timeline": {plan.NeedDescent}, "verify": {plan.NeedUnverified},
		"drill":       {plan.NeedUndrilled, plan.NeedBackup, plan.NeedWAL, plan.NeedScratch},
		"copy-backup": {plan.NeedBackup}, "copy-wal": {plan.NeedWAL}, "repair": {plan.NeedDamage}, "extend-lock": {plan.NeedBackup},
	}
	const systemID = "7335180256203400928" // of the stories' cluster; of a former one nothing must be left
	check := func(where string, p *plan.Plan) {
		for _, s := range p.Steps {
			need := want[plan.Verb(s.Action)]
			switch a := s.Action.(type) {
			case plan.Prune:
				need = []string{plan.NeedStillNeedless}
				if a.SystemID == systemID || strings.HasPrefix(where, "seed") {
					need = append(need, plan.NeedUsableLeft)
				}
				if a.Sweep {
					need = []string{plan.NeedTombed}
				}
			case plan.ReplaceSlot:
				if a.Healthy {
					need = append(slices.Clone(need), plan.NeedSlotInactive)
				} else {
					need = append(slices.Clone(need), plan.NeedSlotLost)
				}
			}
			if len(need) == 0 {
				t.Errorf("%s: nothing says what %s must ask again", where, s.ID)
			}
			for _, code := range need {
				if !slices.ContainsFunc(s.Requires, func(c plan.Condition) bool { return c.Code == code }) {
					t.Errorf("%s: %s %s does not ask again for %s", where, plan.Verb(s.Action), s.ID, code)
				}
			}
		}
	}
	for _, path := range stories(t) {
		s := readStory(t, path)
		p, _ := plan.Build(s.spec, s.seen, s.now, s.opt)
		check(path, p)
	}
	for seed := range uint64(50) {
		spec, seen := randomWorld(seed, 12)
		p, _ := plan.Build(spec, seen, baseTime, plan.Options{})
		check(fmt.Sprint("seed ", seed), p)
	}
}
