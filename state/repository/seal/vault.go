package seal

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"filippo.io/age"
)

// Class says with which of a repository's two keys an object is encrypted.
type Class int

// The classes. What is of neither lies open: how a reader finds its keys.
const (
	ClassClear Class = iota
	ClassMeta        // lists, hashes, decisions: what a backup host has to read to go on
	ClassData        // volumes and WAL: what is in the database
)

// String names the class as the language does.
func (c Class) String() string {
	switch c {
	case ClassMeta:
		return "meta"
	case ClassData:
		return "data"
	case ClassClear:
	}
	return "clear"
}

// ErrNoKey means that no identity here opens an object, or that there is no key to sign with.
var ErrNoKey = errors.New("no key for it here")

// Vault seals and opens the objects of one encrypted repository. It is safe for many goroutines.
type Vault struct {
	repository string
	ring       *Keyring
	mu         sync.RWMutex
	keys       map[string]*vaultKey
	newest     *vaultKey
	heads      map[Class]int64 // lengths of headers without more in the note
}

// vaultKey is one key of the repository, with the secret halves that are here.
type vaultKey struct {
	RepositoryKey
	recipients map[Class]*age.X25519Recipient
	identities map[Class]*age.X25519Identity
}

// NewVault gives a vault without keys for the repository of that id.
func NewVault(repository string, ring *Keyring) *Vault {
	return &Vault{
		repository: repository, ring: ring, keys: map[string]*vaultKey{},
		heads: map[Class]int64{ClassMeta: headSize(ClassMeta), ClassData: headSize(ClassData)},
	}
}

// Add makes a key of the repository known, with the secret halves that could be unwrapped; nil: not here. One that is not the other half of
// the public one is refused. Objects are sealed with the key of the highest number.
func (v *Vault) Add(k RepositoryKey, meta, data *age.X25519Identity) error {
	out := &vaultKey{RepositoryKey: k, recipients: map[Class]*age.X25519Recipient{}, identities: map[Class]*age.X25519Identity{}}
	for class, id := range map[Class]*age.X25519Identity{ClassMeta: meta, ClassData: data} {
		r, err := age.ParseX25519Recipient(k.Public(class))
		if err != nil {
			return corrupt("repository key %s has no public half for %s", k.ID, class)
		}
		out.recipients[class] = r
		if id == nil {
			continue
		}
		if id.Recipient().String() != k.Public(class) {
			return corrupt("what is wrapped for repository key %s is another key", k.ID)
		}
		out.identities[class] = id
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.keys[k.ID] = out
	if v.newest == nil || k.Number > v.newest.Number || k.Number == v.newest.Number && k.ID < v.newest.ID {
		v.newest = out
	}
	return nil
}

// Reads tells whether objects of the class can be read here, whichever of the keys they were sealed with.
func (v *Vault) Reads(class Class) bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	for _, k := range v.keys {
		if k.identities[class] == nil {
			return false
		}
	}
	return len(v.keys) > 0
}

// Knows tells whether a key of that id was added.
func (v *Vault) Knows(id string) bool { return v.key(id) != nil }

func (v *Vault) key(id string) *vaultKey {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.keys[id]
}

// sealing gives the key that new objects are sealed with; nil: there is none.
func (v *Vault) sealing() *vaultKey {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.newest
}

// Writes tells whether a writer key is here.
func (v *Vault) Writes() bool { return v.ring.Writer != nil }

// Secret derives a number that only the holders of the first meta key know, from what it is for.
func (v *Vault) Secret(purpose string) (uint64, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	var first *vaultKey
	for _, k := range v.keys {
		if first == nil || k.Number < first.Number || k.Number == first.Number && k.ID < first.ID {
			first = k
		}
	}
	if first == nil || first.identities[ClassMeta] == nil {
		return 0, false
	}
	sum := sha256.Sum256([]byte("pgkeep secret 1\n" + purpose + "\n" + v.repository + "\n" + first.identities[ClassMeta].String()))
	return binary.BigEndian.Uint64(sum[:]), true
}

// Note is what the header of a data object says to holders of the meta key.
type Note struct {
	Size   int64             // of the object before it was sealed
	SHA256 [sha256.Size]byte // likewise
	Rest   []byte            // what else was given to Seal
}

const noteHead = 8 + sha256.Size

// Sealed is an object that waits to be put. It seals whenever it is read and keeps nothing but a chunk.
type Sealed struct {
	head    []byte
	payload *payload
}

// Size gives the length of the object.
func (s *Sealed) Size() int64 { return int64(len(s.head)) + payloadSize(s.payload.size) }

// ReadAt gives the object's bytes, the same ones each time.
func (s *Sealed) ReadAt(b []byte, off int64) (int, error) {
	n := 0
	if off < int64(len(s.head)) {
		n = copy(b, s.head[off:])
	}
	if n == len(b) {
		return n, nil
	}
	m, err := s.payload.readAt(b[n:], off+int64(n)-int64(len(s.head)))
	return n + m, err
}

