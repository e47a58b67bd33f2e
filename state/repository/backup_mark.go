package repository

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/jsonlist"
	"github.com/pgkeep/pgkeep/state/repository/seal"
)

// A backup that is being written says now and then how far it has come: a *mark* is a small object that lists what was put since
// the mark before. When the backup is cut, the next one refers to what the marks prove to be there, and stores the rest
// (CutBackup, OpenCut). Once the backup is committed its marks are of no use, and are taken away.
//
// A mark may be put before what it lists: what is not there, or not with the length that the mark says, is not referred to.

// marksDir holds the marks of a backup that is not committed.
const marksDir = "marks/"

// Bounds of marks. From marksShare times the first distance on, marks come whenever another sixteenth is stored, so that their number stays
// small however large the backup is, and little is lost between two.
const (
	marksShare = 16
	maxMarks   = 300
)

// A mark never outgrows maxMark, which readers take: it comes early when it has maxMarkSums to list, and an unfinished file that needs more
// than maxMarkOpen is not told of. markFrameJSON and markExtentJSON are the most that a frame and an extent of it need.
const (
	maxMark        = 16 << 20
	maxMarkSums    = 4 << 20
	maxMarkOpen    = 8 << 20
	markFrameJSON  = 176
	markExtentJSON = 104
)

// mark is marks/<nnnnnn>: a record in one compressed frame.
type mark struct {
	Format     int       `json:"format"`
	Backup     string    `json:"backup"`
	Number     int       `json:"number"`
	FileShards int       `json:"file_shards"`    // of files/, all of which the marks up to this one list
	HashShards int       `json:"hash_shards"`    // of hash/
	Stored     int64     `json:"stored_bytes"`   // of the volumes that the marks up to this one list
	Sums       string    `json:"sums"`           // as in sums/: volumes and shards that were put since the mark before
	Open       *markFile `json:"open,omitempty"` // the file of which only the beginning had come
}

// markFile is a file of which only the beginning had come.
type markFile struct {
	Folder  uint32                   `json:"d,omitempty"`
	Path    []byte                   `json:"p"` // base64
	Size    int64                    `json:"s"`
	Hashes  int                      `json:"h"` // number of the hash shard in which its pages begin
	Frames  jsonlist.Of[frameRecord] `json:"frames"`
	Extents jsonlist.Rows[[4]int64]  `json:"x"` // offset in the file, frame, offset in the raw frame, length
}

// marker makes the marks of one stream. It belongs to the assembler. The zero value makes none.
type marker struct {
	every  int64 // bytes of volumes between two marks at first; 0: no marks
	number int
	stored int64 // bytes of volumes so far
	marked int64 // of them, by the mark before
	sums   []byte
}

// note keeps the line of an object for the next mark.
func (m *marker) note(l sumLine) {
	switch {
	case m.every == 0 || m.number == maxMarks:
		return
	case strings.HasPrefix(l.name, volumeDir):
		m.stored += l.size
	case !strings.HasPrefix(l.name, filesDir) && !strings.HasPrefix(l.name, hashDir):
		return
	}
	m.sums = l.appendTo(m.sums)
}

func (m *marker) due() bool {
	return m.every > 0 && m.number < maxMarks && (m.full() || m.stored-m.marked >= max(m.every, m.stored/marksShare))
}

// full tells whether the next mark cannot wait.
func (m *marker) full() bool { return len(m.sums) >= maxMarkSums }

// mark says, after frame f was placed, how far the backup has come, when it is time to. The shards that are under way end here, so that they are
// there to be listed.
func (s *BackupStream) mark(f *frame) error {
	m := &s.marks
	if !m.due() {
		return nil
	}
	var open *markFile
	if file := f.unfinished(); file != nil {
		switch {
		case markFrameJSON*len(file.frames)+markExtentJSON*len(file.Extents) <= maxMarkOpen:
			open = file.marked()
		case !m.full():
			return nil // the mark before has the file's beginning, and the next one all of it
		}
	}
	if err := s.hashShards.flush(s.putShard); err != nil {
		return err
	}
	if err := s.fileShards.flush(s.putShard); err != nil {
		return err
	}
	body, err := encodeRecord(mark{
		Format: backupFormat, Backup: s.fileShards.backup, Number: m.number, FileShards: s.fileShards.number, HashShards: s.hashShards.number,
		Stored: m.stored, Sums: string(m.sums), Open: open,
	})
	if err != nil {
		return err
	}
	if body, err = s.framer.Frame(nil, body); err != nil {
		return fmt.Errorf("compress mark: %w", err)
	}
	name := shardName(marksDir, m.number)
	m.number, m.marked, m.sums = m.number+1, m.stored, m.sums[:0]
	return s.fan.send(s.ctx, &object{name: name, body: body})
}

