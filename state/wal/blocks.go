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
	forkMask       = 0x0F
	forkWillInit   = 0x40
	imageApply     = 0x02 // 15 and later
	imageApply14   = 0x04
	mostBlocksHead = maxBlockID + 1
)

// EveryBlock lets visit be told of the pages that each record names, in the order of the WAL; start is the record's. Its
// error ends the call of Segment.
func (s *Scanner) EveryBlock(visit func(start LSN, b Block) error) { s.blocks = visit }

// blocksOf walks over the headers of blocks, which stand before everything else in a record.
func (r record) blocksOf(major int, visit func(LSN, Block) error) error {
	c := cursor{left: r.body}
	var b Block
	for range mostBlocksHead + 2 { // with the two headers that may stand between
		if len(c.left) == 0 {
			return nil
		}
		switch id := c.u8(); {
		case id == idOrigin:
			c.skip(2, 1)
			continue
		case id == idTopXID && major >= 14:
			c.skip(4, 1)
			continue
		case id > maxBlockID:
			return nil // the main data: no block follows
		}
		c.blockName(&b, major)
		if c.short {
			return corrupt(r.start, "%s", shortRecord("block header"))
		}
		if err := visit(r.start, b); err != nil {
			return err
		}
	}
	return nil
}

// blockName reads one block header after its id. The relation of the block before stays where the header says so.
func (c *cursor) blockName(b *Block, major int) {
	flags := c.u8()
	c.skip(2, 1) // data_length
	b.Fork, b.Whole = flags&forkMask, flags&forkWillInit != 0
	if flags&forkHasImage != 0 {
		c.skip(4, 1) // length, hole_offset
		image := c.u8()
		applies := uint8(imageApply)
		if major < 15 {
			applies = imageApply14
		}
		b.Whole = b.Whole || image&applies != 0
		if image&imageHasHole != 0 && imageCompressed(image, major) {
			c.skip(2, 1)
		}
	}
	if flags&forkSameRel == 0 {
		b.Tablespace, b.Database, b.Relation = c.u32(), c.u32(), c.u32()
	}
	b.Number = c.u32()
}
