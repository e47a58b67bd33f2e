package remote

import (
	"context"
	"io"
	"iter"
	"time"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// Backend asks a provider, once for each call. Keys are checked already. Errors wrap store.ErrExists, store.ErrNotExist,
// store.ErrRetained and *store.Trouble where the provider's answer means that; every other error is looked at by
// Transient. All methods may be called by many goroutines at once.
type Backend interface {
	// Put writes the object if its key is free. The provider, not the driver, decides which of two wins.
	Put(ctx context.Context, up Upload) error
	// Get reads n bytes from off, n < 0: to the end. Nothing behind the end is an empty reader.
	Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error)
	// Stat gives what is known of an object, with the token of its upload when the provider keeps one.
	Stat(ctx context.Context, key string) (Object, error)
	// List gives what store.Store's List gives, and may add names that no key has, and keys up to after: they are left out.
	List(ctx context.Context, q Query) iter.Seq2[store.Info, error]
	// Delete removes objects; missing ones are no error.
	Delete(ctx context.Context, keys []string) error
	// Transient tells whether the same call may work a moment later. Broken connections need not be known to it.
	Transient(err error) bool
	// Place names the repository for messages, without credentials.
	Place() string
	// Close lets go of connections; a later call may open new ones.
	Close() error
}

// Retainer is a Backend whose provider can lock objects. One that is none is never given a retention.
type Retainer interface {
	Backend
	// Retain moves the lock of an object to at least r, and never back.
	Retain(ctx context.Context, key string, r store.Retention) error
	// Retained gives the lock of an object; zero: none.
	Retained(ctx context.Context, key string) (store.Retention, error)
}

// Upload is one try of a put.
type Upload struct {
	Key   string
	Body  *io.SectionReader // at its beginning; its size is the object's
	Token string            // drawn for this put; kept with the object where the provider can
	// Retain is the lock of the object, from the first moment on; zero: none.
	Retain store.Retention
}

// Object is what a provider knows of an object.
type Object struct {
	store.Info
	Token string // of the Upload; empty: not known
}

// Query is what List is asked.
type Query struct {
	Prefix, After string
	Delimited     bool
}

// Patience is how long a Store tries, and with whom it shares its rate. The zero value is the normal case.
type Patience struct {
	First   time.Duration // pause after the first failure, doubled each time and jittered by half; zero: 200 ms
	Longest time.Duration // pause; zero: 10 s
	Total   time.Duration // of one call's pauses and tries, after which its last error stands; zero: 90 s
	Limits  *Limits       // of this process, shared by all its stores of one place; nil: this store has a limit of its own
}

func (p Patience) normal() Patience {
	if p.First == 0 {
		p.First = 200 * time.Millisecond
	}
	if p.Longest == 0 {
		p.Longest = 10 * time.Second
	}
	if p.Total == 0 {
		p.Total = 90 * time.Second
	}
	return p
}
