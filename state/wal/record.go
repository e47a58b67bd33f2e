package wal

import (
	"bytes"
	"encoding/binary"
	"time"
)

// The record header, from xlogrecord.h: XLogRecord.
const (
	recordHeader = 24
	recordCRC    = 20         // offset of xl_crc: the checksum covers what follows the header, then the header up to here
	maxRecord    = 1020 << 20 // XLogRecordMaxSize, enforced by 16 and later; none before reached it

	resourceXLOG = 0 // RM_XLOG_ID
	resourceXact = 1 // RM_XACT_ID

	resourceStandby = 8 // RM_STANDBY_ID
)

// xl_info of RM_XLOG_ID, from pg_control.h.
const (
	infoMask               = 0xF0 // the upper four bits are the resource manager's
	infoCheckpointShutdown = 0x00
	infoCheckpointOnline   = 0x10
	infoSwitch             = 0x40
	infoParameterChange    = 0x60
	infoRestorePoint       = 0x70
	infoEndOfRecovery      = 0x90
)

// xl_info of RM_XACT_ID, from xact.h.
const (
	xactMask           = 0x70
	xactCommit         = 0x00
	xactPrepare        = 0x10
	xactAbort          = 0x20
	xactCommitPrepared = 0x30
	xactAbortPrepared  = 0x40
	xactHasInfo        = 0x80

	xinfoDatabase  = 1 << 0
	xinfoSubxacts  = 1 << 1
	xinfoRelations = 1 << 2
	xinfoInvals    = 1 << 3
	xinfoTwophase  = 1 << 4
	xinfoGID       = 1 << 7
	xinfoStats     = 1 << 8 // dropped statistics, 15 and later
)

// Headers inside a record, from xlogrecord.h.
const (
	maxBlockID   = 32
	idTopXID     = 252 // 14 and later
	idOrigin     = 253
	idDataLong   = 254
	idDataShort  = 255
	forkHasImage = 0x10
	forkHasData  = 0x20
	forkSameRel  = 0x80
	imageHasHole = 0x01
)

// record is one whole record: its header's fields and, for the resource managers that are decoded, what follows.
type record struct {
	start, end LSN
	xid        uint32
	info       uint8
	resource   uint8
	length     uint32 // of what follows the header
	body       []byte // what follows the header, or the front of it when it is very long
}

// cut tells whether only the front of the record was kept.
func (r record) cut() bool { return uint64(len(r.body)) < uint64(r.length) }

// event decodes what the record means to recovery; a kind of zero means nothing to it. The error is a *CorruptError: the
// checksum was good and yet the record cannot be read. detailed asks for Dropped and Subxacts.
func (r record) event(major int, detailed bool) (Event, error) {
	e := Event{Start: r.start, End: r.end, XID: r.xid}
	data, err := mainData(r.body, r.length, major)
	switch {
	case err != nil:
	case r.resource == resourceXact:
		err = e.decodeXact(r.info, data, ending{major: major, detailed: detailed})
		if r.cut() && len(data) >= 8 {
			err = nil // the xid of a prepared transaction may lie behind what was kept
		}
	default:
		err = e.decodeXLOG(r.info&infoMask, data)
	}
	if err != nil {
		return Event{}, corrupt(r.start, "%s", err)
	}
	return e, nil
}

// ending says how the end of a transaction is read.
type ending struct {
	major    int
	detailed bool // relations and subtransactions are wanted
}

// decodeXact reads xl_xact_commit and xl_xact_abort, which begin alike.
//
// The time is read even where the rest does not fit.
func (e *Event) decodeXact(info uint8, data []byte, how ending) error {
	switch info & xactMask {
	case xactCommit, xactCommitPrepared:
		e.Kind = Commit
	case xactAbort, xactAbortPrepared:
		e.Kind = Abort
	case xactPrepare:
		return e.decodePrepare(data, how)
	default:
		return nil
	}
	e.Prepared = info&xactMask == xactCommitPrepared || info&xactMask == xactAbortPrepared
	c := cursor{left: data}
	e.Time = timestamp(int64(c.u64()))
	if info&xactHasInfo != 0 {
		e.decodeParts(&c, how)
	}
	return c.err("transaction end")
}

// decodeParts walks over the optional parts of a transaction's end, to the xid of a prepared one.
func (e *Event) decodeParts(c *cursor, how ending) {
	xinfo := c.u32()
	if xinfo&xinfoDatabase != 0 {
		c.skip(8, 1)
	}
	if xinfo&xinfoSubxacts != 0 {
		n := c.u32()
		if front := (cursor{left: c.left}); how.detailed {
			for range min(n, uint32(len(front.left)/4)) {
				e.Subxacts = append(e.Subxacts, front.u32())
			}
		}
		c.skip(4, n)
	}
	if xinfo&xinfoRelations != 0 {
		n := c.u32()
		if front := (cursor{left: c.left}); how.detailed {
			for range min(n, uint32(len(front.left)/12)) {
				e.Dropped = append(e.Dropped, front.relation())
			}
		}
		c.skip(12, n)
	}
	if xinfo&xinfoStats != 0 && how.major >= 15 {
		item := 12 // xl_xact_stats_item
		if how.major >= 18 {
			item = 16
		}
		c.skip(item, c.u32())
	}
	if xinfo&xinfoInvals != 0 {
		c.skip(16, c.u32()) // an abort never has them
	}
	if xinfo&xinfoTwophase != 0 {
		e.XID = c.u32()
		if xinfo&xinfoGID != 0 && !c.short {
			e.GID = identifier(c.left)
		}
	}
}

// longestGID is GIDSIZE without the zero that ends it.
const longestGID = 199

// identifier reads up to the first zero.
func identifier(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b[:min(len(b), longestGID)])
}