// unfinished gives the file that goes on after this frame; nil: none does.
func (f *frame) unfinished() *openFile {
	n := len(f.runs)
	if n == 0 || slices.Contains(f.ends, f.runs[n-1].file) {
		return nil
	}
	return f.runs[n-1].file
}

// marked is what a mark says of a file of which only the beginning has come.
func (f *openFile) marked() *markFile {
	out := &markFile{Folder: f.Folder, Path: []byte(f.Path), Size: f.Size, Hashes: f.hashShard}
	for _, at := range f.frames {
		out.Frames = append(out.Frames, at.record(0))
	}
	for _, x := range f.Extents {
		out.Extents = append(out.Extents, [4]int64{x.Offset, int64(x.frame), int64(x.in), int64(x.Length)})
	}
	return out
}

// entry reads what marked wrote: after it every extent lies in its frame and in the file.
func (m *markFile) entry() (parentEntry, []frameAt, error) {
	e := parentEntry{path: string(m.Path), size: m.Size, folder: m.Folder, hashShard: max(0, m.Hashes), noCRC: true}
	if err := CheckPath(e.path); err != nil {
		return e, nil, err
	}
	frames, err := framesOf(m.Frames, nil)
	if err != nil {
		return e, nil, err
	}
	var at int64
	e.extents = make([]Extent, 0, len(m.Extents))
	for _, x := range m.Extents {
		off, frame, in, length := x[0], x[1], x[2], x[3]
		if off < at || length <= 0 || length > maxFrame || off > m.Size-length || frame < 0 || frame >= int64(len(frames)) || in < 0 || in > int64(frames[frame].raw)-length {
			return e, nil, fmt.Errorf("%q has an extent outside its frame: %v", e.path, x)
		}
		e.extents = append(e.extents, Extent{Offset: off, Length: int(length), frame: int(frame), in: int(in)})
		at = off + length
	}
	return e, frames, nil
}

// decodeMark reads and checks a mark as it is stored.
func decodeMark(body []byte, backup string, number int) (mark, error) {
	var m mark
	d, err := seal.NewDeframer()
	if err != nil {
		return m, err
	}
	defer d.Close()
	raw, err := d.Frame(nil, body, maxMark)
	if err != nil {
		return m, fmt.Errorf("decompress mark: %w", err)
	}
	if err := decodeRecord(raw, &m); err != nil {
		return m, err
	}
	switch {
	case m.Backup != backup || m.Number != number:
		return m, fmt.Errorf("it is mark %d of backup %.40q", m.Number, m.Backup)
	case m.Format > backupFormat:
		return m, fmt.Errorf("mark of format %d; this pgkeep reads up to %d", m.Format, backupFormat)
	case m.FileShards < 0 || m.HashShards < 0 || m.Stored < 0:
		return m, errors.New("a mark with negative counts")
	}
	return m, nil
}

// readMark reads one mark.
func (c *Cluster) readMark(ctx context.Context, id string, n int) (mark, shardSum, error) {
	key := c.key.backupDir(id) + shardName(marksDir, n)
	body, err := c.readObject(ctx, key, maxMark)
	if err != nil {
		return mark{}, shardSum{}, err
	}
	m, err := decodeMark(body, id, n)
	if err != nil {
		return mark{}, shardSum{}, corrupt(key, err)
	}
	sum := sha256.Sum256(body)
	return m, shardSum{Size: int64(len(body)), SHA256: hex.EncodeToString(sum[:])}, nil
}

// provesNothing tells the errors of a mark that is not there or that nobody needs to believe, a stranger's among them, from those of the store: they
// hide no backup.
func provesNothing(err error) bool {
	return isAbsent(err) || untrusted(err) || state.CodeOf(err) == state.CodeNoKey
}

