package repository

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"filippo.io/age"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host/hosttest"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store/file"
	"github.com/pgkeep/pgkeep/state/wal"
)

const (
	goldenEncryptedDir = "testdata/golden/format1-encrypted"
	// goldenKeysDir holds the keys of the golden repository, which protect nothing: team.key reads everything, host.key metadata.
	goldenKeysDir = "testdata/golden/format1-encrypted.keys"
)

func goldenRing(t testing.TB, identity string) *seal.Keyring {
	t.Helper()
	read := func(name string) []byte { return must(os.ReadFile(filepath.Join(goldenKeysDir, name)))(t) }
	ids := func(name string) []age.Identity { return must(seal.ParseIdentities(read(name)))(t) }
	w := must(seal.ParseWriterKey(read("writer.key")))(t)
	return &seal.Keyring{
		Data:    []seal.Recipient{recipient(ids("team.key")[0].(*age.X25519Identity))},
		Meta:    []seal.Recipient{recipient(ids("host.key")[0].(*age.X25519Identity))},
		Trusted: []seal.WriterID{w.ID()}, Writer: w, Opens: ids(identity),
	}
}

func writeGoldenKeys(t *testing.T) {
	t.Helper()
	check(t, os.MkdirAll(goldenKeysDir, 0o700))
	for _, name := range []string{"team.key", "host.key"} {
		id := must(age.GenerateX25519Identity())(t)
		check(t, os.WriteFile(filepath.Join(goldenKeysDir, name), fmt.Appendf(nil, "# public key: %s\n%s\n", id.Recipient(), id), 0o600))
	}
	w := must(seal.NewWriterKey(rand.Reader))(t)
	check(t, os.WriteFile(filepath.Join(goldenKeysDir, "writer.key"), fmt.Appendf(nil, "# public key: %s\n%s\n", w.ID(), w.Secret()), 0o600))
}

func writeGoldenEncrypted(t *testing.T, dir string) {
	t.Helper()
	r := must(Create(t.Context(), openDirectory(t, dir, file.Options{}), CreateOptions{Now: testNow, Keys: goldenRing(t, "host.key")}))(t)
	c := r.Cluster("orders.eu", "7335180256203400928")
	check(t, c.Ensure(t.Context(), ClusterFacts{Major: 15, SegmentSize: mib, PageSize: 8192, PageChecksums: true}))
	archivePast(t, c)
	takeBackup(t, testIntent(1), seal.Codec{}, goldenMembers(), 8000, c)
	takeIncremental(t, childIntent(2, testIntent(1).ID), seal.Codec{}, goldenChain()[0], c)
	check(t, c.PutJournal(t.Context(), testNow, map[string]string{"who": "the golden test"}))
}

// TestGoldenEncrypted opens an encrypted repository that was written once and for all, by a host that cannot read data.
func TestGoldenEncrypted(t *testing.T) {
	dir := must(filepath.Abs(goldenEncryptedDir))(t)
	if *update {
		check(t, os.RemoveAll(dir))
		check(t, os.RemoveAll(goldenKeysDir))
		writeGoldenKeys(t)
		writeGoldenEncrypted(t, dir)
		check(t, os.RemoveAll(filepath.Join(dir, ".pgkeep-tmp")))
	}
	for _, identity := range []string{"host.key", "team.key"} {
		r := must(OpenWith(t.Context(), openDirectory(t, dir, file.Options{}), goldenRing(t, identity)))(t)
		check(t, r.Verify(t.Context(), true, func(f Finding) { t.Errorf("%s: %+v", identity, f) }))
		c := r.Cluster("orders.eu", "7335180256203400928")
		backups := must(c.Backups(t.Context()))(t)
		compareGolden(t, goldenEncryptedDir+".json", append(must(json.MarshalIndent(backups, "", "  "))(t), '\n'))
		if identity == "host.key" {
			continue
		}
		holdsMembers(t, must(c.OpenBackup(t.Context(), backups[0].ID))(t), goldenMembers())
		holdsMembers(t, must(c.OpenBackup(t.Context(), backups[1].ID))(t), goldenChain()[0])
		w := must(c.OpenSegment(t.Context(), wal.Segment{Timeline: 1, Number: 2}))(t)
		if plain := must(io.ReadAll(w))(t); !bytes.Contains(plain, []byte(past)) {
			t.Error("the segment holds something else")
		}
		check(t, w.Close())
	}
	if _, err := Open(t.Context(), openDirectory(t, dir, file.Options{})); state.CodeOf(err) != state.CodeNoKey {
		t.Errorf("opened without keys: %v", err)
	}
}

// TestEncryptedByHand restores from the golden repository as its README.txt says: with age, zstd and tar alone.
func TestEncryptedByHand(t *testing.T) {
	hosttest.Need(t, hosttest.Program("age"))
	hosttest.Need(t, hosttest.Program("zstd"))
	dir, keys, out := must(filepath.Abs(goldenEncryptedDir))(t), must(filepath.Abs(goldenKeysDir))(t), t.TempDir()
	run := func(command string) {
		t.Helper()
		t.Setenv("KEYS", keys)
		t.Setenv("OUT", out)
		shell(t, dir, "set -e\n"+command)
	}
	run(`for f in keys/*/data-*.age; do age -d -i $KEYS/team.key "$f"; done > $OUT/data.key`)
	run(`for f in keys/*/meta-*.age; do age -d -i $KEYS/host.key "$f" || true; done > $OUT/meta.key 2>/dev/null`)
	run(`cd c/orders.eu/*; mkdir $OUT/restore $OUT/archive
	     for f in b/*-F-*/v/base/*; do age -d -i $OUT/data.key "$f"; done | zstd -dc | tar x -C $OUT/restore --exclude='pg_tblspc/*'
	     for f in w/*/*/0*; do age -d -i $OUT/data.key "$f" | zstd -dc > $OUT/archive/"${f##*/}"; done
	     age -d -i $OUT/meta.key w/history/00000002 | zstd -dc > $OUT/archive/00000002.history
	     age -d -i $OUT/meta.key b/*-F-*/COMMIT.json | grep -q '"decision": "committed"'`)
	for _, m := range goldenMembers() {
		if m.Type != RegularFile {
			continue
		}
		if got := must(os.ReadFile(filepath.Join(out, "restore", m.Path)))(t); !bytes.Equal(got, m.data) {
			t.Errorf("%s differs", m.Path)
		}
	}
	segment := must(os.ReadFile(filepath.Join(out, "archive", "000000010000000000000002")))(t)
	if len(segment) != int(mib) || !bytes.Contains(segment, []byte(past)) {
		t.Errorf("the segment has %d bytes", len(segment))
	}
	if got := must(os.ReadFile(filepath.Join(out, "archive", "00000002.history")))(t); string(got) != "1\t0/380000\tbefore x\n" {
		t.Errorf("the history is %q", got)
	}
	host := must(filepath.Glob(filepath.Join(dir, "keys", "*", "data-*.age")))(t)
	t.Setenv("F", host[0])
	run(`! age -d -i $KEYS/host.key $F`)
	run(`! age -d -i $OUT/meta.key c/orders.eu/*/w/00000001/00000000/000000010000000000000002 2>/dev/null`)
}
