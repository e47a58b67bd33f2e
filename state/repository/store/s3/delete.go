package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
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
	if err != nil || len(found) == 0 {
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
	case r.Until.After(b.Now()):
		return fmt.Errorf("it is locked until %s: %w", r.Until.Format(time.RFC3339), refused)
	}
	return b.judge(b.client.RemoveObject(ctx, b.at.Bucket, name, minio.RemoveObjectOptions{}), deleting)
}

// versions finds the versions of those objects that are there: to delete what is not there would leave a marker that it was
// deleted. Where the bucket keeps none, they have none, and none is looked at.
func (b *backend) versions(ctx context.Context, keys []string) ([]object, error) {
	out := make([]object, len(keys))
	for i, key := range keys {
		out[i].Key = key
	}
	if len(keys) == 0 {
		return nil, nil
	}
	keeps, first, err := b.keepsVersions(ctx)
	if err != nil || !keeps {
		return out, err
	}
	var g errgroup.Group
	g.SetLimit(lookers)
	for i := range out {
		g.Go(func() error {
			o, err := b.look(ctx, out[i].Key)
			if errors.Is(err, store.ErrNotExist) {
				out[i].Key = ""
				return nil
			}
			if out[i].version = o.version; o.version == "" {
				out[i].version = first
			}
			return err
		})
	}
	err = g.Wait()
	return slices.DeleteFunc(out, func(o object) bool { return o.Key == "" }), err
}

// keepsVersions tells whether the bucket keeps versions, or kept them once, and what version an object has that was put before
// and shows none. Who may not know, or is not understood, looks at each object: where one has no version, the bucket keeps none.
func (b *backend) keepsVersions(ctx context.Context) (keeps bool, first string, err error) {
	c, err := b.client.GetBucketVersioning(ctx, b.at.Bucket)
	r, said := answer(err)
	switch {
	case err == nil && c.Status == "":
		return false, "", nil
	case err == nil:
		return true, "null", nil
	case said && (r.Code == "NotImplemented" || r.StatusCode == http.StatusNotImplemented):
		return false, "", nil
	case said && (r.Code == "AccessDenied" || r.StatusCode == http.StatusForbidden):
		return true, "", nil
	case said && r.StatusCode == http.StatusNotFound && r.Code != "NoSuchBucket": // of a gateway that does not know the question
		return true, "", nil
	}
	return false, "", b.judge(err, reading)
}
