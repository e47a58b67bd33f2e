package basebackup

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest"
)

// toldParent is a committed full backup with one relation of four pages, and its map.
func toldParent(t testing.TB) *repository.Cluster {
	t.Helper()
	repo, err := repository.Create(t.Context(), storetest.NewMemory(time.Now), repository.CreateOptions{Now: testClock})
	check(t, err)
	c := repo.Cluster("orders", "7335180256203400928")
	check(t, c.Ensure(t.Context(), repository.ClusterFacts{Major: 17, SegmentSize: 16 << 20, PageSize: postgres.PageBytes, PageChecksums: true}))
	k := beginTold(t, c, "", 7)
	files := map[string]string{"base/5/16384": strings.Repeat("p", 4*postgres.PageBytes), "base/5/16384_vm": strings.Repeat("v", postgres.PageBytes)}
	entries := []entry{dir("base"), dir("base/5")}
	for path, data := range files {
		entries = append(entries, entry{name: path, data: data})
	}
	check(t, k.Archive(postgres.BackupTablespace{}, bytes.NewReader(closed(stream(entries...)))))
	check(t, k.Manifest(bytes.NewReader(manifestOf(t, files))))
	k.label = []byte("START WAL LOCATION")
	_, err = k.commit(t.Context(), t.Context(), postgres.BackupResult{StopLSN: 0x3000100, Timeline: 1}, judgement{})
	check(t, err)
	k.endLeases()
	return c
}

// beginTold begins a backup of which the server tells what changed, or the full one that it builds on.
func beginTold(t testing.TB, c *repository.Cluster, parent string, number uint32) *taking {
	t.Helper()
	k := &taking{
		ctx: t.Context(), o: Options{Now: func() time.Time { return testClock }, Parent: parent}, version: 170010,
		dst: []*repository.Cluster{c}, outcomes: make([]Outcome, 1), members: newMembers(), began: testClock,
	}
	start := postgres.BackupStart{LSN: 0x3000028, Timeline: 1, Tablespaces: []postgres.BackupTablespace{{}}}
	if parent != "" {
		f, err := c.InspectParent(t.Context(), parent)
		check(t, err)
		open, err := c.OpenParent(t.Context(), parent)
		check(t, err)
		k.parent = &parentage{facts: []repository.ParentFacts{f}, open: map[string]*repository.Parent{f.Copy: open}}
		k.summaries, start.LSN = true, 0x4000028
		k.o.Truncated = func(context.Context, postgres.Since) (map[postgres.Relation]uint32, error) { return nil, nil }
	}
	k.id = repository.NewBackupID(testClock, k.kind(), number)
	check(t, k.Begin(start))
	return k
}

// part is what a server sends of a file: the head, then pages.
func part(least uint32, blocks ...uint32) string {
	b := binary.LittleEndian.AppendUint32(nil, 0xd3ae1f0d)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(blocks)))
	b = binary.LittleEndian.AppendUint32(b, least)
	for _, n := range blocks {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	if len(blocks) > 0 {
		b = append(b, make([]byte, -len(b)&(postgres.PageBytes-1))...)
	}
	return string(b) + strings.Repeat("n", len(blocks)*postgres.PageBytes)
}

func TestHostileParts(t *testing.T) {
	sound := part(4, 1, 3)
	const name, whole = "base/5/INCREMENTAL.16384", "base/5/16384"
	for _, c := range []struct {
		name    string
		entries []entry
		lists   map[string]string // by the manifest; nil: what came
		taken   bool
		corrupt bool // said so
	}{
		{"sound", []entry{{name: name, data: sound}}, nil, true, false},
		{"nothing changed", []entry{{name: name, data: part(4)}}, nil, true, false},
		{"a map in part", []entry{{name: "base/5/INCREMENTAL.16384_vm", data: part(1)}}, nil, true, false},
		{"no relation's", []entry{{name: "base/5/INCREMENTAL.x", data: "x"}}, nil, true, false},
		{"whole too", []entry{{name: name, data: sound}, {name: whole, data: "x"}}, nil, false, true},
		{"whole before", []entry{{name: whole, data: "x"}, {name: name, data: sound}}, nil, false, true},
		{"twice", []entry{{name: name, data: sound}, {name: name, data: sound}}, nil, false, true},
		{"without a directory", []entry{{name: "base/7/INCREMENTAL.16384", data: sound}}, nil, false, true},
		{"of a file that is not in the parent", []entry{{name: "base/5/INCREMENTAL.16385", data: sound}}, nil, false, true},
		{"another magic number", []entry{{name: name, data: "PGKV" + sound[4:]}}, nil, false, true},
		{"a page too few", []entry{{name: name, data: sound[:len(sound)-postgres.PageBytes]}}, nil, false, true},
		{"bytes too many", []entry{{name: name, data: sound + "x"}}, nil, false, true},
		{"empty", []entry{{name: name}}, nil, false, false},
		{"a page behind its segment", []entry{{name: name, data: part(4, 131072)}}, nil, false, true},
		{"a link", []entry{{name: name, kind: '2', link: "/etc"}}, nil, false, true},
		{"listed whole", []entry{{name: name, data: sound}}, map[string]string{whole: sound}, false, true},
		{"listed both ways", []entry{{name: name, data: sound}}, map[string]string{whole: sound, name: sound}, false, true},
		{"another sum", []entry{{name: name, data: sound}}, map[string]string{name: part(4, 1, 2)}, false, true},
		{"not listed", []entry{{name: name, data: sound}}, map[string]string{}, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			cluster := toldParent(t)
			k := beginTold(t, cluster, repository.NewBackupID(testClock, repository.KindFull, 7), 7)
			defer k.endLeases()
			defer func() { k.abort(t.Context(), io.EOF) }()
			err := k.Archive(postgres.BackupTablespace{}, bytes.NewReader(closed(stream(append([]entry{dir("base"), dir("base/5")}, c.entries...)...))))
			if lists := c.lists; err == nil {
				if lists == nil {
					lists = map[string]string{}
					for _, e := range c.entries {
						lists[e.name] = e.data
					}
				}
				err = k.Manifest(bytes.NewReader(manifestOf(t, lists)))
			}
			if (err == nil) != c.taken || c.corrupt != (state.CodeOf(err) == state.CodeCorrupt) {
				t.Errorf("%s: %v", state.CodeOf(err), err)
			}
		})
	}
}

// FuzzParts: of whatever is sent in part the backup keeps files of whole pages, each by its own name, or it ends.
func FuzzParts(f *testing.F) {
	f.Add(closed(stream(dir("base"), dir("base/5"), entry{name: "base/5/INCREMENTAL.16384", data: part(4, 1, 3)})))
	f.Add(closed(stream(dir("base"), dir("base/5"), entry{name: "base/5/INCREMENTAL.16384", data: part(9)}, entry{name: "backup_label", data: "INCREMENTAL FROM TLI: 1\n"})))
	cluster, n := toldParent(f), uint32(7)
	f.Fuzz(func(t *testing.T, b []byte) {
		n++
		k := beginTold(t, cluster, repository.NewBackupID(testClock, repository.KindFull, 7), n)
		defer k.endLeases()
		defer func() { k.abort(t.Context(), io.EOF) }()
		if k.Archive(postgres.BackupTablespace{}, bytes.NewReader(b)) == nil {
			check(t, k.endData())
		}
	})
}
