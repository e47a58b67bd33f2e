package repository

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store"
)

// keysDir holds the keys of an encrypted repository: keys/<id>/key.json with the public halves, and beside it, for each reader,
// keys/<id>/<class>-<reader>.age with a secret half.
const keysDir = "keys/"

func keyFile(id string) string { return keysDir + id + "/key.json" }

func wrappedFile(id string, class seal.Class, reader string) string {
	return fmt.Sprintf("%s%s/%s-%s.age", keysDir, id, class, reader)
}

var (
	keyIDPattern   = regexp.MustCompile(`^[0-9a-f]{16}$`)
	wrappedPattern = regexp.MustCompile(`^(meta|data)-([0-9a-f]{16}|passphrase)\.age$`)
)

// keyRecord is keys/<id>/key.json.
type keyRecord struct {
	Format     int           `json:"format"`
	ID         string        `json:"id"`
	Repository string        `json:"repository"`        // its id
	File       string        `json:"repository_sha256"` // of REPOSITORY.json
	Number     int           `json:"number"`
	Created    time.Time     `json:"created"`
	Meta       string        `json:"meta"` // recipients of age
	Data       string        `json:"data"`
	Writer     seal.WriterID `json:"writer"`
	Signature  string        `json:"signature"` // 128 lower-case digits
}

// signable is what the writer signs.
func (k keyRecord) signable() []byte {
	return fmt.Appendf(nil, "pgkeep key 1\n%s\n%s\n%s\n%d\n%s\n%s\n%s\n%s\n",
		k.Repository, k.File, k.ID, k.Number, k.Created.UTC().Format(time.RFC3339), k.Meta, k.Data, k.Writer)
}

func (k keyRecord) public() seal.RepositoryKey {
	return seal.RepositoryKey{ID: k.ID, Number: k.Number, Meta: k.Meta, Data: k.Data}
}

// errForeignKey is why what a Create that was cut short left does not count: a record of a repository that never came to be, or none.
var errForeignKey = errors.New("it is the key of no repository, or of another one")

// check tells whether a writer that is believed has made the key for this repository.
func (k keyRecord) check(id, repository, file string, ring *seal.Keyring) error {
	sig, err := hex.DecodeString(k.Signature)
	switch {
	case k.ID != id || k.Repository != repository || k.File != file || k.Number < 1:
		return errForeignKey
	case !ring.AnyWriter && !slices.Contains(ring.Trusted, k.Writer):
		return fmt.Errorf("it is signed by %s, which is not among the trusted writers", k.Writer)
	case err != nil || !k.Writer.Verify(k.signable(), sig):
		return errors.New("its signature does not match")
	}
	return nil
}

// newKey draws a key, wraps it for its readers and puts everything, the record last: a key without record is nobody's. Who reads data
// reads metadata too.
func newKey(ctx context.Context, st store.Store, k keyRecord, ring *seal.Keyring) error {
	if ring.Writer == nil {
		return noKey("a repository key has to be signed, and the configuration names no signing_key", seal.ErrNoKey)
	}
	public, meta, data, err := seal.NewRepositoryKey(k.ID, k.Number)
	if err != nil {
		return err
	}
	if err := (half{k.ID, seal.ClassMeta, meta}).wrap(ctx, st, readersOf(ring, seal.ClassMeta)); err != nil {
		return err
	}
	if err := (half{k.ID, seal.ClassData, data}).wrap(ctx, st, readersOf(ring, seal.ClassData)); err != nil {
		return err
	}
	k.Format, k.Meta, k.Data, k.Writer = 1, public.Meta, public.Data, ring.Writer.ID()
	k.Signature = hex.EncodeToString(ring.Writer.Sign(k.signable()))
	body, err := encodeRecord(k)
	if err != nil {
		return err
	}
	return putClear(ctx, st, keyFile(k.ID), body)
}

// readersOf gives who is to read a class.
func readersOf(ring *seal.Keyring, class seal.Class) []seal.Recipient {
	out := slices.Clone(ring.Data)
	if class == seal.ClassData {
		return out
	}
	for _, r := range ring.Meta {
		if !slices.ContainsFunc(out, func(o seal.Recipient) bool { return o.Name() == r.Name() }) {
			out = append(out, r)
		}
	}
	return out
}

// half is the secret half of one class of a repository's key.
type half struct {
	id     string // of the key
	class  seal.Class
	secret *age.X25519Identity
}

// wrap puts it for each of some readers. One that it is wrapped for already stays as it is.
func (h half) wrap(ctx context.Context, st store.Store, readers []seal.Recipient) error {
	for _, r := range readers {
		body, err := seal.Wrap(h.secret, r)
		if err == nil {
			err = putClear(ctx, st, wrappedFile(h.id, h.class, r.Fingerprint()), body)
		}
		if err != nil && !errors.Is(err, store.ErrExists) {
			return fmt.Errorf("wrap the %s key for %s: %w", h.class, r.Name(), err)
		}
	}
	return nil
}

