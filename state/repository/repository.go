package repository

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store"
)

// Format is the version of the layout that this program writes, and the newest that it reads.
const Format = 1

// maxRepositoryFile bounds REPOSITORY.json.
const maxRepositoryFile = 64 << 10

// repositoryFile is REPOSITORY.json, written once.
type repositoryFile struct {
	Format     int       `json:"format"`
	ID         string    `json:"id"` // 32 hexadecimal digits
	Created    time.Time `json:"created"`
	PageSize   int       `json:"page_size"`   // of page hashes and extents
	FrameSize  int       `json:"frame_size"`  // most raw bytes in a frame of a volume
	VolumeSize int       `json:"volume_size"` // most stored bytes in a volume
	HashSeed   string    `json:"hash_seed"`   // of page hashes: 16 hexadecimal digits
	Cipher     string    `json:"cipher"`      // "none" or "age"
	// Capabilities are what a reader must know to read this repository rightly; an unknown one is a newer format.
	Capabilities []string `json:"capabilities"`
}

// CreateOptions go with Create.
type CreateOptions struct {
	Now         time.Time
	Compression seal.Codec
	Random      io.Reader     // of the id and the seed; nil: crypto/rand
	Lock        Lock          // of REPOSITORY.json and of the first key; see WithLock
	Keys        *seal.Keyring // makes the repository an encrypted one; nil: nothing is encrypted
}

// Repository is an open repository. It is safe for many goroutines.
type Repository struct {
	st      store.Store // its errors carry codes; of an encrypted repository it is the box
	times   *coded      // the store as it is, asked for the newest time
	box     *box        // nil: nothing is encrypted
	ring    *seal.Keyring
	fileSum string // SHA-256 of REPOSITORY.json, of an encrypted repository
	keys    []KeyFact
	// strayKeys are objects beside them that belong to none.
	strayKeys int
	file      repositoryFile
	seed      uint64
	codec     seal.Codec
	packer    *seal.Packer
	shared    *shared
}

// shared is what all handles of a repository have in common.
type shared struct {
	mu    sync.Mutex
	facts map[ClusterKey]ClusterFacts // cluster.json never changes
	heads cache[walHead]              // of WAL objects, by key
	rolls cache[*indexRoll]           // of wx objects, by key
}

// Create makes a repository in an empty store and opens it: README.txt first, REPOSITORY.json last, so that a directory holds a
// repository or can still become one. Where a repository is already, it is opened. The store must put conditionally, which
// is tried with README.txt.
func Create(ctx context.Context, st store.Store, o CreateOptions) (*Repository, error) {
	if err := o.Compression.Check(); err != nil {
		return nil, fmt.Errorf("create repository: %w", err)
	}
	r, err := OpenWith(ctx, st, o.Keys)
	if err == nil {
		return r.WithCompression(o.Compression)
	}
	if state.CodeOf(err) != state.CodeAbsent {
		return nil, err
	}
	body, err := o.repositoryFile()
	if err != nil {
		return nil, fmt.Errorf("create repository: %w", err)
	}
	coded := &coded{Store: st}
	if err := tryConditionalPut(ctx, coded, o.Keys != nil); err != nil {
		return nil, fmt.Errorf("create repository: %w", err)
	}
	put := (&Repository{st: coded}).WithLock(o.Lock).st
	if o.Keys != nil {
		if err := o.firstKey(ctx, put, body); err != nil {
			return nil, fmt.Errorf("create repository: %w", err)
		}
	}
	err = put.PutIfAbsent(ctx, repositoryKey, bytes.NewReader(body), int64(len(body)), store.PutOptions{})
	if err != nil && !errors.Is(err, store.ErrExists) {
		return nil, fmt.Errorf("create repository: %w", err)
	}
	if r, err = OpenWith(ctx, st, o.Keys); err != nil { // ours, or that of another who was faster
		return nil, err
	}
	return r.WithCompression(o.Compression)
}

