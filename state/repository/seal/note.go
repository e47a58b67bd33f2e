package seal

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrCorrupt means that stored bytes are not what was written.
var ErrCorrupt = errors.New("stored bytes are not what was written")

// errShort means that the head of an object ends before its note does.
var errShort = errors.New("the note is longer than what was read")

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

const (
	// skipMagic begins our skippable frames. zstd and lz4 share the numbers 0x184D2A50 to 5F; this one is ours.
	skipMagic = 0x184D2A5B
	zstdMagic = 0xFD2FB528
	lz4Magic  = 0x184D2204
	// MaxNote bounds the payload of a note.
	MaxNote = 4 << 20
	// gzipChunk is how much of a payload goes into one extra field, whose length has 16 bits.
	gzipChunk = 1<<16 - 1 - 4 - 1
	// gzipNoteFrame is what an empty gzip member has around a chunk.
	gzipNoteFrame = 10 + 2 + 4 + 1 + 2 + 8
)

// gzipHead begins a gzip member with an extra field, no time and no operating system.
func gzipHead() []byte { return []byte{0x1F, 0x8B, 8, 4, 0, 0, 0, 0, 0, 255} }

// gzipEmpty ends a member of no bytes: an empty final block, CRC-32 and length.
func gzipEmpty() []byte { return []byte{3, 0, 0, 0, 0, 0, 0, 0, 0, 0} }

// appendNote appends a frame that decoders of the algorithm skip and that holds payload.
func appendNote(dst []byte, a Algorithm, payload []byte) []byte {
	if a != Gzip {
		dst = binary.LittleEndian.AppendUint32(dst, skipMagic)
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(payload)))
		return append(dst, payload...)
	}
	for {
		n := min(len(payload), gzipChunk)
		more := byte(0)
		if n < len(payload) {
			more = 1
		}
		dst = append(dst, gzipHead()...)
		dst = binary.LittleEndian.AppendUint16(dst, uint16(4+1+n))
		dst = append(dst, 'P', 'K')
		dst = binary.LittleEndian.AppendUint16(dst, uint16(1+n))
		dst = append(dst, more)
		dst = append(dst, payload[:n]...)
		dst = append(dst, gzipEmpty()...)
		if payload = payload[n:]; more == 0 {
			return dst
		}
	}
}

// cutNote reads the note at the start of b and gives its payload and how many bytes it took. errShort when b ends first.
func cutNote(b []byte) (payload []byte, used int, err error) {
	switch {
	case len(b) < 8:
		return nil, 0, errShort
	case binary.LittleEndian.Uint32(b) == skipMagic:
		n := binary.LittleEndian.Uint32(b[4:])
		if n > MaxNote {
			return nil, 0, corrupt("a note of %d bytes", n)
		}
		if len(b) < 8+int(n) {
			return nil, 0, errShort
		}
		return b[8 : 8+n], 8 + int(n), nil
	case b[0] == 0x1F && b[1] == 0x8B:
		return cutGzipNote(b)
	}
	return nil, 0, corrupt("it begins with %x, no note of ours", b[:8])
}

func cutGzipNote(b []byte) (payload []byte, used int, err error) {
	for {
		if len(b)-used < gzipNoteFrame {
			return nil, 0, errShort
		}
		at := b[used:]
		extra, field := binary.LittleEndian.Uint16(at[10:]), binary.LittleEndian.Uint16(at[14:])
		if !bytes.Equal(at[:10], gzipHead()) || at[12] != 'P' || at[13] != 'K' || int(extra) != int(field)+4 || field == 0 {
			return nil, 0, corrupt("a gzip member that is no note of ours")
		}
		more, n := at[16], int(field)-1
		if more > 1 || len(payload)+n > MaxNote {
			return nil, 0, corrupt("a gzip note that does not end")
		}
		if len(at) < gzipNoteFrame+n {
			return nil, 0, errShort
		}
		payload = append(payload, at[17:17+n]...)
		if !bytes.Equal(at[17+n:gzipNoteFrame+n], gzipEmpty()) {
			return nil, 0, corrupt("a gzip note with content")
		}
		used += gzipNoteFrame + n
		if more == 0 {
			return payload, used, nil
		}
	}
}

// told gives the algorithm of the frame that b begins with.
func told(b []byte) (Algorithm, error) {
	if len(b) >= 4 {
		switch binary.LittleEndian.Uint32(b) {
		case zstdMagic:
			return Zstd, nil
		case lz4Magic:
			return LZ4, nil
		}
		if b[0] == 0x1F && b[1] == 0x8B && b[2] == 8 {
			return Gzip, nil
		}
	}
	return "", corrupt("the bytes %x begin no zstd, gzip or lz4 frame", b[:min(len(b), 4)])
}

// checksummed puts a mark and the SHA-256 of doc before doc.
func checksummed(mark string, doc []byte) []byte {
	sum := sha256.Sum256(doc)
	return append(append([]byte(mark), sum[:]...), doc...)
}

// unchecked takes them off again.
func unchecked(mark string, payload []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(payload, []byte(mark))
	if !ok || len(rest) < sha256.Size {
		return nil, corrupt("a note without the mark %q", mark)
	}
	doc := rest[sha256.Size:]
	if sum := sha256.Sum256(doc); !bytes.Equal(sum[:], rest[:sha256.Size]) {
		return nil, corrupt("the note's checksum does not match")
	}
	return doc, nil
}
