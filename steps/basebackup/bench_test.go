package basebackup

import (
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/seal"
)

// BenchmarkTake backs a running server up, to be profiled: PGKEEP_BENCH_SERVER="host=… port=…" go test -bench Take -cpuprofile cpu.out.
func BenchmarkTake(b *testing.B) {
	server := os.Getenv("PGKEEP_BENCH_SERVER")
	if server == "" {
		b.Skip("PGKEEP_BENCH_SERVER names no server")
	}
	info, err := postgres.ParseConninfo(server, nil, nil)
	check(b, err)
	repo, _ := newRepository(b, seal.Codec{Algorithm: seal.Algorithm(os.Getenv("PGKEEP_BENCH_CODEC"))})
	for b.Loop() {
		conn, err := postgres.ConnectReplication(b.Context(), info, postgres.ConnectOptions{ApplicationName: "pgkeep test", Timeout: 10 * time.Second})
		check(b, err)
		system, err := conn.IdentifySystem(b.Context())
		check(b, err)
		c := repo.Cluster("orders.eu", system.ID)
		check(b, c.Ensure(b.Context(), repository.ClusterFacts{Major: 15, SegmentSize: 16 << 20, PageSize: 8192, PageChecksums: true}))
		o := testOptions(b)
		o.Random = rand.Uint32
		result, err := Take(b.Context(), conn, []*repository.Cluster{c}, o)
		check(b, err)
		b.SetBytes(result.Bytes)
		check(b, conn.Close())
	}
}
