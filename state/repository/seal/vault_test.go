package seal

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"filippo.io/age"
	"pgregory.net/rapid"
)

// keys are those of one repository: who wrote it, and its only key.
type keys struct {
	ring       *Keyring
	meta, data *age.X25519Identity
	public     RepositoryKey
}

func newKeys(t testing.TB) keys {
	t.Helper()
	w, err := NewWriterKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k := keys{ring: &Keyring{Writer: w, Trusted: []WriterID{w.ID()}}}
	if k.public, k.meta, k.data, err = NewRepositoryKey("0123456789abcdef", 1); err != nil {
		t.Fatal(err)
	}
	return k
}

func (k keys) vault(t testing.TB, meta, data *age.X25519Identity) *Vault {
	t.Helper()
	v := NewVault("a repository", k.ring)
	if err := v.Add(k.public, meta, data); err != nil {
		t.Fatal(err)
	}
	return v
}

func sealed(t testing.TB, v *Vault, key string, class Class, plain, rest []byte) []byte {
	t.Helper()
	s, err := v.Seal(key, class, bytes.NewReader(plain), int64(len(plain)), rest)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(io.NewSectionReader(s, 0, s.Size()))
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(b)) != s.Size() {
		t.Fatalf("%d bytes of %d", len(b), s.Size())
	}
	return b
}

func unseal(v *Vault, key string, class Class, stored []byte) ([]byte, error) {
	h, enough, err := ParseHead(stored)
	if err != nil {
		return nil, err
	}
	if !enough {
		return nil, fmt.Errorf("%w: short", ErrCorrupt)
	}
	if err := v.Check(key, class, h); err != nil {
		return nil, err
	}
	r, err := v.Open(class, h, bytes.NewReader(stored[h.Size:]))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// TestSealed: what was sealed comes back, is an age file that age itself opens, and has the length that PlainSize knows.
func TestSealed(t *testing.T) {
	k := newKeys(t)
	v := k.vault(t, k.meta, k.data)
	for _, n := range []int{0, 1, ChunkSize - 1, ChunkSize, ChunkSize + 1, 3*ChunkSize + 17} {
		plain := sample(n, uint64(n))
		for class, id := range map[Class]*age.X25519Identity{ClassMeta: k.meta, ClassData: k.data} {
			stored := sealed(t, v, "a/key", class, plain, nil)
			got, err := unseal(v, "a/key", class, stored)
			if err != nil || !bytes.Equal(got, plain) {
				t.Fatalf("%s of %d bytes: %v", class, n, err)
			}
			r, err := age.Decrypt(bytes.NewReader(stored), id)
			if err != nil {
				t.Fatalf("%s of %d bytes: age: %v", class, n, err)
			}
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, plain) {
				t.Fatalf("%s of %d bytes: age gave other bytes: %v", class, n, err)
			}
			if got := v.PlainSize(class, int64(len(stored))); got != int64(n) {
				t.Errorf("%s of %d bytes: PlainSize says %d", class, n, got)
			}
		}
	}
}

// TestSealedAgain: however an object is read while it is put, also twice and in pieces, its bytes are the same.
func TestSealedAgain(t *testing.T) {
	k := newKeys(t)
	plain := sample(200_000, 1)
	s, err := k.vault(t, nil, nil).Seal("a/key", ClassData, bytes.NewReader(plain), int64(len(plain)), []byte("rest"))
	if err != nil {
		t.Fatal(err)
	}
	whole := make([]byte, s.Size())
	if n, err := s.ReadAt(whole, 0); n != len(whole) || err != nil {
		t.Fatal(n, err)
	}
	rapid.Check(t, func(t *rapid.T) {
		off := rapid.Int64Range(0, s.Size()).Draw(t, "off")
		b := make([]byte, rapid.Int64Range(0, 150_000).Draw(t, "n"))
		n, err := s.ReadAt(b, off)
		want := min(int64(len(b)), s.Size()-off)
		if int64(n) != want || err != nil && !errors.Is(err, io.EOF) || n < len(b) && err == nil || !bytes.Equal(b[:n], whole[off:off+int64(n)]) {
			t.Fatalf("%d bytes at %d: %d, %v", len(b), off, n, err)
		}
	})
	short, err := k.vault(t, nil, nil).Seal("a/key", ClassMeta, bytes.NewReader(plain), int64(len(plain))+1, nil)
	if err == nil {
		t.Errorf("a body that ends early was sealed: %v", short.Size())
	}
}

