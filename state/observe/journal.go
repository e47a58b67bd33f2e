package observe

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store"
)

// entry is what is read of a journal entry here. Others fields are for people.
type entry struct {
	Ended time.Time              `json:"ended"`
	Who   string                 `json:"who"`
	Facts map[string]state.Facts `json:"facts"`
}

// remember reads the newest journal entry with facts of every server that the repository holds. Of several repositories
// the newest entry counts, and one that could not be read counts only where no other could. What keeps the repository
// itself from being opened is told by its own Unknown.
func (l *look) remember(ctx context.Context, st store.Store, keys *seal.Keyring) {
	r, err := repository.OpenWith(ctx, st, keys)
	if err != nil {
		return
	}
	clusters, err := r.Clusters(ctx)
	if err != nil {
		return
	}
	wanted := map[string]bool{}
	for _, s := range l.spec.Servers {
		wanted[s.Name] = true
	}
	for _, key := range clusters {
		if !wanted[key.Name] {
			continue
		}
		m := newestFacts(ctx, r.Cluster(key.Name, key.SystemID))
		l.mu.Lock()
		if l.seen.Remembered == nil {
			l.seen.Remembered = map[string]state.Remembered{}
		}
		if have, ok := l.seen.Remembered[key.Name]; !ok || m.At.After(have.At) || have.Unknown != nil && m.Unknown == nil {
			l.seen.Remembered[key.Name] = m
		}
		l.mu.Unlock()
	}
}

// mostEntries is how many entries are read in search of one with facts: those of an older pgkeep have none.
const mostEntries = 100

func newestFacts(ctx context.Context, c *repository.Cluster) state.Remembered {
	name, n := c.Key().Name, 0
	for note, err := range c.JournalNewestFirst(ctx, time.Time{}) {
		if err != nil {
			return state.Remembered{Unknown: unknown(fmt.Errorf("read journal of %s: %w", name, err))}
		}
		var e entry
		if err := json.Unmarshal(note.Entry, &e); err == nil {
			if f, ok := e.Facts[name]; ok {
				return state.Remembered{At: e.Ended, Who: e.Who, Facts: f}
			}
		}
		if n++; n >= mostEntries {
			break
		}
	}
	return state.Remembered{}
}
