package postgres

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// An incremental base backup of PostgreSQL 17 and later has, beside files that come whole, files named INCREMENTAL.<file>
// that hold the pages which changed since the parent. One begins with three words and the numbers of its pages, in the
// server's byte order (GetIncrementalHeaderSize in basebackup_incremental.c, sendFile in basebackup.c):
//
//	magic number, number of pages, truncation block length, each a uint32
//	a uint32 for each page: its number in the file, rising
//	zeros up to the next multiple of a page, unless there are no pages
//	the pages, in the order of the numbers
//
// Truncation block length is the least length of the file: pages below it that do not come are the parent's, or zeros
// where the parent's file ends before them. The file is longer where a page that comes lies behind it.
const (
	incrementalMagic  = 0xd3ae1f0d
	incrementalPrefix = "INCREMENTAL."
	incrementalWords  = 12
)

// The sizes of a server that is built as usual, and the only ones that pgkeep reads.
const (
	PageBytes    = 8192   // block_size
	SegmentPages = 131072 // segment_size: pages of a relation's file before the next one begins
)

// IncrementalFile is the head of one INCREMENTAL file.
type IncrementalFile struct {
	Blocks []uint32 // numbers of the pages that follow, rising; each is below Pages
	Least  uint32   // pages below it that do not follow are the parent's; those from it on are zeros
	Pages  uint32   // how long the rebuilt file is, at least Least
}

// ReadIncrementalFile reads the head of an INCREMENTAL file of size bytes and leaves r at its first page. What comes may
// be anything: memory is bounded by the pages of one segment, and the head must account for every byte of size.
func ReadIncrementalFile(r io.Reader, size int64) (IncrementalFile, error) {
	var words [incrementalWords]byte
	if _, err := io.ReadFull(r, words[:]); err != nil {
		return IncrementalFile{}, fmt.Errorf("read head of incremental file: %w", noEOF(err))
	}
	magic, count := binary.LittleEndian.Uint32(words[:]), binary.LittleEndian.Uint32(words[4:])
	switch {
	case magic != incrementalMagic:
		return IncrementalFile{}, fmt.Errorf("an incremental file of magic number %08x", magic)
	case count > SegmentPages:
		return IncrementalFile{}, fmt.Errorf("an incremental file of %d pages", count)
	}
	head := incrementalWords + 4*int64(count)
	padding := int64(0)
	if count > 0 {
		padding = -head & (PageBytes - 1)
	}
	if want := head + padding + int64(count)*PageBytes; size != want {
		return IncrementalFile{}, fmt.Errorf("an incremental file of %d bytes; its %d pages make %d", size, count, want)
	}
	// Before 17.8 and 18.2 the length of an earlier segment of a relation that was cut in a later one says more than a
	// segment has; it means all of this one.
	least := min(binary.LittleEndian.Uint32(words[8:]), SegmentPages)
	f := IncrementalFile{Least: least, Pages: least}
	rest := make([]byte, head-incrementalWords+padding)
	if _, err := io.ReadFull(r, rest); err != nil {
		return IncrementalFile{}, fmt.Errorf("read page numbers of incremental file: %w", noEOF(err))
	}
	f.Blocks = make([]uint32, count)
	for i := range f.Blocks {
		b := binary.LittleEndian.Uint32(rest[4*i:])
		if b >= SegmentPages || i > 0 && b <= f.Blocks[i-1] {
			return IncrementalFile{}, errors.New("an incremental file whose page numbers do not rise, or leave its segment")
		}
		f.Blocks[i], f.Pages = b, max(f.Pages, b+1)
	}
	return f, nil
}

// IncrementalName gives the name of the file that an INCREMENTAL file is of; false: path does not name one.
func IncrementalName(path string) (string, bool) {
	at := strings.LastIndexByte(path, '/') + 1
	name, ok := strings.CutPrefix(path[at:], incrementalPrefix)
	return path[:at] + name, ok && name != ""
}

// FullLabel gives backup_label of an incremental backup as that of the full one that it makes when it is rebuilt:
// without the two lines for which PostgreSQL refuses to start.
func FullLabel(content []byte) []byte {
	var out []byte
	for line := range strings.SplitAfterSeq(string(content), "\n") {
		if !strings.HasPrefix(line, "INCREMENTAL FROM LSN: ") && !strings.HasPrefix(line, "INCREMENTAL FROM TLI: ") {
			out = append(out, line...)
		}
	}
	return out
}
