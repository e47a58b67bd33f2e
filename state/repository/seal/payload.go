package seal

import (
	"bytes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	"golang.org/x/crypto/chacha20poly1305"
)

// The payload of an age file is 16 random bytes and then chunks of 64 KiB, each sealed on its own with its number and whether it is
// the last. So any chunk can be sealed again with the same bytes, and opened alone.
const (
	fileKeySize = 16
	saltSize    = 16
	// ChunkSize is how many plain bytes a chunk has.
	ChunkSize = 64 << 10
	tagSize   = chacha20poly1305.Overhead
)

// payloadSize gives how long n plain bytes are as a payload.
func payloadSize(n int64) int64 { return saltSize + n + chunks(n)*tagSize }

func chunks(n int64) int64 { return max(1, (n+ChunkSize-1)/ChunkSize) }

// plainSize is the inverse; -1: no payload has that length.
func plainSize(n int64) int64 {
	n -= saltSize
	full := (n + ChunkSize + tagSize - 1) / (ChunkSize + tagSize)
	plain := n - full*tagSize
	if n < tagSize || payloadSize(plain)-saltSize != n {
		return -1
	}
	return plain
}

func payloadCipher(fileKey, salt []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, fileKey, salt, "payload", chacha20poly1305.KeySize)
	if err != nil {
		return nil, fmt.Errorf("derive the key of a payload: %w", err)
	}
	aead, err := chacha20poly1305.New(key)
	if err != nil {
		return nil, fmt.Errorf("set up the cipher: %w", err)
	}
	return aead, nil
}

func chunkNonce(n int64, last bool) []byte {
	nonce := make([]byte, chacha20poly1305.NonceSize)
	binary.BigEndian.PutUint64(nonce[3:], uint64(n)) // eleven bytes, of which the first three stay zero
	if last {
		nonce[11] = 1
	}
	return nonce
}

// payload seals the first size bytes of body chunk by chunk, whenever they are asked for: the same bytes each time, and none are kept.
type payload struct {
	body io.ReaderAt
	size int64
	salt []byte
	aead cipher.AEAD

	mu     sync.Mutex
	number int64 // of the chunk in sealed; -1: none
	plain  []byte
	sealed []byte
}

func newPayload(body io.ReaderAt, size int64, fileKey []byte) (*payload, error) {
	p := &payload{body: body, size: size, salt: make([]byte, saltSize), number: -1}
	if _, err := rand.Read(p.salt); err != nil {
		return nil, fmt.Errorf("draw a salt: %w", err)
	}
	var err error
	p.aead, err = payloadCipher(fileKey, p.salt)
	return p, err
}

// chunk seals chunk n, which is valid until the next call.
func (p *payload) chunk(n int64) ([]byte, error) {
	if p.number == n {
		return p.sealed, nil
	}
	p.number = -1
	at := n * ChunkSize
	length := int(min(ChunkSize, p.size-at))
	if p.plain == nil {
		p.plain, p.sealed = make([]byte, min(ChunkSize, p.size)), make([]byte, 0, min(ChunkSize, p.size)+tagSize)
	}
	got, err := p.body.ReadAt(p.plain[:length], at)
	if got < length {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	p.sealed = p.aead.Seal(p.sealed[:0], chunkNonce(n, n == chunks(p.size)-1), p.plain[:length], nil)
	p.number = n
	return p.sealed, nil
}

// readAt is io.ReaderAt's, of the payload.
func (p *payload) readAt(b []byte, off int64) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	if off < saltSize {
		n = copy(b, p.salt[off:])
	}
	for n < len(b) {
		at := off + int64(n) - saltSize
		number := at / (ChunkSize + tagSize)
		if number >= chunks(p.size) {
			return n, io.EOF
		}
		sealed, err := p.chunk(number)
		if err != nil {
			return n, err
		}
		from := at - number*(ChunkSize+tagSize)
		if from >= int64(len(sealed)) {
			return n, io.EOF
		}
		n += copy(b[n:], sealed[from:])
	}
	return n, nil
}

// digest seals everything once, and gives what the header says of it. plain takes the plain bytes on the way.
func (p *payload) digest(plain hash.Hash) (Digest, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	sum := sha256.New()
	sum.Write(p.salt)
	for n := range chunks(p.size) {
		sealed, err := p.chunk(n)
		if err != nil {
			return Digest{}, err
		}
		plain.Write(p.plain[:len(sealed)-tagSize])
		sum.Write(sealed)
	}
	return digest(payloadSize(p.size), sum), nil
}

// chunkReader opens the chunks of a payload one after another, as its bytes come.
type chunkReader struct {
	from   io.Reader // begins with a chunk
	aead   cipher.AEAD
	number int64
	last   int64 // number of the last chunk
	size   int64 // plain bytes of the whole payload
	sealed []byte
	plain  []byte
	rest   []byte    // of plain, not given yet
	sum    hash.Hash // of all stored bytes; nil: a range is read, and only the chunks prove themselves
	want   []byte
	err    error
}

// Read gives plain bytes. Its end of file means that all chunks up to the last were opened.
func (r *chunkReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		if r.err = r.next(); r.err != nil {
			r.rest = nil
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *chunkReader) next() error {
	if r.number > r.last {
		return r.end()
	}
	length := int(min(ChunkSize, r.size-r.number*ChunkSize)) + tagSize
	if r.sealed == nil {
		r.sealed, r.plain = make([]byte, min(ChunkSize, r.size)+tagSize), make([]byte, 0, min(ChunkSize, r.size))
	}
	b := r.sealed[:length]
	if _, err := io.ReadFull(r.from, b); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return corrupt("it ends inside chunk %d", r.number)
		}
		return err
	}
	if r.sum != nil {
		r.sum.Write(b)
	}
	plain, err := r.aead.Open(r.plain[:0], chunkNonce(r.number, r.number == r.last), b, nil)
	if err != nil {
		return corrupt("chunk %d of it is not what was encrypted", r.number)
	}
	r.rest = plain
	r.number++
	return nil
}

// end checks what only the end tells.
func (r *chunkReader) end() error {
	if r.sum == nil {
		return io.EOF
	}
	if n, err := io.ReadFull(r.from, make([]byte, 1)); n > 0 {
		return corrupt("it goes on after its last chunk")
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	if got := r.sum.Sum(nil); !bytes.Equal(got, r.want) {
		return corrupt("its SHA-256 is %x, and %x was signed", got, r.want)
	}
	return io.EOF
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil // and equals no sum
	}
	return b
}
