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
	runs   []frameRun  // whose hashes these are
	refs   int         // of rebuilt files among ends
	closes bool        // the folder ends with this frame

	out    []byte // compressed
	sum    uint64
	hashes []byte // of the runs' pages, in order
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

// frameRun is a run of consecutive pages of one file, of which the frame has the hashes.
type frameRun struct {
	file  *openFile
	first int64 // page
	pages int
}

// openFile is a member whose data is not complete.
type openFile struct {
	File
	inspect bool
	hashed  bool        // hashShard is known
	parent  *parentFile // what an incremental's parent has under that name; nil: nothing, or the file is rebuilt
	refs    []reference // what lies in volumes of other backups
}

func (f *frame) reset(folder *FolderWriter) {
	clear(f.parts) // they hold files
	clear(f.ends)
	clear(f.runs)
	f.folder, f.raw, f.parts, f.ends, f.runs = folder, f.raw[:0], f.parts[:0], f.ends[:0], f.runs[:0]
	f.refs, f.closes, f.out, f.hashes, f.err = 0, false, f.out[:0], f.hashes[:0], nil
}

// finish does the work of one frame after another until there are no more.
func (q *frameQueue) finish(ctx context.Context, work func(*frame)) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case f, ok := <-q.work:
			if !ok {
				return nil
			}
			work(f)
			f.done <- struct{}{}
		}
	}
}

// examine hashes and inspects the pages of one frame.
func (s *BackupStream) examine(f *frame) {
	for _, p := range f.parts {
		data := f.raw[p.in : p.in+p.length]
		f.runs = append(f.runs, frameRun{file: p.file, first: p.offset / pageSize, pages: (len(data) + pageSize - 1) / pageSize})
		f.hashes = hashPages(f.hashes, data, s.seed)
		if p.file.inspect && s.o.Inspect != nil {
			inspectPages(s.o.Inspect, p, data)
		}
	}
}

// compress turns one frame into its stored form.
func (f *frame) compress(framer *seal.Framer) {
	if len(f.raw) == 0 {
		return
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
	s        *BackupStream
	oid      uint32
	location string // of a tablespace on the server
	current  *frame
	file     *openFile // being written; nil between members
	written  int64     // bytes of file so far; of a file that is rebuilt, where the next byte goes
	rebuilt  *rebuilding
	sent     int64 // raw bytes of earlier frames

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
	Rebuild *Rebuild
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
	if m.Rebuild != nil {
		return w.rebuild(f, m.Rebuild)
	}
	if m.Type == RegularFile && m.Size > 0 && w.s.refer != nil {
		found, err := w.s.refer.file(w.s.ctx, w.oid, m.Path)
		if err != nil {
			return err
		}
		f.parent = found
	}
	if m.Size == 0 {
		return w.ended(f)
	}
	w.file, w.written = f, 0
	return nil
}

// Data takes bytes of the member's content, as they come.
func (w *FolderWriter) Data(p []byte) error {
	if w.rebuilt != nil {
		return w.changed(p)
	}
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
		f := w.file
		w.file = nil
		return w.ended(f)
	}
	return nil
}

// ended notes that a member's data is complete.
func (w *FolderWriter) ended(f *openFile) error {
	w.current.ends = append(w.current.ends, f)
	if f.parent == nil { // else they are noted, and counted, by the packer
		w.current.refs += len(f.refs)
	}
	if len(w.current.ends) < maxEnds && w.current.refs < maxRefs {
		return nil
	}
	return w.cut()
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
	if n := len(f.parts); n > 0 && f.parts[n-1].file == w.file && f.parts[n-1].offset+int64(f.parts[n-1].length) == w.written {
		f.parts[n-1].length += len(p)
	} else {
		f.parts = append(f.parts, framePart{file: w.file, offset: w.written, in: len(f.raw), length: len(p)})
	}
	f.raw = append(f.raw, p...)
	w.written += int64(len(p))
}

// Trailer takes raw bytes that are no member: padding and the end of the archive.
func (w *FolderWriter) Trailer(raw []byte) error { return w.plain(raw) }

// plain adds bytes that may be split anywhere. An incremental does not keep them.
func (w *FolderWriter) plain(raw []byte) error {
	if w.s.refer != nil {
		raw = nil
	}
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
	case f := <-w.s.in.free:
		f.reset(w)
		w.current = f
		return nil
	}
}

// cut sends the current frame on: to a compressor, and in order to the assembler.
func (w *FolderWriter) cut() error {
	f := w.current
	w.current = nil
	return w.s.in.send(w.s.ctx, f)
}
