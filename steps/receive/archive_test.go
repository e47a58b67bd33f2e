package receive

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

// memoryArchive is a repository whose faults a test chooses.
type memoryArchive struct {
	z wal.SegmentSize

	mu        sync.Mutex
	whole     map[wal.Segment][]byte
	sums      map[wal.Segment]wal.Summary
	partial   map[wal.Segment][]byte
	histories map[wal.Timeline][]byte
	gaps      []state.Gap
	order     []string // what was put, in order
	fail      error    // every call gives it
	hang      chan struct{}
	ids       []string
	during    func()            // called while a segment is put
	packing   func(wal.Segment) // called while a segment is packed
	tries     atomic.Int32
	packed    atomic.Int32 // segments, each time
	open      atomic.Int32 // packed and not closed
}

func newMemoryArchive(z wal.SegmentSize) *memoryArchive {
	return &memoryArchive{
		z: z, whole: map[wal.Segment][]byte{}, sums: map[wal.Segment]wal.Summary{},
		partial: map[wal.Segment][]byte{}, histories: map[wal.Timeline][]byte{},
	}
}

func (m *memoryArchive) archive(name string) Archive {
	return Archive{
		Name:      name,
		Open:      func(ctx context.Context, _ ClusterIdentity) (Cluster, error) { return m, m.gate(ctx) },
		SystemIDs: func(ctx context.Context) ([]string, error) { return m.ids, m.gate(ctx) },
	}
}

// gate lets a call through, or fails it, or holds it.
func (m *memoryArchive) gate(ctx context.Context) error {
	m.tries.Add(1)
	m.mu.Lock()
	hang, fail := m.hang, m.fail
	m.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return fail
}

// breakWith makes every call fail; nil mends it.
func (m *memoryArchive) breakWith(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

// stall makes every call wait until the func that comes back is called.
func (m *memoryArchive) stall() (release func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	hang := make(chan struct{})
	m.hang = hang
	return sync.OnceFunc(func() {
		m.mu.Lock()
		m.hang = nil
		m.mu.Unlock()
		close(hang)
	})
}

func read(r io.ReaderAt, n int64) []byte {
	b := make([]byte, n)
	if _, err := r.ReadAt(b, 0); err != nil && err != io.EOF {
		panic(err)
	}
	return b
}

// memoryPacked is a segment that was read and waits to be put.
type memoryPacked struct {
	m       *memoryArchive
	segment wal.Segment
	sum     wal.Summary
	content []byte
}

func (m *memoryArchive) PackSegment(_ context.Context, seg wal.Segment, sum wal.Summary, plain io.ReaderAt) (Packed, error) {
	m.packed.Add(1)
	if m.packing != nil {
		m.packing(seg)
	}
	m.open.Add(1)
	return &memoryPacked{m: m, segment: seg, sum: sum, content: read(plain, m.z.Bytes())}, nil
}

// Put is where the faults strike.
func (p *memoryPacked) Put(ctx context.Context) error {
	m, seg := p.m, p.segment
	if err := m.gate(ctx); err != nil {
		return err
	}
	if m.during != nil {
		m.during()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if have, ok := m.whole[seg]; ok && !bytes.Equal(have, p.content) {
		return &state.Error{Code: state.CodeFork, Text: "segment " + seg.Name(m.z) + " has other bytes"}
	}
	m.whole[seg], m.sums[seg] = p.content, p.sum
	m.order = append(m.order, seg.Name(m.z))
	return nil
}

// Close counts that it was let go.
func (p *memoryPacked) Close() error {
	p.m.open.Add(-1)
	return nil
}

func (m *memoryArchive) PutPartial(ctx context.Context, seg wal.Segment, upTo wal.LSN, plain io.ReaderAt) error {
	if err := m.gate(ctx); err != nil {
		return err
	}
	content := read(plain, int64(upTo-seg.Start(m.z)))
	m.mu.Lock()
	defer m.mu.Unlock()
	have := m.partial[seg]
	if n := min(len(have), len(content)); !bytes.Equal(have[:n], content[:n]) {
		return &state.Error{Code: state.CodeFork, Text: "partial " + seg.Name(m.z) + " has other bytes"}
	}
	if len(content) > len(have) {
		m.partial[seg] = content
	}
	m.order = append(m.order, seg.Name(m.z)+".partial")
	return nil
}

func (m *memoryArchive) OpenSegment(ctx context.Context, seg wal.Segment) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if b, ok := m.whole[seg]; ok {
		return io.NopCloser(bytes.NewReader(b)), nil
	}
	return nil, fmt.Errorf("open segment: %w", store.ErrNotExist)
}

func (m *memoryArchive) OpenPartial(ctx context.Context, seg wal.Segment) (io.ReadCloser, wal.LSN, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if b, ok := m.partial[seg]; ok {
		return io.NopCloser(bytes.NewReader(b)), seg.Start(m.z) + wal.LSN(len(b)), nil
	}
	return nil, 0, fmt.Errorf("open partial: %w", store.ErrNotExist)
}

func (m *memoryArchive) PutHistory(ctx context.Context, t wal.Timeline, content []byte) error {
	if err := m.gate(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if have, ok := m.histories[t]; ok && !bytes.Equal(have, content) {
		return &state.Error{Code: state.CodeFork, Text: t.HistoryName() + " has other bytes"}
	}
	m.histories[t] = content
	m.order = append(m.order, t.HistoryName())
	return nil
}

func (m *memoryArchive) RecordGap(ctx context.Context, g state.Gap) error {
	if err := m.gate(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gaps = append(m.gaps, g)
	return nil
}

func (m *memoryArchive) WALRanges(ctx context.Context) ([]state.WALRange, error) {
	if err := m.gate(ctx); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var rs []wal.Range
	for seg := range m.whole {
		rs = append(rs, wal.Range{Timeline: seg.Timeline, From: seg.Start(m.z), To: seg.End(m.z)})
	}
	var out []state.WALRange
	for _, r := range wal.Merge(rs) {
		w := state.WALRange{Range: r}
		if b, ok := m.partial[m.z.SegmentAt(r.Timeline, r.To)]; ok {
			w.Partial = r.To + wal.LSN(len(b))
		}
		out = append(out, w)
	}
	return out, nil
}

func (m *memoryArchive) WriteIndex(ctx context.Context, t wal.Timeline) error { return m.gate(ctx) }

// end gives how far the newest timeline reaches, with what was pushed of its unfinished segment.
func (m *memoryArchive) end() wal.Range {
	m.mu.Lock()
	defer m.mu.Unlock()
	var best wal.Range
	take := func(seg wal.Segment, n int) {
		r := wal.Range{Timeline: seg.Timeline, From: seg.Start(m.z), To: seg.Start(m.z) + wal.LSN(n)}
		if r.Timeline > best.Timeline || r.Timeline == best.Timeline && r.To > best.To {
			best = r
		}
	}
	for seg, b := range m.whole {
		take(seg, len(b))
	}
	for seg, b := range m.partial {
		take(seg, len(b))
	}
	return best
}
