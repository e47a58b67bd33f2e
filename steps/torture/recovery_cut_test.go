package torture

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest/servers"
	"github.com/pgkeep/pgkeep/state/wal"
)

// cuts gives how long the repository is cut off in each recovery: with PGKEEP_ROUNDS=50 twice for a minute and 48 times for 3 s.
func cuts() []time.Duration {
	n, _ := strconv.Atoi(os.Getenv("PGKEEP_ROUNDS"))
	var out []time.Duration
	for i := range max(n, 2) {
		cut := 3 * time.Second
		if n > 2 && i < 2 {
			cut = time.Minute
		}
		out = append(out, cut)
	}
	return out
}

// TestRepositoryIsCutOff cuts the way to a repository in an object store, over TCP, in the middle of recoveries. Each waits, none
// ends early, and each holds every row.
func TestRepositoryIsCutOff(t *testing.T) {
	bucket := servers.S3(t)
	p := newProxy(t, strings.TrimPrefix(bucket.Endpoint, "http://"))
	place := strings.Replace(bucket.Bucket(t, "backups"), "?", "/pg/orders?", 1)
	place = strings.Replace(place, bucket.Endpoint, "http://"+p.listener.Addr().String(), 1)
	pg := pgtest.Start(t, pgtest.Options{Version: 15, SegmentMB: 1, Settings: ledgerSettings})
	pg.Exec(t, ledgerTable)
	pg.Exec(t, "create table ballast (filler text)")
	keys := filepath.Join(pg.Dir(t, "keys"), "aws") // wal-get runs as the server's user, who must be able to read it
	bucket.WriteCredentials(t, keys)
	place += "&credentials_file=" + keys
	s := newSite(t, fmt.Sprintf(strings.Replace(journeyHCL, `path = "@DIR@/repository"`, `url = "`+place+`"`, 1), pg.Conninfo()))
	s.run(t, "apply", "--auto-approve")
	var l ledger
	for range 16 {
		l.commit(t, pg)
		pg.Exec(t, "insert into ballast select repeat(md5(random()::text), 20) from generate_series(1, 1300)") // fills a segment
	}
	want := l.commit(t, pg).n
	last, err := wal.ParseLSN(l.at(want).lsn)
	if err != nil {
		t.Fatal(err)
	}
	s.run(t, "wal", "switch", "orders")
	eventually(t, "WAL of the last commit in the bucket", func() bool { return receiverOf(t, s).Archived >= last })
	s.run(t, "receiver", "stop", "orders")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var total int64 // bytes of a recovery that nobody disturbs
	for n, cut := range append([]time.Duration{0}, cuts()...) {
		dir := filepath.Join(s.dir, fmt.Sprintf("copy%d", n))
		s.run(t, "recover", "--repository", place, "--server", "orders", "--into", dir, "--latest", "--accept-loss",
			"--owner", owner(), "--bindir", pg.Bin, "--yes")
		if n == 0 {
			p.count()
			back := pgtest.StartDir(t, 15, dir, pgtest.Options{Version: 15})
			awaitPromotion(t, back)
			back.Stop(t, "immediate")
			total = p.count()
			t.Logf("%d bytes of a recovery", total)
			continue
		}
		early := p.cutAfter(total/20+random.Int64N(total/2), cut, n%2 == 1, func() bool {
			_, err := os.Stat(filepath.Join(dir, "recovery.signal"))
			return err != nil
		})
		began := time.Now()
		back := pgtest.StartDir(t, 15, dir, pgtest.Options{Version: 15})
		awaitPromotion(t, back)
		select {
		case ended := <-early:
			if ended {
				t.Errorf("recovery %d ended while the repository was cut off:\n%s", n, back.Log())
			}
		default:
			t.Errorf("recovery %d was through before the cut was over: %s", n, back.Log())
		}
		holds(t, back, want)
		t.Logf("recovery %d: cut off for %s, complete with %d rows after %.1f s", n, cut, want, time.Since(began).Seconds())
		back.Stop(t, "immediate")
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
}

// proxy passes TCP on until it is told to cut everything off.
type proxy struct {
	listener net.Listener
	to       string
	mu       sync.Mutex
	passed   int64 // bytes
	left     int64 // bytes until the cut; not positive: none is to come
	cut      func()
	off      bool // nothing goes through
	late     bool // what is cut off ends behind the request, instead of before it
	open     map[net.Conn]bool
	wait     sync.WaitGroup
}

func newProxy(t *testing.T, to string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, to: to, open: map[net.Conn]bool{}}
	p.wait.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.endAll()
		p.wait.Wait()
	})
	return p
}

func (p *proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.wait.Go(func() { p.serve(c) })
	}
}

func (p *proxy) serve(c net.Conn) {
	defer c.Close()
	p.mu.Lock()
	p.open[c] = true
	refused := p.off && !p.late
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.open, c)
	}()
	if refused {
		return
	}
	up, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer up.Close()
	p.wait.Go(func() {
		_, _ = io.Copy(up, gate{p, c})
		_ = up.Close()
	})
	_, _ = io.Copy(c, gate{p, up})
}

// gate reads from a connection what the proxy lets through.
type gate struct {
	p *proxy
	net.Conn
}

func (g gate) Read(b []byte) (int, error) {
	n, err := g.Conn.Read(b)
	if g.p.passes(int64(n)) {
		return n, err
	}
	return 0, io.ErrUnexpectedEOF
}

// passes counts bytes, and begins the cut when enough have passed.
func (p *proxy) passes(n int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.off {
		return false
	}
	p.passed += n
	if p.left > 0 {
		if p.left -= n; p.left <= 0 {
			p.off = true
			go p.cut()
			return false
		}
	}
	return true
}

// count gives how many bytes have passed since it was asked last.
func (p *proxy) count() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.passed
	p.passed = 0
	return n
}

// cutAfter cuts everything off once so many bytes have passed, for a while, and then tells what it found just before it ends.
func (p *proxy) cutAfter(bytes int64, cut time.Duration, late bool, found func() bool) <-chan bool {
	told := make(chan bool, 1)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left, p.late = bytes, late
	p.cut = func() {
		p.endAll()
		time.Sleep(cut)
		told <- found()
		p.mu.Lock()
		p.off = false
		p.mu.Unlock()
	}
	return told
}

func (p *proxy) endAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		_ = c.Close()
	}
}
