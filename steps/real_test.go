package steps

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/store/file"
)

// TestApplyProtectsARealServer applies the plan of an untouched server and expects the second plan to be empty.
func TestApplyProtectsARealServer(t *testing.T) {
	for _, version := range pgtest.Versions(t) {
		t.Run(strconv.Itoa(version), func(t *testing.T) {
			pg := pgtest.Start(t, pgtest.Options{Version: version})
			s := newSite(t, pg)
			var verbs []string
			for _, step := range s.plan().Steps {
				verbs = append(verbs, plan.Verb(step.Action))
			}
			for _, want := range []string{"create-repository", "create-slot", "start-receiver", "take-backup"} {
				if !slices.Contains(verbs, want) {
					t.Errorf("%s is not planned: %v", want, verbs)
				}
			}
			s.converge()
			st, err := file.Open(s.spec.Repositories[0].Path, file.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer st.Close()
			repo, err := repository.Open(t.Context(), st)
			if err != nil {
				t.Fatal(err)
			}
			keys, err := repo.Clusters(t.Context())
			if err != nil || len(keys) != 1 {
				t.Fatalf("clusters %v: %v", keys, err)
			}
			notes := 0
			for _, err := range repo.Cluster(keys[0].Name, keys[0].SystemID).Journal(t.Context(), epoch) {
				if err != nil {
					t.Fatal(err)
				}
				notes++
			}
			if notes == 0 {
				t.Error("the apply left no journal")
			}
			onlyForTheOwner(t, s.spec.Repositories[0].Path, s.spec.Servers[0].Receiver.Spool, s.bind.LockDir)
		})
	}
}

// onlyForTheOwner walks what was written: files 0600, directories 0700, whatever the umask.
func onlyForTheOwner(t *testing.T, roots ...string) {
	t.Helper()
	for _, root := range roots {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if os.IsNotExist(err) {
				return nil // the receiver lives
			}
			if err == nil && info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s has mode %v", path, info.Mode().Perm())
			}
			return err
		})
		if err != nil && !os.IsNotExist(err) {
			t.Error(err)
		}
	}
}
