package observe

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/wal"
)

// blockSize is BLCKSZ; no distribution changes it.
const blockSize = 8192

// mostCatalog bounds what is read of one file of a catalog.
const mostCatalog = 256 << 20

// Names tells what relations are called, from the catalogs as they lie in a backup's files. It asks for the relations of
// some databases; those that are not in the backup get no name. A relation's file may be another's by now, and a name may
// have changed since: a name is a word for people, and unsure where the row has a successor.
// major is the cluster's.
func Names(ctx context.Context, b *repository.BackupReader, major int, want []wal.Relation) (map[wal.Relation]state.NamedRelation, error) {
	n := naming{ctx: ctx, b: b, major: major, want: want, maps: map[string][]byte{}, out: map[wal.Relation]state.NamedRelation{}}
	for _, r := range want {
		if r.Database != 0 && !slices.Contains(n.databases, r.Database) {
			n.databases = append(n.databases, r.Database)
		}
	}
	if err := n.readMaps(); err != nil {
		return nil, err
	}
	if err := n.readClasses(); err != nil {
		return nil, err
	}
	if err := n.readNames(); err != nil {
		return nil, err
	}
	n.join()
	return n.out, nil
}

// naming is one search for names.
type naming struct {
	ctx       context.Context // of the one call of Names that this value lives for
	b         *repository.BackupReader
	major     int
	want      []wal.Relation
	databases []uint32

	maps       map[string][]byte // pg_filenode.map by the directory of a database, and "global"
	classes    []inDatabase
	namespaces []inDatabase
	names      []postgres.CatalogRow // of databases

	out map[wal.Relation]state.NamedRelation
}

// inDatabase is a row of a catalog of one database.
type inDatabase struct {
	postgres.CatalogRow
	database uint32
}

// databaseOf gives the database whose directory a file of a backup lies in: base/OID, or PG_15_202209061/OID below a
// tablespace; 0: none of those that are asked for.
func (n *naming) databaseOf(file string) uint32 {
	dir := path.Dir(file)
	oid, err := strconv.ParseUint(path.Base(dir), 10, 32)
	above := path.Dir(dir)
	if err != nil || above != "base" && !strings.HasPrefix(above, "PG_") || !slices.Contains(n.databases, uint32(oid)) {
		return 0
	}
	return uint32(oid)
}

func (n *naming) readMaps() error {
	var mu sync.Mutex
	want := func(f *repository.File) bool {
		return path.Base(f.Path) == "pg_filenode.map" && f.Size < blockSize && (f.Path == "global/pg_filenode.map" || n.databaseOf(f.Path) != 0)
	}
	return n.b.Pieces(n.ctx, repository.PieceOptions{Want: want}, func(p repository.Piece) error {
		mu.Lock()
		defer mu.Unlock()
		dir := path.Dir(p.File.Path)
		n.maps[dir] = append(n.maps[dir], make([]byte, max(0, int(p.Offset)+len(p.Data)-len(n.maps[dir])))...)
		copy(n.maps[dir][p.Offset:], p.Data)
		return nil
	})
}

// catalogs are the files of catalogs, by path without the number of the gigabyte, with the oid of the catalog.
type catalogs map[string]uint32

// of gives the catalog that a file belongs to; 0: none.
func (c catalogs) of(file string) uint32 {
	base, _, _ := strings.Cut(path.Base(file), ".") // 1259, 1259.1
	return c[path.Join(path.Dir(file), base)]
}

// readClasses reads pg_class of each database, and pg_database.
func (n *naming) readClasses() error {
	files := catalogs{}
	for dir, content := range n.maps {
		m, err := postgres.FilenodeMap(content)
		if err != nil {
			return fmt.Errorf("find the catalogs in %s: %w", dir, err)
		}
		for _, oid := range []uint32{postgres.ClassOID, postgres.DatabaseOID} {
			if node, ok := m[oid]; ok {
				files[path.Join(dir, fmt.Sprint(node))] = oid
			}
		}
	}
	return n.read(files)
}

// readNames reads pg_namespace of each database, which pg_class leads to.
func (n *naming) readNames() error {
	files := catalogs{}
	for dir := range n.maps {
		for _, c := range n.classes {
			if c.OID == postgres.NamespaceOID && !c.Old && n.databaseOf(dir+"/x") == c.database {
				files[path.Join(dir, fmt.Sprint(c.Filenode))] = postgres.NamespaceOID
			}
		}
	}
	return n.read(files)
}

// read takes the rows of catalogs.
func (n *naming) read(files catalogs) error {
	if len(files) == 0 {
		return nil
	}
	var mu sync.Mutex
	want := func(f *repository.File) bool { return files.of(f.Path) != 0 && f.Size <= mostCatalog }
	return n.b.Pieces(n.ctx, repository.PieceOptions{Want: want}, func(p repository.Piece) error {
		mu.Lock()
		defer mu.Unlock()
		k := postgres.Catalog{OID: files.of(p.File.Path), Major: n.major}
		database := n.databaseOf(p.File.Path)
		for data := p.Data; len(data) >= blockSize; data = data[blockSize:] { // a piece begins with a page
			k.Rows(data[:blockSize], func(r postgres.CatalogRow) { n.keep(k.OID, inDatabase{r, database}) })
		}
		return nil
	})
}

func (n *naming) keep(catalog uint32, r inDatabase) {
	switch catalog {
	case postgres.DatabaseOID:
		n.names = append(n.names, r.CatalogRow)
	case postgres.NamespaceOID:
		n.namespaces = append(n.namespaces, r)
	default:
		asked := func(w wal.Relation) bool { return w.Number == r.Filenode && w.Database == r.database }
		if r.OID == postgres.NamespaceOID || slices.ContainsFunc(n.want, asked) {
			n.classes = append(n.classes, r)
		}
	}
}

// join puts the parts of the names together.
func (n *naming) join() {
	for _, w := range n.want {
		if w.Number == 0 {
			n.out[w] = state.NamedRelation{Relation: w, Name: n.database(w.Database), Kind: "database"}
			continue
		}
		for _, c := range n.classes {
			if c.Filenode != w.Number || c.database != w.Database {
				continue
			}
			if old, have := n.out[w]; have && (!old.Unsure || c.Old) {
				continue
			}
			n.out[w] = state.NamedRelation{
				Relation: w, Kind: postgres.KindOfRelation(c.Kind), Unsure: c.Old,
				Name: n.database(w.Database) + "." + n.namespace(w.Database, c.Namespace) + "." + c.Name,
			}
		}
	}
}

func (n *naming) database(oid uint32) string {
	name := fmt.Sprint(oid)
	for _, d := range n.names {
		if d.OID == oid {
			name = d.Name
			if !d.Old {
				return name
			}
		}
	}
	return name
}

func (n *naming) namespace(database, oid uint32) string {
	name := fmt.Sprint(oid)
	for _, s := range n.namespaces {
		if s.database == database && s.OID == oid {
			name = s.Name
			if !s.Old {
				return name
			}
		}
	}
	return name
}