// Seal encrypts and signs the first size bytes of body as the object of that key. rest goes into the note of a data object. body is read
// once now and again whenever the Sealed is. ErrNoKey where there is no key to sign with.
func (v *Vault) Seal(key string, class Class, body io.ReaderAt, size int64, rest []byte) (*Sealed, error) {
	k := v.sealing()
	if v.ring.Writer == nil || k == nil {
		return nil, fmt.Errorf("sign %s: %w", key, ErrNoKey)
	}
	fileKey := make([]byte, fileKeySize)
	if _, err := rand.Read(fileKey); err != nil {
		return nil, fmt.Errorf("draw a file key: %w", err)
	}
	p, err := newPayload(body, size, fileKey)
	if err != nil {
		return nil, err
	}
	plain := sha256.New()
	sum, err := p.digest(plain)
	if err != nil {
		return nil, fmt.Errorf("encrypt %s: %w", key, err)
	}
	stanzas, err := k.recipients[class].Wrap(fileKey)
	if err != nil {
		return nil, fmt.Errorf("encrypt %s: %w", key, err)
	}
	if class == ClassData {
		note := binary.BigEndian.AppendUint64(nil, uint64(size))
		note = append(plain.Sum(note), rest...)
		body, err := encryptTo(note, k.recipients[ClassMeta])
		if err != nil {
			return nil, fmt.Errorf("encrypt the note of %s: %w", key, err)
		}
		stanzas = append(stanzas, &age.Stanza{Type: noteType, Body: body})
	}
	head, err := v.header(key, envelope{k.ID, stanzas, sum, fileKey})
	if err != nil {
		return nil, err
	}
	if len(head) > MaxHead {
		return nil, fmt.Errorf("encrypt %s: its note is too long", key)
	}
	return &Sealed{head: head, payload: p}, nil
}

// envelope is what a header is made of.
type envelope struct {
	keyID   string
	stanzas []*age.Stanza
	payload Digest
	fileKey []byte
}

// header signs and closes the header.
func (v *Vault) header(key string, e envelope) ([]byte, error) {
	b := []byte(intro)
	for _, s := range e.stanzas {
		b = appendStanza(b, s)
	}
	w := v.ring.Writer
	last := &age.Stanza{Type: sealType, Args: []string{
		e.keyID, string(w.ID())[len(writerPrefix):], fmt.Sprintf("%0*d", sizeWidth, e.payload.Size), letters().EncodeToString(unhex(e.payload.SHA256)),
	}}
	line, _, _ := cutLine(appendStanza(nil, last))
	last.Body = w.Sign(signable(v.repository, key, append(b[:len(b):len(b)], line+"\n"...)))
	b = append(appendStanza(b, last), footer...)
	mac, err := headerMAC(e.fileKey, b)
	if err != nil {
		return nil, err
	}
	return append(b, " "+plainLetters().EncodeToString(mac)+"\n"...), nil
}

// HeadSize gives how long the header of an object of the class is that has nothing more in its note.
func (v *Vault) HeadSize(class Class) int64 { return v.heads[class] }

func headSize(class Class) int64 {
	b := appendStanza([]byte(intro), &age.Stanza{Type: "X25519", Args: []string{string(make([]byte, 43))}, Body: make([]byte, 32)})
	inner := int64(len(b)) + int64(len(footer)+1+43+1) // the header of a note is that of a plain age file
	if class == ClassData {
		b = appendStanza(b, &age.Stanza{Type: noteType, Body: make([]byte, inner+payloadSize(noteHead))})
	}
	b = appendStanza(b, &age.Stanza{Type: sealType, Body: make([]byte, sigSize), Args: []string{
		string(make([]byte, keyIDSize)), string(make([]byte, 43)), string(make([]byte, sizeWidth)), string(make([]byte, 43)),
	}})
	return int64(len(b) + len(footer) + 1 + 43 + 1)
}

// PlainSize gives how long such an object was before it was sealed, from how long it is stored; the stored length where no object can be so long.
func (v *Vault) PlainSize(class Class, stored int64) int64 {
	if n := plainSize(stored - v.heads[class]); n >= 0 {
		return n
	}
	return stored
}

// Check tells whether a trusted writer has put this header under this key of this repository, as an object of the class.
func (v *Vault) Check(key string, class Class, h *Head) error {
	switch {
	case !v.ring.trusts(h.Writer):
		return corrupt("it is signed by %s, which is not among the trusted writers", h.Writer)
	case !h.Writer.Verify(signable(v.repository, key, h.signed), h.sig):
		return corrupt("its signature is not of this key and repository, or not of these bytes")
	case (h.note != nil) != (class == ClassData):
		return corrupt("it is sealed as another kind of object is")
	case !v.Knows(h.Key):
		return fmt.Errorf("repository key %s: %w", h.Key, ErrNoKey)
	}
	return nil
}

