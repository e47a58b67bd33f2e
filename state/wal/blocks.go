package wal

// Block is a page that a WAL record names.
type Block struct {
	Tablespace, Database, Relation uint32 // oids; Relation is the relfilenode. Database is 0 for shared relations
	Fork                           uint8  // 0 main, 1 free space map, 2 visibility map, 3 init
	Number                         uint32 // counted over all files of the fork
	// Whole says that replay writes the page anew without reading it: from an image in the record, or from nothing.
	Whole bool
	Image Image // of the page, in the record

	payload uint64 // bytes that follow the headers: the image, then data
}

// Image is a full-page image in a record. The zero value: there is none.
type Image struct {
	Bytes       int // as stored
	Compression Compression
	holeAt      uint16 // the zeros that were left out of the page
	holeLength  uint16
}

// Compression says how a full-page image is stored.
type Compression uint8

// The zero value means that a block has no image.
const (
	Uncompressed Compression = iota + 1
	PGLZ
	LZ4  // 15 and later
	Zstd // 15 and later
)

// String gives the word of wal_compression: "off", "pglz", "lz4" or "zstd"; "none" for no image.
func (c Compression) String() string {
	words := [...]string{"none", "off", "pglz", "lz4", "zstd"}
	if int(c) < len(words) {
		return words[c]
	}
	return "unknown"
}

// Bits of a block's header, from xlogrecord.h.
const (
	forkMask     = 0x0F
	forkWillInit = 0x40
	imageApply   = 0x02 // 15 and later
	imageApply14 = 0x04
)

// EveryBlock lets visit be told of the pages that each record names, in the order of the WAL; start is the record's. Its
// error ends the call of Segment.
func (s *Scanner) EveryBlock(visit func(start LSN, b Block) error) { s.blocks = visit }

// image reads the header of a full-page image, and gives how many bytes it has.
func (c *cursor) image(b *Block, major int) uint64 {
	length := c.u16()
	hole := c.u16()
	info := c.u8()
	applies := uint8(imageApply)
	if major < 15 {
		applies = imageApply14
	}
	b.Whole = b.Whole || info&applies != 0
	b.Image = Image{Bytes: int(length), Compression: compressionOf(info, major), holeAt: hole}
	switch {
	case info&imageHasHole == 0:
	case b.Image.Compression != Uncompressed:
		b.Image.holeLength = c.u16()
	default:
		b.Image.holeLength = PageSize - min(length, PageSize)
	}
	return uint64(length)
}

// compressionOf reads bimg_info, whose bits moved in 15 when lz4 and zstd came.
func compressionOf(info uint8, major int) Compression {
	switch {
	case major < 15 && info&0x02 != 0, major >= 15 && info&0x04 != 0:
		return PGLZ
	case major >= 15 && info&0x08 != 0:
		return LZ4
	case major >= 15 && info&0x10 != 0:
		return Zstd
	}
	return Uncompressed
}

// blocksOf tells the pages that the record names.
func (r record) blocksOf(major int, visit func(LSN, Block) error) error {
	var told error
	_, err := headers(r.body, r.length, major, func(b *Block) error {
		told = visit(r.start, *b)
		return told
	})
	if err != nil && told == nil {
		return corrupt(r.start, "%s", err)
	}
	return told
}

// block reads one block header after its id, and gives how many bytes of the block follow the headers. The relation of
// the block before stays where the header says so.
func (c *cursor) block(b *Block, major int) (payload uint64) {
	flags := c.u8()
	payload = uint64(c.u16())
	b.Fork, b.Whole = flags&forkMask, flags&forkWillInit != 0
	b.Image = Image{}
	if flags&forkHasImage != 0 {
		payload += c.image(b, major)
	}
	b.payload = payload
	if flags&forkSameRel == 0 {
		b.Tablespace, b.Database, b.Relation = c.u32(), c.u32(), c.u32()
	}
	b.Number = c.u32()
	return payload
}
