package seal

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
)

// WriterID is the public half of a writer key as the HCL has it: "ed25519:" and 43 letters.
type WriterID string

const (
	writerPrefix = "ed25519:"
	// WriterKeyPrefix begins the line of a key file that holds the secret half.
	WriterKeyPrefix = "PGKEEP-WRITER-KEY-1-"
)

// letters writes keys and digests: no letter of it means anything to a shell.
func letters() *base64.Encoding { return base64.RawURLEncoding.Strict() }

// ParseWriterID tells whether s is the public half of a writer key.
func ParseWriterID(s string) (WriterID, error) {
	_, err := WriterID(s).public()
	return WriterID(s), err
}

func (w WriterID) public() (ed25519.PublicKey, error) {
	text, ok := strings.CutPrefix(string(w), writerPrefix)
	if b, err := letters().DecodeString(text); ok && err == nil && len(b) == ed25519.PublicKeySize && !strings.ContainsAny(text, "\r\n") {
		return b, nil
	}
	return nil, fmt.Errorf("%.80q is not the public half of a writer key: one looks like ed25519:… with 43 letters", string(w))
}

// WriterKey is the secret half: who has it can write objects that readers believe. It prints as nothing.
type WriterKey struct{ secret ed25519.PrivateKey }

// NewWriterKey draws a key from random.
func NewWriterKey(random io.Reader) (*WriterKey, error) {
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(random, seed); err != nil {
		return nil, fmt.Errorf("draw a writer key: %w", err)
	}
	return &WriterKey{ed25519.NewKeyFromSeed(seed)}, nil
}

// ParseWriterKey reads a key file: lines that begin with # and empty ones are passed over, and one line holds the key. Its errors never
// show what the file holds.
func ParseWriterKey(file []byte) (*WriterKey, error) {
	var found *WriterKey
	for line := range strings.Lines(string(file)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		text, ok := strings.CutPrefix(line, WriterKeyPrefix)
		seed, err := letters().DecodeString(text)
		if !ok || err != nil || len(seed) != ed25519.SeedSize || found != nil {
			return nil, errors.New("it holds something else than one writer key")
		}
		found = &WriterKey{ed25519.NewKeyFromSeed(seed)}
	}
	if found == nil {
		return nil, errors.New("it holds no writer key")
	}
	return found, nil
}

// Secret gives the line of a key file. It is for the key file only.
func (k *WriterKey) Secret() string {
	return WriterKeyPrefix + letters().EncodeToString(k.secret.Seed())
}

// ID gives the public half.
func (k *WriterKey) ID() WriterID {
	return WriterID(writerPrefix + letters().EncodeToString(k.secret.Public().(ed25519.PublicKey)))
}

// String gives the public half, so that no printing shows the other one.
func (k *WriterKey) String() string { return string(k.ID()) }

// GoString is String.
func (k *WriterKey) GoString() string { return k.String() }

// Sign signs a message.
func (k *WriterKey) Sign(message []byte) []byte { return ed25519.Sign(k.secret, message) }

// Verify tells whether the writer has signed the message.
func (w WriterID) Verify(message, signature []byte) bool {
	key, err := w.public()
	return err == nil && ed25519.Verify(key, message, signature)
}
