package seal

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
)

// metaMark begins the note of a sealed object.
const metaMark = "pgkeep1\n"

// Digest is a length and the SHA-256 of that many bytes.
type Digest struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"` // lower-case hexadecimal
}

// Meta is what the note of a sealed object says.
type Meta struct {
	Format int             `json:"format"` // 1
	Kind   string          `json:"kind"`   // what Info is, in the words of who packed it
	Plain  Digest          `json:"plain"`  // what was packed
	Stored Digest          `json:"stored"` // the compressed stream, without the note
	Info   json.RawMessage `json:"info"`
}

// Packer seals objects with one codec. It may be used by many goroutines at once.
type Packer struct {
	codec   Codec
	scratch string
	idle    sync.Pool // of compressor
}

// NewPacker gives a Packer. What does not fit into memory goes to a nameless file in scratch; empty: the system's directory
// for temporary files.
func NewPacker(c Codec, scratch string) (*Packer, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	return &Packer{codec: c.Normal(), scratch: scratch}, nil
}

// Codec gives the codec, with its defaults written out.
func (p *Packer) Codec() Codec { return p.codec }

// Packed is a sealed object that waits to be put. The caller closes it.
type Packed struct {
	Meta Meta
	note []byte
	body *spill
}

// Size gives the length of the object.
func (o *Packed) Size() int64 { return int64(len(o.note)) + o.body.size }

// ReadAt gives the object's bytes.
func (o *Packed) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 || off >= int64(len(o.note)) {
		return o.body.ReadAt(b, off-int64(len(o.note)))
	}
	n := copy(b, o.note[off:])
	if n == len(b) {
		return n, nil
	}
	m, err := o.body.ReadAt(b[n:], 0)
	return n + m, err
}

// Close frees what the object holds.
func (o *Packed) Close() error { return o.body.Close() }

// Pack seals the first size bytes of plain, which it reads once. info becomes Meta.Info.
func (p *Packer) Pack(kind string, info any, plain io.ReaderAt, size int64) (*Packed, error) {
	o := &Packed{Meta: Meta{Format: 1, Kind: kind}, body: &spill{dir: p.scratch, at: spillAt}}
	if err := p.pack(o, info, io.NewSectionReader(plain, 0, size), size); err != nil {
		o.body.Close()
		return nil, err
	}
	return o, nil
}

func (p *Packer) pack(o *Packed, info any, plain io.Reader, size int64) error {
	var err error
	if o.Meta.Info, err = json.Marshal(info); err != nil {
		return fmt.Errorf("encode metadata: %w", err)
	}
	plainSum, storedSum := sha256.New(), sha256.New()
	n, err := p.compress(io.MultiWriter(o.body, storedSum), io.TeeReader(plain, plainSum))
	if err != nil {
		return fmt.Errorf("compress with %s: %w", p.codec.Algorithm, err)
	}
	if n != size {
		return fmt.Errorf("compress with %s: the input ended after %d of %d bytes", p.codec.Algorithm, n, size)
	}
	o.Meta.Plain = digest(size, plainSum)
	o.Meta.Stored = digest(o.body.size, storedSum)
	doc, err := json.Marshal(o.Meta)
	if err != nil {
		return fmt.Errorf("encode metadata: %w", err)
	}
	payload := checksummed(metaMark, doc)
	if len(payload) > MaxNote {
		return fmt.Errorf("encode metadata: %d bytes, at most %d fit", len(payload), MaxNote)
	}
	o.note = appendNote(nil, p.codec.Algorithm, payload)
	return nil
}

func (p *Packer) compress(dst io.Writer, src io.Reader) (int64, error) {
	c, ok := p.idle.Get().(compressor)
	if !ok {
		var err error
		if c, err = newCompressor(p.codec); err != nil {
			return 0, err
		}
	}
	c.Reset(dst)
	n, err := io.CopyBuffer(struct{ io.Writer }{c}, struct{ io.Reader }{src}, make([]byte, 256<<10))
	if err != nil {
		return n, err // the compressor is in an unknown state: let it go
	}
	if err := c.Close(); err != nil {
		return n, err
	}
	c.Reset(io.Discard)
	p.idle.Put(c)
	return n, nil
}

func digest(size int64, h hash.Hash) Digest {
	return Digest{Size: size, SHA256: hex.EncodeToString(h.Sum(nil))}
}

// ReadMeta reads the note from the first bytes of an object. enough is false when head ends before the note does: read more,
// up to MaxNote and a little.
func ReadMeta(head []byte) (m Meta, enough bool, err error) {
	m, _, err = readMeta(head)
	if errors.Is(err, errShort) {
		return Meta{}, false, nil
	}
	return m, true, err
}

func readMeta(head []byte) (m Meta, used int, err error) {
	payload, used, err := cutNote(head)
	if err != nil {
		return Meta{}, 0, err
	}
	doc, err := unchecked(metaMark, payload)
	if err != nil {
		return Meta{}, 0, err
	}
	d := json.NewDecoder(bytes.NewReader(doc))
	if err := d.Decode(&m); err != nil {
		return Meta{}, 0, corrupt("the note is no metadata: %v", err)
	}
	if m.Format != 1 || m.Plain.Size < 0 || m.Stored.Size < 0 {
		return Meta{}, 0, corrupt("the note says format %d, %d plain and %d stored bytes", m.Format, m.Plain.Size, m.Stored.Size)
	}
	return m, used, nil
}
