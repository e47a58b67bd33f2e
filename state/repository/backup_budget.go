package repository

import (
	"context"

	"golang.org/x/sync/semaphore"
)

// Budget bounds the bytes that all readers and writers of one process hold at a time. It is passed to each of them.
type Budget struct {
	sem   *semaphore.Weighted
	total int64
}

// DefaultBudget is what a reader makes for itself when it was given none.
const DefaultBudget = 96 << 20

// NewBudget makes a budget of n bytes.
func NewBudget(n int64) *Budget { return &Budget{sem: semaphore.NewWeighted(n), total: n} }

// Acquire waits until n bytes are free. More than there is counts as all there is, so that nothing waits for ever.
func (b *Budget) Acquire(ctx context.Context, n int64) (release func(), err error) {
	n = min(n, b.total)
	if err := b.sem.Acquire(ctx, n); err != nil {
		return nil, err
	}
	return func() { b.sem.Release(n) }, nil
}
