package repository

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pgkeep/pgkeep/state/jsonlist"
)

// FileType tells what a member of a backup is.
type FileType byte

// The types of members; nothing else is ever taken into a backup.
const (
	RegularFile  FileType = 'f'
	Directory    FileType = 'd'
	SymbolicLink FileType = 'l'
)

// File is one member of a backup.
type File struct {
	Folder  uint32 // 0: the data directory; else the tablespace, and Path is relative to it
	Path    string // slash-separated, clean, never above the folder
	Type    FileType
	Mode    uint32 // permission bits
	Size    int64
	ModTime time.Time
	Link    string // target of a symbolic link, as the server has it
	CRC32C  uint32 // of the whole content
	NoCRC   bool   // CRC32C is not known: of the file's pages only some came; its frames have checksums of their own
	Extents []Extent

	frames    []frameAt // those of its shard
	shard     int       // its number
	hashShard int       // in which the hashes of its pages begin
}

// Extent is a stretch of a file that lies in one frame.
type Extent struct {
	Offset int64 // in the file
	Length int
	frame  int // index into the frames of the file's shard
	in     int // offset in the raw frame
}

// CheckPath tells whether a member's path may be used: relative, clean, without NUL, newline and other control
// characters. Paths from servers and repositories are never trusted.
func CheckPath(p string) error {
	switch {
	case p == "" || p == ".":
		return errors.New("an empty path")
	case len(p) > 4095:
		return fmt.Errorf("path %.60q… is longer than 4095 bytes", p)
	case strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("path %.200q holds a control character", p)
	case strings.HasPrefix(p, "/"):
		return fmt.Errorf("path %.200q is absolute", p)
	case p == ".." || strings.HasPrefix(p, "../") || strings.Contains(p, "/../") || strings.HasSuffix(p, "/.."):
		return fmt.Errorf("path %.200q leaves its folder", p)
	case path.Clean(p) != p:
		return fmt.Errorf("path %.200q is not clean", p)
	}
	return nil
}

// fileShard is the content of one files/ object: JSON in one compressed frame. Every frame that a file of the shard lies
// in stands in its Frames, so that a shard can be restored from alone.
type fileShard struct {
	Format  int                      `json:"format"`
	Backup  string                   `json:"backup"`
	Number  int                      `json:"number"`
	Others  jsonlist.Of[string]      `json:"others,omitempty"` // other backups whose volumes are read
	Frames  jsonlist.Of[frameRecord] `json:"frames,omitempty"`
	Members jsonlist.Of[fileRecord]  `json:"members"`
}

type frameRecord struct {
	Other  int    `json:"b,omitempty"` // 0: this backup; n: Others[n-1]
	Folder uint32 `json:"d,omitempty"`
	Volume int    `json:"v"`
	Offset int64  `json:"o"`
	Stored int    `json:"s"`
	Raw    int    `json:"r"`
	Sum    string `json:"x"` // xxh3-64 of the raw bytes, 16 hexadecimal digits
}

type fileRecord struct {
	Folder  uint32                  `json:"d,omitempty"`
	Path    string                  `json:"p,omitempty"`
	Bytes   string                  `json:"ph,omitempty"` // the path in hexadecimal, when it is not UTF-8
	Type    string                  `json:"t"`
	Mode    uint32                  `json:"m"`
	Size    int64                   `json:"s,omitempty"`
	ModTime int64                   `json:"T"` // Unix seconds
	Link    string                  `json:"l,omitempty"`
	CRC32C  string                  `json:"c,omitempty"` // eight hexadecimal digits; absent: not known
	Hashes  int                     `json:"h,omitempty"` // number of the hash shard in which its pages begin
	Extents jsonlist.Rows[[3]int64] `json:"x,omitempty"` // frame, offset in the raw frame, length; in the order of the file, without holes
}

func (f *File) record(frameIndex func(int) int) fileRecord {
	r := fileRecord{
		Folder: f.Folder, Path: f.Path, Type: string(rune(f.Type)), Mode: f.Mode, Size: f.Size, ModTime: f.ModTime.Unix(), Link: f.Link,
	}
	if !utf8.ValidString(f.Path) {
		r.Path, r.Bytes = "", hex.EncodeToString([]byte(f.Path))
	}
	if f.Type == RegularFile {
		r.CRC32C, r.Hashes = fmt.Sprintf("%08x", f.CRC32C), f.hashShard
	}
	if f.NoCRC {
		r.CRC32C = ""
	}
	for _, x := range f.Extents {
		r.Extents = append(r.Extents, [3]int64{int64(frameIndex(x.frame)), int64(x.in), int64(x.Length)})
	}
	return r
}

