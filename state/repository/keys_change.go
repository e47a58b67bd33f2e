package repository

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store"
)

// AddReaders wraps every key for every reader of the configuration who cannot open it yet, and tells what was put, as "data age1…". Nothing that
// is encrypted is touched. The error has CodeNoKey where a half that is to be wrapped cannot be opened here.
func (r *Repository) AddReaders(ctx context.Context) (added []string, err error) {
	found, err := r.validKeys(ctx)
	if err != nil {
		return nil, err
	}
	for _, f := range found {
		for _, class := range []seal.Class{seal.ClassMeta, seal.ClassData} {
			var lacking []seal.Recipient
			for _, to := range readersOf(r.ring, class) {
				if _, there := f.wrapped[class.String()+"-"+to.Fingerprint()]; !there {
					lacking = append(lacking, to)
				}
			}
			if len(lacking) == 0 {
				continue
			}
			secret, err := f.unwrap(ctx, r.times, class, r.ring)
			if err != nil {
				return added, err
			}
			if secret == nil {
				return added, noKey(fmt.Sprintf("the %s half of repository key %s cannot be opened here, so it cannot be wrapped for another reader", class, f.id), seal.ErrNoKey)
			}
			if err := (half{f.id, class, secret}).wrap(ctx, r.keyStore(), lacking); err != nil {
				return added, err
			}
			for _, to := range lacking {
				added = append(added, class.String()+" "+to.Name())
			}
		}
	}
	slices.Sort(added)
	return slices.Compact(added), nil
}

// RemoveReader takes away every wrapped key of a reader, named as the configuration named it or by its fingerprint, and tells how many there were. He can still read what he
// has unwrapped and kept, and what will be sealed with the same key: Rotate ends that for what comes. A reader whom the configuration names is refused with CodeStale, and so
// is one as long as no identity here opens, as another reader, each half that he could.
func (r *Repository) RemoveReader(ctx context.Context, name string) (int, error) {
	reader := seal.Fingerprint(name)
	if keyIDPattern.MatchString(name) { // the configuration no longer says who it was
		reader = name
	}
	for _, to := range readersOf(r.ring, seal.ClassMeta) {
		if to.Fingerprint() == reader {
			return 0, stillReads(name, "the configuration names it", "take it out of the encryption block first")
		}
	}
	found, err := r.validKeys(ctx)
	if err != nil {
		return 0, err
	}
	var doomed []string
	for _, f := range found {
		for _, class := range []seal.Class{seal.ClassMeta, seal.ClassData} {
			key := wrappedFile(f.id, class, reader)
			if _, err := r.times.Stat(ctx, key); errors.Is(err, store.ErrNotExist) {
				continue
			} else if err != nil {
				return 0, fmt.Errorf("look at wrapped keys: %w", err)
			}
			other, err := f.unwrapBut(ctx, r.times, class, r.ring, reader)
			if err != nil {
				return 0, fmt.Errorf("look at wrapped keys: %w", err)
			}
			if other == nil { // that something lies there for others shows nothing: anybody who can write the store may have put it there
				return 0, stillReads(name, fmt.Sprintf("no identity here opens the %s half of repository key %s as another reader, so nothing shows that anybody else can", class, f.id),
					"run it where the identity of a reader is who stays; pgkeep key add makes one")
			}
			doomed = append(doomed, key)
		}
	}
	if len(doomed) == 0 {
		return 0, nil
	}
	if err := r.times.Delete(ctx, doomed...); err != nil {
		return 0, fmt.Errorf("remove the keys of a reader: %w", err)
	}
	return len(doomed), nil
}

func stillReads(name, why, hint string) error {
	return &state.Error{Code: state.CodeStale, Text: fmt.Sprintf("%s stays a reader: %s", name, why), Hint: hint}
}

// Unopened gives the readers whose identity is here and does not open what is wrapped for them, as "data passphrase": the passphrase is another one
// than when it was wrapped, or somebody who can write the store has put something else there. Nothing but their own identity can tell.
func (r *Repository) Unopened(ctx context.Context) ([]string, error) {
	found, err := r.validKeys(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, f := range found {
		for _, class := range []seal.Class{seal.ClassMeta, seal.ClassData} {
			for _, name := range r.ring.Here() {
				if _, there := f.wrapped[class.String()+"-"+seal.Fingerprint(name)]; !there {
					continue
				}
				id, err := f.opened(ctx, r.times, class, r.ring, seal.Fingerprint(name))
				if err != nil {
					return nil, fmt.Errorf("look at wrapped keys: %w", err)
				}
				if id == nil {
					out = append(out, class.String()+" "+name)
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// Rotate makes a new key for the readers of the configuration, with which everything is sealed from then on by whoever opens the repository after. What is
// there stays as it is, and readable by those for whom its key is wrapped.
func (r *Repository) Rotate(ctx context.Context, now time.Time) (KeyFact, error) {
	found, err := r.validKeys(ctx)
	if err != nil {
		return KeyFact{}, err
	}
	var id [8]byte
	if _, err := io.ReadFull(rand.Reader, id[:]); err != nil {
		return KeyFact{}, fmt.Errorf("draw an id: %w", err)
	}
	k := keyRecord{
		ID: hex.EncodeToString(id[:]), Repository: r.file.ID, File: r.fileSum, Number: found[len(found)-1].record.Number + 1,
		Created: now.UTC().Truncate(time.Second),
	}
	if err := newKey(ctx, r.keyStore(), k, r.ring); err != nil {
		return KeyFact{}, fmt.Errorf("rotate: %w", err)
	}
	if err := r.box.reload(ctx); err != nil {
		return KeyFact{}, err
	}
	return KeyFact{ID: k.ID, Number: k.Number, Created: k.Created}, nil
}

// keyStore is where keys are put: locked where the repository locks what lasts.
func (r *Repository) keyStore() store.Store { return r.st }

// validKeys gives the keys that count, by number; there is one at least.
func (r *Repository) validKeys(ctx context.Context) ([]foundKey, error) {
	if r.box == nil {
		return nil, &state.Error{Code: state.CodeStale, Text: "the repository is not encrypted: it has no keys", Hint: "a repository is encrypted from its creation on or never"}
	}
	found, _, err := findKeys(ctx, r.times, r.file.ID, r.fileSum, r.ring)
	if err != nil {
		return nil, err
	}
	found = slices.DeleteFunc(found, func(f foundKey) bool { return f.bad != nil })
	if len(found) == 0 {
		return nil, corrupt(keysDir, errors.New("no key is signed by a trusted writer"))
	}
	return found, nil
}

// Missing gives the readers of the configuration for whom not every key is wrapped, as "data age1…".
func (r *Repository) Missing() []string {
	if e := r.encryption(); e != nil {
		return e.Missing
	}
	return nil
}
