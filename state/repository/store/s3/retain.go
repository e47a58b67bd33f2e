package s3

import (
	"context"
	"net/http"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

func mode(r store.Retention) minio.RetentionMode {
	if r.Compliance {
		return minio.Compliance
	}
	return minio.Governance
}

// Retain is remote.Retainer's. A lock in compliance mode stays one.
func (b *backend) Retain(ctx context.Context, key string, r store.Retention) error {
	has, err := b.Retained(ctx, key)
	if err != nil {
		return err
	}
	r.Compliance = r.Compliance || has.Compliance
	if !has.Until.Before(r.Until) && has.Compliance == r.Compliance {
		return nil
	}
	if has.Until.After(r.Until) {
		r.Until = has.Until
	}
	m, until := mode(r), r.Until.UTC()
	err = b.client.PutObjectRetention(ctx, b.at.Bucket, b.prefix+key, minio.PutObjectRetentionOptions{
		Mode: &m, RetainUntilDate: &until,
		GovernanceBypass: !has.IsZero() && r.Compliance && !has.Compliance, // services take the stronger mode for a change that needs the right
	})
	if isLockless(err) {
		return b.lockless(err)
	}
	return b.judge(err, retaining)
}

// Retained is remote.Retainer's. The service tells it in the answer to a HEAD, to who may know it: where that says nothing, the
// question itself tells an object without a lock from a user who may not know.
func (b *backend) Retained(ctx context.Context, key string) (store.Retention, error) {
	info, err := b.client.StatObject(ctx, b.at.Bucket, b.prefix+key, minio.StatObjectOptions{})
	if r, ok := answer(err); ok && r.StatusCode == http.StatusNotFound {
		if _, err := b.look(ctx, key); err != nil { // which says whether the bucket is missing
			return store.Retention{}, err
		}
	}
	if err != nil {
		return store.Retention{}, b.judge(err, retaining)
	}
	until, err := time.Parse(time.RFC3339, info.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date"))
	if err != nil {
		return b.askRetained(ctx, key)
	}
	return store.Retention{Until: until.UTC(), Compliance: info.Metadata.Get("X-Amz-Object-Lock-Mode") == minio.Compliance.String()}, nil
}

func (b *backend) askRetained(ctx context.Context, key string) (out store.Retention, err error) {
	m, until, err := b.client.GetObjectRetention(ctx, b.at.Bucket, b.prefix+key, "")
	if r, ok := answer(err); ok && (r.Code == "NoSuchObjectLockConfiguration" || isLockless(err)) {
		return out, nil
	}
	if err != nil {
		return out, b.judge(err, retaining)
	}
	if until != nil {
		out.Until = until.UTC()
	}
	out.Compliance = m != nil && *m == minio.Compliance && !out.Until.IsZero()
	return out, nil
}

// isLockless tells whether a retention was refused because the bucket has no object lock: services say so as of any other
// request that they do not understand, but nothing else of ours is such a one.
func isLockless(err error) bool {
	r, ok := answer(err)
	return ok && (r.Code == "InvalidRequest" || r.Code == "ObjectLockConfigurationNotFoundError" || r.Code == "NotImplemented" && r.StatusCode == http.StatusNotImplemented)
}

func (b *backend) lockless(err error) error {
	return b.trouble(store.Unlocked, "the bucket has no object lock", "make a bucket with object lock (aws s3api create-bucket --object-lock-enabled-for-bucket), or turn it on for this one", err)
}
