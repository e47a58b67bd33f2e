package repository

import (
	"context"
)

// An incremental backup passes through two more stages than a full one: frames as they came are examined, and the packer
// takes from them, in order, the pages that the parent does not have, and lays those closely into frames to be stored. Of
// the others only the place is noted, in the parent's volumes or in those that it refers to.

// Bounds of what one packed frame carries beside its bytes, so that a backup in which nothing changed needs no more memory
// than another.
const (
	maxEnds   = 1000
	maxHashes = 1 << 20
	maxRefs   = 1 << 16
)

// packer makes packed frames. It is one goroutine.
type packer struct {
	s       *BackupStream
	current *frame
	refs    int // of files that this frame has pages or ends of
}

// pack runs until no frame comes any more.
func (s *BackupStream) pack(ctx context.Context) error {
	p := &packer{s: s}
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case f, ok := <-s.in.ordered:
			if !ok {
				s.out.close()
				return nil
			}
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-f.done:
			}
			if err := p.take(ctx, f); err != nil {
				return err
			}
			s.in.free <- f
		}
	}
}

// take passes on what is new of one frame.
func (p *packer) take(ctx context.Context, f *frame) error {
	hashes := f.hashes
	for i, part := range f.parts {
		n := f.runs[i].pages * hashSize
		if err := p.part(ctx, f, part, f.runs[i], hashes[:n]); err != nil {
			return err
		}
		hashes = hashes[n:]
	}
	if err := p.open(ctx, f.folder); err != nil {
		return err
	}
	p.current.ends = append(p.current.ends, f.ends...)
	p.refs += f.refs
	p.current.closes = f.closes
	if f.closes || len(p.current.ends) >= maxEnds || len(p.current.hashes) >= maxHashes || p.refs >= maxRefs {
		return p.cut(ctx)
	}
	return nil
}

// part looks at the pages of one file's stretch, one by one.
func (p *packer) part(ctx context.Context, f *frame, part framePart, run frameRun, hashes []byte) error {
	if err := p.open(ctx, f.folder); err != nil {
		return err
	}
	p.current.runs = append(p.current.runs, run)
	p.current.hashes = append(p.current.hashes, hashes...)
	for at := 0; at < part.length; at += pageSize {
		page := f.raw[part.in+at : part.in+min(at+pageSize, part.length)]
		off := part.offset + int64(at)
		frame, in, same := part.file.parent.find(off, len(page), hashes[:hashSize])
		hashes = hashes[hashSize:]
		if same {
			p.refs += part.file.refer(off, len(page), frame, in)
			continue
		}
		if err := p.keep(ctx, f.folder, part.file, off, page); err != nil {
			return err
		}
	}
	return nil
}

// keep lays one page into the current frame, or into the next where it does not fit.
func (p *packer) keep(ctx context.Context, folder *FolderWriter, file *openFile, off int64, page []byte) error {
	if len(p.current.raw)+len(page) > maxFrame {
		if err := p.cut(ctx); err != nil {
			return err
		}
		if err := p.open(ctx, folder); err != nil {
			return err
		}
	}
	c := p.current
	if n := len(c.parts); n > 0 && c.parts[n-1].file == file && c.parts[n-1].offset+int64(c.parts[n-1].length) == off {
		c.parts[n-1].length += len(page)
	} else {
		c.parts = append(c.parts, framePart{file: file, offset: off, in: len(c.raw), length: len(page)})
	}
	c.raw = append(c.raw, page...)
	return nil
}

// open makes sure that there is a frame to lay into.
func (p *packer) open(ctx context.Context, folder *FolderWriter) error {
	if p.current != nil {
		return nil
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case p.current = <-p.s.out.free:
		p.current.reset(folder)
		p.refs = 0
		return nil
	}
}

func (p *packer) cut(ctx context.Context) error {
	f := p.current
	p.current = nil
	return p.s.out.send(ctx, f)
}
