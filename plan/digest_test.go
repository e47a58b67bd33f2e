package plan_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state/wal"
)

// destroys is a plan that deletes backups beyond what runs by itself, and does other things that wait.
func destroys(backups []string, slots ...string) *plan.Plan {
	p := &plan.Plan{Auto: []plan.Impact{plan.Safe, plan.Declared}}
	if len(backups) > 0 {
		p.Steps = append(p.Steps, plan.Step{
			ID: "server.orders/prune/main", Change: plan.Destroy, Impact: plan.Destructive,
			Action: plan.Prune{Server: "orders", SystemID: "7", Repository: "main", Backups: backups, Clock: baseTime},
		})
	}
	for _, slot := range slots {
		p.Steps = append(p.Steps, plan.Step{
			ID: "removed." + slot + "/slot", Change: plan.Destroy, Impact: plan.Destructive, Action: plan.DropSlot{Server: slot, Slot: slot},
		})
	}
	return p
}

// allows tells whether the digest that was printed for one plan lets another go on.
func allows(t interface{ Fatal(...any) }, was, is *plan.Plan) bool {
	r, err := plan.ParseReview(was.Review().String())
	if err != nil {
		t.Fatal(err)
	}
	return r.Allows(is.Review())
}

// TestReviewAllows: what was agreed to, or fewer deletions, and nothing else.
func TestReviewAllows(t *testing.T) {
	was := destroys([]string{"a", "b", "c"}, "x")
	for name, c := range map[string]struct {
		is   *plan.Plan
		want bool
	}{
		"the same":                   {destroys([]string{"a", "b", "c"}, "x"), true},
		"fewer deletions":            {destroys([]string{"b"}, "x"), true},
		"no deletion":                {destroys(nil, "x"), true},
		"nothing needs approval":     {destroys(nil), true},
		"another deletion":           {destroys([]string{"a", "d"}, "x"), false},
		"one more deletion":          {destroys([]string{"a", "b", "c", "d"}, "x"), false},
		"another slot":               {destroys([]string{"a", "b", "c"}, "y"), false},
		"one slot more":              {destroys([]string{"a"}, "x", "y"), false},
		"without the slot":           {destroys([]string{"a", "b", "c"}), false},
		"the same in another folder": {&plan.Plan{Steps: []plan.Step{{ID: "server.orders/prune/two", Impact: plan.Destructive, Action: plan.Prune{Server: "orders", SystemID: "7", Repository: "two", Backups: []string{"a"}}}}}, false},
		"of another cluster":         {&plan.Plan{Steps: []plan.Step{{ID: "server.orders/prune/main", Impact: plan.Destructive, Action: plan.Prune{Server: "orders", SystemID: "8", Repository: "main", Backups: []string{"a"}}}}}, false},
	} {
		if got := allows(t, was, c.is); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// TestReviewIgnores: clocks, sizes, positions and texts are no part of what is agreed to.
func TestReviewIgnores(t *testing.T) {
	at := func(shift int) *plan.Plan {
		return &plan.Plan{Auto: []plan.Impact{}, Steps: []plan.Step{
			{ID: "s/prune", Impact: plan.Destructive, Effect: fmt.Sprint(shift), Action: plan.Prune{Server: "o", Backups: []string{"a"}, Clock: baseTime.Add(time.Duration(shift))}},
			{ID: "s/gap", Impact: plan.Safe, Action: plan.RecordGap{Server: "o", Range: wal.Range{Timeline: 1, From: wal.LSN(shift), To: 1 << 30}, Reason: fmt.Sprint(shift)}},
			{ID: "s/wal", Impact: plan.Safe, Action: plan.PruneWAL{Server: "o", Ranges: []wal.Range{{Timeline: 1, To: wal.LSN(shift)}}}},
			{ID: "s/backup", Impact: plan.Safe, Action: plan.TakeBackup{Server: "o", Due: baseTime.Add(time.Duration(shift)), Known: []string{fmt.Sprint(shift)}}},
			{ID: "r", Impact: plan.Disruptive, Action: plan.RecoverTo{Recovery: "r", Route: plan.Route{End: wal.LSN(shift), DataBytes: int64(shift)}}},
		}}
	}
	if one, two := at(1).Review(), at(2).Review(); one.String() != two.String() || one.Empty() {
		t.Errorf("%s\n%s", one, two)
	}
}

// TestReviewRefusesCut: a digest that was cut or mistyped is refused, or stands for less; it never allows more.
func TestReviewRefusesCut(t *testing.T) {
	p := destroys([]string{"a", "b", "c"}, "x")
	whole := p.Review().String()
	for i := range whole {
		r, err := plan.ParseReview(whole[:i])
		if err == nil && (strings.Count(whole[:i], ".") > 0 || r.Allows(destroys([]string{"a"}, "x").Review())) {
			t.Errorf("%s is taken for a digest", whole[:i])
		}
	}
	for _, s := range []string{"", "sha256:", "md5:00", whole + ".", whole + ".AAAA", strings.ToUpper(whole), strings.Replace(whole, ".", "..", 1)} {
		if _, err := plan.ParseReview(s); err == nil {
			t.Errorf("%q is taken for a digest", s)
		}
	}
	if s := destroys(nil).Review().String(); s != "" {
		t.Errorf("a plan that needs no approval has the digest %s", s)
	}
}

// TestReviewOfMany: with more deletions than a digest can name, the same plan is still allowed, and only that.
func TestReviewOfMany(t *testing.T) {
	var many []string
	for i := range 100 {
		many = append(many, fmt.Sprintf("b%03d", i))
	}
	p := destroys(many)
	if s := p.Review().String(); len(s) != len("sha256:")+64 {
		t.Errorf("the digest is %s", s)
	}
	if !allows(t, p, destroys(many)) || allows(t, p, destroys(many[1:])) {
		t.Error("a bare digest must allow the same plan, and no other")
	}
}

// TestReviewProperty: a digest allows another plan exactly when the rest is the same and no deletion is new.
func TestReviewProperty(t *testing.T) {
	ids := []string{"a", "b", "c", "d", "e", "f"}
	draw := func(t *rapid.T, label string) ([]string, []string) {
		return slices.Sorted(slices.Values(rapid.SliceOfNDistinct(rapid.SampledFrom(ids), 0, 6, rapid.ID).Draw(t, label))),
			slices.Sorted(slices.Values(rapid.SliceOfNDistinct(rapid.SampledFrom(ids[:2]), 0, 2, rapid.ID).Draw(t, label+" slots")))
	}
	rapid.Check(t, func(t *rapid.T) {
		backups, slots := draw(t, "was")
		later, laterSlots := draw(t, "is")
		if len(backups)+len(slots) == 0 {
			return // it has no digest
		}
		subset := !slices.ContainsFunc(later, func(id string) bool { return !slices.Contains(backups, id) })
		want := len(later)+len(laterSlots) == 0 || subset && slices.Equal(slots, laterSlots)
		if len(backups) == 0 { // a digest without deletions names no part: only the same is allowed
			want = len(later)+len(laterSlots) == 0 || len(later) == 0 && slices.Equal(slots, laterSlots)
		}
		if got := allows(t, destroys(backups, slots...), destroys(later, laterSlots...)); got != want {
			t.Fatalf("%v %v then %v %v: %t", backups, slots, later, laterSlots, got)
		}
	})
}
