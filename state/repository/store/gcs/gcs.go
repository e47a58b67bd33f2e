package gcs

import (
	"fmt"
	"net"
	"net/http"
	"net/url"

	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/location"
	"github.com/pgkeep/pgkeep/state/repository/store/remote"
)

// service is where the provider itself answers.
const service = "https://storage.googleapis.com"

type backend struct {
	at     location.Location
	client *http.Client
	wire   *http.Transport
	tokens *tokens
	*remote.Clock
	service string // without a slash at its end
	prefix  string // before every key; empty or with a slash at its end
}

var _ remote.Retainer = (*backend)(nil)

// Open gives the store at a location of scheme GCS. Nothing is asked of the service yet.
func Open(at location.Location, p remote.Patience) (*remote.Store, error) {
	wire, err := remote.Transport(remote.Wire{Timeout: at.Timeout, MaxRate: at.MaxRate, CAFile: at.CAFile, Place: at.Text, Limits: p.Limits})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", at.Text, err)
	}
	b := &backend{at: at, wire: wire, Clock: remote.NewClock(wire), service: service}
	if at.Endpoint != "" {
		b.service = at.Endpoint
	}
	if at.Prefix != "" {
		b.prefix = at.Prefix + "/"
	}
	if !sealed(b.service) {
		return nil, b.trouble(store.Insecure, "the access token would be sent unencrypted", "write https:// in ?endpoint=", nil)
	}
	b.client = &http.Client{Transport: b.Clock, CheckRedirect: refuseRedirect}
	b.tokens = &tokens{file: at.Credentials, wire: &noting{next: wire}}
	return remote.New(b, p), nil
}

// sealed tells whether what is sent stays unseen: a bearer's token is all that a thief needs.
func sealed(service string) bool {
	u, err := url.Parse(service)
	return err == nil && (u.Scheme == "https" || isLoopback(u.Hostname()))
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// refuseRedirect keeps objects from being sent or looked for elsewhere: the service never redirects.
func refuseRedirect(r *http.Request, _ []*http.Request) error {
	return fmt.Errorf("the service sends us to %s", r.URL.Host)
}

// Place is remote.Backend's.
func (b *backend) Place() string {
	if b.at.Endpoint == "" {
		return "gs://" + b.at.Bucket
	}
	return "gs://" + b.at.Bucket + " at " + b.at.Endpoint
}

// Close is remote.Backend's.
func (b *backend) Close() error {
	b.wire.CloseIdleConnections()
	return nil
}

func (b *backend) bucketURL() string {
	return b.service + "/storage/v1/b/" + url.PathEscape(b.at.Bucket) + "/o"
}

func (b *backend) objectURL(key string) string {
	return b.bucketURL() + "/" + url.PathEscape(b.prefix+key)
}
