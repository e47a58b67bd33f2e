package steps

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/repository"
)

// realStory is a real world in which a plan holds an action, and what must be true of it at any time.
type realStory struct {
	name  string
	verbs []string // that its first plan holds
	// arrange makes the world once; it is copied for every kill. Receivers end after it.
	arrange func(s *site)
	// ready brings the server to where the copied world left it; nil: nothing to do.
	ready func(s *site)
	// guard is what must stay; nil: everything that the world had.
	guard func(s *site) guard
	drops int // how many slots that hold WAL may be dropped
	// asked for by hand: the second plan is what is left when nobody asks again.
	asked bool
}

// settingsOf gives the settings of a server whose WAL is kept for every copy of a world, but for the slot that is lost.
func settingsOf(name string) map[string]string {
	if name == "replace-slot" || name == "record-gap" {
		return map[string]string{"max_wal_size": "2MB", "min_wal_size": "2MB", "wal_keep_size": "0"}
	}
	return map[string]string{"wal_keep_size": "900MB", "checkpoint_timeout": "1h"}
}

func realStories() []realStory {
	return []realStory{
		{
			name: "first apply", verbs: []string{"create-repository", "create-slot", "start-receiver", "take-backup"},
			arrange: func(*site) {},
		},
		{
			name: "replace-slot", verbs: []string{"replace-slot", "start-receiver"},
			arrange: (*site).protectForLong, ready: (*site).loseSlot, guard: lossy,
		},
		{
			name: "record-gap", verbs: []string{"record-gap", "start-receiver"},
			arrange: (*site).protectForLong, ready: func(s *site) {
				s.loseSlot()
				s.dropSlots()
				s.pg.Exec(s.t, "select pg_create_physical_replication_slot('pgkeep_orders', true)")
				s.saw = sawLoss
			}, guard: lossy,
		},
		{
			name: "drop-slot", verbs: []string{"stop-receiver", "drop-slot"},
			arrange: (*site).protect, ready: func(s *site) {
				s.protect()
				s.spec = s.removed()
				s.approved = []string{"disruptive", "destructive"}
			}, drops: 1,
		},
		{
			name: "follow-timeline", verbs: []string{"follow-timeline", "start-receiver"},
			arrange: (*site).protect, ready: func(s *site) {
				if s.facts().Timeline == 1 {
					s.promote()
				}
			},
		},
		{
			name: "remove-incomplete", verbs: []string{"remove-incomplete"},
			arrange: func(s *site) { s.protect(); s.deadWriter() }, ready: (*site).startReceiver,
		},
		{
			name: "prune", verbs: []string{"prune"},
			arrange: func(s *site) { s.protect(); s.backups(2) }, ready: (*site).startReceiver,
			guard: func(s *site) guard { return s.holding(s.committedIDs()[:2]...) },
		},
		{
			name: "prune-wal", verbs: []string{"prune", "prune-wal"}, // the second half of a prune, and WAL before the oldest
			arrange: func(s *site) {
				s.protect()
				s.backups(2)
				s.converge() // tombs
				s.recv.endAll()
				s.twoDaysLater()
			}, ready: (*site).startReceiver,
		},
		{
			name: "recover-to", verbs: []string{"recover-to"}, asked: true,
			arrange: (*site).protect, ready: (*site).wantRecovery,
		},
		{
			name: "copy", verbs: []string{"create-repository", "copy-backup", "copy-wal"},
			arrange: func(s *site) {
				s.protectForLong()
				s.backups(1)
				s.recv.endAll()
				s.configure(strings.Replace(twoSitesHCL, "redundancy = 1", "redundancy = 9", 1))
			}, ready: (*site).startReceiver,
		},
		{
			name: "switch-wal", verbs: []string{"switch-wal"}, asked: true,
			arrange: (*site).protect, ready: func(s *site) { s.startReceiver(); s.ask.Switch = []string{"orders"} },
		},
	}
}

// lossy guards what is archived, where WAL after it is lost.
func lossy(s *site) guard {
	g := s.holding()
	g.gapless = false
	return g
}

func (s *site) protect() {
	s.t.Helper()
	s.pg.Exec(s.t, "create table if not exists work (n int)")
	s.converge()
}

// protectForLong keeps every backup, also when a newer one came.
func (s *site) protectForLong() {
	s.configure(strings.Replace(siteHCL, "redundancy = 1", "redundancy = 9", 1))
	s.protect()
}

func (s *site) startReceiver() {
	s.t.Helper()
	s.saw = nil
	s.convergeBy("create-slot", "start-receiver")
}

// backups takes more of them, so that there are some that no rule keeps.
func (s *site) backups(n int) {
	s.t.Helper()
	for range n {
		s.pg.Exec(s.t, "insert into work select generate_series(1, 1000); select pg_switch_wal()")
		order := plan.TakeBackup{Server: "orders", Repositories: []string{"main"}, Kind: "full", Fast: true}
		step := plan.Step{ID: "backup", Action: order, Impact: plan.Safe}
		if _, err := s.apply(&plan.Plan{Steps: []plan.Step{step}}, Bind(s.spec, s.bind)); err != nil {
			s.t.Fatal(err)
		}
	}
}

