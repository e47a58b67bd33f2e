package azure

import (
	"context"
	"crypto/md5" // #nosec: Azure's own checksum of a body on its way
	"fmt"
	"io"
	"iter"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/location"
	"github.com/pgkeep/pgkeep/state/repository/store/remote"
)

// tokenName is the metadata that tells whose put an object is.
const tokenName = "pgkeepput"

type backend struct {
	at     location.Location
	client *container.Client
	wire   *http.Transport
	*remote.Clock
	prefix string   // before every key; empty or with a slash at its end
	hidden sync.Map // by key: the version of a blob that was deleted by name, which is still to be deleted for good
}

var _ remote.Retainer = (*backend)(nil)

// Open gives the store at a location of scheme Azure. Nothing is asked of the service yet.
func Open(at location.Location, p remote.Patience) (*remote.Store, error) {
	wire, err := remote.Transport(remote.Wire{Timeout: at.Timeout, MaxRate: at.MaxRate, CAFile: at.CAFile, Place: at.Text, Limits: p.Limits})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", at.Text, err)
	}
	b := &backend{at: at, wire: wire, Clock: remote.NewClock(wire)}
	if at.Prefix != "" {
		b.prefix = at.Prefix + "/"
	}
	if b.at.Account == "" {
		b.at.Account = os.Getenv("AZURE_STORAGE_ACCOUNT")
	}
	if b.at.Account == "" {
		return nil, b.trouble(store.Denied, "no storage account is named", "add ?account=NAME to the URL, or set AZURE_STORAGE_ACCOUNT", nil)
	}
	if b.client, err = b.connect(); err != nil {
		return nil, err
	}
	return remote.New(b, p), nil
}

func (b *backend) connect() (*container.Client, error) {
	service := b.at.Endpoint
	if service == "" {
		service = "https://" + b.at.Account + ".blob.core.windows.net"
	}
	options := azcore.ClientOptions{
		Transport: &http.Client{Transport: b.Clock},
		Retry:     policy.RetryOptions{MaxRetries: -1}, // this client's own retries would hide that an answer was lost
	}
	place := service + "/" + b.at.Bucket
	if key := os.Getenv("AZURE_STORAGE_KEY"); key != "" {
		credential, err := container.NewSharedKeyCredential(b.at.Account, key)
		if err != nil {
			return nil, b.trouble(store.Denied, "AZURE_STORAGE_KEY is no account key", "copy it from: az storage account keys list", nil) // the cause may quote the key
		}
		client, err := container.NewClientWithSharedKeyCredential(place, credential, &container.ClientOptions{ClientOptions: options})
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", b.at.Text, err)
		}
		return client, nil
	}
	credential, err := azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{ClientOptions: options})
	if err != nil {
		return nil, b.trouble(store.Denied, "there are no credentials for Azure", noCredentials, err)
	}
	client, err := container.NewClient(place, credential, &container.ClientOptions{ClientOptions: options})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", b.at.Text, err)
	}
	return client, nil
}

// Place is remote.Backend's.
func (b *backend) Place() string {
	if b.at.Endpoint != "" {
		return "azblob://" + b.at.Bucket + " at " + b.at.Endpoint
	}
	return "azblob://" + b.at.Bucket + " of account " + b.at.Account
}

// Close is remote.Backend's.
func (b *backend) Close() error {
	b.wire.CloseIdleConnections()
	return nil
}

func (b *backend) blob(key string) *blockblob.Client {
	return b.client.NewBlockBlobClient(b.prefix + key)
}

// Put is remote.Backend's.
func (b *backend) Put(ctx context.Context, up remote.Upload) error {
	sum := md5.New() // #nosec: see above
	if _, err := io.Copy(sum, up.Body); err != nil {
		return err
	}
	if _, err := up.Body.Seek(0, io.SeekStart); err != nil {
		return err
	}
	o := &blockblob.UploadOptions{
		Metadata:                map[string]*string{tokenName: &up.Token},
		TransactionalValidation: blob.TransferValidationTypeMD5(sum.Sum(nil)),
		AccessConditions:        &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfNoneMatch: to.Ptr(azcore.ETagAny)}},
	}
	if !up.Retain.IsZero() {
		o.ImmutabilityPolicyMode, o.ImmutabilityPolicyExpiryTime = mode(up.Retain), to.Ptr(up.Retain.Until)
	}
	_, err := b.blob(up.Key).Upload(ctx, streaming.NopCloser(up.Body), o)
	if !up.Retain.IsZero() {
		return b.judgeLocking(ctx, err, putting)
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
	answer, err := b.blob(key).DownloadStream(ctx, &blob.DownloadStreamOptions{Range: blob.HTTPRange{Offset: off, Count: max(n, 0)}})
	if isBehindEnd(err) {
		return http.NoBody, nil
	}
	if err != nil {
		return nil, b.judge(err, reading)
	}
	if got := deref(answer.ContentRange); off > 0 && !strings.HasPrefix(got, fmt.Sprintf("bytes %d-", off)) { // a proxy may leave the range out
		answer.Body.Close()
		return nil, fmt.Errorf("%s was asked for the bytes from %d on and answers with others (Content-Range: %q)", b.Place(), off, got)
	}
	return answer.Body, nil
}

// Stat is remote.Backend's.
func (b *backend) Stat(ctx context.Context, key string) (remote.Object, error) {
	p, err := b.blob(key).GetProperties(ctx, nil)
	if err != nil {
		return remote.Object{}, b.judge(err, reading)
	}
	out := remote.Object{Info: store.Info{Size: deref(p.ContentLength), Modified: deref(p.LastModified).UTC()}}
	for name, v := range p.Metadata {
		if strings.EqualFold(name, tokenName) {
			out.Token = deref(v)
		}
	}
	return out, nil
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// List is remote.Backend's. The service cannot begin after a name: what comes before is read and left out.
func (b *backend) List(ctx context.Context, q remote.Query) iter.Seq2[store.Info, error] {
	prefix := b.prefix + q.Prefix
	if q.Delimited {
		return b.listFolded(ctx, prefix)
	}
	return func(yield func(store.Info, error) bool) {
		pages := b.client.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{Prefix: &prefix})
		for pages.More() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield(store.Info{}, b.judge(err, reading))
				return
			}
			for _, x := range page.Segment.BlobItems {
				if !yield(b.info(x), nil) {
					return
				}
			}
		}
	}
}

func (b *backend) info(x *container.BlobItem) store.Info {
	info := store.Info{Key: strings.TrimPrefix(deref(x.Name), b.prefix)}
	if x.Properties != nil {
		info.Size, info.Modified = deref(x.Properties.ContentLength), deref(x.Properties.LastModified).UTC()
	}
	return info
}

// listFolded puts objects and prefixes, which a page names apart, in one order.
func (b *backend) listFolded(ctx context.Context, prefix string) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		var all []store.Info
		pages := b.client.NewListBlobsHierarchyPager("/", &container.ListBlobsHierarchyOptions{Prefix: &prefix})
		for pages.More() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield(store.Info{}, b.judge(err, reading))
				return
			}
			for _, x := range page.Segment.BlobItems {
				all = append(all, b.info(x))
			}
			for _, x := range page.Segment.BlobPrefixes {
				all = append(all, store.Info{Key: strings.TrimPrefix(deref(x.Name), b.prefix), Prefix: true})
			}
		}
		slices.SortFunc(all, func(a, b store.Info) int { return strings.Compare(a.Key, b.Key) })
		for _, info := range slices.CompactFunc(all, func(a, b store.Info) bool { return a.Key == b.Key }) {
			if !yield(info, nil) {
				return
			}
		}
	}
}
