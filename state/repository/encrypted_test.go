package repository

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"

	"github.com/pgkeep/pgkeep/state/repository/seal"
)

// testKeys are the keys of everything that is encrypted in these tests: drawn once, because keys of one process are those of one operator.
type testKeys struct {
	team, host *age.X25519Identity // who reads data, and a backup host that reads metadata
	writer     *seal.WriterKey
	public     seal.RepositoryKey // of repositories that tests put together by hand
	meta, data *age.X25519Identity
}

var drawTestKeys = sync.OnceValue(func() testKeys {
	team, err := age.GenerateX25519Identity()
	if err != nil {
		panic(err)
	}
	host, err := age.GenerateX25519Identity()
	if err != nil {
		panic(err)
	}
	writer, err := seal.NewWriterKey(bytes.NewReader(bytes.Repeat([]byte{7}, 32)))
	if err != nil {
		panic(err)
	}
	k := testKeys{team: team, host: host, writer: writer}
	if k.public, k.meta, k.data, err = seal.NewRepositoryKey("0123456789abcdef", 1); err != nil {
		panic(err)
	}
	return k
})

// addTo makes the key of repositories that were put together by hand known.
func (k testKeys) addTo(v *seal.Vault) {
	if err := v.Add(k.public, k.meta, k.data); err != nil {
		panic(err)
	}
}

func recipient(id *age.X25519Identity) seal.Recipient {
	r, err := seal.ParseRecipient(id.Recipient().String())
	if err != nil {
		panic(err)
	}
	return r
}

// ring gives what a configuration of these keys has, with the identities that are here.
func (k testKeys) ring(opens ...age.Identity) *seal.Keyring {
	return &seal.Keyring{
		Data: []seal.Recipient{recipient(k.team)}, Meta: []seal.Recipient{recipient(k.host)}, Writer: k.writer,
		Trusted: []seal.WriterID{k.writer.ID()}, Opens: opens,
	}
}

// teamRing is the configuration of who can read everything, and hostRing that of a backup host.
func teamRing() *seal.Keyring { k := drawTestKeys(); return k.ring(k.team) }
func hostRing() *seal.Keyring { k := drawTestKeys(); return k.ring(k.host) }

// suiteKeys are the keys with which the tests of this package run: none, unless PGKEEP_ENCRYPTED=team asks for them. So every test
// that does not look at stored bytes itself can be run over an encrypted repository, the models, the crashes and the grid of damages among them.
func suiteKeys() *seal.Keyring {
	if os.Getenv("PGKEEP_ENCRYPTED") == "team" {
		return teamRing()
	}
	return nil
}

// plainObject gives an object as it was before it was sealed, which without keys is as it lies.
func plainObject(t testing.TB, c *Cluster, key string) []byte {
	t.Helper()
	return must(readAll(t.Context(), c.repo.st, key, maxStored))(t)
}

// withoutKeys leaves out the objects of a repository's own keys, whose names are drawn anew for each.
func withoutKeys(objects []string) []string {
	return slices.DeleteFunc(objects, func(key string) bool { return strings.HasPrefix(key, keysDir) })
}

// memoryKeys lists what lies in the store of a cluster of testCluster.
func memoryKeys(c *Cluster) []string {
	st := c.repo.Store()
	if b, ok := st.(*box); ok {
		st = b.Store
	}
	return st.(*memory).keys()
}
