package repository

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store"
)

// Whoever can write the store can fill keys/, and must not close the repository to its owner with it. All of it is listed, and little
// of that is held: records are read oldest first, because what is planted comes after what it is to hide, and only those that a trusted writer has signed count; of what
// is wrapped with one that counts, that for the readers who are known here is held before all others.
const (
	crowdedKeys    = 2000 // so many records are read
	crowdedWrapped = 4000 // so many wrapped halves are held while it is not known which keys count
	maxStrangers   = 200  // so many halves that are wrapped for others than the readers known here are held of a key that counts
)

// foundKey is one key that lies in a repository.
type foundKey struct {
	id      string
	record  keyRecord
	bad     error             // why the record does not count
	wrapped map[string]string // by "meta-…" or "data-…": its object
}

// listedKeys are what lies below keys/.
type listedKeys struct {
	objects int
	records []listedRecord               // the oldest
	wrapped map[string]map[string]string // by key; nil: there are too many to hold them all
	held    int
}

type listedRecord struct {
	id string
	at time.Time
}

// findKeys lists and reads keys/. What is not named like ours is left alone. strays are objects there that belong to no key that counts.
func findKeys(ctx context.Context, st store.Store, repository, file string, ring *seal.Keyring) (found []foundKey, strays int, err error) {
	l := listedKeys{wrapped: map[string]map[string]string{}}
	for info, err := range st.List(ctx, keysDir, "", false) {
		if err != nil {
			return nil, 0, fmt.Errorf("list keys: %w", err)
		}
		l.add(info)
	}
	l.trim()
	strays = l.objects
	for _, r := range l.records {
		f := foundKey{id: r.id, wrapped: l.wrapped[r.id]}
		if f.record, f.bad, err = readKey(ctx, st, r.id); err != nil {
			return nil, 0, err
		}
		if f.bad == nil {
			f.bad = f.record.check(r.id, repository, file, ring)
		}
		if f.bad == nil {
			if f.wrapped, err = wrappedOf(ctx, st, f, l.wrapped == nil, ring); err != nil {
				return nil, 0, err
			}
			strays -= 1 + len(f.wrapped)
		}
		found = append(found, f)
	}
	slices.SortFunc(found, func(a, b foundKey) int {
		if a.record.Number != b.record.Number {
			return a.record.Number - b.record.Number
		}
		return strings.Compare(a.id, b.id)
	})
	return found, strays, nil
}

// add takes one object of the listing in.
func (l *listedKeys) add(info store.Info) {
	l.objects++
	id, name, _ := strings.Cut(strings.TrimPrefix(info.Key, keysDir), "/")
	switch {
	case !keyIDPattern.MatchString(id):
	case info.Key == keyFile(id):
		if l.records = append(l.records, listedRecord{id, info.Modified}); len(l.records) >= 2*crowdedKeys {
			l.trim()
		}
	case l.wrapped == nil || !wrappedPattern.MatchString(name):
	case l.held == crowdedWrapped:
		l.wrapped = nil
	default:
		if l.wrapped[id] == nil {
			l.wrapped[id] = map[string]string{}
		}
		l.wrapped[id][strings.TrimSuffix(name, ".age")] = info.Key
		l.held++
	}
}

// trim leaves the oldest records.
func (l *listedKeys) trim() {
	slices.SortStableFunc(l.records, func(a, b listedRecord) int { return a.at.Compare(b.at) })
	l.records = l.records[:min(len(l.records), crowdedKeys)]
}

// wrappedOf gives what is wrapped of a key that counts: all that was listed, or where that was too much, what is for the readers who are known here
// and some others.
func wrappedOf(ctx context.Context, st store.Store, f foundKey, again bool, ring *seal.Keyring) (map[string]string, error) {
	if !again {
		if f.wrapped == nil {
			return map[string]string{}, nil
		}
		return f.wrapped, nil
	}
	known := map[string]bool{seal.Passphrase: true}
	for _, to := range readersOf(ring, seal.ClassMeta) {
		known[to.Fingerprint()] = true
	}
	for _, name := range ring.Here() {
		known[seal.Fingerprint(name)] = true
	}
	out, strangers := map[string]string{}, 0
	for info, err := range st.List(ctx, keysDir+f.id+"/", "", false) {
		if err != nil {
			return nil, fmt.Errorf("list keys: %w", err)
		}
		name := strings.TrimPrefix(info.Key, keysDir+f.id+"/")
		m := wrappedPattern.FindStringSubmatch(name)
		if m == nil {
			continue
		}
		if !known[m[2]] {
			if strangers++; strangers > maxStrangers {
				continue
			}
		}
		out[strings.TrimSuffix(name, ".age")] = info.Key
	}
	return out, nil
}
