package seal

import (
	"crypto/sha256"
	"errors"
	"hash"
	"io"
)

// headStep is how much of an object is read at a time until its note is whole.
const headStep = 64 << 10

// Reader gives the plain bytes of a sealed object. Its end of file means that every byte was checked: sizes and SHA-256
// of the stored and of the plain bytes, and nothing after them. Anything else is ErrCorrupt.
type Reader struct {
	meta   Meta
	body   *counted
	plain  io.ReadCloser
	sum    hash.Hash
	n      int64
	failed error
}

// Open reads the note from r and prepares to read the rest. r stays the caller's to close, after the Reader.
func Open(r io.Reader) (*Reader, error) {
	var head []byte
	for {
		step := make([]byte, headStep)
		n, err := io.ReadFull(r, step)
		head = append(head, step[:n]...)
		m, used, metaErr := readMeta(head)
		switch {
		case metaErr == nil:
			return start(m, head[used:], r)
		case !errors.Is(metaErr, errShort):
			return nil, metaErr
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return nil, corrupt("it ends inside the note")
		case err != nil:
			return nil, err
		}
	}
}

func start(m Meta, rest []byte, r io.Reader) (*Reader, error) {
	body := &counted{sum: sha256.New(), rest: rest, from: r}
	plain, err := newDecompressor(body)
	if body.failed != nil {
		return nil, body.failed
	}
	if err != nil {
		return nil, corrupt("%v", err)
	}
	return &Reader{meta: m, body: body, plain: plain, sum: sha256.New()}, nil
}

// Meta gives what the note said.
func (r *Reader) Meta() Meta { return r.meta }

// Read gives plain bytes.
func (r *Reader) Read(p []byte) (int, error) {
	if r.failed != nil {
		return 0, r.failed
	}
	n, err := r.plain.Read(p)
	r.n += int64(n)
	r.sum.Write(p[:n])
	switch {
	case r.body.failed != nil: // the store's error, not the decoder's view of it
		r.failed = r.body.failed
	case r.n > r.meta.Plain.Size:
		n, r.failed = 0, corrupt("more than the %d plain bytes that the note says", r.meta.Plain.Size)
	case err == io.EOF:
		r.failed = r.end()
	case err != nil:
		r.failed = corrupt("%v", err)
	}
	return n, r.failed
}

// end checks what only the end tells.
func (r *Reader) end() error {
	if _, err := io.Copy(io.Discard, r.body); err != nil {
		return err
	}
	if got := digest(r.body.n, r.body.sum); got != r.meta.Stored {
		return corrupt("%d stored bytes with SHA-256 %s, the note says %d and %s", got.Size, got.SHA256, r.meta.Stored.Size, r.meta.Stored.SHA256)
	}
	if got := digest(r.n, r.sum); got != r.meta.Plain {
		return corrupt("%d plain bytes with SHA-256 %s, the note says %d and %s", got.Size, got.SHA256, r.meta.Plain.Size, r.meta.Plain.SHA256)
	}
	return io.EOF
}

// Close frees the decoder.
func (r *Reader) Close() error { return r.plain.Close() }

// counted reads rest, then from, and hashes what it gives.
type counted struct {
	rest   []byte
	from   io.Reader
	sum    hash.Hash
	n      int64
	failed error // of from
}

func (c *counted) Read(p []byte) (n int, err error) {
	if len(c.rest) > 0 {
		n = copy(p, c.rest)
		c.rest = c.rest[n:]
	} else if n, err = c.from.Read(p); err != nil && err != io.EOF {
		c.failed = err
	}
	c.sum.Write(p[:n])
	c.n += int64(n)
	return n, err
}
