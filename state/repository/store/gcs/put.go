package gcs

import (
	"context"
	"crypto/md5" // #nosec: the service's own checksum of a body on its way
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/remote"
)

// tokenName is the metadata that tells whose put an object is.
const tokenName = "pgkeepput"

// description is what goes before the bytes of an object.
type description struct {
	Name        string            `json:"name"`
	ContentType string            `json:"contentType"`
	CRC32C      string            `json:"crc32c"`
	MD5         string            `json:"md5Hash"`
	Metadata    map[string]string `json:"metadata"`
	Retention   *retention        `json:"retention,omitempty"`
}

// Put is remote.Backend's.
func (b *backend) Put(ctx context.Context, up remote.Upload) error {
	d := description{Name: b.prefix + up.Key, ContentType: bytesType, Metadata: map[string]string{tokenName: up.Token}, Retention: asRetention(up.Retain)}
	if err := d.sum(up.Body); err != nil {
		return err
	}
	r, err := b.upload(ctx, d, up)
	if err != nil {
		return err
	}
	var stored struct {
		CRC32C string `json:"crc32c"`
	}
	err = b.ask(r, &stored)
	if isAbsent(err) {
		return b.missing()
	}
	if d.Retention != nil && isRefused(err) {
		return b.unlocked(ctx, up.Key, err)
	}
	if err = b.judge(err, putting); err != nil {
		return err
	}
	if stored.CRC32C != d.CRC32C { // the service refuses other bytes than described; this one does not
		return b.trouble(store.Unconditional, fmt.Sprintf("it stored other bytes than it was sent (CRC32C %q instead of %q)", stored.CRC32C, d.CRC32C), "use a service that compares checksums, or look at the proxies on the way", nil)
	}
	return nil
}

// sum reads the body for its checksums and goes back to its beginning.
func (d *description) sum(body *io.SectionReader) error {
	hash, crc := md5.New(), crc32.New(crc32.MakeTable(crc32.Castagnoli)) // #nosec: see above
	if _, err := io.Copy(io.MultiWriter(hash, crc), body); err != nil {
		return err
	}
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return err
	}
	d.MD5 = base64.StdEncoding.EncodeToString(hash.Sum(nil))
	d.CRC32C = base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc.Sum32()))
	return nil
}

const bytesType = "application/octet-stream"

// upload makes the one request. The token, which nobody could guess when the body was written, is the boundary.
func (b *backend) upload(ctx context.Context, d description, up remote.Upload) (*http.Request, error) {
	text, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	head := "--" + up.Token + "\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n" + string(text) +
		"\r\n--" + up.Token + "\r\nContent-Type: " + bytesType + "\r\n\r\n"
	tail := "\r\n--" + up.Token + "--\r\n"
	body := io.MultiReader(strings.NewReader(head), up.Body, strings.NewReader(tail))
	place := b.service + "/upload/storage/v1/b/" + url.PathEscape(b.at.Bucket) + "/o?uploadType=multipart&ifGenerationMatch=0&fields=crc32c"
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, place, body)
	if err != nil {
		return nil, err
	}
	r.ContentLength = int64(len(head)) + up.Body.Size() + int64(len(tail))
	r.Header.Set("Content-Type", "multipart/related; boundary="+up.Token)
	return r, nil
}