func (o CreateOptions) repositoryFile() ([]byte, error) {
	random := o.Random
	if random == nil {
		random = rand.Reader
	}
	var b [24]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return nil, fmt.Errorf("draw an id: %w", err)
	}
	f := repositoryFile{
		Format: Format, ID: hex.EncodeToString(b[:16]), Created: o.Now.UTC().Truncate(time.Second), PageSize: 8192, FrameSize: 512 << 10,
		VolumeSize: 8 << 20, HashSeed: hex.EncodeToString(b[16:]), Cipher: cipherNone, Capabilities: []string{},
	}
	if o.Keys != nil {
		f.Cipher, f.HashSeed = cipherAge, "" // the seed comes from the meta key
	}
	return encodeRecord(f)
}

// firstKey puts the first key of an encrypted repository.
func (o CreateOptions) firstKey(ctx context.Context, st store.Store, file []byte) error {
	var f repositoryFile
	if err := decodeRecord(file, &f); err != nil {
		return err
	}
	sum := sha256.Sum256(file)
	return newKey(ctx, st, keyRecord{
		ID: f.ID[:16], Repository: f.ID, File: hex.EncodeToString(sum[:]), Number: 1, Created: f.Created,
	}, o.Keys)
}

// tryConditionalPut puts README.txt, and then other bytes of the same name, which must be refused and change nothing.
func tryConditionalPut(ctx context.Context, st store.Store, encrypted bool) error {
	text := readmeOf(encrypted)
	err := st.PutIfAbsent(ctx, readmeKey, bytes.NewReader([]byte(text)), int64(len(text)), store.PutOptions{})
	if err != nil && !errors.Is(err, store.ErrExists) {
		if errors.Is(err, store.ErrUnsupported) {
			return unconditional(err)
		}
		return err
	}
	other := []byte("probe of a conditional put: this text must never be seen\n")
	err = st.PutIfAbsent(ctx, readmeKey, bytes.NewReader(other), int64(len(other)), store.PutOptions{})
	if err == nil {
		return unconditional(errors.New("a second put of README.txt was accepted"))
	}
	if !errors.Is(err, store.ErrExists) {
		return err
	}
	return nil
}

func unconditional(err error) error {
	return &state.Error{
		Code: state.CodeUnconditionalStore, Text: "the store cannot put an object only if its name is free, so two writers could destroy each other's work",
		Hint: "use a file system with hard links, or an object store with If-None-Match", Err: err,
	}
}

// Open reads REPOSITORY.json. The error has CodeAbsent where a repository could be created, CodeNotMounted where the file system that
// should be there is not, CodeNotRepository where something else is, CodeNewerFormat, or CodeCorrupt; CodeNoKey where it is encrypted.
func Open(ctx context.Context, st store.Store) (*Repository, error) { return OpenWith(ctx, st, nil) }

// OpenWith is Open with the keys that the configuration names for the repository. The error has CodeNoKey where its metadata cannot be read
// with them, and CodeCorrupt where keys are given and the repository is not encrypted: nothing in it would be believed.
func OpenWith(ctx context.Context, st store.Store, keys *seal.Keyring) (*Repository, error) {
	c := &coded{Store: st}
	b, err := readRepositoryFile(ctx, c)
	if err != nil {
		return nil, err
	}
	r := &Repository{st: c, times: c, shared: &shared{facts: map[ClusterKey]ClusterFacts{}}}
	if err := r.read(b, keys); err != nil {
		return nil, err
	}
	if keys != nil {
		if err := r.unlock(ctx, b, keys); err != nil {
			return nil, err
		}
	}
	return r.with(seal.Codec{}, "")
}

// readRepositoryFile gives the bytes of REPOSITORY.json, or what its place is instead. Another process may create the repository and
// begin to use it between the look at the name and the look at the place: what it put there came after REPOSITORY.json, so a second
// look at the name tells.
func readRepositoryFile(ctx context.Context, st *coded) ([]byte, error) {
	b, err := readAll(ctx, st, repositoryKey, maxRepositoryFile)
	if !isNone(err) {
		return b, wrapOpen(err)
	}
	none := vacant(ctx, st.Store)
	if state.CodeOf(none) != state.CodeNotRepository {
		return nil, none
	}
	b, err = readAll(ctx, st, repositoryKey, maxRepositoryFile)
	if isNone(err) {
		return nil, none
	}
	return b, wrapOpen(err)
}

