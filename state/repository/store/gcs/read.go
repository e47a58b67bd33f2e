package gcs

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/remote"
)

// send asks with credentials, and gives the answer's body when it is no refusal.
func (b *backend) send(r *http.Request) (*http.Response, error) {
	token, err := b.tokens.token(r.Context())
	if err != nil {
		return nil, err
	}
	token.SetAuthHeader(r)
	got, err := b.client.Do(r)
	if err != nil {
		return nil, err
	}
	if got.StatusCode < 300 {
		return got, nil
	}
	defer got.Body.Close()
	return nil, refused(got)
}

// maxAnswer bounds a description or a page of a list.
const maxAnswer = 16 << 20

// ask sends a request and reads the JSON of the answer into to; nil: there is none.
func (b *backend) ask(r *http.Request, to any) error {
	got, err := b.send(r)
	if err != nil {
		return err
	}
	defer got.Body.Close()
	if to == nil {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(got.Body, maxAnswer))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, to); err != nil {
		return fmt.Errorf("%s answers what is no JSON: %w", b.Place(), err)
	}
	return nil
}

func (b *backend) get(ctx context.Context, place string, to any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, place, nil)
	if err != nil {
		return err
	}
	return b.ask(r, to)
}

// whichAbsent finds out whether a 404 means the object, as err says, or the bucket.
func (b *backend) whichAbsent(ctx context.Context, err error) error {
	if !isAbsent(err) {
		return err
	}
	asked := b.get(ctx, b.bucketURL()+"?maxResults=1&fields=kind&prefix="+url.QueryEscape(b.prefix), nil)
	switch {
	case isAbsent(asked):
		return b.missing()
	case asked != nil:
		return b.judge(asked, reading)
	}
	return err
}

// Get is remote.Backend's.
func (b *backend) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if n == 0 {
		if _, err := b.Stat(ctx, key); err != nil {
			return nil, err
		}
		return http.NoBody, nil
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, b.objectURL(key)+"?alt=media", nil)
	if err != nil {
		return nil, err
	}
	switch {
	case n > 0:
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+n-1))
	case off > 0:
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-", off))
	}
	got, err := b.send(r)
	if isBehindEnd(err) {
		return http.NoBody, nil
	}
	if err != nil {
		return nil, b.judge(b.whichAbsent(ctx, err), reading)
	}
	if text := got.Header.Get("Content-Range"); off > 0 && !strings.HasPrefix(text, fmt.Sprintf("bytes %d-", off)) { // a proxy may leave the range out
		got.Body.Close()
		return nil, fmt.Errorf("%s was asked for the bytes from %d on and answers with others (Content-Range: %q)", b.Place(), off, text)
	}
	return got.Body, nil
}

// resource is what the service knows of an object.
type resource struct {
	Name      string
	Size      int64     `json:",string"`
	Created   time.Time `json:"timeCreated"`
	Metadata  map[string]string
	Retention retention
}

// Stat is remote.Backend's.
func (b *backend) Stat(ctx context.Context, key string) (remote.Object, error) {
	var o resource
	if err := b.get(ctx, b.objectURL(key)+"?fields=size,timeCreated,metadata", &o); err != nil {
		return remote.Object{}, b.judge(b.whichAbsent(ctx, err), reading)
	}
	return remote.Object{Info: store.Info{Size: o.Size, Modified: o.Created.UTC()}, Token: o.Metadata[tokenName]}, nil
}

// List is remote.Backend's. A page names objects and folded prefixes apart, each in order, and both of the same stretch of names:
// page by page they are one order. A prefix that goes on behind the end of a page is named again on the next.
func (b *backend) List(ctx context.Context, q remote.Query) iter.Seq2[store.Info, error] {
	ask := url.Values{"prefix": {b.prefix + q.Prefix}, "fields": {"nextPageToken,prefixes,items(name,size,timeCreated)"}}
	if q.After != "" {
		ask.Set("startOffset", b.prefix+q.After)
	}
	if q.Delimited {
		ask.Set("delimiter", "/")
	}
	return func(yield func(store.Info, error) bool) {
		last := ""
		for {
			var page struct {
				NextPageToken string
				Prefixes      []string
				Items         []resource
			}
			err := b.get(ctx, b.bucketURL()+"?"+ask.Encode(), &page)
			if isAbsent(err) {
				err = b.missing()
			}
			if err != nil {
				yield(store.Info{}, b.judge(err, reading))
				return
			}
			for _, info := range b.ordered(page.Items, page.Prefixes) {
				if info.Key == last && info.Prefix {
					continue
				}
				if last = info.Key; !yield(info, nil) {
					return
				}
			}
			if page.NextPageToken == "" {
				return
			}
			ask.Set("pageToken", page.NextPageToken)
		}
	}
}

func (b *backend) ordered(items []resource, prefixes []string) []store.Info {
	out := make([]store.Info, 0, len(items)+len(prefixes))
	for _, x := range items {
		out = append(out, store.Info{Key: strings.TrimPrefix(x.Name, b.prefix), Size: x.Size, Modified: x.Created.UTC()})
	}
	for _, name := range prefixes {
		out = append(out, store.Info{Key: strings.TrimPrefix(name, b.prefix), Prefix: true})
	}
	slices.SortFunc(out, func(a, b store.Info) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// Delete is remote.Backend's.
func (b *backend) Delete(ctx context.Context, keys []string) error {
	return remote.DeleteEach(ctx, keys, b.delete)
}

// delete names the generation: in a bucket that keeps versions a delete without one only hides the object, locked or not, and
// frees nothing.
func (b *backend) delete(ctx context.Context, key string) error {
	var o struct{ Generation string }
	if err := b.get(ctx, b.objectURL(key)+"?fields=generation", &o); err != nil {
		return b.judge(b.whichAbsent(ctx, err), deleting)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodDelete, b.objectURL(key)+"?generation="+url.QueryEscape(o.Generation), nil)
	if err != nil {
		return err
	}
	return b.judge(b.whichAbsent(ctx, b.ask(r, nil)), deleting)
}
