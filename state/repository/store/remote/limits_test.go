package remote

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// TestLimitsBoundAProcess sends over three handles of one place at once: together they are as fast as one may be. Another place, and
// one that shares with nobody, do not wait for them.
func TestLimitsBoundAProcess(t *testing.T) {
	sink, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	go func() {
		for {
			c, err := sink.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, c) }()
		}
	}()
	const perSecond, each = 4 << 20, 2 << 20
	limits := &Limits{}
	send := func(d *Dialer) {
		c, err := d.DialContext(t.Context(), "tcp", sink.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		if _, err := c.Write(make([]byte, each)); err != nil {
			t.Error(err)
		}
	}
	var all sync.WaitGroup
	began := time.Now()
	for range 3 {
		d := NewDialer(Wire{MaxRate: perSecond, Place: "s3://one", Limits: limits})
		all.Go(func() { send(d) })
	}
	all.Wait()
	if took, least := time.Since(began), time.Second*(3*each-maxChunk)/perSecond; took < least {
		t.Errorf("%d bytes took %s, and at the rate of one process %s", 3*each, took, least)
	}
	one := NewDialer(Wire{MaxRate: perSecond, Place: "s3://one", Limits: limits})
	for what, w := range map[string]Wire{
		"another place": {MaxRate: perSecond, Place: "s3://two", Limits: limits}, "another rate": {MaxRate: 2 * perSecond, Place: "s3://one", Limits: limits},
		"one by itself": {MaxRate: perSecond, Place: "s3://one"},
	} {
		if d := NewDialer(w); d.up == one.up || d.down == one.down || d.up == d.down {
			t.Errorf("%s shares the limit", what)
		}
	}
	if again := NewDialer(Wire{MaxRate: perSecond, Place: "s3://one", Limits: limits}); again.up != one.up || again.down != one.down {
		t.Error("a later handle has a limit of its own")
	}
}
