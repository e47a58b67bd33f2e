package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// Wire says how to speak to a provider. The zero value has the normal timeout and no limit.
type Wire struct {
	Timeout time.Duration // how long a connection may be silent; zero: 30 s
	MaxRate int64         // bytes a second in each direction, over all connections; zero: no limit
	CAFile  string        // PEM file of authorities that are trusted beside the system's
	Place   string        // what shares MaxRate: all wires of one place and one Limits
	Limits  *Limits       // nil: this wire shares with no other
}

// Limits are what a process may send and fetch, by place. The zero value can be used, by several goroutines.
type Limits struct {
	mu sync.Mutex
	by map[limited]*limit
}

type limited struct {
	place string
	rate  int64
}

// limit is a rate in each direction.
type limit struct{ up, down *rate.Limiter }

func newLimit(bytes int64) *limit {
	return &limit{rate.NewLimiter(rate.Limit(bytes), maxChunk), rate.NewLimiter(rate.Limit(bytes), maxChunk)}
}

// of gives the limit of a wire.
func (l *Limits) of(w Wire) *limit {
	if l == nil {
		return newLimit(w.MaxRate)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	key := limited{w.Place, w.MaxRate}
	if l.by[key] == nil {
		if l.by == nil {
			l.by = map[limited]*limit{}
		}
		l.by[key] = newLimit(w.MaxRate)
	}
	return l.by[key]
}

// Dialer opens connections that give up when the other side is silent, and that share a limit of bytes a second.
type Dialer struct {
	timeout  time.Duration
	up, down *rate.Limiter // nil: no limit
}

// maxChunk bounds what goes over a connection at once, so that limits are smooth and deadlines mean progress.
const maxChunk = 32 << 10

// NewDialer gives a dialer; all its connections share the limit, and with w.Limits all of its place.
func NewDialer(w Wire) *Dialer {
	d := &Dialer{timeout: w.Timeout}
	if d.timeout == 0 {
		d.timeout = 30 * time.Second
	}
	if w.MaxRate > 0 {
		shared := w.Limits.of(w)
		d.up, d.down = shared.up, shared.down
	}
	return d
}

// DialContext is net.Dialer's.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := (&net.Dialer{Timeout: min(d.timeout, 15*time.Second), KeepAlive: 15 * time.Second}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, d: d}, nil
}

// conn is a connection with the dialer's bounds.
type conn struct {
	net.Conn
	d *Dialer
}

// Read is net.Conn's.
func (c *conn) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.d.timeout)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p[:min(len(p), maxChunk)])
	if n > 0 && c.d.down != nil {
		_ = c.d.down.WaitN(context.Background(), n) // n fits into the burst, and the wait is as long as the chunk takes
	}
	return n, err
}

// Write is net.Conn's. What goes out also gives the answer more time: a long upload is no silence.
func (c *conn) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) || len(p) == 0 {
		chunk := p[done:min(len(p), done+maxChunk)]
		if c.d.up != nil {
			_ = c.d.up.WaitN(context.Background(), len(chunk))
		}
		if err := c.SetDeadline(time.Now().Add(c.d.timeout)); err != nil {
			return done, err
		}
		n, err := c.Conn.Write(chunk)
		done += n
		if err != nil || len(p) == 0 {
			return done, err
		}
	}
	return done, nil
}

// Clock measures on the way how far a service's clock is from this machine's.
type Clock struct {
	next http.RoundTripper

	mu   sync.Mutex
	skew time.Duration
	seen bool
}

// NewClock gives a round tripper that reads the Date of each answer.
func NewClock(next http.RoundTripper) *Clock { return &Clock{next: next} }

// RoundTrip is http.RoundTripper's.
func (c *Clock) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := c.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if at, err := http.ParseTime(answer.Header.Get("Date")); err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.skew, c.seen = time.Until(at), true
	}
	return answer, nil
}

// Skew gives how far the service's clock was ahead of this machine's in its last answer; false: it has not told.
func (c *Clock) Skew() (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.skew, c.seen
}

// Now gives the service's time, as far as it has told it; else this machine's.
func (c *Clock) Now() time.Time {
	skew, _ := c.Skew()
	return time.Now().Add(skew)
}

// Transport gives HTTP over such connections: the environment's proxies, TLS 1.2 at least, no HTTP/2, whose one
// connection would carry everything and break everything.
func Transport(w Wire) (*http.Transport, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if w.CAFile != "" {
		pool, err := authorities(w.CAFile)
		if err != nil {
			return nil, err
		}
		config.RootCAs = pool
	}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: NewDialer(w).DialContext, TLSClientConfig: config, TLSHandshakeTimeout: 15 * time.Second,
		MaxIdleConnsPerHost: 16, IdleConnTimeout: 20 * time.Second, ExpectContinueTimeout: time.Second, DisableCompression: true,
		WriteBufferSize: maxChunk, ReadBufferSize: maxChunk,
	}, nil
}

func authorities(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, &store.Trouble{Kind: store.Insecure, Text: "the certificate authorities of ?ca_file cannot be read", Hint: "look at " + file, Err: err}
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, &store.Trouble{Kind: store.Insecure, Text: fmt.Sprintf("%s holds no certificate in PEM form", file), Hint: "name the file of the authority that signed the service's certificate"}
	}
	return pool, nil
}
