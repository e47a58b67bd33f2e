package repository

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

// TestVerifyBrokenOffForgetsNoDamage: what a look found before it was broken off is found by the one that goes on, and what
// was known to be damaged before stays so in every note on the way.
func TestVerifyBrokenOffForgetsNoDamage(t *testing.T) {
	for _, part := range []string{"/v/base/000000", "/w/00000001/00000000/000000010000000000000005"} {
		for _, known := range []bool{true, false} {
			m := newMemory()
			c := newArchive(t, m, mib)
			for n := uint64(4); n < 12; n++ {
				seg := wal.Segment{Timeline: 1, Number: n}
				check(t, c.PutSegment(t.Context(), seg, summaryOf(seg, mib), bytes.NewReader(plainSegment(seg, mib))))
			}
			check(t, c.WriteIndex(t.Context(), 1))
			for n := 1; n <= 2; n++ {
				in := testIntent(n)
				in.Start, in.Redo = 0x500028, 0x500028
				gridBackup(t, in, seal.Codec{}, gridMembers(uint64(n)), c)
			}
			keys := m.keys()
			i := slices.IndexFunc(keys, func(k string) bool { return strings.Contains(k, part) })
			if i < 0 {
				t.Fatalf("no object %s in %s", part, keys)
			}
			key := keys[i]
			hurt := bytes.Clone(m.objects[key])
			hurt[20] ^= 4
			m.objects[key] = hurt
			o := VerifyOptions{Level: state.VerifyFull, Every: time.Nanosecond, Now: ticking(), step: 1}
			damaged := func(v *state.Verification) bool {
				return slices.ContainsFunc(v.Backups, func(b state.VerifiedBackup) bool { return b.Damaged })
			}
			if known {
				if v := must(c.Examine(t.Context(), o))(t); v.Wrong != 1 || !damaged(&v) {
					t.Fatalf("%s: a whole look finds %+v, %+v", key, v.Damage, v.Backups)
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			reads(m, "/w/00000001/00000000/", 4, cancel)
			if _, err := c.Examine(ctx, o); !errors.Is(err, context.Canceled) {
				t.Fatalf("%s: %v", key, err)
			}
			m.step = nil
			noted := must(c.Verified(t.Context()))(t)
			if noted == nil || noted.Cursor == nil {
				t.Fatalf("%s: %+v", key, noted)
			}
			if known && !damaged(noted) {
				t.Errorf("%s: while a look goes on the backup counts as sound: %+v", key, noted.Backups)
			}
			v := must(c.Examine(t.Context(), o))(t)
			if !v.Began.Equal(noted.Began) {
				t.Fatalf("%s: it began anew", key)
			}
			if v.Wrong != 1 || !damaged(&v) {
				t.Errorf("%s, known %t: the look that went on found %+v, %+v", key, known, v.Damage, v.Backups)
			}
		}
	}
}

// TestVerifyKeepsWhatItCannotName: evidence names the first hundred damages. A look that does not read everything does not
// take the others for mended.
func TestVerifyKeepsWhatItCannotName(t *testing.T) {
	m := fillGrid(t, seal.Codec{}, 0)
	c := testArchive(t, m)
	now := ticking()
	look := func(level state.VerifyLevel) state.Verification {
		return must(c.Examine(t.Context(), VerifyOptions{Level: level, Now: now}))(t)
	}
	before := look(state.VerifyFull)
	before.Wrong, before.Backups[1].Damaged = 150, true
	check(t, c.PutEvidence(t.Context(), now(), before))
	for range 2 {
		if v := look(state.VerifyQuick); v.Wrong != 150 || !v.Backups[1].Damaged || v.Backups[0].Damaged {
			t.Errorf("a quick look after it says %d, %+v", v.Wrong, v.Backups)
		}
	}
	if v := look(state.VerifyFull); v.Wrong != 0 || v.Backups[1].Damaged {
		t.Errorf("a full look after it says %d, %+v", v.Wrong, v.Backups)
	}
}

// TestVerifyTakesSilenceForNoDamage: a store that cannot be reached for a while ends a look, and makes no backup damaged.
func TestVerifyTakesSilenceForNoDamage(t *testing.T) {
	base := fillGrid(t, seal.Codec{}, 0)
	for _, part := range []string{"/v/base/000000", "/files/", "/sums/", "/COMMIT.json", "/backup_label"} {
		m := &memory{objects: maps.Clone(base.objects)}
		c := testArchive(t, m)
		silent := 0
		m.step = func(call string) (error, error) {
			if !strings.HasPrefix(call, "get ") || !strings.Contains(call, part) {
				return nil, nil
			}
			silent++
			return &store.Trouble{Kind: store.Unreachable, Text: "the store cannot be reached", Hint: "wait"}, nil
		}
		_, err := c.Examine(t.Context(), VerifyOptions{Level: state.VerifyFull, Now: ticking()})
		m.step = nil
		if silent == 0 || state.CodeOf(err) != state.CodeUnreachable {
			t.Errorf("%s is not answered %d times: %v", part, silent, err)
		}
		if v := must(c.Verified(t.Context()))(t); v != nil {
			t.Errorf("%s: what was not seen is evidence: %+v", part, v)
		}
	}
}

// TestUnansweredEvidenceIsUnknown: where the newest evidence is not answered for, what an older one says does not count.
func TestUnansweredEvidenceIsUnknown(t *testing.T) {
	m := fillGrid(t, seal.Codec{}, 0)
	c := testArchive(t, m)
	now := ticking()
	for range 2 {
		must(c.Examine(t.Context(), VerifyOptions{Level: state.VerifyQuick, Now: now}))(t)
	}
	asked := false
	m.step = func(call string) (error, error) {
		if asked || !strings.HasPrefix(call, "get ") || !strings.Contains(call, "/evidence/") {
			return nil, nil
		}
		asked = true
		return &store.Trouble{Kind: store.Unreachable, Text: "the store cannot be reached", Hint: "wait"}, nil
	}
	if v, err := c.Verified(t.Context()); state.CodeOf(err) != state.CodeUnreachable || !asked {
		t.Errorf("%v, %+v", err, v)
	}
}
