package s3

import (
	"context"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/minio/minio-go/v7"

	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/location"
	"github.com/pgkeep/pgkeep/state/repository/store/remote"
)

// tokenName is the metadata that tells whose put an object is.
const tokenName = "Pgkeep-Put"

type backend struct {
	at     location.Location
	client *minio.Client
	wire   *http.Transport
	*remote.Clock
	prefix string // before every key; empty or with a slash at its end
}

var _ remote.Retainer = (*backend)(nil)

// Open gives the store at a location of scheme S3. Nothing is asked of the service yet.
func Open(at location.Location, p remote.Patience) (*remote.Store, error) {
	wire, err := remote.Transport(remote.Wire{Timeout: at.Timeout, MaxRate: at.MaxRate, CAFile: at.CAFile, Place: at.Text, Limits: p.Limits})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", at.Text, err)
	}
	host, secure := "s3.amazonaws.com", true
	if at.Endpoint != "" {
		u, err := url.Parse(at.Endpoint)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", at.Text, err)
		}
		host, secure = u.Host, u.Scheme == "https"
	}
	clock := remote.NewClock(wire)
	client, err := minio.New(host, &minio.Options{
		Creds: credentialChain(at.Credentials, at.Profile), Secure: secure, Transport: clock, Region: region(at), BucketLookup: lookup(at),
		MaxRetries: 1, // this client's own retries would hide that an answer was lost
	})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", at.Text, err)
	}
	b := &backend{at: at, client: client, wire: wire, Clock: clock}
	if at.Prefix != "" {
		b.prefix = at.Prefix + "/"
	}
	return remote.New(b, p), nil
}

// region gives the region to sign for; empty: the service is asked. Other services mostly have one, called us-east-1.
func region(at location.Location) string {
	for _, r := range []string{at.Region, os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION")} {
		if r != "" {
			return r
		}
	}
	if at.Endpoint != "" {
		return "us-east-1"
	}
	return ""
}

func lookup(at location.Location) minio.BucketLookupType {
	if at.PathStyle {
		return minio.BucketLookupPath
	}
	return minio.BucketLookupAuto
}

// Place is remote.Backend's.
func (b *backend) Place() string {
	if b.at.Endpoint == "" {
		return "s3://" + b.at.Bucket
	}
	return "s3://" + b.at.Bucket + " at " + b.at.Endpoint
}

// Close is remote.Backend's.
func (b *backend) Close() error {
	b.wire.CloseIdleConnections()
	return nil
}

// Put is remote.Backend's.
func (b *backend) Put(ctx context.Context, up remote.Upload) error {
	o := minio.PutObjectOptions{
		SendContentMd5: true, DisableMultipart: true, UserMetadata: map[string]string{tokenName: up.Token},
	}
	o.SetMatchETagExcept("*")
	if !up.Retain.IsZero() {
		o.Mode, o.RetainUntilDate = mode(up.Retain), up.Retain.Until.UTC()
	}
	_, err := b.client.PutObject(ctx, b.at.Bucket, b.prefix+up.Key, up.Body, up.Body.Size(), o)
	if !up.Retain.IsZero() && isLockless(err) {
		return b.lockless(err)
	}
	return b.judge(err, putting)
}

// Get is remote.Backend's.
func (b *backend) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if n == 0 {
		if _, err := b.Stat(ctx, key); err != nil {
			return nil, err
		}
		return http.NoBody, nil
	}
	r, header, err := b.get(ctx, key, off, n)
	if isBehindEnd(err) {
		return http.NoBody, nil
	}
	if err != nil {
		return nil, b.judge(err, reading)
	}
	if got := header.Get("Content-Range"); off > 0 && !strings.HasPrefix(got, fmt.Sprintf("bytes %d-", off)) { // a proxy may leave the range out
		r.Close()
		return nil, fmt.Errorf("%s was asked for the bytes from %d on and answers with others (Content-Range: %q)", b.Place(), off, got)
	}
	return r, nil
}

func (b *backend) get(ctx context.Context, key string, off, n int64) (io.ReadCloser, http.Header, error) {
	var o minio.GetObjectOptions
	switch {
	case n > 0:
		o.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+n-1))
	case off > 0:
		o.Set("Range", fmt.Sprintf("bytes=%d-", off))
	}
	r, _, header, err := minio.Core{Client: b.client}.GetObject(ctx, b.at.Bucket, b.prefix+key, o)
	if err != nil {
		return nil, nil, err
	}
	return r, header, nil
}

// Stat is remote.Backend's.
func (b *backend) Stat(ctx context.Context, key string) (remote.Object, error) {
	o, err := b.look(ctx, key)
	return o.Object, err
}

// object is what the service says of one version, of which there is one.
type object struct {
	remote.Object
	version string // empty: the bucket keeps no versions, or did not when it was put
}

func (b *backend) look(ctx context.Context, key string) (object, error) {
	r, header, err := b.get(ctx, key, 0, 1)
	if isBehindEnd(err) { // an empty object; the bucket is there, so HEAD is enough
		info, err := b.client.StatObject(ctx, b.at.Bucket, b.prefix+key, minio.StatObjectOptions{})
		if err != nil {
			return object{}, b.judge(err, reading)
		}
		out := object{version: info.VersionID}
		out.Size, out.Modified, out.Token = info.Size, info.LastModified.UTC(), info.Metadata.Get("X-Amz-Meta-"+tokenName)
		return out, nil
	}
	if err != nil {
		return object{}, b.judge(err, reading)
	}
	defer r.Close()
	out := object{version: header.Get("X-Amz-Version-Id")}
	out.Token = header.Get("X-Amz-Meta-" + tokenName)
	if out.Size, err = fullSize(header); err != nil {
		return out, fmt.Errorf("%s answers a range of %s: %w", b.Place(), key, err)
	}
	if at, err := http.ParseTime(header.Get("Last-Modified")); err == nil {
		out.Modified = at.UTC()
	}
	return out, nil
}

// fullSize gives the size of an object of which a range was asked.
func fullSize(header http.Header) (int64, error) {
	text := header.Get("Content-Length") // of a service that ignores ranges
	if _, full, ok := strings.Cut(header.Get("Content-Range"), "/"); ok {
		text = full
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("size %q is no number", text)
	}
	return n, nil
}

// List is remote.Backend's.
func (b *backend) List(ctx context.Context, q remote.Query) iter.Seq2[store.Info, error] {
	o := minio.ListObjectsOptions{Prefix: b.prefix + q.Prefix, Recursive: !q.Delimited}
	if q.After != "" {
		o.StartAfter = b.prefix + q.After
	}
	return func(yield func(store.Info, error) bool) {
		var folded []store.Info // a page names objects first and prefixes then: only all of them can be put in order
		for x := range b.client.ListObjectsIter(ctx, b.at.Bucket, o) {
			if x.Err != nil {
				yield(store.Info{}, b.judge(x.Err, reading))
				return
			}
			info := store.Info{Key: strings.TrimPrefix(x.Key, b.prefix), Size: x.Size, Modified: x.LastModified.UTC()}
			if strings.HasSuffix(x.Key, "/") {
				info = store.Info{Key: info.Key, Prefix: true}
			}
			if q.Delimited {
				folded = append(folded, info)
			} else if !yield(info, nil) {
				return
			}
		}
		slices.SortFunc(folded, func(a, b store.Info) int { return strings.Compare(a.Key, b.Key) })
		for _, info := range slices.CompactFunc(folded, func(a, b store.Info) bool { return a.Key == b.Key }) {
			if !yield(info, nil) {
				return
			}
		}
	}
}
