package basebackup

import (
	"fmt"
	"testing"

	"github.com/zeebo/xxh3"
	"pgregory.net/rapid"

	"github.com/pgkeep/pgkeep/state/repository"
)

// TestSeen compares with a map, many members in few parts, so that each part grows and has slots that belong elsewhere.
func TestSeen(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var s seen
		defer s.close()
		want := map[xxh3.Uint128]came{}
		parts := rapid.Uint64Range(1, 3).Draw(rt, "parts")
		for i := range rapid.IntRange(0, 3000).Draw(rt, "members") {
			path := xxh3.HashString128(fmt.Sprint("base/5/", i))
			path.Hi = path.Hi&(1<<56-1) | (path.Hi>>56%parts)<<56
			path.Lo %= 500 // they meet
			c := came{path: path, size: int64(i) << 31, crc: uint32(i) * 7919, kind: repository.RegularFile, listed: i%3 == 0}
			if i%5 == 0 {
				c.kind = repository.Directory
			}
			if _, there := s.find(path); there != (want[path].kind != 0) {
				rt.Fatalf("member %d came before: %v", i, there)
			}
			if err := s.put(c); err != nil {
				rt.Fatal(err)
			}
			want[path] = c
		}
		used := 0
		for _, p := range s.parts {
			used += p.used
		}
		if used != len(want) {
			rt.Fatalf("%d slots for %d members", used, len(want))
		}
		for path, c := range want {
			if got, ok := s.find(path); !ok || got != c {
				rt.Fatalf("%+v, want %+v", got, c)
			}
		}
		s.close()
		if _, ok := s.find(xxh3.HashString128("base/5/0")); ok {
			rt.Fatal("closed, and it knows a member")
		}
	})
}