func (e *Event) decodeXLOG(info uint8, data []byte) error {
	c := cursor{left: data}
	switch info {
	case infoSwitch:
		e.Kind = Switch
	case infoParameterChange:
		e.Kind = ParameterChange
		e.Settings = Settings{
			MaxConnections: int(int32(c.u32())), MaxWorkers: int(int32(c.u32())), MaxSenders: int(int32(c.u32())),
			MaxPrepared: int(int32(c.u32())), MaxLocks: int(int32(c.u32())),
		}
	case infoRestorePoint:
		e.Kind = RestorePointRecord
		e.Time = timestamp(int64(c.u64()))
		e.Name = restorePointName(c.left)
	case infoEndOfRecovery:
		e.Kind = EndOfRecovery
		e.Time = timestamp(int64(c.u64()))
		e.Timeline, e.PrevTimeline = Timeline(c.u32()), Timeline(c.u32())
	case infoCheckpointShutdown, infoCheckpointOnline:
		e.Kind = ShutdownCheckpoint
		if info == infoCheckpointOnline {
			e.Kind = OnlineCheckpoint
		}
		c.skip(8, 1) // redo
		e.Timeline, e.PrevTimeline = Timeline(c.u32()), Timeline(c.u32())
		c.skip(48, 1) // up to CheckPoint.time, at the same place in 13 to 18
		e.Time = unixTime(int64(c.u64()))
	default:
		return nil
	}
	return c.err(e.Kind.String())
}

// restorePointName reads a fixed field of 64 bytes that ends at its first zero.
func restorePointName(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b[:min(len(b), 63)])
}

// mainData finds the main data of a record, which is always its last part.
func mainData(body []byte, length uint32, major int) ([]byte, error) {
	p, err := headers(body, length, major, nil)
	return p.main, err
}

// parts are what follows the headers of a record, or the front of it.
type parts struct {
	blocks []byte // images and data of the blocks, in order; nil when not all of it was kept
	main   []byte
}

// headers walks over the headers of blocks and data, whose lengths must add up to length, and gives what follows. visit,
// which may be nil, is told each block; its error ends the walk. body may be cut short. What follows the headers is no
// header, also in a record without main data, as a full-page image is. From DecodeXLogRecord in xlogreader.c.
func headers(body []byte, length uint32, major int, visit func(*Block) error) (parts, error) {
	c := cursor{left: body}
	beyond := uint64(length) - uint64(len(body)) // bytes that were not kept
	var payload uint64                           // bytes of blocks announced so far
	var b Block
	for !c.short && uint64(len(c.left))+beyond > payload {
		id := c.u8()
		switch {
		case id == idDataShort || id == idDataLong:
			n := uint64(0)
			if id == idDataShort {
				n = uint64(c.u8())
			} else {
				n = uint64(c.u32())
			}
			if c.short || payload+n != uint64(len(c.left))+beyond {
				return parts{}, shortRecord("record header")
			}
			if payload > uint64(len(c.left)) {
				return parts{}, nil // not kept
			}
			return parts{blocks: c.left[:payload], main: c.left[payload:]}, nil
		case id == idOrigin:
			c.skip(2, 1)
		case id == idTopXID && major >= 14:
			c.skip(4, 1)
		case id <= maxBlockID:
			payload += c.block(&b, major)
			if visit == nil || c.short {
				continue
			}
			if err := visit(&b); err != nil {
				return parts{}, err
			}
		default:
			return parts{}, unknownBlock(id)
		}
	}
	if c.short || payload != uint64(len(c.left))+beyond {
		return parts{}, shortRecord("record header")
	}
	if beyond > 0 {
		return parts{}, nil
	}
	return parts{blocks: c.left}, nil
}

// postgresEpoch is 2000-01-01 in seconds since 1970.
const postgresEpoch = 946684800

// timestamp converts a TimestampTz, microseconds since 2000-01-01 UTC.
func timestamp(micros int64) time.Time {
	seconds := micros / 1_000_000
	return bounded(time.Unix(seconds+postgresEpoch, micros%1_000_000*1000), seconds)
}

func unixTime(seconds int64) time.Time { return bounded(time.Unix(seconds, 0), seconds) }

// bounded gives zero for times that cannot be written in a calendar of four-digit years.
func bounded(t time.Time, seconds int64) time.Time {
	const tenThousandYears = 10_000 * 366 * 86400
	if seconds > tenThousandYears || seconds < -tenThousandYears {
		return time.Time{}
	}
	t = t.UTC()
	if t.Year() < 1 || t.Year() > 9999 {
		return time.Time{}
	}
	return t
}

// cursor reads little-endian numbers from the front of left. Past the end it gives zeros and remembers that.
type cursor struct {
	left  []byte
	short bool
}

func (c *cursor) take(n int) []byte {
	if c.short || len(c.left) < n {
		c.short, c.left = true, nil
		return nil
	}
	b := c.left[:n]
	c.left = c.left[n:]
	return b
}

func (c *cursor) u8() uint8 {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) u16() uint16 {
	if b := c.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if b := c.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) u64() uint64 {
	if b := c.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// skip leaves out n items of size bytes each.
func (c *cursor) skip(size int, n uint32) {
	total := uint64(size) * uint64(n)
	if c.short || total > uint64(len(c.left)) {
		c.short, c.left = true, nil
		return
	}
	c.left = c.left[total:]
}

// err says that what was read ended early, when it did.
func (c *cursor) err(what string) error {
	if c.short {
		return shortRecord(what)
	}
	return nil
}

type shortRecord string

func (s shortRecord) Error() string { return "the " + string(s) + " does not fit its record" }

type unknownBlock uint8

func (u unknownBlock) Error() string {
	return "a record header has a block id that PostgreSQL does not know"
}
