package azure

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// mode gives the service's word for governance and compliance.
func mode(r store.Retention) *blob.ImmutabilityPolicySetting {
	if r.Compliance {
		return to.Ptr(blob.ImmutabilityPolicySettingLocked)
	}
	return to.Ptr(blob.ImmutabilityPolicySettingUnlocked)
}

// retention reads what the service tells of a blob. It takes "Locked" and answers "locked".
func retention(until *time.Time, mode *blob.ImmutabilityPolicyMode) store.Retention {
	if until == nil || mode == nil || strings.EqualFold(string(*mode), string(blob.ImmutabilityPolicyModeMutable)) {
		return store.Retention{}
	}
	return store.Retention{Until: until.UTC(), Compliance: strings.EqualFold(string(*mode), string(blob.ImmutabilityPolicyModeLocked))}
}

// Retain is remote.Retainer's. A policy that is locked stays so; one that is not could be moved back, so it is looked at first.
func (b *backend) Retain(ctx context.Context, key string, r store.Retention) error {
	has, err := b.Retained(ctx, key)
	if err != nil {
		return err
	}
	r.Compliance = r.Compliance || has.Compliance
	if !has.Until.Before(r.Until.Truncate(time.Second)) && has.Compliance == r.Compliance {
		return nil
	}
	if has.Until.After(r.Until) {
		r.Until = has.Until
	}
	_, err = b.blob(key).SetImmutabilityPolicy(ctx, r.Until, &blob.SetImmutabilityPolicyOptions{Mode: mode(r)})
	return b.judgeLocking(ctx, err, retaining)
}

// Retained is remote.Retainer's.
func (b *backend) Retained(ctx context.Context, key string) (store.Retention, error) {
	p, err := b.blob(key).GetProperties(ctx, nil)
	if err != nil {
		return store.Retention{}, b.judge(err, reading)
	}
	return retention(p.ImmutabilityPolicyExpiresOn, p.ImmutabilityPolicyMode), nil
}

// judgeLocking is judge for what asks for a lock. By which code the service refuses it in a container that cannot lock is not
// documented: the container says itself whether it can.
func (b *backend) judgeLocking(ctx context.Context, err error, what doing) error {
	var r *azcore.ResponseError
	if !errors.As(err, &r) {
		return b.judge(err, what)
	}
	judged := b.judge(err, what)
	switch {
	case r.StatusCode == http.StatusForbidden:
		return b.judge(err, retaining)
	case errors.Is(judged, store.ErrExists), r.StatusCode != http.StatusBadRequest && r.StatusCode != http.StatusConflict && r.StatusCode != http.StatusNotImplemented:
		return judged
	}
	p, askErr := b.client.GetProperties(ctx, nil)
	if askErr == nil && deref(p.IsImmutableStorageWithVersioningEnabled) {
		return judged
	}
	return b.trouble(store.Unlocked, "the container does not lock blobs",
		"make a container with version-level immutability: az storage container-rm create --enable-vlw, in an account that keeps versions", judged)
}
