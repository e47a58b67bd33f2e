package steps

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/spool"
	"github.com/pgkeep/pgkeep/steps/receive"
)

// TestReceiverRefusesAnotherClusterThanTheRepositoriesHold has an empty spool, no identity block, and a repository that
// holds another cluster under the server's name.
func TestReceiverRefusesAnotherClusterThanTheRepositoriesHold(t *testing.T) {
	pg := pgtest.Start(t, pgtest.Options{})
	s := newSite(t, pg)
	r := s.recv.real()
	if err := (realRepositories{r}).Create(t.Context(), "main"); err != nil {
		t.Fatal(err)
	}
	const archived = "7000000000000000001"
	repo, err := r.openRepository(t.Context(), "main")
	if err != nil {
		t.Fatal(err)
	}
	for name, id := range map[string]string{"orders": archived, "others": "7000000000000000002"} {
		if err := repo.Cluster(name, id).Ensure(t.Context(), repository.ClusterFacts{Major: 15, SegmentSize: 16 << 20, PageSize: 8192}); err != nil {
			t.Fatal(err)
		}
	}
	system := pg.SQL(t, "select system_identifier from pg_control_system()")
	if p := s.firstProblem(); p.Code != state.CodeIdentity || !strings.Contains(p.Text, archived) || !strings.Contains(p.Text, system) {
		t.Errorf("the wrong cluster: %+v", p)
	}
	if err := os.Rename(filepath.Join(s.dir, "repository"), filepath.Join(s.dir, "away")); err != nil {
		t.Fatal(err)
	}
	if p := s.firstProblem(); p.Code == state.CodeIdentity {
		t.Errorf("a repository that does not answer is taken for evidence: %+v", p)
	}
	if err := os.Rename(filepath.Join(s.dir, "away"), filepath.Join(s.dir, "repository")); err != nil {
		t.Fatal(err)
	}
	s.configure(strings.Replace(siteHCL, "  backup {", "  identity {\n    system_identifiers = [\""+system+"\"]\n  }\n\n  backup {", 1))
	if p := s.firstProblem(); p.Code == state.CodeIdentity {
		t.Errorf("the cluster that the configuration names: %+v", p)
	}
}

// firstProblem runs the receiver until it has a problem or ends: here there is never a slot.
func (s *site) firstProblem() state.Problem {
	s.t.Helper()
	o, err := ReceiverOptions(s.spec, "orders", s.bind)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Minute)
	defer cancel()
	said := make(chan state.Problem, 1)
	o.Holder = spool.Holder{PID: os.Getpid(), Who: "tester@here", Since: time.Now()}
	o.Notice = func(r state.Receiver) {
		if r.Problem == nil {
			return
		}
		select {
		case said <- *r.Problem:
			cancel()
		default:
		}
	}
	ended := receive.Run(ctx, o)
	select {
	case p := <-said:
		return p
	default:
		s.t.Fatalf("the receiver ended without a problem: %v", ended)
		return state.Problem{}
	}
}
