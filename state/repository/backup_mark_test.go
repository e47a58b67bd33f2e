package repository

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest"
)

// FuzzMarkedFile: of a file of which only the beginning had come nothing lies outside of its frames, of the file, or before what comes before.
func FuzzMarkedFile(f *testing.F) {
	f.Add([]byte(`{"p":"YmFzZS81LzE2Mzg0","s":24576,"h":2,"frames":[{"v":3,"o":10,"s":900,"r":16384,"x":"0123456789abcdef"}],"x":[[0,0,0,8192],[8192,0,8192,8192]]}`))
	f.Add([]byte(`{"p":"Li4veA==","s":-1,"frames":[{"v":-3,"o":10,"s":900,"r":16384,"x":"01"}],"x":[[9223372036854775807,0,0,8192],[8192,1,8192,8192]]}`))
	f.Add([]byte(`{"p":"eA==","s":9223372036854775807,"frames":[{"v":3,"o":10,"s":900,"r":16384,"x":"0123456789abcdef"}],"x":[[9223372036854770000,0,9223372036854775807,8192]]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var m markFile
		if json.Unmarshal(b, &m) != nil {
			return
		}
		e, frames, err := m.entry()
		if err != nil {
			return
		}
		if CheckPath(e.path) != nil {
			t.Errorf("path %q", e.path)
		}
		var at int64
		for _, x := range e.extents {
			if x.Offset < at || x.Length <= 0 || x.frame < 0 || x.frame >= len(frames) || x.in < 0 || x.in+x.Length > frames[x.frame].raw {
				t.Errorf("%+v", x)
			}
			if at = x.Offset + int64(x.Length); at > e.size || at < 0 {
				t.Errorf("%+v leaves %d bytes", x, e.size)
			}
		}
	})
}

// longFile is the beginning of a file of n frames, in which every other page is its own, so many of each frame.
func longFile(n, pages int) *openFile {
	f := &openFile{File: File{Path: "base/16384/16385", Folder: ^uint32(0), Type: RegularFile, Size: 1 << 62, hashShard: 1 << 40}}
	for i := range n {
		f.frames = append(f.frames, frameAt{folder: ^uint32(0), volume: 999_999_999 - i, offset: maxVolume / 2, stored: maxVolume/2 - i, raw: maxFrame, sum: ^uint64(0)})
		for k := range pages {
			f.Extents = append(f.Extents, Extent{Offset: int64(i*64+k)*2*pageSize + 1<<61, Length: pageSize, frame: i, in: k * pageSize})
		}
	}
	return f
}

// TestMarkOfALongFile: within a file that no mark has room for, no mark is put, and nothing fails, until there is much else to list. Before it and
// after it there are marks.
func TestMarkOfALongFile(t *testing.T) {
	c := newArchive(t, storetest.NewMemory(nil), mib)
	in := testIntent(1)
	s := beginAgain(t, c, in, seal.Codec{})
	volumes := 0
	mark := func(file *openFile, ends bool, more int) int {
		for range more {
			s.marks.note(sumLine{name: volumeName(0, volumes), size: maxVolume})
			volumes++
		}
		f := &frame{runs: []frameRun{{file: file}}}
		if ends {
			f.ends = []*openFile{file}
		}
		check(t, s.mark(f))
		return s.marks.number
	}
	const many = maxMarkSums / 90 // lines
	long := longFile(30_000, 64)  // 30 GB, of which half is its own
	for i, step := range []struct {
		file  *openFile
		ends  bool
		more  int
		marks int
	}{{longFile(1, 64), false, 1, 1}, {long, false, 9, 1}, {long, false, 9, 1}, {long, true, 1, 2}, {long, false, 9, 2}, {long, false, many, 3}, {long, false, 9, 3}} {
		if got := mark(step.file, step.ends, step.more); got != step.marks {
			t.Errorf("after step %d there are %d marks, want %d", i, got, step.marks)
		}
	}
	for range 20_000 { // until the last is there
		if must(c.exists(t.Context(), c.key.backupDir(in.ID)+shardName(marksDir, 2)))(t) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	s.Abort(t.Context(), "the line was cut", in.Now)
	for n, lines := range []int{1, 19, 9 + many} {
		m, _, err := c.readMark(t.Context(), in.ID, n)
		if err != nil || (m.Open != nil) != (n == 0) || strings.Count(m.Sums, volumeDir) != lines {
			t.Errorf("mark %d: %d lines, open %v, %v", n, strings.Count(m.Sums, volumeDir), m.Open != nil, err)
		}
	}
}

// TestMarksKeepWithinTheirBound writes the longest mark that there may be: its file has as many frames or extents as fit.
func TestMarksKeepWithinTheirBound(t *testing.T) {
	for _, pages := range []int{0, 1, 64} {
		file := longFile(maxMarkOpen/(markFrameJSON+pages*markExtentJSON), pages)
		open := must(encodeRecord(mark{Open: file.marked()}))(t)
		if len(open) > maxMarkOpen+8<<10 {
			t.Errorf("of %d frames and %d extents it has %d bytes", len(file.frames), len(file.Extents), len(open))
		}
		var sums marker
		sums.every = 1
		for i := 0; !sums.full(); i++ {
			sums.note(sumLine{name: volumeName(^uint32(0), 999_999_999-i), size: maxVolume})
		}
		body := must(encodeRecord(mark{Backup: "b", Number: maxMarks, Stored: 1 << 62, Sums: string(sums.sums), Open: file.marked()}))(t)
		if len(body) > maxMark {
			t.Errorf("a mark of %d bytes, over %d", len(body), maxMark)
		}
		stored := must(must(seal.NewFramer(seal.Codec{Algorithm: seal.Zstd, Level: 1}))(t).Frame(nil, body))(t)
		m := must(decodeMark(stored, "b", maxMarks))(t)
		if e, frames, err := m.Open.entry(); err != nil || len(frames) != len(file.frames) || len(e.extents) != len(file.Extents) {
			t.Errorf("%d frames and %d extents are read again: %v", len(frames), len(e.extents), err)
		}
	}
}
