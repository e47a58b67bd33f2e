package steps

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/store/open"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest/servers"
)

// lockingBuckets start a service each and give the URL of a bucket that locks, to be written to by a user who may delete nothing.
func lockingBuckets() map[string]func(t *testing.T) string {
	return map[string]func(t *testing.T) string{
		"S3": func(t *testing.T) string {
			server := servers.S3Locking(t)
			where := server.LockBucket(t, "vault")
			server.User(t, "vault", "writer", "canary-writer-secret",
				"s3:PutObject", "s3:GetObject", "s3:ListBucket", "s3:PutObjectRetention", "s3:GetObjectRetention")
			t.Setenv("AWS_ACCESS_KEY_ID", "writer")
			t.Setenv("AWS_SECRET_ACCESS_KEY", "canary-writer-secret")
			return where
		},
		"Azure": func(t *testing.T) string {
			server := servers.AzureLocking(t)
			server.LockContainer(t, "vault")
			server.Refuse(func(r *http.Request) int {
				if r.Method == http.MethodDelete {
					return http.StatusForbidden
				}
				return 0
			})
			return server.URL("vault", "")
		},
	}
}

// lookIntoBucket looks at what the bucket holds of the golden cluster.
func lookIntoBucket(t *testing.T, url string) state.Cluster {
	t.Helper()
	st, err := open.Open(url)
	if err != nil {
		t.Fatal(err)
	}
	r := repository.Look(t.Context(), st, repository.ObserveOptions{Location: url, Now: time.Now(), Locks: true})
	if r.Unknown != nil || len(r.Clusters[goldenServer]) != 1 {
		t.Fatalf("look: %+v, %d clusters", r.Unknown, len(r.Clusters[goldenServer]))
	}
	return r.Clusters[goldenServer][0]
}

// applyNow carries out one action by the clock of the service, and wants it to end so.
func applyNow(t *testing.T, w World, action plan.Action, needs string, want Outcome) StepResult {
	t.Helper()
	p := &plan.Plan{Steps: []plan.Step{{ID: "step", Impact: plan.Safe, Action: action}}}
	if needs != "" {
		p.Steps[0].Requires = []plan.Condition{{Code: needs}}
	}
	r, _ := Apply(t.Context(), p, w, Options{Auto: []plan.Impact{plan.Safe}, Now: time.Now})
	if got := r.Steps[0]; got.Outcome != want {
		t.Fatalf("%s: %s (%s): %v", plan.Verb(action), got.Outcome, got.Note, got.Err)
	}
	return r.Steps[0]
}

// TestNothingIsDeletedFromABucket is a backup host whose credentials cannot delete, against a real service, in Azure's case behind a proxy that locks: the repository is made,
// backups and WAL come, locks are extended and are told so, and a prune takes nothing, says until when or that it may not, and ends.
func TestNothingIsDeletedFromABucket(t *testing.T) {
	for name, bucket := range lockingBuckets() {
		t.Run(name, func(t *testing.T) { nothingIsDeleted(t, bucket(t)) })
	}
}

func nothingIsDeleted(t *testing.T, url string) {
	spec, _ := twoDirectories(t, "format1-incremental")
	spec.Repositories[1] = hclspec.Repository{Name: "second", URL: url, ObjectLock: hclspec.ObjectLock{Mode: "compliance", Margin: time.Hour}}
	w := Bind(spec, BindOptions{LockDir: t.TempDir()})
	applyNow(t, w, plan.CreateRepository{Repository: "second"}, plan.NeedNoRepository, OutcomeDone)
	from := clusterOf(t, spec.Repositories[0].Path)
	backups, err := from.Backups(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range backups {
		if b.State == state.BackupCommitted {
			applyNow(t, w, plan.CopyBackup{Server: goldenServer, SystemID: goldenSystem, From: "main", Repository: "second", Backup: b.ID}, plan.NeedBackup, OutcomeDone)
		}
	}
	seen := lookIntoBucket(t, url)
	until := time.Now().Add(90 * time.Minute).Truncate(time.Second)
	a := plan.ExtendLock{Server: goldenServer, SystemID: goldenSystem, Repository: "second", Locks: []plan.LockNeed{{Until: until, Opening: true}}}
	for _, b := range seen.Backups {
		if !b.LockedUntil.After(time.Now()) || !b.LockedUntil.Before(until) {
			t.Errorf("%s is locked until %s at first", b.ID, b.LockedUntil)
		}
		a.Locks[0].Backups = append(a.Locks[0].Backups, b.ID)
	}
	if note := applyNow(t, w, a, plan.NeedBackup, OutcomeDone).Note; !strings.Contains(note, "objects are locked") {
		t.Errorf("note %q", note)
	}
	applyNow(t, w, a, plan.NeedBackup, OutcomeAlready)
	seen = lookIntoBucket(t, url)
	if seen.Locks.Opening.Before(until) || slices.ContainsFunc(seen.Backups, func(b state.Backup) bool { return b.LockedUntil.Before(until) }) {
		t.Errorf("after it was extended: %+v, %+v", seen.Locks, seen.Backups)
	}
	for _, n := range []plan.LockNeed{{Until: time.Now().Add(48 * time.Hour), Opening: true}, {Until: time.Now().Add(48 * time.Hour), Backups: a.Locks[0].Backups}} {
		far := a
		far.Locks = []plan.LockNeed{n}
		if got := applyNow(t, w, far, plan.NeedBackup, OutcomeStale); !strings.Contains(got.Err.Error(), "no lock is extended beyond") {
			t.Errorf("a lock that no plan asks for: %v", got.Err)
		}
	}
	prune := plan.Prune{Server: goldenServer, SystemID: goldenSystem, Repository: "second", Backups: a.Locks[0].Backups, Clock: time.Now()}
	if note := applyNow(t, w, prune, plan.NeedStillNeedless, OutcomeDone).Note; !strings.Contains(note, plan.Moment(until)) {
		t.Errorf("prune of what is locked says %q", note)
	}
	if after := lookIntoBucket(t, url); len(after.Backups) != len(seen.Backups) || after.Backups[0].State != state.BackupCommitted {
		t.Errorf("after the prune there is %+v", after.Backups)
	}
}
