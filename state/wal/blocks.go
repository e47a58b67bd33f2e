package wal

// Block is a page that a WAL record names.
type Block struct {
	Tablespace, Database, Relation uint32 // oids; Relation is the relfilenode. Database is 0 for shared relations
	Fork                           uint8  // 0 main, 1 free space map, 2 visibility map, 3 init
	Number                         uint32 // counted over all files of the fork
	// Whole says that replay writes the page anew without reading it: from an image in the record, or from nothing.
	Whole bool
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

// blocksOf tells the pages that the record names.
func (r record) blocksOf(major int, visit func(LSN, Block) error) error {
	var told error
	_, err := headers(r.body, r.length, major, func(b Block) error {
		told = visit(r.start, b)
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
	if flags&forkHasImage != 0 {
		payload += uint64(c.u16())
		c.skip(2, 1) // hole_offset
		image := c.u8()
		applies := uint8(imageApply)
		if major < 15 {
			applies = imageApply14
		}
		b.Whole = b.Whole || image&applies != 0
		if image&imageHasHole != 0 && imageCompressed(image, major) {
			c.skip(2, 1) // hole_length
		}
	}
	if flags&forkSameRel == 0 {
		b.Tablespace, b.Database, b.Relation = c.u32(), c.u32(), c.u32()
	}
	b.Number = c.u32()
	return payload
}
