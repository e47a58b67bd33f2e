package sftp_test

import (
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest/servers"
)

// cutter stands before a server and cuts each connection after some bytes in either direction.
func cutter(t *testing.T, to string, cuts *atomic.Int64) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	r := rand.New(rand.NewPCG(5, 6))
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			up, down := 1_000_000+r.Int64N(3_000_000), 1_000_000+r.Int64N(3_000_000)
			go func() {
				defer c.Close()
				s, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer s.Close()
				done := make(chan int64, 2)
				go func() { n, _ := io.CopyN(s, c, up); done <- n - up }()
				go func() { n, _ := io.CopyN(c, s, down); done <- n - down }()
				if <-done == 0 {
					cuts.Add(1)
				}
			}()
		}
	}()
	return l.Addr().String()
}

// TestCutConnections passes the suite, but for what takes long, although connections break all the time.
func TestCutConnections(t *testing.T) {
	server := servers.SFTP(t)
	var cuts atomic.Int64
	address := cutter(t, server.Address, &cuts)
	b, err := os.ReadFile(server.KnownHosts)
	if err != nil {
		t.Fatal(err)
	}
	known := filepath.Join(t.TempDir(), "known_hosts")
	_, port, _ := strings.Cut(address, ":")
	_, was, _ := strings.Cut(server.Address, ":")
	if err := os.WriteFile(known, []byte(strings.Replace(string(b), was, port, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	storetest.RunSome(t, func(t *testing.T) store.Store {
		return open(t, strings.NewReplacer(server.Address, address, server.KnownHosts, known).Replace(server.Dir(t)))
	}, "put and get", "ranges", "second put", "one winner", "delete")
	if cuts.Load() == 0 {
		t.Error("no connection was cut")
	}
	t.Logf("%d connections were cut", cuts.Load())
}
