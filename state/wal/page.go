package wal

import (
	"encoding/binary"
	"fmt"
)

// PageSize is XLOG_BLCKSZ, the length of a WAL page. It is fixed when PostgreSQL is compiled; no distribution changes it.
const PageSize = 8192

// Page headers, from xlog_internal.h: XLogPageHeaderData, and XLogLongPageHeaderData at the start of a segment.
const (
	shortHeader = 24
	longHeader  = 40

	pageContinues   = 0x0001 // XLP_FIRST_IS_CONTRECORD
	pageLong        = 0x0002 // XLP_LONG_HEADER
	pageOverwritten = 0x0008 // XLP_FIRST_IS_OVERWRITE_CONTRECORD: the record that ran off the previous page was given up
	pageFlags       = 0x000F // XLP_ALL_FLAGS
)

// CorruptError says that bytes which must be WAL are not, and where.
type CorruptError struct {
	LSN     LSN
	Why     string
	Foreign bool // the bytes are WAL, but of another cluster or of one that was built in another way
}

// Error gives one sentence with the position.
func (e *CorruptError) Error() string { return fmt.Sprintf("WAL is damaged at %s: %s", e.LSN, e.Why) }

func corrupt(at LSN, format string, args ...any) error {
	return &CorruptError{LSN: at, Why: fmt.Sprintf(format, args...)}
}

// MajorOfMagic gives the PostgreSQL major version whose WAL pages begin with magic; 0 when none does.
func MajorOfMagic(magic uint16) int {
	switch magic {
	case 0xD106:
		return 13
	case 0xD10D:
		return 14
	case 0xD110:
		return 15
	case 0xD113:
		return 16
	case 0xD116:
		return 17
	case 0xD118:
		return 18
	}
	return 0
}

// page is a decoded page header.
type page struct {
	major     int
	info      uint16
	timeline  Timeline
	address   LSN
	remaining uint32 // bytes of a record that began on an earlier page
	header    int    // length
}

// headerLength gives the length of the header of the page at l.
func (z SegmentSize) headerLength(l LSN) int {
	if z.Offset(l) == 0 {
		return longHeader
	}
	return shortHeader
}

// pageHeader decodes and checks the header of the page at l. b holds at least the header.
func (s *Scanner) pageHeader(l LSN, b []byte) (page, error) {
	magic := binary.LittleEndian.Uint16(b)
	p := page{
		major:     MajorOfMagic(magic),
		info:      binary.LittleEndian.Uint16(b[2:]),
		timeline:  Timeline(binary.LittleEndian.Uint32(b[4:])),
		address:   LSN(binary.LittleEndian.Uint64(b[8:])),
		remaining: binary.LittleEndian.Uint32(b[16:]),
		header:    s.size.headerLength(l),
	}
	switch {
	case p.major == 0:
		return p, corrupt(l, "page magic %04X belongs to no PostgreSQL from 13 to 18", magic)
	case s.major != 0 && p.major != s.major:
		return p, corrupt(l, "the page was written by PostgreSQL %d, those before it by %d", p.major, s.major)
	case p.info&^pageFlags != 0:
		return p, corrupt(l, "page flags %04X are unknown", p.info)
	case (p.info&pageLong != 0) != (p.header == longHeader):
		return p, corrupt(l, "a long page header stands at the start of a segment and nowhere else")
	case p.address != l:
		return p, corrupt(l, "the page says that it belongs at %s", p.address)
	case p.timeline == 0 || p.timeline > s.timeline:
		return p, corrupt(l, "the page is of timeline %d, the segment of timeline %d", p.timeline, s.timeline)
	case p.timeline < s.pageTimeline:
		return p, corrupt(l, "the page is of timeline %d, the one before it of timeline %d", p.timeline, s.pageTimeline)
	}
	if p.header == longHeader {
		return p, s.checkLongHeader(l, b)
	}
	return p, nil
}

// checkLongHeader checks whose segment it is.
func (s *Scanner) checkLongHeader(l LSN, b []byte) error {
	systemID := binary.LittleEndian.Uint64(b[24:])
	segment := binary.LittleEndian.Uint32(b[32:])
	block := binary.LittleEndian.Uint32(b[36:])
	why := ""
	switch {
	case systemID == s.systemID && segment == uint32(s.size) && block == PageSize:
		return nil
	case systemID != s.systemID:
		why = fmt.Sprintf("the segment is of system %d, not of %d", systemID, s.systemID)
	case segment != uint32(s.size):
		why = fmt.Sprintf("the segment says it has %d bytes, the cluster's have %d", segment, uint32(s.size))
	default:
		why = fmt.Sprintf("WAL pages of %d bytes are not supported, only %d", block, PageSize)
	}
	return &CorruptError{LSN: l, Why: why, Foreign: true}
}
