package repository

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestEvidenceIsShort: an explanation that repeats what somebody planted does not keep the result from being kept.
func TestEvidenceIsShort(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"short", "short"},
		{strings.Repeat("a", longestText), strings.Repeat("a", longestText)},
		{strings.Repeat("a", longestText-1) + "é", strings.Repeat("a", longestText-1) + "…"},
	} {
		x := examination{check: &clusterCheck{}, before: &state.Verification{}, m: &metered{}, found: []Finding{{Object: "o", Text: c.in}}}
		if got := x.evidence(&state.VerifyCursor{}).Damage[0].Text; got != c.want {
			t.Errorf("of %d bytes %d are kept", len(c.in), len(got))
		}
	}
}

// TestManyBackupsKeptAlone: of each of a year's daily backups only the WAL that makes it consistent is left, so that each lacks what lies
// behind it. A look at them keeps its result.
func TestManyBackupsKeptAlone(t *testing.T) {
	const backups = 300
	c := newArchive(t, newMemory(), mib)
	for i := range backups {
		seg := wal.Segment{Timeline: 1, Number: uint64(4 + 3*i)}
		check(t, c.PutSegment(t.Context(), seg, summaryOf(seg, mib), bytes.NewReader(plainSegment(seg, mib))))
		in := testIntent(i + 1)
		in.Start, in.Redo = seg.Start(mib)+0x28, seg.Start(mib)+0x28
		w := must(c.BeginBackup(t.Context(), in))(t)
		s := must(NewBackupStream(t.Context(), []*BackupWriter{w}, StreamOptions{Workers: 1}))(t)
		writeFolder(t, s.Folder(0, ""), []member{{Member: Member{Path: "PG_VERSION", Type: RegularFile, Mode: 0o600, Size: 3}, data: []byte("15\n")}}, 1000)
		check(t, s.EndData())
		check(t, s.WriteManifest([]byte("{the manifest}\n")))
		check(t, s.Keep(Kept{BackupLabel: []byte("START WAL LOCATION")}))
		f := commitFacts()
		f.Stop, f.Ended = seg.Start(mib)+0x2000, in.Now.Add(time.Minute)
		for _, o := range must(s.Commit(t.Context(), f))(t) {
			check(t, o.Err)
		}
	}
	_ = must(c.Examine(t.Context(), VerifyOptions{Level: state.VerifyQuick, Now: ticking()}))(t)
	v := must(c.Verified(t.Context()))(t)
	if v == nil || len(v.Chains) != backups {
		t.Fatalf("kept is %+v", v)
	}
	for i, chain := range v.Chains {
		if n := len(chain.Missing) + chain.MoreMissing; n != backups-1-i || (n > 0) == chain.Whole() {
			t.Fatalf("backup %d: %d and %d more stretches are missing, of %d", i, len(chain.Missing), chain.MoreMissing, backups-1-i)
		}
	}
}
