package seal

import "errors"

// Framer makes independent frames: each decodes alone, and frames after one another decode as one stream, here and with
// the command line tool. A Framer is for one goroutine at a time.
type Framer struct{ codec Codec }

// NewFramer gives a Framer for a codec that passes Check.
func NewFramer(c Codec) (*Framer, error) { return &Framer{codec: c.Normal()}, c.Check() }

// Frame appends raw, compressed into one frame, to dst.
func (f *Framer) Frame(dst, raw []byte) ([]byte, error) { return dst, errors.New("not built yet") }

// Note appends a frame that holds payload for us and nothing for a decoder: a skippable frame of zstd and lz4, an empty
// member with an extra field of gzip.
func (f *Framer) Note(dst, payload []byte) []byte { return dst }

// Deframer decodes frames of every algorithm. It is for one goroutine at a time.
type Deframer struct{}

// NewDeframer gives a Deframer. The caller closes it.
func NewDeframer() (*Deframer, error) { return &Deframer{}, nil }

// Close frees what the Deframer holds.
func (d *Deframer) Close() {}

// Frame appends the raw bytes of one frame, told by its magic, to dst. A frame that holds more than limit raw bytes is refused
// without being decoded further.
func (d *Deframer) Frame(dst, frame []byte, limit int) ([]byte, error) {
	return dst, errors.New("not built yet")
}
