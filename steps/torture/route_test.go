package torture

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/steps/recovery"
)

// TestRouteIsProved compares what a preview says of random targets with what PostgreSQL told of its commits: two failovers,
// a gap, borders of segments and timelines, commit times out of order. Some are carried out and started. What a preview
// calls unreachable is refused before anything is written, and the moments that it names instead can be reached. By default
// 60 targets and 4 starts; PGKEEP_ROUNDS=300 is 300 targets and 25 starts.
func TestRouteIsProved(t *testing.T) {
	for _, version := range pgtest.SomeVersions(t, 15) {
		t.Run(strconv.Itoa(version), func(t *testing.T) {
			targets := rounds(60)
			starts := 4
			if targets >= 300 {
				starts = 25
			}
			w := newRouteWorld(t, version, 16)
			random := routeDice(t)
			all := w.drawMany(t, random, targets)
			t.Run("preview", func(t *testing.T) { w.preview(t, all) })
			t.Run("unreachable", w.unreachable)
			t.Run("started", func(t *testing.T) {
				for i := range starts {
					w.started(t, all[random.IntN(len(all))], i)
				}
			})
		})
	}
}

func routeDice(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("PGKEEP_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("PGKEEP_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

func (w *routeWorld) drawMany(t *testing.T, random *rand.Rand, many int) []drawn {
	t.Helper()
	borders := w.borders(routeSegment, w.switches)
	var all []drawn
	for len(all) < many {
		if d, ok := w.draw(random, borders); ok {
			all = append(all, d)
		}
	}
	t.Logf("%d acts on %d timelines, %d commits with an earlier time than the one before", len(w.acts), w.timeline, len(w.inversions()))
	return all
}

// preview asks for all targets at once.
func (w *routeWorld) preview(t *testing.T, all []drawn) {
	targets := make([]hclspec.Target, len(all))
	for i := range all {
		targets[i] = all[i].target
	}
	spec, seen, recoveries := w.look(t, targets)
	misses := 0
	for i, d := range all {
		p, _ := plan.Build(spec, seen, time.Now(), plan.Options{RecoverTo: &recoveries[i]})
		if len(p.Steps) != 1 {
			misses++
			t.Errorf("%s: not planned: %+v", d, p.NotDone)
			continue
		}
		route := p.Steps[0].Action.(plan.RecoverTo).Route
		if why := w.differs(d, route.Before, route.After); why != "" {
			misses++
			t.Errorf("%s: %s", d, why)
		}
	}
	t.Logf("%d targets previewed, %d misses", len(all), misses)
}

// differs compares the commits around a target with the chronicle; empty: they are the same.
func (w *routeWorld) differs(d drawn, before, after *state.Commit) string {
	is := func(i int, c *state.Commit) bool {
		return c != nil && i >= 0 && c.XID == w.acts[i].xid && c.LSN == w.acts[i].end && c.Time.Equal(w.acts[i].at)
	}
	if !is(d.before, before) && !(before == nil && (d.before < 0 || w.acts[d.before].region == 0)) {
		return fmt.Sprintf("the last commit before is %+v, and was %+v", before, w.act(d.before))
	}
	if next := w.commitAfter(d.before); next >= 0 && w.acts[next].region > 0 && !is(next, after) {
		return fmt.Sprintf("the first commit after is %+v, and was %+v", after, w.act(next))
	}
	return ""
}

func (w *routeWorld) act(i int) *act {
	if i < 0 {
		return nil
	}
	return &w.acts[i]
}

// flags are how a target is asked for on the command line.
func flags(x hclspec.Target) []string {
	var out []string
	switch {
	case !x.Time.IsZero():
		out = []string{"--to-time", x.Time.UTC().Format(time.RFC3339Nano)}
	case x.XID != 0:
		out = []string{"--to-xid", fmt.Sprint(x.XID)}
	case x.LSN != 0:
		out = []string{"--to-lsn", x.LSN.String()}
	default:
		out = []string{"--to-name", x.Restore}
	}
	if !x.Inclusive {
		out = append(out, "--exclusive")
	}
	if x.Timeline != 0 {
		out = append(out, "--timeline", fmt.Sprint(x.Timeline))
	}
	return out
}

// started carries a recovery out and asks the server that paused at the target.
func (w *routeWorld) started(t *testing.T, d drawn, n int) {
	dir := filepath.Join(w.site.dir, fmt.Sprintf("started%d", n))
	port := freePort(t)
	defer func() {
		stopServer(t, dir)
		_ = os.RemoveAll(dir)
	}()
	out := w.site.run(t, append([]string{
		"recover", "--server", "orders", "--into", dir, "--owner", owner(), "--bindir", w.pg.Bin,
		"--port", strconv.Itoa(port), "--start", "--yes",
	}, flags(d.target)...)...)
	socket, _ := recovery.Address(dir)
	back := &pgtest.Server{Version: w.pg.Version, SocketDir: socket, Port: port}
	last := w.acts[d.before].xid
	if got := back.SQL(t, "select xid from pg_last_committed_xact()"); got != fmt.Sprint(last) && got != "" { // nothing since the backup: it does not remember
		t.Errorf("%s: PostgreSQL says that the last commit is %s, and it was %d\n%s", d, got, last, out)
	}
	var want []string
	for i := range w.acts[:d.before+1] {
		if w.acts[i].commit() {
			want = append(want, fmt.Sprint(w.acts[i].xid))
		}
	}
	got := strings.Fields(back.SQL(t, "select string_agg(xid::text, ' ') from (select distinct xid from ledger) l"))
	missing, surplus := apart(want, got), apart(got, want)
	if len(missing)+len(surplus) > 0 {
		t.Errorf("%s: of %d transactions %v are missing, and %v are too many\n%s", d, len(want), missing, surplus, out)
	}
}

// apart gives what is in one list and not in the other.
func apart(in, not []string) []string {
	there := map[string]bool{}
	for _, x := range not {
		there[x] = true
	}
	var out []string
	for _, x := range in {
		if !there[x] {
			out = append(out, x)
		}
	}
	return out
}
