package basebackup

import (
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/seal"
)

func TestTakeCompressedTransfer(t *testing.T) {
	s, _, _ := ordersServer(t, pgtest.SomeVersions(t, 15)[0])
	if s.Version < 15 {
		t.Skip("servers compress from 15 on")
	}
	for i, algorithm := range []string{"gzip", "lz4", "zstd:1"} {
		t.Run(algorithm, func(t *testing.T) {
			conn := walsender(t, s)
			system, err := conn.IdentifySystem(t.Context())
			check(t, err)
			repo, _ := newRepository(t, seal.Codec{Algorithm: seal.LZ4})
			c := clusterIn(t, repo, s, system.ID)
			o := testOptions(t)
			o.Compression, o.Random = algorithm, func() uint32 { return uint32(i) }
			result, err := Take(t.Context(), conn, []*repository.Cluster{c}, o)
			check(t, err)
			checkContents(t, c, result)
		})
	}
	if _, err := decompress("brotli", strings.NewReader("not compressed at all")); err == nil {
		t.Error("brotli was taken")
	}
}
