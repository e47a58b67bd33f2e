package repository

import (
	"encoding/json"
	"fmt"
)

// shardSize is how long the raw content of a files or hash shard grows: small enough that a reader holds several, large
// enough that few volumes are split between two. Only a file whose own extents need more has a longer shard, for itself.
const shardSize = 4 << 20

// maxList is how long readers take a list of several files, or anything else but volumes that a backup has: a writer's list may exceed
// shardSize by the names of the other backups that its last file brings.
const maxList = shardSize + 1<<20

// The most that JSON needs for a frame and for an extent of a fileShard, and for what stands before and behind them.
const (
	frameJSON     = 112
	extentJSON    = 24
	fileShardJSON = 256
)

// fileShardWriter collects files into shards.
type fileShardWriter struct {
	backup string
	number int
	shard  fileShard
	frames map[frameAt]int
	others map[string]int
	size   int
}

// add takes a file whose every frame was placed; f.frames are its frames, of which Extents hold indexes.
func (w *fileShardWriter) add(f *File, put func(name string, raw []byte) error) error {
	bare := *f
	bare.Extents = nil
	head, err := json.Marshal(bare.record(nil))
	if err != nil {
		return fmt.Errorf("encode %q: %w", f.Path, err)
	}
	own := len(head) + len(`,"x":[],`) + extentJSON*len(f.Extents)
	fresh := 0
	for _, at := range f.frames {
		if _, ok := w.frames[at]; !ok {
			fresh++
		}
	}
	if w.size+own+frameJSON*fresh+fileShardJSON > shardSize {
		if err := w.flush(put); err != nil {
			return err
		}
	}
	if w.frames == nil {
		w.frames, w.others = map[frameAt]int{}, map[string]int{}
	}
	w.shard.Members = append(w.shard.Members, f.record(func(i int) int { return w.frameIndex(f.frames[i]) }))
	w.size += own
	return nil
}

func (w *fileShardWriter) frameIndex(f frameAt) int {
	if i, ok := w.frames[f]; ok {
		return i
	}
	r := f.record(0)
	if f.backup != "" {
		if w.others[f.backup] == 0 {
			w.shard.Others = append(w.shard.Others, f.backup)
			w.others[f.backup] = len(w.shard.Others)
			w.size += len(f.backup) + len(`"",`)
		}
		r.Other = w.others[f.backup]
	}
	i := len(w.shard.Frames)
	w.shard.Frames = append(w.shard.Frames, r)
	w.frames[f] = i
	w.size += frameJSON
	return i
}

// record writes a frame of this backup, or of the other-th of those that are read.
func (f frameAt) record(other int) frameRecord {
	return frameRecord{
		Other: other, Folder: f.folder, Volume: f.volume, Offset: f.offset, Stored: f.stored, Raw: f.raw, Sum: fmt.Sprintf("%016x", f.sum),
	}
}

// flush puts the last shard.
func (w *fileShardWriter) flush(put func(name string, raw []byte) error) error {
	if len(w.shard.Members) == 0 {
		return nil
	}
	w.shard.Format, w.shard.Backup, w.shard.Number = backupFormat, w.backup, w.number
	raw, err := json.Marshal(&w.shard)
	if err != nil {
		return fmt.Errorf("encode list of files: %w", err)
	}
	name := shardName(filesDir, w.number)
	*w = fileShardWriter{backup: w.backup, number: w.number + 1}
	return put(name, raw)
}