func isNone(err error) bool {
	return errors.Is(err, store.ErrNotExist) || errors.Is(err, store.ErrAbsent)
}

func wrapOpen(err error) error {
	if err != nil {
		return fmt.Errorf("open repository: %w", err)
	}
	return nil
}

// read takes what REPOSITORY.json says.
func (r *Repository) read(b []byte, keys *seal.Keyring) error {
	if err := decodeRecord(b, &r.file); err != nil {
		return corrupt(repositoryKey, err)
	}
	f := r.file
	encrypted := f.Cipher == cipherAge
	if f.Format > Format || len(f.Capabilities) > 0 || f.Cipher != cipherNone && !encrypted {
		return &state.Error{
			Code: state.CodeNewerFormat,
			Text: fmt.Sprintf("the repository has format %d, cipher %q and capabilities %q; this pgkeep reads format %d", f.Format, f.Cipher, f.Capabilities, Format),
			Hint: "use the pgkeep that wrote it, or a newer one",
		}
	}
	seed, err := hex.DecodeString(f.HashSeed)
	if err != nil || len(seed) != 8 && !encrypted || len(f.ID) != 32 || f.Format < 1 {
		return corrupt(repositoryKey, fmt.Errorf("id %q, format %d or the seed is none", f.ID, f.Format))
	}
	if encrypted {
		return r.wantKeys(keys)
	}
	if keys != nil {
		return &state.Error{
			Code: state.CodeCorrupt, Text: "the repository is not encrypted, and the configuration says that it is: nothing in it can be believed",
			Hint: "a repository is encrypted from its creation on or never: name another place, or take the encryption block out if nobody changed the repository",
		}
	}
	r.seed = binary.BigEndian.Uint64(seed)
	return nil
}

// wantKeys refuses an encrypted repository without a word of its keys in the configuration.
func (r *Repository) wantKeys(keys *seal.Keyring) error {
	if keys != nil {
		return nil
	}
	return noKey("the repository is encrypted, and the configuration has no encryption block for it", nil)
}

// The ciphers of REPOSITORY.json.
const (
	cipherNone = "none"
	cipherAge  = "age"
)

// ID gives the repository's identity, which every copy of its REPOSITORY.json shares.
func (r *Repository) ID() string { return r.file.ID }

// Store gives the store below; its errors carry codes.
func (r *Repository) Store() store.Store { return r.st }

// HashSeed gives the secret seed of page hashes.
func (r *Repository) HashSeed() uint64 { return r.seed }

// Compression gives what new objects are compressed with.
func (r *Repository) Compression() seal.Codec { return r.codec.Normal() }

// WithCompression gives the same repository, writing with another codec. What is there stays readable.
func (r *Repository) WithCompression(c seal.Codec) (*Repository, error) {
	return r.with(c, "")
}

// WithScratch gives the same repository, keeping what does not fit into memory while it is put (a segment of 64 MiB and more)
// in nameless files of dir.
func (r *Repository) WithScratch(dir string) (*Repository, error) {
	return r.with(r.codec, dir)
}

func (r *Repository) with(c seal.Codec, scratch string) (*Repository, error) {
	p, err := seal.NewPacker(c, scratch)
	if err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	out := *r
	out.codec, out.packer = c, p
	return &out, nil
}

// readAll reads a whole object of at most limit bytes.
func readAll(ctx context.Context, st store.Store, key string, limit int64) ([]byte, error) {
	r, err := st.Get(ctx, key, 0, limit+1)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, code(err))
	}
	if int64(len(b)) > limit {
		return nil, corrupt(key, fmt.Errorf("it is longer than %d bytes", limit))
	}
	return b, nil
}
