package repository

import (
	"errors"
	"fmt"
)

// Rebuild says that of a member only some pages come, because the others are as the parent has them. Member.Size is that of
// the whole file. Pages that neither come nor are the parent's are zeros.
type Rebuild struct {
	Blocks []uint32 // the pages that Data brings, one after another: their numbers in the file, rising
	Least  int64    // pages below it that do not come are the parent's, as far as its file goes
}

// rebuilding is a member of which some pages come.
type rebuilding struct {
	blocks []uint32
	next   int   // the block that comes
	at     int   // how many bytes of it have come
	after  int64 // the page after the last one that came
	have   int64 // pages below it that do not come are the parent's
	zeros  []byte
}

// left gives how many bytes are to come.
func (r *rebuilding) left() int64 { return int64(len(r.blocks)-r.next)*pageSize - int64(r.at) }

// rebuild begins a member that is laid over the parent's file. What the parent has is noted at once: none of it is read.
func (w *FolderWriter) rebuild(f *openFile, from *Rebuild) error {
	pages, blocks := f.Size/pageSize, from.Blocks
	switch {
	case w.s.refer == nil || !w.s.o.Summaries:
		return fmt.Errorf("%q comes in part, and nothing is there to lay it over", f.Path)
	case f.Type != RegularFile || f.Size%pageSize != 0:
		return fmt.Errorf("%q of %d bytes cannot be rebuilt", f.Path, f.Size)
	}
	for i, b := range blocks {
		if int64(b) >= pages || i > 0 && b <= blocks[i-1] {
			return fmt.Errorf("pages of %q do not rise, or leave its %d bytes", f.Path, f.Size)
		}
	}
	base, err := w.s.refer.parent.laid(w.s.ctx, w.oid, f.Path)
	if err != nil {
		return err
	}
	r := &rebuilding{blocks: blocks, have: min(base.size/pageSize, pages, max(0, from.Least))}
	var page int64
	for _, b := range blocks {
		base.lay(f, page*pageSize, min(int64(b), r.have)*pageSize)
		page = int64(b) + 1
	}
	base.lay(f, page*pageSize, r.have*pageSize)
	f.CRC32C, f.NoCRC = base.crc, base.noCRC
	if len(blocks) > 0 || r.have*pageSize != base.size || f.Size != base.size {
		f.CRC32C, f.NoCRC = 0, true
	}
	w.file, w.rebuilt = f, r
	return w.changed(nil)
}

// lay notes that a stretch of f lies where it lies for this file. Stretches are asked for in their order.
func (p *parentFile) lay(f *openFile, from, to int64) {
	for p.extent < len(p.extents) && from < to {
		x := p.extents[p.extent]
		end := min(to, x.Offset+int64(x.Length))
		if from < end {
			at := p.frames[x.frame]
			if at.backup == "" {
				at.backup = p.backup
			}
			f.refer(from, int(end-from), at, x.in+int(from-x.Offset))
			from = end
		}
		if from < to {
			p.extent++
		}
	}
}

// changed takes bytes of the pages that come.
func (w *FolderWriter) changed(p []byte) error {
	r := w.rebuilt
	if int64(len(p)) > r.left() {
		return errors.New("more bytes than the member has")
	}
	for len(p) > 0 {
		block := int64(r.blocks[r.next])
		if r.at == 0 {
			if err := w.clear(block); err != nil {
				return err
			}
		}
		w.written = block*pageSize + int64(r.at)
		room, err := w.room()
		if err != nil {
			return err
		}
		n := min(room, len(p), pageSize-r.at)
		w.append(p[:n])
		p = p[n:]
		if r.at += n; r.at == pageSize {
			r.at, r.after = 0, block+1
			r.next++
		}
	}
	if r.left() > 0 {
		return nil
	}
	if err := w.clear(w.file.Size / pageSize); err != nil {
		return err
	}
	f := w.file
	w.file, w.rebuilt = nil, nil
	return w.ended(f)
}

// clear lays zeros for the pages up to one that neither came nor are the parent's: the server made the file longer and wrote
// nothing into them.
func (w *FolderWriter) clear(to int64) error {
	r := w.rebuilt
	for page := max(r.after, r.have); page < to; page++ {
		if r.zeros == nil {
			r.zeros = make([]byte, pageSize)
		}
		w.written = page * pageSize
		if _, err := w.room(); err != nil { // for a whole page
			return err
		}
		w.append(r.zeros)
		r.after = page + 1
	}
	return nil
}
