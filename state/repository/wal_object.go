package repository

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

// The kinds of sealed objects, as their notes say them.
const (
	kindSegment = "segment"
	kindPartial = "partial"
	kindHistory = "history"
	kindIndex   = "index"
)

// maxRestorePoints is how many restore points of a segment its note lists; a reader of Summaries finds the others in the WAL.
const maxRestorePoints = 1000

// walInfo is the Info of a WAL object's note: which stretch of whose WAL it is, and what stands in it.
type walInfo struct {
	SystemID    string          `json:"system_id"`
	Timeline    wal.Timeline    `json:"timeline"`
	Segment     string          `json:"segment"` // PostgreSQL's file name
	SegmentSize wal.SegmentSize `json:"segment_size"`
	Summary     wal.Summary     `json:"summary"`
	// MoreRestorePoints: the segment has more than the summary lists.
	MoreRestorePoints bool `json:"more_restore_points,omitempty"`
}

// walHead is what the first bytes of a WAL object tell.
type walHead struct {
	info  walInfo
	plain seal.Digest
}

func (c *Cluster) walInfo(seg wal.Segment, z wal.SegmentSize, sum wal.Summary) walInfo {
	i := walInfo{SystemID: c.key.SystemID, Timeline: seg.Timeline, Segment: seg.Name(z), SegmentSize: z, Summary: sum}
	if len(sum.RestorePoints) > maxRestorePoints {
		i.Summary.RestorePoints, i.MoreRestorePoints = sum.RestorePoints[:maxRestorePoints:maxRestorePoints], true
	}
	return i
}

// checkHead tells whether a note belongs to the object that has its name: objects that changed places are found here.
func (c *Cluster) checkHead(m seal.Meta, n walName, z wal.SegmentSize) (walHead, error) {
	h := walHead{plain: m.Plain}
	if err := json.Unmarshal(m.Info, &h.info); err != nil {
		return h, fmt.Errorf("its note cannot be read: %w", err)
	}
	kind, size := kindSegment, z.Bytes()
	if n.partial() {
		kind, size = kindPartial, n.Offset
	}
	i := h.info
	if m.Kind != kind || i.SystemID != c.key.SystemID || i.Timeline != n.Segment.Timeline || i.Segment != n.Segment.Name(z) ||
		i.SegmentSize != z || m.Plain.Size != size {
		return h, fmt.Errorf("it is a %s of segment %s of system %s with %d bytes", m.Kind, i.Segment, i.SystemID, m.Plain.Size)
	}
	return h, nil
}

// headStep is how much is read for a note at first; notes are seldom longer than a kilobyte.
const headStep = 16 << 10

// readMeta reads the note of a sealed object.
func (c *Cluster) readMeta(ctx context.Context, key string) (seal.Meta, error) {
	if c.repo.box != nil && classOf(key) == seal.ClassData {
		n, err := c.repo.box.note(ctx, key)
		return metaIn(n, key, err)
	}
	for want := int64(headStep); ; want *= 8 {
		head, err := c.readHead(ctx, key, want)
		if err != nil {
			return seal.Meta{}, err
		}
		m, enough, err := seal.ReadMeta(head)
		if err != nil {
			return seal.Meta{}, corrupt(key, err)
		}
		if enough {
			return m, nil
		}
		if int64(len(head)) < want {
			return seal.Meta{}, corrupt(key, errors.New("it ends inside its note"))
		}
	}
}

// metaIn reads what the note of an encrypted object repeats of the one inside.
func metaIn(n seal.Note, key string, err error) (m seal.Meta, _ error) {
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(n.Rest, &m); err != nil {
		return m, corrupt(key, err)
	}
	return m, nil
}

func (c *Cluster) readHead(ctx context.Context, key string, n int64) ([]byte, error) {
	r, err := c.repo.st.Get(ctx, key, 0, n)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, code(err))
	}
	return b, nil
}

// head gives what a WAL object's note tells, remembered once it was read.
func (c *Cluster) head(ctx context.Context, n walName, z wal.SegmentSize) (walHead, error) {
	key := c.key.walFile(n, z)
	if h, ok := c.repo.shared.heads.get(key); ok {
		return h, nil
	}
	m, err := c.readMeta(ctx, key)
	if err != nil {
		return walHead{}, err
	}
	h, err := c.checkHead(m, n, z)
	if err != nil {
		return walHead{}, corrupt(key, err)
	}
	c.repo.shared.heads.put(key, h)
	return h, nil
}

// sealing says as what some bytes are put.
type sealing struct {
	key, kind string
	what      string                // in messages
	info      any                   // of the note
	check     func(seal.Meta) error // whether the note of what is there already belongs under this key
}

// putSealed packs and puts an object.
func (c *Cluster) putSealed(ctx context.Context, s sealing, plain io.ReaderAt, size int64) error {
	p, err := c.packSealed(s, plain, size)
	if err != nil {
		return err
	}
	defer p.o.Close()
	return p.put(ctx)
}

// packedObject is what one sealing came to, until it is put.
type packedObject struct {
	c *Cluster
	s sealing
	o *seal.Packed
}

// packSealed packs an object. The caller closes its o.
func (c *Cluster) packSealed(s sealing, plain io.ReaderAt, size int64) (*packedObject, error) {
	o, err := c.repo.packer.Pack(s.kind, s.info, plain, size)
	if err != nil {
		return nil, fmt.Errorf("archive %s: %w", s.what, code(err))
	}
	return &packedObject{c: c, s: s, o: o}, nil
}

// there gives the note of what is there already. What cannot be decrypted here is read whole all the same: a header alone may stand
// before anything.
func (p *packedObject) there(ctx context.Context) (seal.Meta, error) {
	if box := p.c.repo.box; box != nil && classOf(p.s.key) == seal.ClassData {
		n, err := box.prove(ctx, p.s.key)
		return metaIn(n, p.s.key, err)
	}
	return p.c.readMeta(ctx, p.s.key)
}

// put puts a packed object. When the name is taken, the plain bytes decide: the same are success, however they were
// compressed; others are CodeFork, and nothing is overwritten.
func (p *packedObject) put(ctx context.Context) error {
	err := p.c.repo.st.PutIfAbsent(ctx, p.s.key, p.o, p.o.Size(), store.PutOptions{})
	if err == nil {
		return nil
	}
	if !errors.Is(err, store.ErrExists) {
		return fmt.Errorf("archive %s: %w", p.s.what, err)
	}
	there, err := p.there(ctx)
	if err != nil {
		return fmt.Errorf("archive %s: compare with what is there: %w", p.s.what, err)
	}
	if err := p.s.check(there); err != nil {
		return corrupt(p.s.key, err)
	}
	if there.Plain != p.o.Meta.Plain {
		return forked(p.s.what, there.Plain.SHA256, p.o.Meta.Plain.SHA256)
	}
	return nil
}
