package seal

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"filippo.io/age"
)

// Passphrase stands among recipients for the passphrase of the configuration.
const Passphrase = "passphrase"

// maxWorkFactor bounds what a wrapping found in a repository may cost: 2^18 is what age itself writes.
const maxWorkFactor = 20

// keyIDSize is the length of the id of a repository key.
const keyIDSize = 16

// Keyring is what a configuration gives for one repository: who may read it, who may write it, and which secrets are here. It prints as nothing.
type Keyring struct {
	Data, Meta []Recipient    // whom repository keys are wrapped for
	Trusted    []WriterID     // whose signatures are believed
	AnyWriter  bool           // every signature is believed: only where no configuration survived
	Writer     *WriterKey     // nil: nothing can be written
	Opens      []age.Identity // what unwraps repository keys here; empty: nothing can be read
}

// String keeps secrets from being printed.
func (*Keyring) String() string { return "(keys)" }

// GoString is String.
func (*Keyring) GoString() string { return "(keys)" }

func (k *Keyring) trusts(w WriterID) bool { return k.AnyWriter || slices.Contains(k.Trusted, w) }

// Recipient is one reader: an age recipient, or the holders of the passphrase.
type Recipient struct {
	name string
	to   age.Recipient
}

// ParseRecipient reads an age recipient: age1… or age1pq1….
func ParseRecipient(s string) (Recipient, error) {
	r, err := age.ParseRecipients(strings.NewReader(s))
	if err != nil || len(r) != 1 || strings.ContainsAny(s, "\r\n#") {
		return Recipient{}, fmt.Errorf("%.80q is not a recipient of age", s)
	}
	return Recipient{name: s, to: r[0]}, nil
}

// WithPassphrase gives the recipient that the passphrase is, and the identity that it opens with.
func WithPassphrase(passphrase string) (Recipient, age.Identity, error) {
	r, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return Recipient{}, nil, errors.New("the passphrase is empty")
	}
	id, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return Recipient{}, nil, errors.New("the passphrase is empty")
	}
	id.SetMaxWorkFactor(maxWorkFactor)
	return Recipient{name: Passphrase, to: r}, id, nil
}

// ParseIdentities reads an identity file of age. Its errors never show what the file holds.
func ParseIdentities(file []byte) ([]age.Identity, error) {
	ids, err := age.ParseIdentities(bytes.NewReader(file))
	if err != nil || len(ids) == 0 {
		return nil, errors.New("it holds something else than identities of age (AGE-SECRET-KEY-1…), one a line")
	}
	return ids, nil
}

// Name gives the recipient as the configuration has it.
func (r Recipient) Name() string { return r.name }

// Fingerprint gives 16 digits that stand for the recipient in the name of an object.
func (r Recipient) Fingerprint() string { return Fingerprint(r.name) }

// Fingerprint gives the fingerprint of the recipient of that name; that of the passphrase is a word.
func Fingerprint(name string) string {
	if name == Passphrase {
		return Passphrase
	}
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:8])
}

// Here gives the names of the readers whose identities are here, as the configuration has them.
func (k *Keyring) Here() []string {
	var out []string
	for _, id := range k.Opens {
		switch id := id.(type) {
		case *age.X25519Identity:
			out = append(out, id.Recipient().String())
		case *age.HybridIdentity:
			out = append(out, id.Recipient().String())
		case *age.ScryptIdentity:
			out = append(out, Passphrase)
		}
	}
	return out
}

// RepositoryKey is the public half of one pair of keys of a repository.
type RepositoryKey struct {
	ID     string // 16 lower-case hexadecimal digits
	Number int    // from 1; the highest seals
	Meta   string // recipient of age
	Data   string
}

// Public gives the public half for a class.
func (k RepositoryKey) Public(c Class) string {
	if c == ClassData {
		return k.Data
	}
	return k.Meta
}

// NewRepositoryKey draws a pair of keys. The secret halves are for Wrap, and are then forgotten.
func NewRepositoryKey(id string, number int) (k RepositoryKey, meta, data *age.X25519Identity, err error) {
	if meta, err = age.GenerateX25519Identity(); err == nil {
		data, err = age.GenerateX25519Identity()
	}
	if err != nil {
		return k, nil, nil, fmt.Errorf("draw a repository key: %w", err)
	}
	return RepositoryKey{ID: id, Number: number, Meta: meta.Recipient().String(), Data: data.Recipient().String()}, meta, data, nil
}

// Wrap encrypts the secret half of a repository key for one reader: an age file that holds an identity file.
func Wrap(id *age.X25519Identity, to Recipient) ([]byte, error) {
	return encryptTo([]byte(id.String()+"\n"), to.to)
}

// MaxWrapped bounds a wrapped key.
const MaxWrapped = 64 << 10

// Unwrap opens a key that is wrapped for the reader of a fingerprint with what is here. ErrNoKey where nothing opens it. A passphrase is tried only with
// what is named as wrapped for it: each try costs a second and 256 MiB, and anybody who can write the store can put wrapped keys there.
func (k *Keyring) Unwrap(wrapped []byte, reader string) (*age.X25519Identity, error) {
	var opens []age.Identity
	for _, id := range k.Opens {
		if _, phrase := id.(*age.ScryptIdentity); phrase == (reader == Passphrase) {
			opens = append(opens, id)
		}
	}
	if len(opens) == 0 {
		return nil, ErrNoKey
	}
	r, err := age.Decrypt(bytes.NewReader(wrapped), opens...)
	var none *age.NoIdentityMatchError
	if errors.As(err, &none) {
		return nil, ErrNoKey
	}
	if err != nil {
		return nil, corrupt("a wrapped key cannot be opened")
	}
	b, err := io.ReadAll(io.LimitReader(r, MaxWrapped))
	if err != nil {
		return nil, corrupt("a wrapped key cannot be opened")
	}
	id, err := age.ParseX25519Identity(strings.TrimSpace(string(b)))
	if err != nil {
		return nil, corrupt("a wrapped key holds no key")
	}
	return id, nil
}

func encryptTo(plain []byte, to age.Recipient) ([]byte, error) {
	var out bytes.Buffer
	w, err := age.Encrypt(&out, to)
	if err == nil {
		_, err = w.Write(plain)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("encrypt with age: %w", err)
	}
	return out.Bytes(), nil
}

// NewIdentity draws an identity of age and gives its public half and the line of an identity file that holds the secret one. postQuantum asks for one
// that a quantum computer could not break, which age reads from 1.3 on.
func NewIdentity(postQuantum bool) (public, secret string, err error) {
	if postQuantum {
		id, err := age.GenerateHybridIdentity()
		if err != nil {
			return "", "", fmt.Errorf("draw an identity: %w", err)
		}
		return id.Recipient().String(), id.String(), nil
	}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return "", "", fmt.Errorf("draw an identity: %w", err)
	}
	return id.Recipient().String(), id.String(), nil
}