// loseSlot writes more WAL than the slot may hold back, while nobody receives it.
func (s *site) loseSlot() {
	s.t.Helper()
	s.pg.Exec(s.t, "select pg_create_physical_replication_slot('pgkeep_orders', true) where not exists (select from pg_replication_slots)")
	keep := func(much string) {
		s.pg.Exec(s.t, "alter system set max_slot_wal_keep_size = '"+much+"'")
		s.pg.Reload(s.t)
	}
	keep("1MB")
	for range 6 {
		s.pg.Exec(s.t, "insert into work select generate_series(1, 20000); select pg_switch_wal()")
	}
	s.pg.Exec(s.t, "checkpoint")
	s.pg.Exec(s.t, "checkpoint")
	if lost := s.pg.SQL(s.t, "select wal_status from pg_replication_slots"); lost != "lost" {
		s.t.Fatalf("the slot is %s", lost)
	}
	keep("1GB") // the next one is not lost by a checkpoint that is still under way
}

// sawLoss is what a receiver that ended right after it met the loss left in its report.
func sawLoss(seen *state.Observation) {
	r := seen.Receivers["orders"]
	if !r.Running {
		r.Problem = &state.Problem{Code: state.CodeGap, Text: "the server had removed it", Since: epoch}
		seen.Receivers["orders"] = r
	}
}

// removed gives the configuration without the server, and with the block that gives it up.
func (s *site) removed() *hclspec.Spec {
	spec := *s.spec
	one, other := spec.Servers[0], spec.Servers[0]
	other.Name, other.Address, other.Repositories = "other", "server.other", nil // its spool is where this one's is looked for
	spec.Servers, spec.Retentions = []hclspec.Server{other}, nil
	spec.Removed = []hclspec.Removed{{From: "server.orders", Name: "orders", Conninfo: one.Conninfo, Slot: "drop", SlotName: one.Slot.Name, Backups: "keep"}}
	return &spec
}

// promote lets the server go on with a new timeline.
func (s *site) promote() {
	s.t.Helper()
	s.pg.Stop(s.t, "fast")
	s.pg.WriteFile(s.t, "standby.signal", "")
	s.pg.StartAgain(s.t)
	s.pg.Promote(s.t)
	s.pg.Exec(s.t, "checkpoint")
}

