package seal

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"filippo.io/age"
)

// TestRangesAtChunks: ranges that begin or end just before, at and just after where one chunk ends and the next begins.
func TestRangesAtChunks(t *testing.T) {
	k := newKeys(t)
	v := k.vault(t, nil, k.data)
	plain := sample(3*ChunkSize+1, 2)
	stored := sealed(t, v, "v", ClassData, plain, nil)
	h, _, err := ParseHead(stored)
	if err != nil {
		t.Fatal(err)
	}
	salt := stored[h.SaltAt() : h.SaltAt()+SaltSize]
	for _, at := range []int64{0, ChunkSize, 2 * ChunkSize, 3 * ChunkSize} {
		for off := max(0, at-2); off <= at+2; off++ {
			for _, n := range []int64{1, 2, 3, ChunkSize - 1, ChunkSize, ChunkSize + 1, 2*ChunkSize + 1} {
				want := plain[min(off, int64(len(plain))):min(off+n, int64(len(plain)))]
				x := h.RangeOf(off, n)
				r, err := v.OpenRange(ClassData, h, x, salt, bytes.NewReader(stored[x.Off:x.Off+x.N]))
				if err != nil {
					t.Fatalf("%d at %d: %v", n, off, err)
				}
				if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%d at %d: %d bytes, %v", n, off, len(got), err)
				}
			}
		}
	}
}

// TestNoteOfAnotherLength: a header whose note names another length than what was signed is refused, though whoever made it may sign.
func TestNoteOfAnotherLength(t *testing.T) {
	k := newKeys(t)
	v := k.vault(t, k.meta, nil)
	for _, says := range []uint64{699, 700, 701} {
		fileKey := sample(fileKeySize, 1)
		p, err := newPayload(bytes.NewReader(sample(700, 3)), 700, fileKey)
		if err != nil {
			t.Fatal(err)
		}
		sum, err := p.digest(sha256.New())
		if err != nil {
			t.Fatal(err)
		}
		own := v.sealing()
		stanzas, err := own.recipients[ClassData].Wrap(fileKey)
		if err != nil {
			t.Fatal(err)
		}
		note, err := encryptTo(append(binary.BigEndian.AppendUint64(nil, says), make([]byte, 32)...), own.recipients[ClassMeta])
		if err != nil {
			t.Fatal(err)
		}
		head, err := v.header("w/1", envelope{own.ID, append(stanzas, &age.Stanza{Type: noteType, Body: note}), sum, fileKey})
		if err != nil {
			t.Fatal(err)
		}
		h, _, err := ParseHead(head)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Check("w/1", ClassData, h); err != nil {
			t.Fatal(err)
		}
		if _, err := v.Note(h); (says == 700) != (err == nil) || err != nil && !errors.Is(err, ErrCorrupt) {
			t.Errorf("a note that says %d of 700 bytes: %v", says, err)
		}
	}
}
