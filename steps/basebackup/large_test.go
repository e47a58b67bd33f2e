package basebackup

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/seal"
)

// TestRelationOverOneGibibyte takes a full and an incremental backup of a relation of two files. Most of its pages are empty, so that it
// takes little room.
func TestRelationOverOneGibibyte(t *testing.T) {
	s := pgtest.Start(t, pgtest.Options{Version: pgtest.SomeVersions(t, 15)[0]})
	s.Exec(t, "create table wide (i int, m text)")
	s.Exec(t, "insert into wide select i, repeat('w', 900) from generate_series(1, 400) i")
	path := s.SQL(t, "select pg_relation_filepath('wide')")
	s.Stop(t, "fast")
	check(t, os.Truncate(filepath.Join(s.DataDir, path), postgres.SegmentPages*8192))
	s.StartAgain(t)
	s.Exec(t, "insert into wide select i, repeat('x', 900) from generate_series(401, 800) i")
	s.Exec(t, "checkpoint")
	if _, err := os.Stat(filepath.Join(s.DataDir, path+".1")); err != nil {
		t.Fatal(err)
	}
	system, err := walsender(t, s).IdentifySystem(t.Context())
	check(t, err)
	repo, _ := newRepository(t, seal.Codec{})
	c := clusterIn(t, repo, s, system.ID)
	o := testOptions(t)
	o.Now = stepping()
	full, err := Take(t.Context(), walsender(t, s), []*repository.Cluster{c}, o)
	check(t, err)
	s.Exec(t, "update wide set m = upper(m) where i in (7, 555)")
	o.Kind, o.Parent = repository.KindIncremental, full.ID
	second, err := Take(t.Context(), walsender(t, s), []*repository.Cluster{c}, o)
	check(t, err)
	if second.Kind != repository.KindIncremental || second.Bytes < 1<<30 || second.Bytes-second.Referred > 4<<20 || len(second.Damaged)+len(second.Suspects) > 0 {
		t.Errorf("%+v", second)
	}
	checkContents(t, c, second)
	b, err := c.OpenBackup(t.Context(), second.ID)
	check(t, err)
	for _, name := range []string{path, path + ".1"} {
		sum, want := checksumOf(t, b, name)
		if sum != want {
			t.Errorf("%s comes back with checksum %08x, it was %08x", name, sum, want)
		}
	}
}

// checksumOf writes one file of a backup, without its empty stretches, and reads it back.
func checksumOf(t *testing.T, b *repository.BackupReader, path string) (got, want uint32) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	check(t, err)
	defer func() { _ = f.Close() }()
	zeros := make([]byte, 1<<20)
	size := int64(-1)
	one := repository.PieceOptions{Workers: 1, Want: func(m *repository.File) bool {
		if m.Folder == 0 && m.Path == path {
			size, want = m.Size, m.CRC32C
		}
		return m.Folder == 0 && m.Path == path
	}}
	check(t, b.Pieces(t.Context(), one, func(p repository.Piece) error {
		if bytes.Equal(p.Data, zeros[:len(p.Data)]) {
			return nil
		}
		if _, err := f.WriteAt(p.Data, p.Offset); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		return nil
	}))
	check(t, f.Truncate(size))
	h := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	_, err = io.Copy(h, io.NewSectionReader(f, 0, size))
	check(t, err)
	return h.Sum32(), want
}