// TestRanges: any range of a data object comes back from the stored range that is named for it.
func TestRanges(t *testing.T) {
	k := newKeys(t)
	v := k.vault(t, nil, k.data)
	plain := sample(5*ChunkSize+100, 2)
	stored := sealed(t, v, "v", ClassData, plain, nil)
	h, _, err := ParseHead(stored)
	if err != nil {
		t.Fatal(err)
	}
	salt := stored[h.SaltAt() : h.SaltAt()+SaltSize]
	read := func(off, n int64) ([]byte, error) {
		x := h.RangeOf(off, n)
		r, err := v.OpenRange(ClassData, h, x, salt, bytes.NewReader(stored[x.Off:x.Off+x.N]))
		if err != nil {
			return nil, err
		}
		return io.ReadAll(r)
	}
	rapid.Check(t, func(t *rapid.T) {
		off := rapid.Int64Range(0, int64(len(plain))+10).Draw(t, "off")
		n := rapid.Int64Range(0, 1<<20).Draw(t, "n")
		want := plain[min(off, int64(len(plain))):min(off+n, int64(len(plain)))]
		if got, err := read(off, n); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d at %d: %d bytes, %v", n, off, len(got), err)
		}
	})
	stored[h.Size+SaltSize+2*(ChunkSize+tagSize)+5] ^= 1
	if _, err := read(2*ChunkSize+100, 10); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a range of a chunk with a flipped bit: %v", err)
	}
	if _, err := read(0, 10); err != nil {
		t.Errorf("a range of another chunk: %v", err)
	}
}

// TestEveryBitIsSealed flips bits all over an object: whoever opens it finds each flip.
func TestEveryBitIsSealed(t *testing.T) {
	k := newKeys(t)
	v := k.vault(t, k.meta, k.data)
	for _, class := range []Class{ClassMeta, ClassData} {
		stored := sealed(t, v, "a/key", class, sample(700, 3), []byte("rest"))
		if class == ClassMeta {
			stored = sealed(t, v, "a/key", class, sample(700, 3), nil)
		}
		for bit := range len(stored) * 8 {
			bad := bytes.Clone(stored)
			bad[bit/8] ^= 1 << (bit % 8)
			if _, err := unseal(v, "a/key", class, bad); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNoKey) {
				t.Fatalf("%s: bit %d: %v", class, bit, err)
			}
		}
		for n := range stored {
			if _, err := unseal(v, "a/key", class, stored[:n]); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%s: %d of %d bytes: %v", class, n, len(stored), err)
			}
		}
		if _, err := unseal(v, "a/key", class, append(bytes.Clone(stored), 0)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: one byte more: %v", class, err)
		}
	}
}

// TestPlanted: what somebody puts who can write the store, and holds the meta key too, is refused.
func TestPlanted(t *testing.T) {
	k := newKeys(t)
	v := k.vault(t, k.meta, k.data)
	plain := []byte(`{"decision": "aborted"}`)
	good := sealed(t, v, "c/a/1/b/x/COMMIT.json", ClassMeta, plain, nil)
	stranger := newKeys(t)
	stranger.public = k.public
	elsewhere := NewVault("another repository", k.ring)
	if err := elsewhere.Add(k.public, k.meta, k.data); err != nil {
		t.Fatal(err)
	}
	open, err := encryptTo(plain, k.meta.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	foreign := stranger.vault(t, nil, nil)
	for name, x := range map[string]struct {
		key    string
		class  Class
		stored []byte
		why    string
	}{
		"another key":                         {"c/a/1/b/y/COMMIT.json", ClassMeta, good, "signature"},
		"another repository":                  {"k", ClassMeta, sealed(t, elsewhere, "k", ClassMeta, plain, nil), "signature"},
		"another writer":                      {"k", ClassMeta, sealed(t, foreign, "k", ClassMeta, plain, nil), "trusted writers"},
		"nobody signed it":                    {"k", ClassMeta, open, "nobody has signed it"},
		"plaintext":                           {"k", ClassMeta, plain, "not encrypted"},
		"another class":                       {"k", ClassMeta, sealed(t, v, "k", ClassData, plain, nil), "another kind"},
		"meta for data":                       {"k", ClassData, sealed(t, v, "k", ClassMeta, plain, nil), "another kind"},
		"other content under a signed header": {"c/a/1/b/x/COMMIT.json", ClassMeta, forge(t, k, good, []byte(`{"decision": "forged!"}`)), "was signed"},
	} {
		if _, err := unseal(v, x.key, x.class, x.stored); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), x.why) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// forge is what a thief of a backup host can do: open the file key of an object that another has signed, and encrypt something else with it.
func forge(t *testing.T, k keys, stored, plain []byte) []byte {
	t.Helper()
	h, _, err := ParseHead(stored)
	if err != nil {
		t.Fatal(err)
	}
	fileKey, err := k.meta.Unwrap([]*age.Stanza{h.file})
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPayload(bytes.NewReader(plain), int64(len(plain)), fileKey)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, payloadSize(int64(len(plain))))
	if _, err := p.readAt(b, 0); err != nil {
		t.Fatal(err)
	}
	out := append(bytes.Clone(stored[:h.Size]), b...)
	if r, err := age.Decrypt(bytes.NewReader(out), k.meta); err != nil {
		t.Fatal(err)
	} else if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, plain) {
		t.Fatal("the forgery is none", err)
	}
	return out
}