// decodeFileShard reads and checks the raw bytes of a shard: after it, every extent lies in its frame, every file is
// covered, and every path may be used.
func decodeFileShard(b []byte, backup string, number int) ([]File, error) {
	var s fileShard
	if err := s.read(b); err != nil {
		return nil, err
	}
	if s.Backup != backup || s.Number != number {
		return nil, fmt.Errorf("it is list %d of backup %.40q", s.Number, s.Backup)
	}
	if s.Format > backupFormat {
		return nil, fmt.Errorf("list of files of format %d; this pgkeep reads up to %d", s.Format, backupFormat)
	}
	frames, err := framesOf(s.Frames, s.Others)
	if err != nil {
		return nil, err
	}
	files := make([]File, len(s.Members))
	for i := range s.Members {
		if err := s.Members[i].file(&files[i], frames); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// read reads a shard, which may be longer than maxList if it is of one file alone.
func (s *fileShard) read(b []byte) error {
	if len(b) > maxList {
		var long struct {
			Members jsonlist.Count `json:"members"`
		}
		if err := json.Unmarshal(b, &long); err != nil {
			return fmt.Errorf("decode list of files: %w", err)
		}
		if long.Members > 1 {
			return fmt.Errorf("a list of %d files has %d bytes; no writer makes it longer than %d", long.Members, len(b), shardSize)
		}
	}
	if err := json.Unmarshal(b, s); err != nil {
		return fmt.Errorf("decode list of files: %w", err)
	}
	return nil
}

func framesOf(records []frameRecord, others []string) ([]frameAt, error) {
	for _, r := range records { // before they are given more memory
		if len(r.Sum) != 16 {
			return nil, fmt.Errorf("%.40q is not the checksum of a frame", r.Sum)
		}
	}
	frames := make([]frameAt, len(records))
	for i, r := range records {
		f, err := r.frame(others)
		if err != nil {
			return nil, err
		}
		frames[i] = f
	}
	return frames, nil
}

func (r frameRecord) frame(others []string) (frameAt, error) {
	f := frameAt{folder: r.Folder, volume: r.Volume, offset: r.Offset, stored: r.Stored, raw: r.Raw}
	if r.Other < 0 || r.Other > len(others) {
		return f, fmt.Errorf("a frame of the %d-th of %d other backups", r.Other, len(others))
	}
	if r.Other > 0 {
		f.backup = others[r.Other-1]
		if err := CheckBackupID(f.backup); err != nil {
			return f, err
		}
	}
	if r.Volume < 0 || r.Volume > 1e9 || r.Offset < 0 || r.Stored <= 0 || r.Offset+int64(r.Stored) > maxVolume || r.Raw <= 0 || r.Raw > maxFrame {
		return f, fmt.Errorf("a frame of %d bytes at %d of volume %d, %d raw", r.Stored, r.Offset, r.Volume, r.Raw)
	}
	b, err := hex.DecodeString(r.Sum)
	if err != nil || len(b) != 8 {
		return f, fmt.Errorf("%.40q is not the checksum of a frame", r.Sum)
	}
	for _, c := range b {
		f.sum = f.sum<<8 | uint64(c)
	}
	return f, nil
}

func (r *fileRecord) file(f *File, frames []frameAt) error {
	*f = File{
		Folder: r.Folder, Path: r.Path, Mode: r.Mode & 0o7777, Size: r.Size, ModTime: time.Unix(r.ModTime, 0).UTC(), Link: r.Link, frames: frames,
	}
	if r.Bytes != "" {
		b, err := hex.DecodeString(r.Bytes)
		if err != nil {
			return fmt.Errorf("%.60q is not a path in hexadecimal", r.Bytes)
		}
		f.Path = string(b)
	}
	if err := CheckPath(f.Path); err != nil {
		return err
	}
	switch r.Type {
	case "d", "l":
		f.Type = FileType(r.Type[0])
		if r.Size != 0 || len(r.Extents) > 0 || (r.Type == "l") != (r.Link != "") {
			return fmt.Errorf("%q has what no %s has", f.Path, r.Type)
		}
		return nil
	case "f":
		f.Type = RegularFile
	default:
		return fmt.Errorf("%q is of unknown type %.10q", f.Path, r.Type)
	}
	f.hashShard, f.NoCRC = max(0, r.Hashes), r.CRC32C == ""
	if !f.NoCRC {
		crc, err := hex.DecodeString(r.CRC32C)
		if err != nil || len(crc) != 4 {
			return fmt.Errorf("%q has a CRC32C that is none", f.Path)
		}
		f.CRC32C = uint32(crc[0])<<24 | uint32(crc[1])<<16 | uint32(crc[2])<<8 | uint32(crc[3])
	}
	return f.setExtents(r.Extents)
}

// setExtents checks that the extents lie in their frames and cover the file.
func (f *File) setExtents(extents [][3]int64) error {
	var size int64
	for _, x := range extents { // before they are given more memory
		frame, in, length := x[0], x[1], x[2]
		if frame >= int64(len(f.frames)) || length == 0 || length > maxFrame || in > int64(f.frames[frame].raw)-length {
			return fmt.Errorf("%q has an extent outside its frame: %v", f.Path, x)
		}
		size += length
	}
	if size != f.Size {
		return fmt.Errorf("%q has %d bytes, and extents for %d", f.Path, f.Size, size)
	}
	f.Extents = make([]Extent, len(extents))
	var at int64
	for i, x := range extents {
		f.Extents[i] = Extent{Offset: at, Length: int(x[2]), frame: int(x[0]), in: int(x[1])}
		at += x[2]
	}
	return nil
}
