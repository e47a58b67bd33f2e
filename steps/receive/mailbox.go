package receive

import (
	"context"
	"sync"
)

// mailbox hands values from one goroutine to another without ever making the sender wait: the stream must not stop
// because a check is slow. What bounds it is the spool, which holds a file for nearly every value.
type mailbox[T any] struct {
	mu     sync.Mutex
	values []T
	closed bool
	filled chan struct{} // holds a token while there may be something new
}

func newMailbox[T any]() *mailbox[T] { return &mailbox[T]{filled: make(chan struct{}, 1)} }

func (m *mailbox[T]) put(v T) {
	m.mu.Lock()
	m.values = append(m.values, v)
	m.mu.Unlock()
	m.signal()
}

// close lets take end once everything was taken.
func (m *mailbox[T]) close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.signal()
}

func (m *mailbox[T]) signal() {
	select {
	case m.filled <- struct{}{}:
	default:
	}
}

// take waits for a value. ok is false when the mailbox is closed and empty, or ctx ended.
func (m *mailbox[T]) take(ctx context.Context) (v T, ok bool) {
	for {
		m.mu.Lock()
		if len(m.values) > 0 {
			v = m.values[0]
			var zero T
			m.values[0] = zero
			m.values = m.values[1:]
			m.mu.Unlock()
			return v, ctx.Err() == nil
		}
		closed := m.closed
		m.mu.Unlock()
		if closed {
			return v, false
		}
		select {
		case <-ctx.Done():
			return v, false
		case <-m.filled:
		}
	}
}
