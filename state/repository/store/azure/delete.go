package azure

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/remote"
)

// Delete is remote.Backend's.
func (b *backend) Delete(ctx context.Context, keys []string) error {
	return remote.DeleteEach(ctx, keys, b.deleteOne)
}

// deleteOne deletes a blob, and where the account keeps versions its version: to delete the name only turns it into an earlier version,
// which is not seen and is paid for. A blob that is locked is not touched, whatever the service would do.
func (b *backend) deleteOne(ctx context.Context, key string) error {
	p, err := b.blob(key).GetProperties(ctx, nil)
	err = b.judge(err, reading)
	switch {
	case errors.Is(err, store.ErrNotExist):
		return b.deleteHidden(ctx, key)
	case err != nil:
		return err
	}
	if r := retention(p.ImmutabilityPolicyExpiresOn, p.ImmutabilityPolicyMode); r.Until.After(b.Now()) {
		return fmt.Errorf("%s is locked until %s: %w", key, r.Until.Format(time.RFC3339), store.ErrRetained)
	}
	if version := deref(p.VersionID); version != "" {
		b.hidden.Store(key, version)
	}
	_, err = b.blob(key).Delete(ctx, nil)
	if err = b.judge(err, deleting); errors.Is(err, store.ErrRetained) {
		b.hidden.Delete(key)
	}
	if err != nil {
		return err
	}
	return b.deleteHidden(ctx, key)
}

// deleteHidden deletes the version of a blob that is gone by name: the service refuses it (OperationNotAllowedOnRootBlob) as long as
// it is the current one. Whoever may not delete versions leaves them to the account's lifecycle rules.
func (b *backend) deleteHidden(ctx context.Context, key string) error {
	version, ok := b.hidden.Load(key)
	if !ok {
		return nil
	}
	text, _ := version.(string)
	client, err := b.blob(key).WithVersionID(text)
	if err != nil {
		return fmt.Errorf("name a version of %s: %w", key, err)
	}
	_, err = client.Delete(ctx, nil)
	if err = b.judge(err, deleting); err != nil && !isForbidden(err) {
		return err
	}
	b.hidden.Delete(key)
	return nil
}