// deadWriter announces a backup whose writer holds no lock.
func (s *site) deadWriter() {
	s.t.Helper()
	cluster, _ := s.cluster()
	facts := s.facts()
	now := time.Now().UTC()
	id := repository.NewBackupID(now, "full", 7)
	lock := filepath.Join(s.bind.LockDir, fmt.Sprintf("backup-orders-%s-%s.lock", facts.SystemID, id))
	if err := os.WriteFile(lock, nil, 0o600); err != nil { // as the kernel leaves it of a killed process
		s.t.Fatal(err)
	}
	_, err := cluster.BeginBackup(s.t.Context(), repository.Intent{
		ID: id, Kind: repository.KindFull, Host: "here", Machine: host.Machine(), Lock: repository.LockPlace(s.bind.LockDir), Version: facts.Version,
		Timeline: facts.Timeline, Start: facts.FlushLSN, Redo: facts.FlushLSN, Now: now,
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// committedIDs gives the committed backups, oldest first.
func (s *site) committedIDs() []string {
	s.t.Helper()
	cluster, _ := s.cluster()
	backups, err := cluster.Backups(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	slices.SortFunc(backups, func(a, b state.Backup) int { return cmp.Compare(a.Redo, b.Redo) })
	var out []string
	for _, b := range backups {
		if b.State == state.BackupCommitted {
			out = append(out, b.ID)
		}
	}
	return out
}

// twoDaysLater lets two days pass, by the clocks here, of the server and of the store.
func (s *site) twoDaysLater() {
	s.t.Helper()
	s.late = 50 * time.Hour
	err := filepath.WalkDir(filepath.Join(s.dir, "repository"), func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chtimes(path, time.Time{}, s.now()))
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) wantRecovery() {
	s.t.Helper()
	s.startReceiver()
	s.approved = []string{"disruptive"}
	owner := ""
	if os.Geteuid() == 0 {
		owner = "nobody"
	}
	s.ask.RecoverTo = &hclspec.Recovery{
		Name: "r", Server: "orders", Target: hclspec.Target{Immediate: true, Inclusive: true},
		Destination: hclspec.Destination{Path: filepath.Join(s.dir, "restore"), Owner: owner, BinDir: s.pg.Bin, WAL: "fetch"},
	}
}

// TestRealWorldKilledAtEveryCall kills applies before, amidst and after their calls, with a real server, spool and
// repository behind them, for every action: nothing that is needed is ever touched, nothing is committed that is not
// whole, and what comes after converges to an empty plan. PGKEEP_ROUNDS says how many kills of each story, spread evenly
// over all its calls; by default a few.
func TestRealWorldKilledAtEveryCall(t *testing.T) {
	for _, story := range realStories() {
		t.Run(story.name, func(t *testing.T) { story.run(t) })
	}
}

func (x realStory) run(t *testing.T) {
	pg := pgtest.Start(t, pgtest.Options{Version: pgtest.SomeVersions(t, 15)[0], SegmentMB: 1, Settings: settingsOf(x.name)})
	s := newSite(t, pg)
	x.arrange(s)
	s.recv.endAll()
	template := filepath.Join(t.TempDir(), "template")
	copyWorld(t, s.dir, template)
	late, spec := s.late, s.spec
	again := func() {
		s.recv.endAll()
		s.dropSlots()
		s.spec, s.ask, s.approved, s.saw, s.route, s.late = spec, plan.Options{}, nil, nil, nil, late
		copyWorld(t, template, s.dir)
		if x.ready != nil {
			x.ready(s)
		}
	}
	again()
	calls := x.kill(t, s, kill{})
	n := min(rounds(3), 2*calls)
	for i := range n {
		at := (2*i + 1) * calls / n // of 2*calls moments
		k := kill{at: at/2 + 1, after: at%2 == 1}
		again()
		x.kill(t, s, k)
		if t.Failed() {
			t.Fatalf("kill %+v of %d calls", k, calls)
		}
	}
	t.Logf("%d of %d moments", n, 2*calls)
}

// kill applies with one kill, or unharmed and with the invariant after every call, and then converges.
func (x realStory) kill(t *testing.T, s *site, k kill) (calls int) {
	t.Helper()
	g := s.holding()
	if x.guard != nil {
		g = x.guard(s)
	}
	p := s.plan()
	x.holdsVerbs(t, s, p)
	f := &fakeWorld{kill: k}
	if k.at == 0 {
		f.invariant = func(*fakeWorld) error { return s.sound(g) }
	}
	_, err := s.apply(p, fragile(f, Bind(s.spec, s.bind)))
	switch {
	case k.at == 0 && err != nil:
		t.Fatalf("apply: %v", err)
	case k.at != 0 && !f.dead:
		t.Logf("kill %+v never came: %d calls", k, f.calls)
	}
	if k.at%2 == 0 {
		s.recv.endAll() // of the agent, they die with it; detached ones go on
	}
	if f.broken == nil {
		f.broken = s.sound(g)
	}
	if f.broken != nil {
		t.Errorf("kill %+v at %q: %v", k, f.called[len(f.called)-1], f.broken)
	}
	if x.asked {
		x.again(t, s, p)
		s.ask = plan.Options{}
	}
	s.converge()
	if err := s.sound(g); err != nil {
		t.Errorf("kill %+v at %q, and converged: %v", k, f.called[len(f.called)-1], err)
	}
	if len(f.dropped) > x.drops {
		t.Errorf("kill %+v: slots that hold WAL were dropped: %v", k, f.dropped)
	}
	return f.calls
}

// again asks for what was asked for by hand once more: it is done, or so already, and a recovery is not done twice.
func (x realStory) again(t *testing.T, s *site, p *plan.Plan) {
	t.Helper()
	for _, want := range []Outcome{OutcomeDone, OutcomeAlready} {
		result, err := s.apply(p, Bind(s.spec, s.bind))
		if err != nil {
			t.Fatalf("asked for again: %v: %s", err, result.Steps[0].Note)
		}
		if got := result.Steps[0].Outcome; s.route != nil && want == OutcomeAlready && got != want {
			t.Errorf("a recovery that is complete was %s again", got)
		}
	}
}

func (x realStory) holdsVerbs(t *testing.T, s *site, p *plan.Plan) {
	t.Helper()
	var verbs []string
	for i := range p.Steps {
		verbs = append(verbs, plan.Verb(p.Steps[i].Action))
		if r, ok := p.Steps[i].Action.(plan.RecoverTo); ok {
			s.route = &r.Route
		}
	}
	for _, want := range x.verbs {
		if !slices.Contains(verbs, want) {
			t.Fatalf("%s is not planned: %v %+v", want, verbs, p.NotDone)
		}
	}
}

// copyWorld makes to the same as from, but for the configuration.
func copyWorld(t *testing.T, from, to string) {
	t.Helper()
	for _, name := range []string{"repository", "repository2", "spool", "restore"} { // locks belong to their directory
		if err := os.RemoveAll(filepath.Join(to, name)); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(from, name)); err != nil {
			continue
		}
		if err := os.MkdirAll(to, 0o700); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("cp", "-a", filepath.Join(from, name), filepath.Join(to, name)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
}
