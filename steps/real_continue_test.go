package steps

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/steps/basebackup"
)

// cutBackup begins a full backup and cuts it behind the tablespace, which the server sends first.
func (s *site) cutBackup() (id string, reusable int64) {
	s.t.Helper()
	cluster, _ := s.cluster()
	info, err := postgres.ParseConninfo(s.pg.Conninfo(), nil, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	conn, err := postgres.ConnectReplication(s.t.Context(), info, postgres.ConnectOptions{ApplicationName: "pgkeep test", Timeout: 5 * time.Minute})
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // it was cut
	ctx, cut := context.WithCancelCause(s.t.Context())
	result, err := basebackup.Take(ctx, conn, []*repository.Cluster{cluster}, basebackup.Options{
		Server: "orders", Checkpoint: "fast", Host: "here", Machine: host.Machine(), Program: "pgkeep test", LockDir: s.bind.LockDir, Now: s.now, Random: rand.Uint32,
		MarkEvery: 1, MaxRate: 8 << 20, Report: func(p basebackup.Progress) {
			if p.Done > 16<<20 {
				cut(errors.New("the line was cut"))
			}
		},
	})
	if err == nil {
		s.t.Fatal("the backup was faster than the cut")
	}
	backups, err := cluster.Backups(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	for _, b := range backups {
		if b.ID == result.ID && b.State == state.BackupCut {
			return b.ID, b.Reusable
		}
	}
	s.t.Fatalf("it was not cut: %+v", backups)
	return "", 0
}

// TestPlansContinueACutBackup: what a plan does about a backup that was cut, until nothing is left to do: it is gone on with, and of it stays what
// the new one reads; without a new one it stays, and goes when it is too old. A prune takes the rest with the last reader.
func TestPlansContinueACutBackup(t *testing.T) {
	pg := pgtest.Start(t, pgtest.Options{Version: pgtest.SomeVersions(t, 15)[0]})
	pg.Exec(t, "create tablespace fast location '"+pg.Dir(t, "fast")+"'")
	pg.Exec(t, "create table rows tablespace fast as select i, md5(i::text) || md5((-i)::text) m from generate_series(1, 130000) i")
	pg.Exec(t, "vacuum freeze rows")
	s := newSite(t, pg)
	s.convergeBy("create-repository", "create-slot", "start-receiver")
	id, reusable := s.cutBackup()
	p := s.plan()
	at := slices.IndexFunc(p.Steps, func(x plan.Step) bool { return plan.Verb(x.Action) == "take-backup" })
	if at < 0 || !slices.Contains(p.Steps[at].Action.(plan.TakeBackup).Continues, id) {
		t.Fatalf("it is not gone on with: %+v", p.Steps)
	}
	if applies := s.converge(); applies > 1 {
		t.Errorf("%d applies", applies)
	}
	cluster, _ := s.cluster()
	backups, err := cluster.Backups(t.Context())
	if err != nil || len(backups) != 2 || backups[0].ID != id || backups[0].State != state.BackupDeleted || !slices.Contains(backups[1].Refs, id) {
		t.Fatalf("%+v, %v", backups, err)
	}
	if got := backups[1]; got.State != state.BackupCommitted || got.Kind != "incremental" || got.Chain.ReferredBytes < reusable/2 {
		t.Errorf("%d bytes were there, and of it came %+v", reusable, got)
	}
	err = cluster.Verify(t.Context(), true, func(f repository.Finding) { t.Errorf("%+v", f) })
	if err != nil {
		t.Error(err)
	}

	again, _ := s.cutBackup()
	kept := func(p *plan.Plan) bool {
		return slices.ContainsFunc(p.NotDone, func(n plan.NotDone) bool { return n.Kept() && n.What == "remove-incomplete of "+again })
	}
	if p := s.plan(); len(p.Steps) != 0 || !kept(p) {
		t.Errorf("%+v %+v", p.Steps, p.NotDone)
	}
	s.late = 73 * time.Hour
	if p := s.plan(); kept(p) {
		t.Errorf("it is kept for ever: %+v", p.NotDone)
	}
	s.convergeBy("remove-incomplete")
	backups, err = cluster.Backups(t.Context())
	if err != nil || slices.ContainsFunc(backups, func(b state.Backup) bool { return b.ID == again }) {
		t.Errorf("it is there still: %+v, %v", backups, err)
	}
}
