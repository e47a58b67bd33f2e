package wal

// decodePrepare reads xl_xact_prepare, which the name and then the subtransactions follow, each aligned to eight bytes.
func (e *Event) decodePrepare(data []byte, how ending) error {
	c := cursor{left: data}
	c.skip(8, 1) // magic, total_len
	xid := c.u32()
	c.skip(4, 1) // database
	at := c.u64()
	c.skip(4, 1) // owner
	subxacts := c.u32()
	c.skip(4, 2) // relations that go with a commit, and with an abort
	header := uint32(64)
	if how.major >= 15 {
		c.skip(4, 2) // statistics
		header = 72
	}
	c.skip(4, 1) // invalidation messages
	c.skip(2, 1) // initfileinval
	length := c.u16()
	c.skip(8, 2) // origin
	if c.short {
		return c.err("preparation of a transaction")
	}
	e.Kind, e.XID, e.Time = Prepare, xid, timestamp(int64(at))
	c.left = data[min(header, uint32(len(data))):]
	e.GID = identifier(c.left[:min(int(length), len(c.left))])
	if !how.detailed {
		return nil
	}
	c.skip(int(align(uint64(length))), 1)
	for range min(subxacts, uint32(len(c.left)/4)) {
		e.Subxacts = append(e.Subxacts, c.u32())
	}
	return c.err("preparation of a transaction")
}
