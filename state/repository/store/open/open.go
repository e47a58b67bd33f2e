// Package open is the list of drivers: it gives the store that a path or a URL names.
package open

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/azure"
	"github.com/pgkeep/pgkeep/state/repository/store/file"
	"github.com/pgkeep/pgkeep/state/repository/store/gcs"
	"github.com/pgkeep/pgkeep/state/repository/store/location"
	"github.com/pgkeep/pgkeep/state/repository/store/remote"
	"github.com/pgkeep/pgkeep/state/repository/store/s3"
	"github.com/pgkeep/pgkeep/state/repository/store/sftp"
)

// Store is a store that holds a directory or connections until it is closed. One that is never closed lets go of its
// connections when they were idle for a while.
type Store interface {
	store.Store
	io.Closer
}

// Stores opens the stores of one process. All that it opens at one URL share the URL's max_rate. The zero value can be used, by
// several goroutines; a nil one opens stores that share with no other.
type Stores struct{ limits remote.Limits }

// Open is Stores.Open for one store that shares its rate with no other.
func Open(place string) (Store, error) { return (*Stores)(nil).Open(place) }

// Open gives the store at a path or URL. Nothing is written, and a provider is not asked anything yet. Credentials come
// from where the provider's own programs take them, when the first question is asked.
func (s *Stores) Open(place string) (Store, error) {
	var p remote.Patience
	if s != nil {
		p.Limits = &s.limits
	}
	at, err := location.Parse(place)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	switch at.Scheme {
	case location.File:
		return closer(file.Open(at.Path, file.Options{}))
	case location.Azure:
		return closer(azure.Open(at, p))
	case location.GCS:
		return closer(gcs.Open(at, p))
	case location.SFTP:
		return sftp.Open(at, p), nil
	case location.S3:
		return closer(s3.Open(at, p))
	}
	return nil, fmt.Errorf("open store: no driver for %s", at.Scheme)
}

// Check tries whether a repository at a URL can be reached, read and written to, whether its store puts conditionally, and
// whether clocks agree; it leaves the object .pgkeep-probe. Of a path nothing is tried.
func Check(ctx context.Context, place string) error {
	st, err := Open(place)
	if err != nil {
		return err
	}
	defer st.Close()
	if s, ok := st.(*remote.Store); ok {
		return s.Check(ctx)
	}
	return nil
}

// CheckLock tries whether the store at a URL keeps an object that is to be retained; see remote.Store.CheckLock. Where no driver
// locks, store.ErrUnsupported.
func CheckLock(ctx context.Context, place string, compliance bool, now time.Time) error {
	st, err := Open(place)
	if err != nil {
		return err
	}
	defer st.Close()
	if s, ok := st.(*remote.Store); ok {
		return s.CheckLock(ctx, compliance, now)
	}
	return fmt.Errorf("try an object lock: %w", store.ErrUnsupported)
}

// closer keeps a nil pointer from becoming a store.
func closer[S Store](st S, err error) (Store, error) {
	if err != nil {
		return nil, err
	}
	return st, nil
}
