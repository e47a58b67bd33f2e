package repository

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest"
)

// TestCrowdedKeys: who can write the store fills keys/ with keys of his own and with halves beside the repository's, named as ours are and sorted before
// them. The owner opens it all the same, changes readers and keys, and is told.
func TestCrowdedKeys(t *testing.T) {
	now := archiveEpoch
	st := storetest.NewMemory(func() time.Time { now = now.Add(time.Second); return now })
	archivePast(t, hostCluster(t, st))
	own := must(OpenWith(t.Context(), st, teamRing()))(t).Keys()[0].ID
	planted := st.Bytes(keyFile(own)) // a record that is signed, for another id
	for n := range 3 * crowdedKeys {
		st.Set(keyFile(fmt.Sprintf("%016x", n)), planted)
	}
	for n := range crowdedWrapped + 10 {
		st.Set(wrappedFile(own, seal.ClassData, fmt.Sprintf("%016x", n)), []byte("nothing"))
	}
	r := must(OpenWith(t.Context(), st, teamRing()))(t)
	if len(r.Keys()) != 1 || !r.ReadsData() || len(r.Missing()) > 0 {
		t.Errorf("opened with %d keys, reads data: %v, lacks %v", len(r.Keys()), r.ReadsData(), r.Missing())
	}
	if got := r.encryption(); got.Strays < 3*crowdedKeys+crowdedWrapped-maxStrangers || len(got.Beyond) > 10 {
		t.Errorf("told of %d strays and %v", got.Strays, got.Beyond)
	}
	for _, f := range verified(t, r.Cluster(archiveName, archiveID)) {
		t.Errorf("%+v", f)
	}
	if n := must(r.RemoveReader(t.Context(), fmt.Sprintf("%016x", crowdedWrapped+9)))(t); n != 1 {
		t.Errorf("%d planted halves were removed", n)
	}
	if host := must(OpenWith(t.Context(), st, hostRing()))(t); host.ReadsData() {
		t.Error("a backup host reads data")
	}

	// What is older than the repository's own, as only a store tells that lets times be set: nobody opens it, and the reason is named.
	now = archiveEpoch.Add(-24 * time.Hour)
	for n := range crowdedKeys {
		st.Set(keyFile(fmt.Sprintf("%016x", n)), planted)
	}
	_, err := OpenWith(t.Context(), st, teamRing())
	if state.CodeOf(err) != state.CodeCorrupt || !strings.Contains(err.Error(), "hides the repository's own") || state.HintOf(err) == "" {
		t.Errorf("%v", err)
	}
}
