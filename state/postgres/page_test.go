package postgres_test

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/wal"
)

// plainChecksum is PostgreSQL's algorithm as its comment tells it, without any care for speed.
func plainChecksum(page []byte, block uint32) uint16 {
	page = append([]byte{}, page...)
	page[8], page[9] = 0, 0
	sums := postgres.LaneSeed()
	for row := 0; row < len(page)/128; row++ {
		for lane := range sums {
			t := sums[lane] ^ binary.LittleEndian.Uint32(page[row*128+lane*4:])
			sums[lane] = t*16777619 ^ t>>17
		}
	}
	all := uint32(0)
	for _, s := range sums {
		for range 2 {
			s = s*16777619 ^ s>>17
		}
		all ^= s
	}
	return uint16((all^block)%65535 + 1)
}

func TestPageChecksumIsTheAlgorithm(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{1024, 8192, 32768} {
		page := make([]byte, size)
		for i := range page {
			page[i] = byte(r.Uint32())
		}
		block := r.Uint32()
		if got, want := postgres.PageChecksum(page, block), plainChecksum(page, block); got != want {
			t.Fatalf("%d bytes: %d, want %d", size, got, want)
		}
	}
}

// Every page that a server wrote checks, and with one bit changed it does not.
func TestPagesOfRealServers(t *testing.T) {
	for _, v := range pgtest.SomeVersions(t, 13, 18) {
		s := pgtest.Start(t, pgtest.Options{Version: v})
		s.Exec(t, "create table t as select g, md5(g::text) from generate_series(1, 20000) g")
		s.Exec(t, "create index on t (g)")
		s.Stop(t, "fast")
		files, err := filepath.Glob(filepath.Join(s.DataDir, "base", "*", "[1-9]*"))
		if err != nil || len(files) < 100 {
			t.Fatalf("%d files, %v", len(files), err)
		}
		good, r := 0, rand.New(rand.NewPCG(3, uint64(v)))
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for block := 0; block*8192+8192 <= len(content); block++ {
				page := content[block*8192 : block*8192+8192]
				switch got := postgres.CheckPage(page, uint32(block), 1<<62); got {
				case postgres.PageGood:
					good++
				case postgres.PageUnset:
					continue
				default:
					t.Fatalf("%s block %d: verdict %d", file, block, got)
				}
				page[16+r.IntN(8192-16)] ^= 1 << r.IntN(8) // behind LSN, checksum, flags, bounds
				if got := postgres.CheckPage(page, uint32(block), 1<<62); got != postgres.PageBad {
					t.Fatalf("%s block %d with another bit: verdict %d", file, block, got)
				}
				if got := postgres.CheckPage(page, uint32(block), wal.LSN(1)); got != postgres.PageNewer {
					t.Fatalf("%s block %d, newer than the backup: verdict %d", file, block, got)
				}
			}
		}
		if good < 500 {
			t.Fatalf("only %d pages", good)
		}
	}
}

func BenchmarkPageChecksum(b *testing.B) {
	page := make([]byte, 8192)
	b.SetBytes(8192)
	for b.Loop() {
		postgres.PageChecksum(page, 7)
	}
}
