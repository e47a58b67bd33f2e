package repository

import (
	"context"
	"errors"
	"fmt"

	"github.com/zeebo/xxh3"

	"github.com/pgkeep/pgkeep/state/repository/seal"
)

// frame is up to maxFrame raw bytes of a folder's stream on their way through the compressors. Frames are few and used
// again: they are the memory that the stream needs.
type frame struct {
	folder *FolderWriter
	raw    []byte
	parts  []framePart // file data in it
	ends   []*openFile // members whose data is complete with this frame
	closes bool        // the folder ends with this frame

	out    []byte // compressed
	sum    uint64
	hashes []byte // of the parts' pages, in order
	err    error
	done   chan struct{} // receives one value when out, sum and hashes are set
}

// framePart is a stretch of one file's data, from a page border of the file on.
type framePart struct {
	file   *openFile
	offset int64 // in the file
	in     int   // in raw
	length int
}

// openFile is a member whose data is not complete.
type openFile struct {
	File
	inspect bool
}

func (f *frame) reset(folder *FolderWriter) {
	f.folder, f.raw, f.parts, f.ends = folder, f.raw[:0], f.parts[:0], f.ends[:0]
	f.closes, f.out, f.hashes, f.err = false, f.out[:0], f.hashes[:0], nil
}

// compress turns frames from in into stored form until in is closed.
func (s *BackupStream) compress(ctx context.Context, framer *seal.Framer) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case f, ok := <-s.raw:
			if !ok {
				return nil
			}
			s.finishFrame(f, framer)
			f.done <- struct{}{}
		}
	}
}

// finishFrame hashes, inspects and compresses one frame.
func (s *BackupStream) finishFrame(f *frame, framer *seal.Framer) {
	for _, p := range f.parts {
		data := f.raw[p.in : p.in+p.length]
		f.hashes = hashPages(f.hashes, data, s.seed)
		if p.file.inspect && s.o.Inspect != nil {
			inspectPages(s.o.Inspect, p, data)
		}
	}
	f.sum = xxh3.Hash(f.raw)
	f.out, f.err = framer.Frame(f.out, f.raw)
}

// inspectPages shows every whole page to the inspector.
func inspectPages(inspect func(*File, uint32, []byte), p framePart, data []byte) {
	block := uint32(p.offset / pageSize)
	for ; len(data) >= pageSize; data = data[pageSize:] {
		inspect(&p.file.File, block, data[:pageSize])
		block++
	}
}

// FolderWriter takes one folder's tar stream, member by member, and cuts it into frames. It is for one goroutine.
type FolderWriter struct {
	s       *BackupStream
	oid     uint32
	current *frame
	file    *openFile // being written; nil between members
	written int64     // bytes of file so far
	sent    int64     // raw bytes of earlier frames

	// of the assembler
	volume  []byte
	table   seekTable
	number  int
	at      int64 // raw offset of the next frame
	bytes   int64
	fileNum int64
}

// Member is what a tar header says of a file, a directory or a link, checked by the caller.
type Member struct {
	Path    string
	Type    FileType
	Mode    uint32
	Size    int64
	ModTime int64 // Unix seconds
	Link    string
	Inspect bool // show its pages to StreamOptions.Inspect
}

// Header takes the raw bytes up to the member's data: the padding of the member before, and the member's tar header.
func (w *FolderWriter) Header(raw []byte, m Member) error {
	if w.file != nil {
		return fmt.Errorf("%q begins before %q has all its bytes", m.Path, w.file.Path)
	}
	if err := CheckPath(m.Path); err != nil {
		return err
	}
	if err := w.plain(raw); err != nil {
		return err
	}
	f := &openFile{inspect: m.Inspect, File: File{
		Folder: w.oid, Path: m.Path, Type: m.Type, Mode: m.Mode, Size: m.Size, ModTime: unixTime(m.ModTime), Link: m.Link,
	}}
	if m.Size == 0 {
		w.current.ends = append(w.current.ends, f)
		return nil
	}
	w.file, w.written = f, 0
	return nil
}

// Data takes bytes of the member's content, as they come.
func (w *FolderWriter) Data(p []byte) error {
	if w.file == nil || int64(len(p)) > w.file.Size-w.written {
		return errors.New("more bytes than the member has")
	}
	w.file.CRC32C = updateCRC(w.file.CRC32C, p)
	for len(p) > 0 {
		n, err := w.room()
		if err != nil {
			return err
		}
		n = min(n, len(p))
		w.append(p[:n])
		p = p[n:]
	}
	if w.written == w.file.Size {
		w.current.ends = append(w.current.ends, w.file)
		w.file = nil
	}
	return nil
}

// room gives how many bytes of the file the current frame takes without splitting a page; it begins a new frame where
// the next page would not fit.
func (w *FolderWriter) room() (int, error) {
	left := w.file.Size - w.written
	if rest := w.written % pageSize; rest != 0 { // in mid page: space for all of it was kept
		return int(min(left, pageSize-rest)), nil
	}
	for {
		if w.current == nil {
			if err := w.begin(); err != nil {
				return 0, err
			}
		}
		free := int64(maxFrame - len(w.current.raw))
		if left <= free {
			return int(left), nil
		}
		if pages := free / pageSize; pages > 0 {
			return int(pages * pageSize), nil
		}
		if err := w.cut(); err != nil {
			return 0, err
		}
	}
}

// append adds file bytes to the current frame and to its parts.
func (w *FolderWriter) append(p []byte) {
	f := w.current
	if n := len(f.parts); n > 0 && f.parts[n-1].file == w.file {
		f.parts[n-1].length += len(p)
	} else {
		f.parts = append(f.parts, framePart{file: w.file, offset: w.written, in: len(f.raw), length: len(p)})
	}
	f.raw = append(f.raw, p...)
	w.written += int64(len(p))
}

// Trailer takes raw bytes that are no member: padding and the end of the archive.
func (w *FolderWriter) Trailer(raw []byte) error { return w.plain(raw) }

// plain adds bytes that may be split anywhere.
func (w *FolderWriter) plain(raw []byte) error {
	for {
		if w.current == nil {
			if err := w.begin(); err != nil {
				return err
			}
		}
		n := min(len(raw), maxFrame-len(w.current.raw))
		w.current.raw = append(w.current.raw, raw[:n]...)
		if raw = raw[n:]; len(raw) == 0 {
			return nil
		}
		if err := w.cut(); err != nil {
			return err
		}
	}
}

// Close ends the folder. Its last volume is on its way.
func (w *FolderWriter) Close() error {
	if w.file != nil {
		return fmt.Errorf("%q ends after %d of %d bytes", w.file.Path, w.written, w.file.Size)
	}
	if w.current == nil {
		if err := w.begin(); err != nil {
			return err
		}
	}
	w.current.closes = true
	return w.cut()
}

// begin takes a free frame; it waits while all are in use.
func (w *FolderWriter) begin() error {
	select {
	case <-w.s.ctx.Done():
		return context.Cause(w.s.ctx)
	case f := <-w.s.free:
		f.reset(w)
		w.current = f
		return nil
	}
}

// cut sends the current frame on: to a compressor, and in order to the assembler.
func (w *FolderWriter) cut() error {
	f := w.current
	w.current = nil
	for _, to := range []chan *frame{w.s.ordered, w.s.raw} {
		select {
		case <-w.s.ctx.Done():
			return context.Cause(w.s.ctx)
		case to <- f:
		}
	}
	return nil
}