// readMarks reads the marks of a backup from the first on, up to one that is not there or cannot be trusted, one at a time. It
// gives the last and the sums of all; none: nothing is proved.
func (c *Cluster) readMarks(ctx context.Context, id string) (last mark, sums []shardSum, err error) {
	for n := range maxMarks {
		m, sum, err := c.readMark(ctx, id, n)
		if provesNothing(err) {
			break
		}
		if err != nil {
			return mark{}, nil, fmt.Errorf("read marks of %s: %w", id, err)
		}
		last, sums = m, append(sums, sum)
	}
	return last, sums, nil
}

// lastMark gives the newest mark that proves itself; false: there is none.
func (c *Cluster) lastMark(ctx context.Context, id string) (mark, bool, error) {
	there := 0
	dir := c.key.backupDir(id) + marksDir
	for info, err := range c.repo.Store().List(ctx, dir, "", false) {
		if err != nil {
			return mark{}, false, fmt.Errorf("list %s: %w", dir, err)
		}
		if there < maxMarks && info.Key == c.key.backupDir(id)+shardName(marksDir, there) {
			there++
		}
	}
	for n := there - 1; n >= 0; n-- {
		m, _, err := c.readMark(ctx, id, n)
		if err == nil {
			return m, true, nil
		}
		if !provesNothing(err) {
			return mark{}, false, err
		}
	}
	return mark{}, false, nil
}

// dropMarks takes the marks of a committed backup away. What stays is passed over by every reader, and goes with the backup.
func (w *BackupWriter) dropMarks(ctx context.Context, n int) {
	if n == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	keys := make([]string, n)
	for i := range keys {
		keys[i] = w.c.key.backupDir(w.start.ID) + shardName(marksDir, i)
	}
	_ = w.c.repo.Store().Delete(ctx, keys...) // a role that may not delete leaves them
}

// CutBackup decides `cut` for a backup that its writer will not finish, unless it is decided already, and gives what it is now: nobody can
// restore it, and the next backup may refer to what it has stored. One that has not proved anything, or is gone, is decided `aborted`. Like
// the two other decisions this one competes for COMMIT: a writer that wakes up late fails.
//
// From then on it stays until its TOMB, and its volumes as long as others read them, as those of a committed backup do; but it
// needs no day of grace, because no restore reads it.
func (c *Cluster) CutBackup(ctx context.Context, id, why string, now time.Time) (state.BackupState, error) {
	if err := CheckBackupID(id); err != nil {
		return "", err
	}
	last, sums, err := c.readMarks(ctx, id)
	if err != nil {
		return "", fmt.Errorf("cut backup %s: %w", id, err)
	}
	begun, err := c.exists(ctx, c.key.startFile(id)) // else its writer slept while it was removed
	if err != nil {
		return "", fmt.Errorf("cut backup %s: %w", id, err)
	}
	if len(sums) == 0 || !begun {
		return c.AbortBackup(ctx, id, why, now)
	}
	d, err := c.decide(ctx, decision{
		Format: cutFormat, ID: id, Decision: decidedCut, Why: why, Decided: now.UTC(), Ended: now.UTC(),
		StoredBytes: last.Stored, FileShards: last.FileShards, HashShards: last.HashShards, Marks: sums,
	})
	if err != nil {
		return "", fmt.Errorf("cut backup %s: %w", id, err)
	}
	return d.state(), nil
}

// RemoveCut removes of a cut backup what nothing reads, and gives the bytes freed. It puts TOMB, and then looks once more as Sweep does: one that an
// open START names stays whole, and of one that others read their volumes stay. What stays goes by a Sweep.
func (c *Cluster) RemoveCut(ctx context.Context, id string, now time.Time) (int64, error) {
	r, err := c.readBackup(ctx, id)
	if err != nil || !r.remains {
		return 0, err
	}
	if !r.cut() {
		is, _ := r.describe()
		return 0, &state.Error{Code: state.CodeStale, Text: fmt.Sprintf("backup %s is %s, and none that was cut", id, is.State), Hint: "pgkeep plan"}
	}
	if err := c.Tomb(ctx, id, now); err != nil {
		return 0, err
	}
	never := time.Time{} // nothing that ends by time ends here
	needs, err := c.lookForNeeds(ctx, map[string]bool{id: true}, never)
	if err != nil {
		return 0, fmt.Errorf("remove cut backup %s: %w", id, err)
	}
	if needs.held[id] || needs.named[id] {
		return 0, nil
	}
	return c.sweepOne(ctx, id, needs, never)
}
