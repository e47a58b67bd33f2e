package repository

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/zeebo/xxh3"
)

// The sizes of the format.
const (
	// pageSize is PostgreSQL's: no page of a file spans two frames, and pages are hashed one by one.
	pageSize = 8192
	// maxFrame bounds the raw bytes of a frame, and so what a reader must hold to reach one page.
	maxFrame = 512 << 10
	// maxVolume bounds a volume as it is stored.
	maxVolume = 8 << 20
	// maxVolumeFrames bounds the seek table: it must fit into gzip's extra field even when every frame is tiny.
	maxVolumeFrames = 1024
)

// frameAt says where a frame lies and what it holds.
type frameAt struct {
	backup string // empty: this backup
	folder uint32
	volume int
	offset int64  // of the stored frame in the volume
	stored int    // bytes
	raw    int    // bytes
	sum    uint64 // xxh3-64 of the raw bytes
}

// A volume ends in a note that decoders skip: the seek table. Numbers are little-endian.
//
//	"PGKV" version(1) folder oid(4) volume number(4) offset of its first raw byte in the folder's stream(8) count(4)
//	count times: stored length(4) raw length(4) xxh3-64 of the raw bytes(8)
//	xxh3-64 of all bytes of the note before(8)
const (
	seekMagic   = "PGKV"
	seekVersion = 1
	seekHead    = 4 + 1 + 4 + 4 + 8 + 4
	seekEntry   = 16
)

// seekTable is what the note of a volume says.
type seekTable struct {
	folder uint32
	number int
	first  int64 // offset of its first raw byte in the folder's stream
	frames []frameAt
}

func (t seekTable) encode() []byte {
	b := make([]byte, 0, seekHead+seekEntry*len(t.frames)+8)
	b = append(b, seekMagic...)
	b = append(b, seekVersion)
	b = binary.LittleEndian.AppendUint32(b, t.folder)
	b = binary.LittleEndian.AppendUint32(b, uint32(t.number))
	b = binary.LittleEndian.AppendUint64(b, uint64(t.first))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(t.frames)))
	for _, f := range t.frames {
		b = binary.LittleEndian.AppendUint32(b, uint32(f.stored))
		b = binary.LittleEndian.AppendUint32(b, uint32(f.raw))
		b = binary.LittleEndian.AppendUint64(b, f.sum)
	}
	return binary.LittleEndian.AppendUint64(b, xxh3.Hash(b))
}

// decodeSeekTable reads a note's payload.
func decodeSeekTable(b []byte) (seekTable, error) {
	if len(b) < seekHead+8 || string(b[:4]) != seekMagic {
		return seekTable{}, errors.New("not the seek table of a volume")
	}
	if b[4] != seekVersion {
		return seekTable{}, fmt.Errorf("seek table of version %d; this pgkeep reads %d", b[4], seekVersion)
	}
	count := binary.LittleEndian.Uint32(b[21:])
	if count > maxVolumeFrames || len(b) != seekHead+seekEntry*int(count)+8 {
		return seekTable{}, fmt.Errorf("seek table of %d frames in %d bytes", count, len(b))
	}
	body, tail := b[:len(b)-8], b[len(b)-8:]
	if binary.LittleEndian.Uint64(tail) != xxh3.Hash(body) {
		return seekTable{}, errors.New("the seek table's checksum does not match")
	}
	t := seekTable{
		folder: binary.LittleEndian.Uint32(b[5:]), number: int(binary.LittleEndian.Uint32(b[9:])),
		first: int64(binary.LittleEndian.Uint64(b[13:])),
	}
	var at int64
	for p := body[seekHead:]; len(p) > 0; p = p[seekEntry:] {
		f := frameAt{
			folder: t.folder, volume: t.number, offset: at, stored: int(binary.LittleEndian.Uint32(p)),
			raw: int(binary.LittleEndian.Uint32(p[4:])), sum: binary.LittleEndian.Uint64(p[8:]),
		}
		if f.raw > maxFrame || f.stored > maxVolume {
			return seekTable{}, fmt.Errorf("seek table with a frame of %d bytes, %d stored", f.raw, f.stored)
		}
		at += int64(f.stored)
		t.frames = append(t.frames, f)
	}
	return t, nil
}

// noteSize bounds what the seek table of n frames takes as a note of any codec.
func noteSize(n int) int { return seekHead + seekEntry*n + 8 + 64 }

// volumeTable finds and reads the seek table at the end of a volume. The note's own head has no length to be found by
// from the end, so the magic is searched in the last bytes and proved by the checksum.
func volumeTable(volume []byte) (seekTable, error) {
	from := max(0, len(volume)-noteSize(maxVolumeFrames))
	for at := len(volume); ; {
		at = bytes.LastIndex(volume[from:min(at+len(seekMagic)-1, len(volume))], []byte(seekMagic)) + from
		if at < from {
			return seekTable{}, errors.New("the volume has no seek table")
		}
		if n := tableLength(volume[at:]); n > 0 {
			if t, err := decodeSeekTable(volume[at : at+n]); err == nil {
				return t, nil
			}
		}
	}
}

// tableLength gives how long the seek table that may begin here is; 0: none does.
func tableLength(b []byte) int {
	if len(b) < seekHead+8 {
		return 0
	}
	n := int64(seekHead) + seekEntry*int64(binary.LittleEndian.Uint32(b[21:])) + 8
	if n > int64(len(b)) {
		return 0
	}
	return int(n)
}
