package repository

import (
	"context"
	"sync"

	"github.com/zeebo/xxh3"
)

// depth says how closely one run looks, and remembers what it has read already. It is safe for many goroutines.
type depth struct {
	full   bool
	sample uint64          // percent of volumes and segments that are read; 0: all
	seed   uint64          // chooses the sample
	step   int             // how many volumes or segments are read between two notes of how far it is; 0: verifyStep
	lines  int64           // how many lines of sums are held at a time; 0: tableLines
	doubt  map[string]bool // keys of objects that were damaged: they are read at every level

	mu     sync.Mutex
	proven map[uint64][16]byte // of volumes that were read whole: the beginning of their SHA-256, by hash of the key
}

// maxProven bounds what a run remembers of volumes, so that one that several backups read is read once: for eight
// terabytes as stored. What is beyond is read for each of them.
const maxProven = 1 << 20

// stride gives how much is read between two notes of how far it is.
func (d *depth) stride() int {
	if d.step > 0 {
		return d.step
	}
	return verifyStep
}

// reads tells whether every byte of an object is read.
func (d *depth) reads(key string) bool {
	if d.doubt[key] {
		return true
	}
	return d.full && (d.sample == 0 || xxh3.HashStringSeed(key, d.seed)%100 < d.sample)
}

// remember keeps the SHA-256 of a volume that was read.
func (d *depth) remember(key string, sum [32]byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.proven == nil {
		d.proven = map[uint64][16]byte{}
	}
	if len(d.proven) < maxProven {
		d.proven[xxh3.HashString(key)] = [16]byte(sum[:16])
	}
}

// known tells whether a volume was read in this run and had this SHA-256.
func (d *depth) known(key string, sum [32]byte) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	got, ok := d.proven[xxh3.HashString(key)]
	return ok && got == [16]byte(sum[:16])
}

// resume is where the look at a backup's data goes on, and who is told how far it is.
type resume struct {
	shard, volume int
	reached       func(ctx context.Context, shard, volume int) error // nil: nobody
}

// passed tells whether an earlier run read this already.
func (r resume) passed(shard, volume int) bool {
	return shard < r.shard || shard == r.shard && volume < r.volume
}

func (r resume) tell(ctx context.Context, shard, volume int) error {
	if r.reached == nil {
		return nil
	}
	return r.reached(ctx, shard, volume)
}