func putClear(ctx context.Context, st store.Store, key string, body []byte) error {
	if err := st.PutIfAbsent(ctx, key, bytes.NewReader(body), int64(len(body)), store.PutOptions{}); err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	return nil
}

func readKey(ctx context.Context, st store.Store, id string) (k keyRecord, bad, err error) {
	b, err := readAll(ctx, st, keyFile(id), maxRecord)
	if isCorrupt(err) {
		return k, err, nil
	}
	if err != nil {
		return k, nil, err
	}
	return k, decodeRecord(b, &k), nil
}

// unwrap opens the secret half of a class with what is here; nil: nothing here opens it. What is wrapped for a passphrase comes last: it costs a
// second and much memory.
func (f foundKey) unwrap(ctx context.Context, st store.Store, class seal.Class, ring *seal.Keyring) (*age.X25519Identity, error) {
	return f.unwrapBut(ctx, st, class, ring, "")
}

// unwrapBut is unwrap without what is wrapped for one reader, of that fingerprint.
func (f foundKey) unwrapBut(ctx context.Context, st store.Store, class seal.Class, ring *seal.Keyring, reader string) (*age.X25519Identity, error) {
	for _, name := range slices.Sorted(maps.Keys(f.wrapped)) {
		to, of := strings.CutPrefix(name, class.String()+"-")
		if !of || to == reader {
			continue
		}
		if id, err := f.opened(ctx, st, class, ring, to); id != nil || err != nil {
			return id, err
		}
	}
	return nil, nil
}

