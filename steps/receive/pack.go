package receive

import (
	"context"
	"errors"
	"os"
	"runtime"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// packing is a segment at the beginning of an archive's queue that is being packed, or is packed and waits for its turn.
// Compressing takes nearly all the time of archiving and needs no order; putting does: an archive that held a segment and
// not the one before it would be taken for one that ends behind a hole, should this machine be lost just then.
type packing struct {
	plain  *os.File // what was packed; open, so that it can be told from another file of its name
	packed Packed
	err    error
	done   chan struct{} // closed when the others are set
}

// packAhead is how many segments, of all archives, are packed before their turn. The first of each archive needs no place,
// so that several archives keep the CPUs busy without. Each segment may hold 24 MiB and an encoder: three in all, for one
// archive, are as many as a receiver's memory allows.
func packAhead(archives int) int { return max(0, max(2, min(runtime.GOMAXPROCS(0), 3))-archives) }

// putSegment archives the segment that is the archive's next job. One that is no longer in the spool was set aside
// meanwhile, because the line of history left before it; that an archive misses something is never taken for that.
func (u *uploader) putSegment(ctx context.Context, c Cluster, j job) (wal.LSN, error) {
	for {
		p := u.firstPacked(ctx, c)
		f, err := u.s.spool.OpenSegment(j.segment)
		if errors.Is(err, os.ErrNotExist) {
			err = u.s.spool.RefuseFork() // another archive may have it with other bytes: then nothing more is archived
			return 0, u.endPacking(err)
		}
		if err != nil {
			return 0, u.endPacking(err)
		}
		same := p.err != nil || isSame(f, p.plain)
		f.Close()
		if !same {
			u.dropPackings()
			continue
		}
		err = p.err
		if err == nil {
			err = p.packed.Put(ctx)
		}
		err = u.named("archive segment "+j.segment.Name(u.s.cluster.SegmentSize), err)
		if state.CodeOf(err) == state.CodeFork {
			err = errors.Join(err, u.s.spool.Fork(j.segment))
		}
		u.unindexed[j.segment.Timeline] = true
		return j.segment.End(u.s.cluster.SegmentSize), u.endPacking(err)
	}
}

func isSame(f, g *os.File) bool {
	a, err := f.Stat()
	b, err2 := g.Stat()
	return err == nil && err2 == nil && os.SameFile(a, b)
}

// firstPacked gives the queue's first segment once it is packed, and has those that follow it packed meanwhile.
func (u *uploader) firstPacked(ctx context.Context, c Cluster) *packing {
	for {
		u.pack(ctx, c)
		select {
		case <-u.packings[0].done:
			return u.packings[0]
		case <-u.wake: // there may be more to pack
		}
	}
}

// pack begins to pack the segments that the queue begins with. The first needs no leave of anybody, so that no archive
// waits for another.
func (u *uploader) pack(ctx context.Context, c Cluster) {
	for i, j := range u.s.queue.segments(u.index, 1+cap(u.s.ahead)) {
		if i < len(u.packings) {
			continue
		}
		if i > 0 {
			select {
			case u.s.ahead <- struct{}{}:
			default:
				return
			}
		}
		p := &packing{done: make(chan struct{})}
		u.packings = append(u.packings, p)
		go func() {
			defer close(p.done)
			if p.plain, p.err = u.s.spool.OpenSegment(j.segment); p.err == nil {
				p.packed, p.err = c.PackSegment(ctx, j.segment, j.sum, p.plain)
			}
		}()
	}
}

// endPacking lets the first segment go, whose job is done; after an error all, because they are packed for a repository
// that is then opened anew. It gives the error back.
func (u *uploader) endPacking(err error) error {
	if err != nil {
		u.dropPackings()
		return err
	}
	u.packings[0].close()
	u.packings = u.packings[1:]
	if len(u.packings) > 0 {
		<-u.s.ahead // the next has its turn
	}
	return nil
}

// dropPackings waits until nothing is being packed, and forgets what was.
func (u *uploader) dropPackings() {
	for i, p := range u.packings {
		<-p.done
		p.close()
		if i > 0 {
			<-u.s.ahead
		}
	}
	u.packings = nil
}

func (p *packing) close() {
	if p.packed != nil {
		p.packed.Close()
	}
	if p.plain != nil {
		p.plain.Close()
	}
}
