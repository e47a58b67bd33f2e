package basebackup

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/repository"
)

// TestCompressedTransfer takes a chain with each compression that a server was built with: a tablespace, a rate, what the server
// tells changed (17 and later) or what is compared, and every byte held against PostgreSQL's manifest. Fewer bytes come over the wire.
func TestCompressedTransfer(t *testing.T) {
	for _, version := range pgtest.SomeVersions(t, 15, 17) {
		if version >= 15 {
			t.Run(fmt.Sprint(version), func(t *testing.T) { compressedTransfer(t, version) })
		}
	}
	if _, err := decompress("brotli", strings.NewReader("not compressed at all")); err == nil {
		t.Error("brotli was taken")
	}
}

func compressedTransfer(t *testing.T, version int) {
	s, _, _ := ordersServer(t, version)
	s.Exec(t, "alter system set autovacuum = off") // it changes pages between two backups that are compared
	if version >= 17 {
		s.Exec(t, "alter system set summarize_wal = on")
	}
	s.SQL(t, "select pg_reload_conf()")
	l := newLinks(t, s)
	plain := l.take("")
	algorithms := []string{"gzip:1"}
	info, err := postgres.ParseConninfo(s.Conninfo(), nil, nil)
	check(t, err)
	conn, err := postgres.Connect(t.Context(), info, postgres.ConnectOptions{})
	check(t, err)
	facts, err := conn.Facts(t.Context())
	check(t, err)
	check(t, conn.Close())
	for _, a := range []string{"zstd:1", "lz4"} {
		word, _, _ := strings.Cut(a, ":")
		built := slices.Contains(facts.WALCompressions, word)
		if built != (version == 15) { // Debian's is built with both, the others with neither
			t.Errorf("%d says that it was built with %v", version, facts.WALCompressions)
		}
		if built {
			algorithms = append(algorithms, a)
			continue
		}
		l.o.Compression = a
		if _, err := Take(t.Context(), walsender(t, s), []*repository.Cluster{l.c}, l.o); err == nil {
			t.Errorf("%d was not built with %s, and took it", version, word)
		}
	}
	for n, algorithm := range algorithms {
		l.o.Compression, l.o.MaxRate = algorithm, 1<<30
		full := l.take("")
		t.Logf("%d %s: %d KiB came, %d without; %d of the cluster", version, algorithm, full.Received>>10, plain.Received>>10, full.Bytes>>10)
		if full.Received*2 > plain.Received {
			t.Errorf("%s: %d bytes came, and %d without it", algorithm, full.Received, plain.Received)
		}
		s.Exec(t, fmt.Sprintf("update lines set m = 'x' || m where i %% 50 = %d", n))
		s.Exec(t, fmt.Sprintf("update orders set note = 'y%d' where id %% 100 = 1", n))
		s.Exec(t, "checkpoint")
		next := l.take(l.last)
		if next.Kind != repository.KindIncremental || next.told() != (version >= 17) {
			t.Errorf("%s: %+v", algorithm, next)
		}
		l.equal(l.last)
	}
}