// TestMetaKeyOpensNoData: the note of a data object says what it holds, and the meta key opens nothing else of it.
func TestMetaKeyOpensNoData(t *testing.T) {
	k := newKeys(t)
	v := k.vault(t, k.meta, nil)
	plain := sample(100_000, 4)
	stored := sealed(t, v, "v", ClassData, plain, []byte("what it is"))
	h, _, err := ParseHead(stored)
	if err != nil {
		t.Fatal(err)
	}
	n, err := v.Note(h)
	if err != nil || n.Size != int64(len(plain)) || string(n.Rest) != "what it is" {
		t.Fatalf("note %v: %v", n, err)
	}
	if err := h.Prove(bytes.NewReader(stored[h.Size:])); err != nil {
		t.Error(err)
	}
	if _, err := unseal(v, "v", ClassData, stored); !errors.Is(err, ErrNoKey) {
		t.Errorf("opened without the data key: %v", err)
	}
	if _, err := age.Decrypt(bytes.NewReader(stored), k.meta); err == nil {
		t.Error("the meta key opens a data object")
	}
	stored[len(stored)-1] ^= 1
	if err := h.Prove(bytes.NewReader(stored[h.Size:])); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a flipped bit was proven: %v", err)
	}
}

// TestWrapped: a repository's key is opened by whom it is wrapped for, and by nobody else.
func TestWrapped(t *testing.T) {
	k := newKeys(t)
	me, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	phrase, opens, err := WithPassphrase("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	for name, id := range map[string]age.Identity{me.Recipient().String(): me, hybrid.Recipient().String(): hybrid, Passphrase: opens} {
		to := phrase
		if name != Passphrase {
			if to, err = ParseRecipient(name); err != nil {
				t.Fatal(err)
			}
		}
		wrapped, err := Wrap(k.data, to)
		if err != nil {
			t.Fatal(err)
		}
		got, err := (&Keyring{Opens: []age.Identity{id}}).Unwrap(wrapped, Fingerprint(name))
		if err != nil || got.String() != k.data.String() {
			t.Errorf("%.10s: %v", name, err)
		}
		if here := (&Keyring{Opens: []age.Identity{id}}).Here(); len(here) != 1 || here[0] != name {
			t.Errorf("the identity of %.10s is that of %.10q", name, here)
		}
		if _, err := (&Keyring{Opens: []age.Identity{opens}}).Unwrap(wrapped, Fingerprint(me.Recipient().String())); !errors.Is(err, ErrNoKey) {
			t.Errorf("%.10s: the passphrase is tried where nothing is wrapped for it: %v", name, err)
		}
		if _, err := (&Keyring{Opens: []age.Identity{k.meta}}).Unwrap(wrapped, Fingerprint(name)); !errors.Is(err, ErrNoKey) {
			t.Errorf("%.10s: another identity: %v", name, err)
		}
	}
	if err := NewVault("r", k.ring).Add(k.public, k.data, nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("another secret half was taken: %v", err)
	}
}

// TestWriterKey: a key file comes back, and nothing prints it.
func TestWriterKey(t *testing.T) {
	w, err := NewWriterKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseWriterKey([]byte("# a comment\n\n" + w.Secret() + "\n"))
	if err != nil || again.ID() != w.ID() {
		t.Fatal(err)
	}
	shown := fmt.Sprintf("%v %+v %#v %s", w, w, w, &Keyring{Writer: w})
	if secret := strings.TrimPrefix(w.Secret(), WriterKeyPrefix); strings.Contains(shown, secret) {
		t.Error("the secret half is printed")
	}
	for _, bad := range []string{"", "# nothing", w.Secret() + "x", w.Secret() + "\n" + w.Secret(), string(w.ID()), w.Secret()[:40]} {
		_, err := ParseWriterKey([]byte(bad))
		if err == nil || strings.Contains(err.Error(), w.Secret()[len(WriterKeyPrefix):len(WriterKeyPrefix)+8]) {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
	if _, err := ParseWriterID(string(w.ID()) + "A"); err == nil {
		t.Error("an id with a letter more was taken")
	}
}

// FuzzHead reads arbitrary bytes as the header of an object: no panic, only ErrCorrupt, and what is accepted is within the bytes.
func FuzzHead(f *testing.F) {
	k := newKeys(f)
	v := k.vault(f, nil, nil)
	f.Add(sealed(f, v, "k", ClassMeta, sample(300, 1), nil))
	f.Add(sealed(f, v, "k", ClassData, sample(300, 1), []byte("rest")))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, enough, err := ParseHead(b)
		switch {
		case err != nil && !errors.Is(err, ErrCorrupt):
			t.Error(err)
		case err == nil && enough && (h.Size > int64(len(b)) || h.Size <= 0):
			t.Errorf("a header of %d bytes in %d", h.Size, len(b))
		}
		if err == nil && enough {
			_ = v.Check("k", ClassMeta, h)
		}
	})
}
