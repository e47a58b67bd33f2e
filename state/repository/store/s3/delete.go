package s3

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// lookers bounds how many objects are looked at beside each other before they are deleted.
const lookers = 8

// Delete is remote.Backend's. Where the bucket keeps versions, as one with object lock does, the version is named: a delete
// without one would only hide the object, locked or not, and free nothing. What may not be deleted does not keep the others;
// another failure is named first, so that it is tried again.
func (b *backend) Delete(ctx context.Context, keys []string) error {
	found, err := b.versions(ctx, keys)
	if err != nil {
		return err
	}
	if len(found) == 1 {
		return b.deleteOne(ctx, found[0])
	}
	objects := make(chan minio.ObjectInfo, len(found))
	for _, o := range found {
		objects <- minio.ObjectInfo{Key: b.prefix + o.Key, VersionID: o.version}
	}
	close(objects)
	var retained error
	for failed := range b.client.RemoveObjects(ctx, b.at.Bucket, objects, minio.RemoveObjectsOptions{}) {
		err := b.judge(failed.Err, deleting)
		if err == nil {
			continue
		}
		if errors.Is(err, store.ErrRetained) && failed.VersionID != "" {
			err = b.hide(ctx, failed.ObjectName, err)
		}
		if err != nil && !errors.Is(err, store.ErrRetained) {
			return err
		}
		if err != nil {
			retained = err
		}
	}
	return retained
}

func (b *backend) deleteOne(ctx context.Context, o object) error {
	err := b.judge(b.client.RemoveObject(ctx, b.at.Bucket, b.prefix+o.Key, minio.RemoveObjectOptions{VersionID: o.version}), deleting)
	if errors.Is(err, store.ErrRetained) && o.version != "" {
		return b.hide(ctx, b.prefix+o.Key, err)
	}
	return err
}

// hide deletes without a version what is not locked: whoever may not delete versions may still let the bucket's own rules end
// them.
func (b *backend) hide(ctx context.Context, name string, refused error) error {
	r, err := b.Retained(ctx, strings.TrimPrefix(name, b.prefix))
	switch {
	case err != nil:
		return refused // whether it is locked is not known
	case !r.IsZero():
		return fmt.Errorf("it is locked until %s: %w", r.Until.Format(time.RFC3339), refused)
	}
	return b.judge(b.client.RemoveObject(ctx, b.at.Bucket, name, minio.RemoveObjectOptions{}), deleting)
}

// versions finds the versions of objects. Where the first that is there has none, the bucket keeps none, and no other is looked at.
func (b *backend) versions(ctx context.Context, keys []string) ([]object, error) {
	out := make([]object, len(keys))
	for i, key := range keys {
		out[i].Key = key
	}
	if len(keys) == 0 {
		return nil, nil
	}
	begin := 0
	for i := range out {
		version, err := b.version(ctx, out[i].Key)
		if err == nil {
			begin, out[i].version = i+1, version
			if version == "" {
				return out, nil
			}
			break
		}
		if begin = i + 1; !errors.Is(err, store.ErrNotExist) {
			return nil, err
		}
	}
	var g errgroup.Group
	g.SetLimit(lookers)
	for i := begin; i < len(out); i++ {
		g.Go(func() (err error) {
			out[i].version, err = b.version(ctx, out[i].Key)
			if errors.Is(err, store.ErrNotExist) {
				return nil
			}
			return err
		})
	}
	return out, g.Wait()
}

// version gives the version of an object; empty: the bucket keeps none.
func (b *backend) version(ctx context.Context, key string) (string, error) {
	o, err := b.look(ctx, key)
	if o.version == "null" {
		return "", err
	}
	return o.version, err
}