// fileKey unwraps the key of a checked object.
func (v *Vault) fileKey(class Class, h *Head) ([]byte, error) {
	id := v.key(h.Key).identities[class]
	if id == nil {
		return nil, fmt.Errorf("%s of repository key %s: %w", class, h.Key, ErrNoKey)
	}
	fileKey, err := id.Unwrap([]*age.Stanza{h.file})
	if err != nil {
		return nil, corrupt("its file key is not for repository key %s", h.Key)
	}
	return fileKey, h.checkMAC(fileKey)
}

// Note reads the note of a checked data object.
func (v *Vault) Note(h *Head) (Note, error) {
	id := v.key(h.Key).identities[ClassMeta]
	if id == nil {
		return Note{}, fmt.Errorf("meta of repository key %s: %w", h.Key, ErrNoKey)
	}
	r, err := age.Decrypt(bytes.NewReader(h.note), id)
	if err != nil {
		return Note{}, corrupt("its note cannot be decrypted: %v", err)
	}
	b, err := io.ReadAll(r)
	if err != nil || len(b) < noteHead {
		return Note{}, corrupt("its note cannot be decrypted")
	}
	n := Note{Size: int64(binary.BigEndian.Uint64(b)), Rest: b[noteHead:]}
	copy(n.SHA256[:], b[8:])
	if plainSize(h.Payload.Size) != n.Size {
		return Note{}, corrupt("its note says %d bytes, and it holds others", n.Size)
	}
	return n, nil
}

// Open gives the plain bytes of a whole checked object, of which r gives what follows the header. Its end of file means that every byte was proven.
func (v *Vault) Open(class Class, h *Head, r io.Reader) (io.Reader, error) {
	salt := make([]byte, saltSize)
	if _, err := io.ReadFull(r, salt); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, corrupt("it ends after its header")
		}
		return nil, err
	}
	c, err := v.reader(class, h, salt)
	if err != nil {
		return nil, err
	}
	c.from, c.sum, c.want = r, sha256.New(), unhex(h.Payload.SHA256)
	c.sum.Write(salt)
	return c, nil
}

func (v *Vault) reader(class Class, h *Head, salt []byte) (*chunkReader, error) {
	size := plainSize(h.Payload.Size)
	if size < 0 {
		return nil, corrupt("no object is %d bytes long", h.Payload.Size)
	}
	fileKey, err := v.fileKey(class, h)
	if err != nil {
		return nil, err
	}
	aead, err := payloadCipher(fileKey, salt)
	if err != nil {
		return nil, err
	}
	return &chunkReader{aead: aead, size: size, last: chunks(size) - 1}, nil
}

// Range says which stored bytes hold some plain ones.
type Range struct {
	Off, N int64 // of the stored object, whole chunks
	first  int64 // chunk
	skip   int64 // plain bytes before those that were asked for
	take   int64
}

// RangeOf gives the stored range that holds n plain bytes from off on, as far as there are any; take 0: none.
func (h *Head) RangeOf(off, n int64) Range {
	size := plainSize(h.Payload.Size)
	n = min(n, size-off)
	if off < 0 || n <= 0 {
		return Range{}
	}
	first, last := off/ChunkSize, (off+n-1)/ChunkSize
	at := h.Size + saltSize + first*(ChunkSize+tagSize)
	end := min(h.Size+saltSize+(last+1)*(ChunkSize+tagSize), h.Stored())
	return Range{Off: at, N: end - at, first: first, skip: off - first*ChunkSize, take: n}
}

// SaltAt and SaltSize say where in the stored object OpenRange's salt lies.
func (h *Head) SaltAt() int64 { return h.Size }

// SaltSize is the length of a salt.
const SaltSize = saltSize

// OpenRange gives plain bytes of a checked object, of which r gives the stored bytes of x. Every chunk proves itself.
func (v *Vault) OpenRange(class Class, h *Head, x Range, salt []byte, r io.Reader) (io.Reader, error) {
	c, err := v.reader(class, h, salt)
	if err != nil {
		return nil, err
	}
	c.from, c.number = r, x.first
	if _, err := io.CopyN(io.Discard, c, x.skip); err != nil {
		return nil, err
	}
	return io.LimitReader(c, x.take), nil
}

// Prove reads what follows the header of a checked object, and tells whether it is what was signed. It needs no secret key.
func (h *Head) Prove(r io.Reader) error {
	sum := sha256.New()
	n, err := io.Copy(sum, r)
	if err != nil {
		return err
	}
	if got := digest(n, sum); got != h.Payload {
		return corrupt("%d bytes with SHA-256 %s follow its header, and %d with %s was signed", got.Size, got.SHA256, h.Payload.Size, h.Payload.SHA256)
	}
	return nil
}
