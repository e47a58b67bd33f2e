package recovery

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/repository"
)

// hashMethod is HASH_AM_OID of pg_am.dat.
const hashMethod = 405

// looksForHashes finds out whether a database that is left out has a hash index. VACUUM of one writes records that name the first page
// of a bucket for its lock alone, without an image of it whatever the settings are (REGBUF_NO_IMAGE in hash.c and hashovfl.c): where
// that page has no content, PostgreSQL ends recovery. An index that is made later is in the WAL as a whole.
func (r *restore) looksForHashes(ctx context.Context) error {
	if len(r.leftOut) == 0 {
		return nil
	}
	nodes, err := r.classFiles(ctx)
	if err != nil {
		return fmt.Errorf("look for hash indexes in backup %s: %w", r.Route.Backup, err)
	}
	var mu sync.Mutex
	k := postgres.Catalog{OID: postgres.ClassOID, Major: r.Backup.Info().Version / 10000}
	want := func(f *repository.File) bool { // also where it has more than a gigabyte
		name, _, _ := strings.Cut(path.Base(f.Path), ".")
		return r.isHollow(f) && slices.Contains(nodes, dirOf(f)+"/"+name)
	}
	return r.Backup.Pieces(ctx, repository.PieceOptions{Workers: 1, Want: want}, func(p repository.Piece) error {
		mu.Lock()
		defer mu.Unlock()
		for data := p.Data; len(data) >= repository.PageSize; data = data[repository.PageSize:] { // a piece begins with a page
			k.Rows(data[:repository.PageSize], func(row postgres.CatalogRow) { r.hashes = r.hashes || row.Method == hashMethod })
		}
		return nil
	})
}

// classFiles gives the file of pg_class of each database that is left out. One whose map of them cannot be read is taken to have
// a hash index.
func (r *restore) classFiles(ctx context.Context) (nodes []string, err error) {
	var mu sync.Mutex
	want := func(f *repository.File) bool {
		return f.Size <= repository.PageSize && path.Base(f.Path) == filenodeMap && isHollow(r.leftOut, &repository.File{
			Folder: f.Folder, Path: path.Join(path.Dir(f.Path), "1"), Type: f.Type,
		})
	}
	err = r.Backup.Pieces(ctx, repository.PieceOptions{Workers: 1, Want: want}, func(p repository.Piece) error {
		mu.Lock()
		defer mu.Unlock()
		files, err := postgres.FilenodeMap(p.Data)
		if err != nil || files[postgres.ClassOID] == 0 {
			r.hashes = true
			return nil
		}
		nodes = append(nodes, dirOf(p.File)+"/"+strconv.FormatUint(uint64(files[postgres.ClassOID]), 10))
		return nil
	})
	return nodes, err
}

// dirOf names the directory of a file in all folders.
func dirOf(f *repository.File) string {
	return strconv.FormatUint(uint64(f.Folder), 10) + "/" + path.Dir(f.Path)
}
