package repository

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest"
	"github.com/pgkeep/pgkeep/state/wal"
)

// strangerRing is the ring of somebody who reads everything and whose signature nobody trusts: a thief of identities without a writer key.
func strangerRing(t testing.TB) *seal.Keyring {
	t.Helper()
	ring := teamRing()
	ring.Writer = must(seal.NewWriterKey(rand.Reader))(t)
	ring.Trusted = append(ring.Trusted, ring.Writer.ID())
	return ring
}

// plantedRepository has two clusters with a full backup each, WAL and its index.
func plantedRepository(t testing.TB) (*storetest.Memory, *Cluster, *Cluster) {
	t.Helper()
	st := storetest.NewMemory(nil)
	r := must(Create(t.Context(), st, CreateOptions{Now: archiveEpoch, Keys: teamRing()}))(t)
	var out []*Cluster
	for _, name := range []string{archiveName, "billing"} {
		c := r.Cluster(name, archiveID)
		check(t, c.Ensure(t.Context(), ClusterFacts{Major: 15, SegmentSize: mib, PageSize: 8192, PageChecksums: true}))
		archivePast(t, c)
		takeBackup(t, testIntent(1), seal.Codec{}, pastMembers(2), 8000, c)
		takeBackup(t, testIntent(2), seal.Codec{}, pastMembers(2), 8000, c)
		out = append(out, c)
	}
	return st, out[0], out[1]
}

// recordBytes gives a record as it is before it is sealed.
func recordBytes(t testing.TB, v any) []byte { t.Helper(); return must(encodeRecord(v))(t) }

// sealedBy gives what somebody with a ring would put under a key.
func sealedBy(t testing.TB, st *storetest.Memory, ring *seal.Keyring, key string, plain []byte) []byte {
	t.Helper()
	r := must(OpenWith(t.Context(), st.Clone(), teamRing()))(t)
	v := seal.NewVault(r.ID(), ring)
	found, _, err := findKeys(t.Context(), st, r.ID(), fileSum(st), teamRing())
	check(t, err)
	for _, k := range found {
		check(t, v.Add(k.record.public(), nil, nil))
	}
	s := must(v.Seal(key, classOf(key), bytes.NewReader(plain), int64(len(plain)), nil))(t)
	return must(io.ReadAll(io.NewSectionReader(s, 0, s.Size())))(t)
}

// fileSum gives what key records say of REPOSITORY.json.
func fileSum(st *storetest.Memory) string {
	sum := sha256.Sum256(st.Bytes(repositoryKey))
	return hex.EncodeToString(sum[:])
}

// TestPlanted lets somebody who can write the store, and who reads all of it, plant and swap objects: none is obeyed, and what is wrong is told.
func TestPlanted(t *testing.T) {
	st, a, b := plantedRepository(t)
	one, two := testIntent(1).ID, testIntent(2).ID
	tomb := recordBytes(t, tombRecord{Format: 1, ID: one, At: testNow})
	seg := wal.Segment{Timeline: 1, Number: 1}
	elsewhere, ofElsewhere, _ := plantedRepository(t)
	check(t, ofElsewhere.Tomb(t.Context(), one, testNow))
	check(t, b.Tomb(t.Context(), one, testNow))
	index := func(c *Cluster, st *storetest.Memory) string {
		for _, key := range st.Keys() {
			if strings.HasPrefix(key, c.key.indexDir()) {
				return key
			}
		}
		t.Fatal("no index")
		return ""
	}
	for name, x := range map[string]struct {
		key  string
		body []byte
	}{
		"a TOMB in plaintext":             {a.key.tombFile(one), tomb},
		"a TOMB of a stranger":            {a.key.tombFile(one), sealedBy(t, st, strangerRing(t), a.key.tombFile(one), tomb)},
		"a TOMB of another cluster":       {a.key.tombFile(one), st.Bytes(b.key.tombFile(one))},
		"a TOMB of another repository":    {a.key.tombFile(one), elsewhere.Bytes(ofElsewhere.key.tombFile(one))},
		"a TOMB of another backup":        {b.key.tombFile(two), st.Bytes(b.key.tombFile(one))},
		"the decision of another backup":  {a.key.commitFile(one), st.Bytes(a.key.commitFile(two))},
		"a decision of another cluster":   {a.key.commitFile(one), st.Bytes(b.key.commitFile(one))},
		"a decision of a stranger":        {a.key.commitFile(one), sealedBy(t, st, strangerRing(t), a.key.commitFile(one), recordBytes(t, decision{Format: 1, ID: one, Decision: decidedAborted}))},
		"a START in plaintext":            {a.key.startFile(one), recordBytes(t, Start{Format: 1, ID: one})},
		"the index of another cluster":    {index(a, st), st.Bytes(index(b, st))},
		"an index in plaintext":           {index(a, st), []byte("plain")},
		"a segment under another name":    {a.key.segmentFile(seg, mib), st.Bytes(a.key.segmentFile(seg.Next(), mib))},
		"a segment of another cluster":    {a.key.segmentFile(seg, mib), st.Bytes(b.key.segmentFile(seg, mib))},
		"a segment of another repository": {a.key.segmentFile(seg, mib), elsewhere.Bytes(ofElsewhere.key.segmentFile(seg, mib))},
		"a volume under another name":     {a.key.backupDir(one) + volumeName(0, 0), st.Bytes(a.key.backupDir(two) + volumeName(0, 0))},
		"page hashes of another backup":   {a.key.backupDir(one) + shardName(hashDir, 0), st.Bytes(a.key.backupDir(two) + shardName(hashDir, 0))},
		"cluster.json of a stranger":      {a.key.clusterFile(), sealedBy(t, st, strangerRing(t), a.key.clusterFile(), []byte("x"))},
		"cluster.json of another cluster": {a.key.clusterFile(), st.Bytes(b.key.clusterFile())},
		"a history in plaintext":          {a.key.historyFile(2), []byte("1\t0/100000\tx\n")},
		"a hold in plaintext":             {a.key.holdFile(one, 1), recordBytes(t, holdRecord{Format: 1, ID: one, Number: 1, Released: true})},
		"a gap in plaintext":              {a.key.gapFile(wal.Range{Timeline: 1, From: 1, To: 9}), recordBytes(t, gapFile{Format: 1})},
		"a key of a stranger":             {keyFile("ffffffffffffffff"), strangersKey(t, st)},
	} {
		hurt := st.Clone()
		hurt.Set(x.key, x.body)
		r, err := OpenWith(t.Context(), hurt, teamRing())
		if err != nil {
			t.Errorf("%s: the repository is not opened any more: %v", name, err)
			continue
		}
		var found []Finding
		check(t, r.Verify(t.Context(), true, func(f Finding) { found = append(found, f) }))
		if len(found) == 0 {
			t.Errorf("%s was not found", name)
		}
		seen := must(r.Observe(t.Context(), ObserveOptions{}))(t)
		for _, c := range seen.Clusters[archiveName] {
			for _, b := range c.Backups {
				if b.State == state.BackupDeleted || b.State == state.BackupAborted {
					t.Errorf("%s was obeyed: backup %s is %s", name, b.ID, b.State)
				}
			}
			if c.Unknown == nil && (len(c.Gaps) > 0 || len(c.Histories) > 0 && c.Histories[0].Parents[0].Switch != 0x380000) {
				t.Errorf("%s was believed: %+v", name, c)
			}
		}
		if n, err := r.Cluster(archiveName, archiveID).Sweep(t.Context(), testNow.AddDate(1, 0, 0)); n > 0 {
			t.Errorf("%s made a sweep remove %d bytes, %v", name, n, err)
		}
		if fresh, err := r.Cluster(archiveName, archiveID).OpenBackup(t.Context(), two); err != nil && !strings.Contains(name, "cluster.json") {
			t.Errorf("%s hides another backup: %v, %v", name, fresh, err)
		}
	}
}

