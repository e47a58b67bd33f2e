package store

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"
)

// The errors that every driver returns, wrapped with the key, for callers to branch on with errors.Is.
var (
	// ErrExists means that an object of that key is there already; nothing was written.
	ErrExists = errors.New("object exists")
	// ErrNotExist means that no object of that key is there, as answered by the store, never guessed from a failure.
	ErrNotExist = errors.New("object does not exist")
	// ErrRetained means that an object lock or a missing permission keeps the object from being deleted.
	ErrRetained = errors.New("object is retained")
	// ErrUnsupported means that the store cannot do this at all.
	ErrUnsupported = errors.New("not supported by this store")
)

// Info is what a store knows of an object without reading it.
type Info struct {
	Key      string
	Size     int64     // bytes
	Modified time.Time // by the store's clock; zero when it does not say
	Prefix   bool      // a common prefix of a delimited List: Key ends in "/", Size and Modified are zero
}

// PutOptions go with one PutIfAbsent. The zero value is a plain put.
type PutOptions struct {
	Retain Retention // object lock; the zero value: none
	// Reserve says that the object is small and lets room be made: where the store keeps room back for that, a put that
	// finds none takes it.
	Reserve bool
}

// Retention keeps an object from being deleted or changed, by anybody, until a moment. The zero value is none.
type Retention struct {
	Until time.Time
	// Compliance says that nobody can lift it, the owner of the account included. Otherwise (governance) who holds a special
	// permission can.
	Compliance bool
}

// IsZero tells whether nothing is asked.
func (r Retention) IsZero() bool { return r.Until.IsZero() }

// Capabilities are what a driver found the store able to do.
type Capabilities struct {
	ConditionalPut bool   // two writers of one key: exactly one succeeds
	ObjectLock     bool   // objects can be retained, if their bucket lets them
	LocalPath      string // the directory, for a local file system; empty otherwise
}

// Store keeps immutable objects under slash-separated keys. All methods may be called by many goroutines at once. Keys
// are relative, clean and free of "..": a driver refuses others before it touches the store.
type Store interface {
	// PutIfAbsent writes the object if its key is free, in one atomic and durable act: when it returns nil the object
	// survives a power cut, and no reader ever sees a part of it. ErrExists otherwise.
	PutIfAbsent(ctx context.Context, key string, body io.ReaderAt, size int64, o PutOptions) error
	// Get reads n bytes from off; n < 0 reads to the end. ErrNotExist. The caller closes the reader.
	Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error)
	// Stat gives size and time. ErrNotExist.
	Stat(ctx context.Context, key string) (Info, error)
	// List gives the objects whose key begins with prefix and sorts after after (empty: all), in byte order of the key.
	// delimited folds what follows the next "/" after the prefix into one Info with Prefix set. It ends at the first error.
	List(ctx context.Context, prefix, after string, delimited bool) iter.Seq2[Info, error]
	// Delete removes the objects; one that is missing is no error. ErrRetained when at least one may not be removed.
	Delete(ctx context.Context, keys ...string) error
	// Extend moves an object's retention to at least r, and never back. ErrNotExist, ErrUnsupported.
	Extend(ctx context.Context, key string, r Retention) error
	// Retained gives an object's retention; the zero value: none, or one that has ended. ErrNotExist, ErrUnsupported.
	Retained(ctx context.Context, key string) (Retention, error)
	// Capabilities tells what the store can do, as found when it was opened.
	Capabilities() Capabilities
}
