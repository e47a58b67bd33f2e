package torture

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state/wal"
)

// impossible are targets that no recovery reaches, by where they lie.
func (w *routeWorld) impossible(t *testing.T) []drawn {
	t.Helper()
	var out []drawn
	add := func(where string, x hclspec.Target) {
		for _, inclusive := range []bool{true, false} {
			if x.Inclusive = inclusive; inclusive || x.Restore == "" {
				out = append(out, drawn{what: where, target: x})
			}
		}
	}
	last := &w.acts[len(w.acts)-1]
	for i := range w.acts {
		if last.commit() {
			break
		}
		last = &w.acts[len(w.acts)-1-i]
	}
	for where, in := range map[string]func(i int) bool{
		"before the first backup": func(i int) bool { return i < 4 },
		"in the gap": func(i int) bool {
			return i > 8 && w.acts[i].region == 0 && w.acts[i-2].region == 0 && w.acts[i-1].region == 0
		},
	} {
		found := 0
		for i := range w.acts {
			a := &w.acts[i]
			if !in(i) || found > 3 {
				continue
			}
			found++
			if a.xid != 0 {
				add(where+", transaction", hclspec.Target{XID: a.xid})
			}
			if a.name != "" {
				add(where+", name", hclspec.Target{Restore: a.name})
			}
			if a.commit() {
				add(where+", time", hclspec.Target{Time: a.at})
				add(where+", position", hclspec.Target{LSN: a.start})
			}
		}
		if found == 0 {
			t.Errorf("nothing happened %s", where)
		}
	}
	add("in the future, time", hclspec.Target{Time: time.Now().Add(time.Hour).UTC()})
	add("in the future, position", hclspec.Target{LSN: last.end + 1<<30})
	add("in the future, transaction", hclspec.Target{XID: last.xid + 100_000})
	add("in the future, name", hclspec.Target{Restore: "tomorrow"})
	add("on no timeline", hclspec.Target{Time: last.at, Timeline: 9})
	return out
}

// unreachable has the previews of impossible targets refuse, recover itself too, with nothing written, and recovers to each
// moment that is named instead, as a preview.
func (w *routeWorld) unreachable(t *testing.T) {
	all := w.impossible(t)
	targets := make([]hclspec.Target, len(all))
	for i := range all {
		targets[i] = all[i].target
	}
	spec, seen, recoveries := w.look(t, targets)
	var instead []hclspec.Target
	named := map[string]bool{}
	add := func(x hclspec.Target) { // many are refused for the same reason
		if key := fmt.Sprint(flags(x)); !named[key] {
			named[key] = true
			instead = append(instead, x)
		}
	}
	for i, d := range all {
		p, _ := plan.Build(spec, seen, time.Now(), plan.Options{RecoverTo: &recoveries[i]})
		fact := seen.Targets[recoveries[i].Name]
		if len(p.Steps) != 0 || len(p.NotDone) != 1 || fact.Unknown != nil || len(fact.Nearest) == 0 {
			t.Errorf("%s, %v: %d steps, %+v, %+v", d, flags(d.target), len(p.Steps), p.NotDone, fact)
			continue
		}
		if d.what == "in the gap, time" || d.what == "in the gap, position" {
			w.bothSides(t, d, fact.Nearest[0].LSN < w.gapAt(), len(fact.Nearest) == 2 && fact.Nearest[1].LSN > w.gapAt())
		}
		for _, n := range fact.Nearest {
			add(hclspec.Target{LSN: n.LSN, Inclusive: true, Timeline: n.Timeline})
			if !n.Time.IsZero() {
				add(hclspec.Target{Time: n.Time, Inclusive: true, Timeline: n.Timeline})
			}
		}
		if i%4 == 0 {
			w.refused(t, d)
		}
	}
	spec, seen, recoveries = w.look(t, instead)
	for i, x := range instead {
		if p, _ := plan.Build(spec, seen, time.Now(), plan.Options{RecoverTo: &recoveries[i]}); len(p.Steps) != 1 {
			t.Errorf("%v was named as reachable and is not: %+v", flags(x), p.NotDone)
		}
	}
	t.Logf("%d unreachable targets refused; all of %d moments named instead are reachable", len(all), len(instead))
}

func (w *routeWorld) bothSides(t *testing.T, d drawn, before, after bool) {
	t.Helper()
	if !before || !after {
		t.Errorf("%s: a moment before the gap %t, after it %t", d, before, after)
	}
}

// gapAt gives a position inside the gap.
func (w *routeWorld) gapAt() (at wal.LSN) {
	for i := range w.acts {
		if i > 8 && w.acts[i].region == 0 && w.acts[i].commit() {
			return w.acts[i].start
		}
	}
	return 0
}

// refused runs recover as an operator does; nothing must be on the disk afterwards.
func (w *routeWorld) refused(t *testing.T, d drawn) {
	t.Helper()
	dir := filepath.Join(w.site.dir, "never")
	out, code := w.site.try(append([]string{"recover", "--server", "orders", "--into", dir, "--owner", owner(), "--bindir", w.pg.Bin, "--yes"}, flags(d.target)...)...)
	if code == 0 {
		t.Errorf("%s: recover ended with 0\n%s", d, out)
	}
	says(t, out, "E-TARGET")
	left, err := filepath.Glob(dir + "*")
	if err != nil || len(left) > 0 {
		t.Errorf("%s: left %v, %v", d, left, err)
	}
}
