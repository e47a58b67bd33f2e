package repository

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/state/jsonlist"
	"github.com/pgkeep/pgkeep/state/wal"
)

// repeated is a list of n bytes of one entry again and again.
func repeated(entry string, n int) string {
	return "[" + strings.Repeat(entry+",", n/(len(entry)+1)) + entry + "]"
}

// proved ends a JSON object as encodeRecord does.
func proved(object string) []byte {
	head := strings.TrimSuffix(object, "}") + ",\n  "
	sum := sha256.Sum256([]byte(head))
	return []byte(head + checkMember + hex.EncodeToString(sum[:]) + "\"\n}\n")
}

// allocated is how many bytes of memory f asks for.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestHostileListsNeedLittleMemory decodes lists of as many entries as fit into some megabytes, which stored are some kilobytes: what they need
// is bounded by their length, and not by how many entries it can be made to hold.
func TestHostileListsNeedLittleMemory(t *testing.T) {
	const n = 4 << 20
	files := func(b []byte) error { _, err := decodeFileShard(b, "b", 0); return err }
	hashes := func(b []byte) error {
		b = append([]byte{'P', 'G', 'K', 'H', byte(len(b)), byte(len(b) >> 8), byte(len(b) >> 16), byte(len(b) >> 24)}, b...)
		_, _, err := decodeHashShard(b, "b", 0)
		return err
	}
	marks := func(b []byte) error {
		var m mark
		err := decodeRecord(b, &m)
		if err == nil {
			_, _, err = m.Open.entry()
		}
		return err
	}
	index := func(b []byte) error { _, err := decodeIndex(b, indexName{}); return err }
	folders := func(b []byte) error { var l folderList; return decodeRecord(b, &l) }
	head := `{"backup":"b","number":0,`
	summary := func(list, entry string) string {
		return `{"segments":[{"summary":{"` + list + `":` + repeated(entry, n) + `}}]}`
	}
	frame := `{"v":0,"o":0,"s":1,"r":1,"x":"0123456789abcdef"}`
	for name, c := range map[string]struct {
		json    string
		decode  func([]byte) error
		honest  bool // all of it
		atTimes uint64
	}{
		"members":               {head + `"members":` + repeated(`{}`, n) + `}`, files, false, 2},
		"members of few bytes":  {head + `"members":` + repeated(`{"p":"a","t":"d","s":0}`, n) + `}`, files, true, 15},
		"members twice":         {head + `"members":` + repeated(`{}`, n/2) + `,"members":` + repeated(`{}`, n/2) + `}`, files, false, 2},
		"a long list":           {head + `"members":` + repeated(`{"p":"a","t":"d","m":0,"T":0}`, 4*n) + `}`, files, false, 1},
		"a long list before":    {head + `"members":` + repeated(`{"p":"a","t":"d","m":0,"T":0}`, 4*n) + `,"members":[{}]}`, files, false, 1},
		"extents":               {head + `"members":[{"p":"a","t":"f","x":` + repeated(`[]`, n) + `}]}`, files, false, 2},
		"extents of nothing":    {head + `"members":[{"p":"a","t":"f","x":` + repeated(`[0,0,0]`, n) + `}]}`, files, false, 8},
		"frames":                {head + `"frames":` + repeated(`{}`, n) + `,"members":[]}`, files, false, 2},
		"frames of few bytes":   {head + `"frames":` + repeated(`{"s":1234}`, n) + `,"members":[]}`, files, false, 8},
		"frames alone":          {head + `"frames":` + repeated(frame, n) + `,"members":[]}`, files, true, 8},
		"others":                {head + `"others":` + repeated(`""`, n) + `,"members":[]}`, files, true, 8},
		"runs":                  {head + `"runs":` + repeated(`{}`, n) + `}`, hashes, false, 3},
		"frames of a mark":      {`{"open":{"p":"YQ==","frames":` + repeated(`{}`, n) + `}}`, marks, false, 2},
		"extents of a mark":     {`{"open":{"p":"YQ==","x":` + repeated(`[]`, n) + `}}`, marks, false, 2},
		"segments":              {`{"segments":` + repeated(`{}`, n) + `}`, index, false, 2},
		"partials":              {`{"partials":` + repeated(`{}`, n) + `}`, index, false, 2},
		"segments that go":      {`{"removing":` + repeated(`0`, n) + `}`, index, true, 4},
		"restore points":        {summary("restore_points", `{}`), index, false, 2},
		"deeds":                 {summary("deeds", `{}`), index, false, 2},
		"prepared transactions": {summary("prepared", `{}`), index, false, 2},
		"touched relations":     {`{"segments":[{"summary":{"deeds":[{"relations":` + repeated(`{}`, n) + `}]}}]}`, index, false, 2},
		"folders":               {`{"folders":` + repeated(`{}`, n) + `}`, folders, false, 2},
	} {
		t.Run(name, func(t *testing.T) {
			raw := []byte(c.json)
			if strings.Contains(name, "mark") || name == "folders" {
				raw = proved(c.json)
			}
			var err error
			used := allocated(func() { err = c.decode(raw) })
			t.Logf("%d bytes need %d, %.1f times as much: %v", len(raw), used, float64(used)/float64(len(raw)), err)
			if most := c.atTimes*uint64(len(raw)) + 64<<10; used > most {
				t.Errorf("%d bytes need %d of memory, more than %d times as much", len(raw), used, c.atTimes)
			}
			if (err == nil) != c.honest {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestShortestEntriesAreRead writes lists of the shortest entries that there may be: none is taken for a hostile one.
func TestShortestEntriesAreRead(t *testing.T) {
	shortest(t, fileRecord{Path: "a", Type: "d"})
	shortest(t, frameRecord{Sum: "0123456789abcdef"})
	shortest(t, hashRun{Path: []byte("a")})
	shortest(t, indexEntry{}) // of a segment whose note is broken
	shortest(t, indexPartial{})
	shortest(t, Folder{})
	shortest(t, wal.RestorePoint{})
	shortest(t, wal.Deed{})
	shortest(t, wal.Touched{})
	shortest(t, wal.PreparedEvent{})
	shortest(t, uint32(0))
	shortest(t, "")
}

func shortest[T any](t *testing.T, entry T) {
	t.Helper()
	for _, n := range []int{0, 1, 2, 1000} {
		l := make(jsonlist.Of[T], n)
		for i := range l {
			l[i] = entry
		}
		b := must(json.Marshal(l))(t)
		var again jsonlist.Of[T]
		if err := json.Unmarshal(b, &again); err != nil || len(again) != n {
			t.Errorf("%d of %T, %s…: %v", n, entry, b[:min(80, len(b))], fmt.Sprint(err))
		}
	}
}
