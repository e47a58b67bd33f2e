package repository

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"time"
)

// assemble takes frames in the order of the stream, lays them into volumes, and writes down where everything lies.
func (s *BackupStream) assemble(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case f, ok := <-s.out.ordered:
			if !ok {
				return nil
			}
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-f.done:
			}
			if err := s.place(f); err != nil {
				return err
			}
			s.out.free <- f
		}
	}
}

// place lays one frame into its folder's volume.
func (s *BackupStream) place(f *frame) error {
	if f.err != nil {
		return fmt.Errorf("compress: %w", f.err)
	}
	w := f.folder
	if len(f.raw) > 0 {
		if err := s.lay(w, f); err != nil {
			return err
		}
	}
	if err := s.writeHashes(f); err != nil {
		return err
	}
	for _, m := range f.ends {
		s.files.Add(1)
		s.dataBytes += m.Size
		w.bytes += m.Size
		if s.refer != nil {
			if err := s.refer.complete(m); err != nil {
				return err
			}
		}
		if err := s.fileShards.add(&m.File, s.putShard); err != nil {
			return err
		}
	}
	if f.closes {
		if err := s.endVolume(w); err != nil {
			return err
		}
		s.folders = append(s.folders, Folder{OID: w.oid, Location: w.location, Volumes: w.number, Bytes: w.bytes})
	}
	return s.mark(f)
}

// lay appends a frame to the open volume, or to a new one when it would not fit, and notes the extents.
func (s *BackupStream) lay(w *FolderWriter, f *frame) error {
	frames := len(w.table.frames)
	if frames == maxVolumeFrames || len(w.volume)+len(f.out)+noteSize(frames+1) > maxVolume {
		if err := s.endVolume(w); err != nil {
			return err
		}
	}
	if w.volume == nil {
		w.volume = s.buffer()
		w.table = seekTable{folder: w.oid, number: w.number, first: w.at, frames: w.table.frames[:0]}
	}
	at := frameAt{folder: w.oid, volume: w.number, offset: int64(len(w.volume)), stored: len(f.out), raw: len(f.raw), sum: f.sum}
	w.volume = append(w.volume, f.out...)
	w.table.frames = append(w.table.frames, at)
	w.at += int64(len(f.raw))
	for _, p := range f.parts {
		if n := len(p.file.frames); n == 0 || p.file.frames[n-1] != at {
			p.file.frames = append(p.file.frames, at)
		}
		p.file.Extents = append(p.file.Extents, Extent{Offset: p.offset, Length: p.length, frame: len(p.file.frames) - 1, in: p.in})
	}
	return nil
}

// writeHashes gives the pages' hashes to the hash shards.
func (s *BackupStream) writeHashes(f *frame) error {
	hashes := f.hashes
	for _, r := range f.runs {
		if !r.file.hashed {
			r.file.hashed, r.file.hashShard = true, s.hashShards.number
		}
		n := r.pages * hashSize
		if err := s.hashShards.add(&r.file.File, r.first, hashes[:n], s.putShard); err != nil {
			return err
		}
		hashes = hashes[n:]
	}
	return nil
}

// endVolume closes the open volume with its seek table and sends it to the writers.
func (s *BackupStream) endVolume(w *FolderWriter) error {
	if w.volume == nil {
		return nil
	}
	body := s.framer.Note(w.volume, w.table.encode())
	w.volume = nil
	name := volumeName(w.oid, w.number)
	w.number++
	return s.putObject(name, body, true)
}

// putShard compresses a shard's raw content and sends it to the writers.
func (s *BackupStream) putShard(name string, raw []byte) error {
	body, err := s.framer.Frame(nil, raw)
	if err != nil {
		return fmt.Errorf("compress %s: %w", name, err)
	}
	return s.putObject(name, body, false)
}

// putObject notes an object's sum and sends it to the writers.
func (s *BackupStream) putObject(name string, body []byte, pooled bool) error {
	s.stored.Add(int64(len(body)))
	line := sumLine{name: name, size: int64(len(body)), sum: sha256.Sum256(body)}
	if err := s.sums.add(line, s.putSum); err != nil {
		return err
	}
	s.marks.note(line)
	return s.fan.send(s.ctx, &object{name: name, body: body, pooled: pooled})
}

// putSum sends a sums or refs shard itself: COMMIT holds its sum.
func (s *BackupStream) putSum(name string, body []byte) error {
	s.stored.Add(int64(len(body)))
	return s.fan.send(s.ctx, &object{name: name, body: body})
}

// buffer gives an empty volume.
func (s *BackupStream) buffer() []byte {
	select {
	case b := <-s.fan.spare:
		return b[:0]
	default:
		return make([]byte, 0, maxVolume)
	}
}

func updateCRC(crc uint32, p []byte) uint32 { return crc32.Update(crc, castagnoli(), p) }

// castagnoli gives the table of CRC-32C; MakeTable keeps one for all callers.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

func unixTime(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }
