package repository

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/store"
)

// Hold keeps a committed backup, its volumes and its WAL from being deleted until h.Expires; zero is for ever. It puts
// HOLD and then looks: when a TOMB is there, the hold is released at once and the error has CodeStale. Each holder has
// one hold, which a later one replaces; the operator's holder is empty.
func (c *Cluster) Hold(ctx context.Context, id string, h state.Hold, now time.Time) error {
	if err := CheckBackupID(id); err != nil {
		return err
	}
	r, err := c.readBackup(ctx, id)
	if err != nil {
		return fmt.Errorf("hold backup %s: %w", id, err)
	}
	if !r.visible() {
		return notHeld(id, "there is no committed backup of that id, or it is being deleted")
	}
	put := holdRecord{ID: id, Number: r.lastHold, Holder: h.Holder, Reason: h.Reason, Expires: h.Expires.UTC(), At: now.UTC()}
	if put.Number, err = c.putHold(ctx, put); err != nil {
		return fmt.Errorf("hold backup %s: %w", id, err)
	}
	stands, err := c.stands(ctx, id)
	if err != nil {
		return fmt.Errorf("hold backup %s: %w", id, err)
	}
	if stands {
		return nil
	}
	put.Released = true
	if _, err := c.putHold(ctx, put); err != nil {
		return errors.Join(notHeld(id, "it is being deleted"), fmt.Errorf("release the hold: %w", err))
	}
	return notHeld(id, "it is being deleted")
}

func notHeld(id, why string) error {
	return &state.Error{Code: state.CodeStale, Text: fmt.Sprintf("backup %s cannot be held: %s", id, why), Hint: "pgkeep backups"}
}

// Release ends the operator's hold, and any hold that cannot be read.
func (c *Cluster) Release(ctx context.Context, id string, now time.Time) error {
	return c.ReleaseBy(ctx, id, "", now)
}

// ReleaseBy ends the hold of one holder; without one it does nothing.
func (c *Cluster) ReleaseBy(ctx context.Context, id, holder string, now time.Time) error {
	if err := CheckBackupID(id); err != nil {
		return err
	}
	r, err := c.readBackup(ctx, id)
	if err != nil {
		return fmt.Errorf("release backup %s: %w", id, err)
	}
	for _, h := range r.holds {
		unread := holder == "" && strings.HasPrefix(h.Holder, unreadHolder)
		if h.Holder != holder && !unread || h.Released {
			continue
		}
		h.ID, h.Holder = id, holder
		h.Number, h.Released, h.At = r.lastHold, true, now.UTC()
		if _, err := c.putHold(ctx, h); err != nil {
			return fmt.Errorf("release backup %s: %w", id, err)
		}
	}
	return nil
}

// putHold puts the record under the first free number after h.Number, and gives that number.
func (c *Cluster) putHold(ctx context.Context, h holdRecord) (int, error) {
	h.Format = backupFormat
	for range 1000 {
		h.Number++
		err := c.putRecord(ctx, c.key.holdFile(h.ID, h.Number), h)
		if !errors.Is(err, store.ErrExists) {
			return h.Number, err
		}
	}
	return 0, fmt.Errorf("put hold: a thousand others came first")
}
