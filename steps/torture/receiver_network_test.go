package torture_test

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	_ "github.com/Shopify/toxiproxy/v2/toxics"
	"github.com/rs/zerolog"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// between puts a proxy between the receiver and the server.
func (x *site) between() *toxiproxy.Proxy {
	x.t.Helper()
	metrics := toxiproxy.NewMetricsContainer(nil)
	server := toxiproxy.NewServer(metrics, zerolog.Nop())
	p := toxiproxy.NewProxy(server, "postgres", "127.0.0.1:0", "127.0.0.1:"+strconv.Itoa(x.server.Port))
	if err := p.Start(); err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(p.Stop)
	_, port, err := net.SplitHostPort(p.Listen)
	if err != nil {
		x.t.Fatal(err)
	}
	x.o.Conninfo = strings.Replace(x.o.Conninfo, fmt.Sprintf("port=%d", x.server.Port), "port="+port, 1)
	return p
}

func poison(t *testing.T, p *toxiproxy.Proxy, toxic string) (cure func()) {
	t.Helper()
	if _, err := p.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
		t.Fatal(err)
	}
	return func() { p.Toxics.ResetToxics(t.Context()) }
}

// Fault A8: the network between the receiver and the server is cut, slow, or silent. WAL is received without an error of
// data, and a dead peer is noticed within the timeout.
func TestNetwork(t *testing.T) {
	t.Parallel()
	for name, toxic := range map[string]string{
		"cut":       "",
		"silent":    `{"name":"x","type":"timeout","stream":"downstream","attributes":{"timeout":0}}`,
		"silent up": `{"name":"x","type":"timeout","stream":"upstream","attributes":{"timeout":0}}`,
		"reset":     `{"name":"x","type":"reset_peer","stream":"downstream","attributes":{"timeout":50}}`,
		"sliced":    `{"name":"x","type":"slicer","stream":"downstream","attributes":{"average_size":50,"size_variation":40,"delay":0}}`,
		"slow":      `{"name":"x","type":"bandwidth","stream":"downstream","attributes":{"rate":200}}`,
		"late":      `{"name":"x","type":"latency","stream":"downstream","attributes":{"latency":300,"jitter":200}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newSite(t, pgtest.Options{SegmentMB: 1})
			x.o.Timeout = 3 * time.Second
			p := x.between()
			stop := x.run()
			x.write(1000)
			x.awaitArchived(x.flushed())
			var cure func()
			if toxic == "" {
				p.Stop()
				cure = func() {
					if err := p.Start(); err != nil {
						t.Fatal(err)
					}
				}
			} else {
				cure = poison(t, p, toxic)
			}
			began := time.Now()
			x.write(30_000)
			if strings.HasPrefix(name, "silent") || name == "cut" {
				await(t, "it is noticed", func() bool { return x.hasProblem(state.CodeUnreachable) })
				if d := time.Since(began); d > 2*x.o.Timeout+2*time.Minute { // to the second in steps/receive; TCP alone takes a quarter of an hour
					t.Errorf("noticed after %s", d)
				}
			} else {
				time.Sleep(500 * time.Millisecond) // it works on under the fault for a while
			}
			cure()
			end := x.flushed()
			began = time.Now()
			x.awaitArchived(end)
			t.Logf("caught up %s after the fault ended", time.Since(began))
			stop()
			x.compare()
		})
	}
}