// opened opens what is wrapped for one reader; nil: nothing here opens it, or what is in it is not this key: whoever can write the store can
// put such a thing there.
func (f foundKey) opened(ctx context.Context, st store.Store, class seal.Class, ring *seal.Keyring, reader string) (*age.X25519Identity, error) {
	b, err := readAll(ctx, st, f.wrapped[class.String()+"-"+reader], seal.MaxWrapped)
	if isAbsent(err) || isCorrupt(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	id, err := ring.Unwrap(b, reader)
	if err != nil || id.Recipient().String() != f.record.public().Public(class) {
		return nil, nil //nolint:nilerr // it opens nothing
	}
	return id, nil
}

// wrappedFor tells whether a half is wrapped for anybody.
func (f foundKey) wrappedFor(class seal.Class) bool {
	for name := range f.wrapped {
		if strings.HasPrefix(name, class.String()+"-") {
			return true
		}
	}
	return false
}

// unlock opens an encrypted repository. The error has CodeNoKey where its metadata cannot be read here.
func (r *Repository) unlock(ctx context.Context, file []byte, ring *seal.Keyring) error {
	sum := sha256.Sum256(file)
	r.ring, r.fileSum = ring, hex.EncodeToString(sum[:])
	v := seal.NewVault(r.file.ID, ring)
	keys, err := r.loadKeys(ctx, v)
	if err != nil {
		return err
	}
	if !v.Reads(seal.ClassMeta) {
		return &state.Error{
			Code: state.CodeNoKey, Text: "the repository is encrypted, and none of the identities here opens its metadata", Err: seal.ErrNoKey,
			Hint: "look at identity_files and identity_command of its encryption block; readers who were only written into the configuration read nothing before pgkeep key add has run where an earlier identity is",
		}
	}
	r.keys = keys
	r.seed, _ = v.Secret("page hashes")
	r.box = &box{Store: r.times, v: v, reload: func(ctx context.Context) error { _, err := r.loadKeys(ctx, v); return err }}
	r.st = r.box
	return nil
}

// loadKeys reads the keys that count, adds them to the vault and says what can be told of them.
func (r *Repository) loadKeys(ctx context.Context, v *seal.Vault) ([]KeyFact, error) {
	found, strays, err := findKeys(ctx, r.times, r.file.ID, r.fileSum, r.ring)
	if err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	r.strayKeys = strays
	var out []KeyFact
	why := errors.New("it holds no key")
	for _, f := range found {
		if f.bad != nil {
			why = fmt.Errorf("%s: %w", keyFile(f.id), f.bad)
			continue
		}
		fact, err := r.addKey(ctx, v, f)
		if err != nil {
			return nil, err
		}
		out = append(out, fact)
	}
	if len(out) == 0 && strays > crowdedKeys {
		return nil, &state.Error{
			Code: state.CodeCorrupt, Err: why,
			Text: fmt.Sprintf("%d objects below keys/ belong to no key that is signed by a writer trusted here, and the oldest %d keys among them were read: somebody who can write there hides the repository's own", strays, crowdedKeys),
			Hint: "take away what lies in keys/ and is not yours: a copy of the repository, or pgkeep key check of an earlier day, names its keys",
		}
	}
	if len(out) == 0 {
		return nil, &state.Error{
			Code: state.CodeCorrupt, Text: "no key of the encrypted repository is signed by a writer that is trusted here",
			Hint: "compare trusted_writers of its encryption block with keys/*/key.json", Err: why,
		}
	}
	return out, nil
}

// addKey unwraps what is here of a key.
func (r *Repository) addKey(ctx context.Context, v *seal.Vault, f foundKey) (KeyFact, error) {
	k := KeyFact{ID: f.id, Number: f.record.Number, Created: f.record.Created}
	meta, err := f.unwrap(ctx, r.times, seal.ClassMeta, r.ring)
	if err != nil {
		return k, fmt.Errorf("open repository: %w", err)
	}
	data, err := f.unwrap(ctx, r.times, seal.ClassData, r.ring)
	if err != nil {
		return k, fmt.Errorf("open repository: %w", err)
	}
	if err := v.Add(f.record.public(), meta, data); err != nil {
		return k, corrupt(keyFile(f.id), err)
	}
	k.Meta, k.Data = meta != nil, data != nil
	for name := range f.wrapped {
		k.Wrapped = append(k.Wrapped, name)
	}
	slices.Sort(k.Wrapped)
	return k, nil
}

// KeyFact is what can be told of one key of an encrypted repository without showing any of it.
type KeyFact struct {
	ID      string
	Number  int // the highest seals what is new
	Created time.Time
	Meta    bool     // its metadata half was opened here
	Data    bool     // its data half was opened here
	Wrapped []string // for whom there is a wrapped half: "meta-…", "data-…", with the fingerprint of the recipient
}

// Keys gives the keys of an encrypted repository by number; none: it is not encrypted.
func (r *Repository) Keys() []KeyFact { return slices.Clone(r.keys) }

// Encrypted tells whether objects are encrypted.
func (r *Repository) Encrypted() bool { return r.box != nil }

// ReadsData tells whether volumes and WAL can be read here: always where nothing is encrypted.
func (r *Repository) ReadsData() bool { return r.box == nil || r.box.v.Reads(seal.ClassData) }

// noKey is the error for what cannot be read or signed here.
func noKey(text string, err error) error {
	return &state.Error{
		Code: state.CodeNoKey, Text: text, Err: err,
		Hint: "look at identity_files, identity_command, signing_key and trusted_writers of the repository's encryption block; pgkeep key check says which keys are here",
	}
}

// noDataKey is the error of a host that may read metadata only.
func noDataKey(what string, err error) error {
	return &state.Error{
		Code: state.CodeNoKey, Text: what + " is encrypted, and no identity here opens its data", Err: err,
		Hint: "run it where an identity of one of the data_recipients is, or name one in identity_files of the repository's encryption block; pgkeep key check says which keys are here",
	}
}

// NeedData tells whether volumes and WAL can be read here. The error has CodeNoKey and says what is missing.
func (r *Repository) NeedData() error {
	if r.ReadsData() {
		return nil
	}
	return noDataKey("repository "+r.ID(), nil)
}

// encryption gives how the repository stands to the keys that are here; nil: nothing is encrypted.
func (r *Repository) encryption() *state.Encryption {
	if r.box == nil {
		return nil
	}
	out := &state.Encryption{Writes: r.box.v.Writes(), Strays: r.strayKeys}
	for _, k := range r.keys {
		fact := state.EncryptionKey{ID: k.ID, Number: k.Number, Created: k.Created, Data: k.Data}
		for _, name := range k.Wrapped {
			if strings.HasPrefix(name, seal.ClassData.String()+"-") {
				fact.Readers++
			}
		}
		out.Keys = append(out.Keys, fact)
		for _, m := range r.missing(k) {
			if !slices.Contains(out.Missing, m) {
				out.Missing = append(out.Missing, m)
			}
		}
	}
	if len(r.keys) > 0 {
		out.Beyond = r.beyond(r.keys[len(r.keys)-1])
	}
	return out
}

// beyond gives for whom a key is wrapped though the configuration does not name them: ten at most, because others may fill the store.
func (r *Repository) beyond(k KeyFact) []string {
	named := map[string]bool{}
	for _, class := range []seal.Class{seal.ClassMeta, seal.ClassData} {
		for _, to := range readersOf(r.ring, class) {
			named[class.String()+"-"+to.Fingerprint()] = true
		}
	}
	var out []string
	for _, name := range k.Wrapped {
		if !named[name] && len(out) < 10 {
			out = append(out, strings.Replace(name, "-", " ", 1))
		}
	}
	return out
}

// missing gives the readers of the configuration for whom a key is not wrapped.
func (r *Repository) missing(k KeyFact) []string {
	var out []string
	for _, class := range []seal.Class{seal.ClassMeta, seal.ClassData} {
		for _, to := range readersOf(r.ring, class) {
			if !slices.Contains(k.Wrapped, class.String()+"-"+to.Fingerprint()) {
				out = append(out, class.String()+" "+to.Name())
			}
		}
	}
	return out
}