// strangersKey is a key of this repository with which its maker could read what is written from then on.
func strangersKey(t testing.TB, st *storetest.Memory) []byte {
	t.Helper()
	ring := strangerRing(t)
	scratch := storetest.NewMemory(nil)
	r := must(OpenWith(t.Context(), st.Clone(), teamRing()))(t)
	check(t, newKey(t.Context(), scratch, keyRecord{ID: "ffffffffffffffff", Repository: r.ID(), File: fileSum(st), Number: 9, Created: archiveEpoch}, ring))
	return scratch.Bytes(keyFile("ffffffffffffffff"))
}

// TestPlaintextRepositoryIsRefused: who says that a repository is encrypted believes nothing of one that is not, and the other way round.
func TestPlaintextRepositoryIsRefused(t *testing.T) {
	plain, sealed := storetest.NewMemory(nil), storetest.NewMemory(nil)
	must(Create(t.Context(), plain, CreateOptions{Now: archiveEpoch}))(t)
	must(Create(t.Context(), sealed, CreateOptions{Now: archiveEpoch, Keys: teamRing()}))(t)
	if _, err := OpenWith(t.Context(), plain, teamRing()); state.CodeOf(err) != state.CodeCorrupt || !strings.Contains(err.Error(), "the repository is not encrypted") {
		t.Errorf("a plaintext repository: %v", err)
	}
	if _, err := Create(t.Context(), plain, CreateOptions{Now: archiveEpoch, Keys: teamRing()}); state.CodeOf(err) != state.CodeCorrupt {
		t.Errorf("creating over a plaintext repository: %v", err)
	}
	for name, ring := range map[string]*seal.Keyring{
		"no block": nil, "no identity": drawTestKeys().ring(), "another identity": drawTestKeys().ring(drawTestKeys().data),
	} {
		if _, err := OpenWith(t.Context(), sealed, ring); state.CodeOf(err) != state.CodeNoKey || state.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	stranger := strangerRing(t)
	stranger.Trusted = stranger.Trusted[1:]
	if _, err := OpenWith(t.Context(), sealed, stranger); state.CodeOf(err) != state.CodeCorrupt {
		t.Errorf("nobody who wrote it is trusted: %v", err)
	}
	reader := teamRing()
	reader.Writer = nil
	c := must(OpenWith(t.Context(), sealed, reader))(t).Cluster(archiveName, archiveID)
	if err := c.Ensure(t.Context(), ClusterFacts{Major: 15, SegmentSize: mib, PageSize: 8192}); state.CodeOf(err) != state.CodeNoKey {
		t.Errorf("written without a signing key: %v", err)
	}
}

var _ store.Store = (*box)(nil)
