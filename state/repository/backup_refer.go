package repository

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

// reference is a stretch of a file that lies in another backup's volume.
type reference struct {
	offset int64
	length int
	at     frameAt
	in     int // offset in the raw frame
}

// refer notes that n bytes at off lie in a frame of another backup. It gives how many references came to be: one that goes
// on where the last one ended makes that longer.
func (f *openFile) refer(off int64, n int, at frameAt, in int) int {
	if k := len(f.refs); k > 0 {
		last := &f.refs[k-1]
		if last.at == at && last.offset+int64(last.length) == off && last.in+last.length == in {
			last.length += n
			return 0
		}
	}
	f.refs = append(f.refs, reference{offset: off, length: n, at: at, in: in})
	return 1
}

// referring is what an incremental backup reads of others. It belongs to the assembler, and to the stream's caller once the
// data has ended.
type referring struct {
	parent  *Parent             // nil: the backup is continued
	cut     []*Parent           // with which a continued backup goes on
	began   chain               // of a continued backup
	volumes map[volumeKey]int64 // that are read; their lengths once writeReferences has run
	sums    sumWriter
	bytes   int64   // of files, that were not stored again
	live    float64 // of volumes, as stored, that is read
	stored  int64   // of these volumes
}

func newReferring(p *Parent, cut []*Parent, w *BackupWriter) *referring {
	return &referring{
		parent: p, cut: cut, volumes: map[volumeKey]int64{}, sums: sumWriter{dir: refsDir},
		began: chain{Depth: 1, Full: w.ID(), Began: w.start.Began},
	}
}

// seed gives the seed of the hashes: that of what they are compared with, else own.
func (r *referring) seed(own uint64) uint64 {
	switch {
	case r.parent != nil:
		return r.parent.seed
	case len(r.cut) > 0:
		return r.cut[0].seed
	}
	return own
}

// file finds what the parent, or the cut backups one after another, have under a name; nil: nothing.
func (r *referring) file(ctx context.Context, folder uint32, path string) (*parentFile, error) {
	if r.parent != nil {
		return r.parent.file(ctx, folder, path)
	}
	var first *parentFile
	end := &first
	for _, p := range r.cut {
		found, err := p.file(ctx, folder, path)
		if err != nil {
			return nil, err
		}
		if found != nil && p.seed == r.cut[0].seed {
			*end, end = found, &found.next
		}
	}
	return first, nil
}

// volumesOf gives every volume that may be read, with its line.
func (r *referring) volumesOf(ctx context.Context, visit func(volumeKey, sumLine) error) error {
	if r.parent != nil {
		return r.parent.b.c.volumesOf(ctx, r.parent.b.rec, visit)
	}
	for _, p := range r.cut {
		for _, k := range slices.SortedFunc(maps.Keys(p.own), volumeKey.compare) {
			if err := visit(k, p.own[k]); err != nil {
				return err
			}
		}
	}
	return nil
}

// complete lays a file's references between its own extents, in the order of the file. That they cover it without holes is
// looked at again: no reader takes a list of which they do not.
func (r *referring) complete(f *openFile) error {
	f.parent = nil
	r.merge(f)
	var at int64
	for _, x := range f.Extents {
		if x.Offset != at {
			break
		}
		at += int64(x.Length)
	}
	if at != f.Size {
		return fmt.Errorf("%q is covered up to byte %d of %d", f.Path, at, f.Size)
	}
	return nil
}

func (r *referring) merge(f *openFile) {
	if len(f.refs) == 0 {
		return
	}
	own, index := f.Extents, map[frameAt]int{}
	merged := make([]Extent, 0, len(own)+len(f.refs))
	for _, x := range f.refs {
		for len(own) > 0 && own[0].Offset < x.offset {
			merged, own = append(merged, own[0]), own[1:]
		}
		frame, seen := index[x.at]
		if !seen {
			frame = len(f.frames)
			index[x.at] = frame
			f.frames = append(f.frames, x.at)
			r.volumes[x.at.key()] = 0
		}
		merged = append(merged, Extent{Offset: x.offset, Length: x.length, frame: frame, in: x.in})
		r.bytes += int64(x.length)
		r.live += float64(x.length) * float64(x.at.stored) / float64(x.at.raw)
	}
	f.Extents, f.refs = append(merged, own...), nil
}

// writeReferences lists the volumes that are read, with the sums that the parent has of them.
func (s *BackupStream) writeReferences() error {
	r := s.refer
	if r == nil {
		return nil
	}
	found := 0
	err := r.volumesOf(s.ctx, func(k volumeKey, l sumLine) error {
		if _, read := r.volumes[k]; !read {
			return nil
		}
		found++
		r.volumes[k] = l.size
		r.stored += l.size
		l.name = referenceName(k.backup, volumeName(k.folder, k.volume))
		return r.sums.add(l, s.putSum)
	})
	if err != nil {
		return fmt.Errorf("list references: %w", err)
	}
	if found != len(r.volumes) {
		err := fmt.Errorf("%d of %d volumes that the backup's files lie in are listed", found, len(r.volumes))
		if r.parent != nil {
			err = corrupt(r.parent.b.key(sumsDir), err)
		}
		return err
	}
	return r.sums.flush(s.putSum)
}

// others gives the backups whose volumes are read.
func (r *referring) others() []string {
	ids := map[string]bool{}
	for k := range r.volumes {
		ids[k.backup] = true
	}
	return slices.Sorted(maps.Keys(ids))
}

func (r *referring) chain() *chain {
	c := r.began
	if r.parent != nil {
		c = r.parent.chain()
	}
	c.Referred, c.Live = r.stored, min(int64(r.live), r.stored)
	return &c
}

// check makes sure, just before the decision, that all that is referred to is still there. START has kept every expirer from
// it since before the parent was believed; this is against disks and people.
func (r *referring) check(ctx context.Context, c *Cluster) error {
	var err error
	if r.parent != nil {
		var why string
		why, err = c.knownDamage(ctx, r.parent.ID()) // by a verification that went on meanwhile
		if err == nil && why != "" {
			err = parentGone(r.parent.ID(), "was found damaged: "+why)
		}
	}
	if err == nil {
		err = c.checkVolumes(ctx, r.volumes)
	}
	if err != nil {
		return fmt.Errorf("look at what the backup refers to: %w", err)
	}
	return nil
}

// Referred gives how many bytes of files were not stored again, because another backup has them. It is known once EndData
// has returned.
func (s *BackupStream) Referred() int64 {
	if s.refer == nil {
		return 0
	}
	return s.refer.bytes
}
