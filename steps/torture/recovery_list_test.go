package torture

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// fourHCL is one server, whose backups go into four repositories: into the second as into the first, into the third in another codec,
// and into the last encrypted.
const fourHCL = `
repository "main" {
  path = "@DIR@/main"
}

repository "other_alike" {
  path = "@DIR@/alike"
}

repository "other_codec" {
  path = "@DIR@/codec"

  compression {
    algorithm = "lz4"
  }
}

repository "other_keys" {
  path = "@DIR@/keys"

  encryption {
    data_recipients = ["%[2]s"]
    trusted_writers = ["%[3]s"]
    signing_key     = "@DIR@/writer.key"
    identity_files  = ["@DIR@/team.key"]
  }
}

server "orders" {
  conninfo     = "%[1]s"
  repositories = [repository.main, %[4]s]

  receiver {
    spool      = "@DIR@/spool"
    push_every = "1s"
  }

  backup {
    checkpoint = "fast"
  }
}
`

// listed is what makes a backup's volumes of use: where one of these is damaged, no byte of a volume is.
var listed = map[string][]string{ // by the repository that stands in: parts of keys
	"other_alike": {"/files/"},
	"other_codec": {"/files/", "/COMMIT.json", "/backup_label"},
	"other_keys":  {"/files/", "/folders"},
}

// TestRecoveryPastADamagedList: the nearest repository has lost a list of the backup. The recovery goes on in another one, whether the backup
// lies there alike to the byte or not, says so, and brings back what it would have.
func TestRecoveryPastADamagedList(t *testing.T) {
	pg := pgtest.Start(t, pgtest.Options{Version: 15, SegmentMB: 1, Settings: ledgerSettings})
	pg.Exec(t, ledgerTable)
	site := newSite(t, "")
	shown := func(pattern string, args ...string) string {
		return regexp.MustCompile(pattern).FindString(site.run(t, append([]string{"key", "generate"}, args...)...))
	}
	team, writer := shown(`age1\w+`, filepath.Join(site.dir, "team.key")), shown(`ed25519:\S+`, "--writer", filepath.Join(site.dir, "writer.key"))
	hcl := func(others string) string { return fmt.Sprintf(fourHCL, pg.Conninfo(), team, writer, others) }
	site.configure(t, hcl("repository.other_alike, repository.other_codec, repository.other_keys"))
	site.run(t, "apply", "--auto-approve")
	var l ledger
	l.upTo(t, pg, 10)
	site.run(t, "backup", "orders", "--wait=10m")
	site.run(t, "receiver", "stop", "orders")
	for other, objects := range listed {
		for _, object := range objects {
			name := strings.ToLower(regexp.MustCompile(`\W+`).ReplaceAllString(other+object, "_"))
			t.Run(name, func(t *testing.T) {
				defer spoil(t, filepath.Join(site.dir, "main"), object)()
				site.configure(t, hcl("repository."+other)+fmt.Sprintf(onlyDirectoryHCL, name, owner(), pg.Bin))
				out := site.run(t, "recover", name, "--yes")
				if !regexp.MustCompile(`repository "?` + other).MatchString(out) { // the plan, or what was met on the way
					t.Errorf("it does not say that it was restored from %s:\n%s", other, out)
				}
				back := pgtest.StartDir(t, pg.Version, filepath.Join(site.dir, name), pgtest.Options{Version: pg.Version})
				defer back.Stop(t, "immediate")
				awaitPromotion(t, back)
				holds(t, back, 10)
			})
		}
	}
}

const onlyDirectoryHCL = `
recovery "%[1]s" {
  server = server.orders

  target {
    immediate = true
    action    = "promote"
  }

  destination {
    path   = "@DIR@/%[1]s"
    owner  = "%[2]s"
    bindir = "%[3]s"
  }
}
`

// spoil changes a byte of every object of backups whose name has that part, and gives how to undo it.
func spoil(t *testing.T, dir, part string) (undo func()) {
	t.Helper()
	was := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.Contains(path, "/b/") || !strings.Contains(path, part) {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		was[path] = b
		other := append([]byte{}, b...)
		other[len(other)/2] ^= 1
		return os.WriteFile(path, other, 0o600)
	})
	if err != nil || len(was) == 0 {
		t.Fatalf("%d objects of %s were changed: %v", len(was), part, err)
	}
	return func() {
		for path, b := range was {
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Error(err)
			}
		}
	}
}
