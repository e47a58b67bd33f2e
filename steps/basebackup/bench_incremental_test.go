package basebackup

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/seal"
)

// BenchmarkIncremental takes a full backup, changes 2 % of the pages, takes an incremental one, and tells what the second needs of the
// first's bytes and time: go test -bench Incremental -benchtime 5x. PGKEEP_BENCH_MB is how much data there is (default 512).
func BenchmarkIncremental(b *testing.B) {
	size := 512
	if v := os.Getenv("PGKEEP_BENCH_MB"); v != "" {
		n, err := strconv.Atoi(v)
		check(b, err)
		size = n
	}
	s := pgtest.Start(b, pgtest.Options{Version: 15, OnDisk: true, Settings: map[string]string{"max_wal_size": "8GB"}})
	// Half the rows are such as people have, which compress some three times; the other half do not.
	s.Exec(b, "create table rows (id int, customer int, at timestamp, state text, note text) with (fillfactor = 90)")
	s.Exec(b, fmt.Sprintf(`insert into rows select i, i %% 5000, timestamp '2026-01-01' + i * interval '1 s', (array['new', 'paid', 'sent', 'back'])[1 + i %% 4],
		case when i / 1000 %% 2 = 0 then 'order ' || i || ' of customer ' || i %% 5000 || ' is to be delivered to the back door' else md5(i::text) || md5((i + 1)::text) end
		from generate_series(1, %d) i`, size*7600))
	s.Exec(b, "vacuum freeze rows")
	s.Exec(b, "checkpoint")
	system, err := walsender(b, s).IdentifySystem(b.Context())
	check(b, err)
	var bytes, walls []float64
	for b.Loop() {
		repo, _ := newRepository(b, seal.Codec{})
		c := clusterIn(b, repo, s, system.ID)
		o := testOptions(b)
		o.Now = stepping()
		take := func() (Result, time.Duration) {
			conn := walsender(b, s)
			began := time.Now()
			result, err := Take(b.Context(), conn, []*repository.Cluster{c}, o)
			check(b, err)
			took := time.Since(began)
			check(b, conn.Close())
			return result, took
		}
		full, fullTook := take()
		s.Exec(b, "update rows set customer = customer + 1 where ctid = any (array(select format('(%s,1)', n * 50 + floor(random() * 50))::tid from generate_series(0, (select relpages / 50 - 1 from pg_class where relname = 'rows')) n))")
		s.Exec(b, "checkpoint")
		o.Kind, o.Parent = repository.KindIncremental, full.ID
		second, secondTook := take()
		if second.Kind != repository.KindIncremental {
			b.Fatalf("%+v", second)
		}
		bytes = append(bytes, float64(second.Stored)/float64(full.Stored))
		walls = append(walls, secondTook.Seconds()/fullTook.Seconds())
		b.Logf("full %d MiB of %d MiB in %.2f s; incremental %.2f MiB in %.2f s", full.Stored>>20, full.Bytes>>20, fullTook.Seconds(), float64(second.Stored)/(1<<20), secondTook.Seconds())
		check(b, os.RemoveAll(c.Where()))
	}
	slices.Sort(bytes)
	slices.Sort(walls)
	b.ReportMetric(bytes[len(bytes)/2], "stored/full")
	b.ReportMetric(walls[len(walls)/2], "wall/full")
}
