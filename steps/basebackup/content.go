package basebackup

import (
	"errors"
	"fmt"
	"io"

	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/repository"
)

// content is one member whose content comes.
type content struct {
	rec *recorder
	r   io.Reader
	m   repository.Member // as it came
	buf []byte
	n   int64 // bytes that came
	crc uint32
}

// Read gives the next bytes, and counts them.
func (c *content) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	c.crc = updateCRC(c.crc, p[:n])
	return n, err
}

// take passes one member on, as it came or as the server means it.
func (f *folder) take(c *content) error {
	defer func() { c.rec.inData = false }()
	size := c.m.Size
	var err error
	path, part := f.whole(c.m)
	switch {
	case part:
		size, err = f.part(c, path)
	case f.ts.OID == 0 && path == "backup_label":
		size, err = f.backupLabel(c)
	default:
		err = f.pass(c, c.m)
	}
	if err != nil {
		return err
	}
	return f.t.members.came(f.manifestPath(path), c.m, c.crc, size)
}

// whole gives the path of the whole file that a member makes; part tells that only pages of it come.
func (f *folder) whole(m repository.Member) (path string, part bool) {
	path, part = postgres.IncrementalName(m.Path)
	if part && f.t.summaries && m.Type == repository.RegularFile && isRelation(f.manifestPath(path)) {
		return path, true
	}
	return m.Path, false
}

// header begins a member in every group. What comes from here on is content.
func (f *folder) header(c *content, m repository.Member) error {
	c.rec.inData = true
	err := f.each(func(w *repository.FolderWriter) error { return w.Header(c.rec.raw, m) })
	c.rec.raw = c.rec.raw[:0]
	return err
}

// pass passes a member on, as m, and what comes of it.
func (f *folder) pass(c *content, m repository.Member) error {
	if err := f.header(c, m); err != nil {
		return err
	}
	return f.rest(c)
}

// rest passes on what is left of a member.
func (f *folder) rest(c *content) error {
	for c.n < c.m.Size {
		n, err := c.Read(c.buf)
		if n > 0 {
			if err := f.each(func(w *repository.FolderWriter) error { return w.Data(c.buf[:n]) }); err != nil {
				return err
			}
		}
		if err != nil && (!errors.Is(err, io.EOF) || c.n < c.m.Size) {
			return fmt.Errorf("read %d of %d bytes: %w", c.n, c.m.Size, noEOF(err))
		}
	}
	return nil
}

// part lays a file that came in part over the parent's, under its own name, and gives how long it is then.
func (f *folder) part(c *content, path string) (int64, error) {
	c.rec.inData = true
	head, err := postgres.ReadIncrementalFile(c, c.m.Size)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return 0, err
	}
	if err != nil {
		return 0, f.refuse(err)
	}
	m := c.m
	m.Path, m.Size = path, int64(head.Pages)*postgres.PageBytes
	m.Rebuild = &repository.Rebuild{Blocks: head.Blocks, Least: f.t.keeps(f.manifestPath(path), head.Least)}
	m.Inspect = f.t.o.VerifyPages
	return m.Size, f.pass(c, m)
}

// maxLabel bounds backup_label, which is kept in memory.
const maxLabel = 64 << 10

// backupLabel keeps backup_label, and passes it on as that of a full backup.
func (f *folder) backupLabel(c *content) (int64, error) {
	if c.m.Size > maxLabel {
		return 0, fmt.Errorf("backup_label is longer than %d bytes", maxLabel)
	}
	c.rec.inData = true
	label := make([]byte, c.m.Size)
	if _, err := io.ReadFull(c, label); err != nil {
		return 0, fmt.Errorf("read backup_label: %w", noEOF(err))
	}
	f.t.label = label
	if f.t.summaries {
		label = postgres.FullLabel(label)
	}
	m := c.m
	m.Size = int64(len(label))
	if err := f.header(c, m); err != nil || m.Size == 0 {
		return 0, err
	}
	return m.Size, f.each(func(w *repository.FolderWriter) error { return w.Data(label) })
}

// noEOF tells an end in mid member from the end of an archive.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
