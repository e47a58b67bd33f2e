package recovery

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/repository"
)

// firstNormalOID is FirstNormalObjectId: below it lie the databases that initdb made.
const firstNormalOID = 16384

// filenodeMap tells the files of the catalogs that pg_class cannot tell, in global and in the directory of each database.
const filenodeMap = "pg_filenode.map"

// mostDatabases bounds what is read of pg_database.
const mostDatabases = 256 << 20

// Database is a database as the backup's pg_database has it.
type Database struct {
	OID  uint32 `json:"oid"`
	Name string `json:"name"`

	unsure bool // a newer version of its row may stand elsewhere, or it was deleted
}

// Drop gives the statement, of one line, that removes a database whose data was left out.
func (d Database) Drop() string {
	name := strings.ReplaceAll(d.Name, `"`, `""`)
	if !hasControl(name) {
		return `DROP DATABASE "` + name + `";`
	}
	var b strings.Builder
	for _, c := range strings.ReplaceAll(name, `\`, `\\`) {
		if hasControl(string(c)) {
			fmt.Fprintf(&b, `\%04x`, c)
		} else {
			b.WriteRune(c)
		}
	}
	return `DROP DATABASE U&"` + b.String() + `";`
}

// LeftOut gives the databases of which the restore in a data directory made empty files only, by name; none where nothing was
// left out, or nothing restored.
func LeftOut(dataDir string) ([]Database, error) {
	m, err := readMarker(stateDir(dataDir))
	if err != nil || m == nil {
		return nil, err
	}
	return m.LeftOut, nil
}

// Databases reads a backup's pg_database, in the order of its pages. A row that was changed stands there twice.
func Databases(ctx context.Context, b Backup) ([]Database, error) {
	content, err := filesOf(ctx, b, func(name string) bool { return name == "global/"+filenodeMap })
	if err != nil {
		return nil, err
	}
	nodes, err := postgres.FilenodeMap(content["global/"+filenodeMap])
	if err != nil {
		return nil, err
	}
	node := "global/" + strconv.FormatUint(uint64(nodes[postgres.DatabaseOID]), 10)
	content, err = filesOf(ctx, b, func(name string) bool { return name == node || strings.HasPrefix(name, node+".") })
	if err != nil {
		return nil, err
	}
	var out []Database
	k := postgres.Catalog{OID: postgres.DatabaseOID, Major: b.Info().Version / 10000}
	for _, data := range content {
		for ; len(data) >= repository.PageSize; data = data[repository.PageSize:] {
			k.Rows(data[:repository.PageSize], func(row postgres.CatalogRow) {
				out = append(out, Database{OID: row.OID, Name: row.Name, unsure: row.Old})
			})
		}
	}
	return out, nil
}

// filesOf reads small files of the data directory whole.
func filesOf(ctx context.Context, b Backup, named func(string) bool) (map[string][]byte, error) {
	var mu sync.Mutex
	out := map[string][]byte{}
	want := func(f *repository.File) bool { return f.Folder == 0 && f.Size <= mostDatabases && named(f.Path) }
	err := b.Pieces(ctx, repository.PieceOptions{Workers: 1, Want: want}, func(p repository.Piece) error {
		mu.Lock()
		defer mu.Unlock()
		all := out[p.File.Path]
		if all == nil {
			all = make([]byte, p.File.Size)
			out[p.File.Path] = all
		}
		copy(all[min(max(p.Offset, 0), int64(len(all))):], p.Data)
		return nil
	})
	return out, err
}

// chooseDatabases gives the databases that are left out when only some were chosen. Those that initdb makes are always
// restored; and so is a directory of which the catalog says nothing: its database is younger than the catalog's copy.
func chooseDatabases(all []Database, chosen []string) ([]Database, error) {
	keep := map[uint32]bool{}
	for _, name := range chosen {
		oid, err := databaseNamed(all, name)
		if err != nil {
			return nil, err
		}
		keep[oid] = true
	}
	var out []Database
	for _, d := range all {
		if d.OID < firstNormalOID || keep[d.OID] || slices.Contains([]string{"postgres", "template0", "template1"}, d.Name) {
			continue
		}
		if n := slices.IndexFunc(out, func(x Database) bool { return x.OID == d.OID }); n < 0 {
			out = append(out, d)
		} else if out[n].unsure {
			out[n] = d
		}
	}
	slices.SortFunc(out, func(a, b Database) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// databaseNamed finds the number of a database, where its name leads to one alone.
func databaseNamed(all []Database, name string) (uint32, error) {
	var sure []uint32
	var names []string
	unsure := false
	for _, d := range all {
		switch {
		case d.Name == name && d.unsure:
			unsure = true
		case d.Name == name && !slices.Contains(sure, d.OID):
			sure = append(sure, d.OID)
		}
		if !d.unsure && d.Name != "template0" && !slices.Contains(names, d.Name) {
			names = append(names, d.Name)
		}
	}
	slices.Sort(names)
	list := "it has " + strings.Join(names, ", ")
	switch {
	case len(sure) == 1:
		return sure[0], nil
	case len(sure) > 1 || unsure:
		return 0, &state.Error{
			Code: state.CodeTarget, Hint: "restore all databases, or choose another backup",
			Text: fmt.Sprintf("which database of the backup is %q is not sure: it was renamed, dropped or made anew around the time of the backup", name),
		}
	}
	if near := hclspec.Nearest(name, names); near != "" {
		list = fmt.Sprintf("Did you mean %q? %s", near, list)
	}
	return 0, &state.Error{Code: state.CodeTarget, Text: fmt.Sprintf("the backup has no database %q", name), Hint: list}
}

// selectDatabases finds what is left out, and how much that is in each folder.
func (r *restore) selectDatabases(ctx context.Context) error {
	chosen := r.Route.Destination.Databases
	if len(chosen) == 0 {
		return nil
	}
	if r.Route.Destination.PrimaryConninfo != "" {
		return refuse("leave out databases, or primary_conninfo", "a standby has all databases of its primary")
	}
	var err error
	if r.leftOut, r.hollow, err = leaveOut(ctx, r.Backup, chosen); err != nil {
		return err
	}
	for _, d := range r.leftOut {
		r.note(fmt.Sprintf("database %q was left out and cannot be used: drop it when recovery has ended: %s", d.Name, d.Drop()))
	}
	return r.looksForHashes(ctx)
}

// Choose gives the databases of a backup that a restore of the chosen ones leaves out, by name, and how many bytes they have there.
// state.CodeTarget is the error for a name that the backup does not have, or not surely.
func Choose(ctx context.Context, b Backup, chosen []string) (left []Database, bytes int64, err error) {
	left, folders, err := leaveOut(ctx, b, chosen)
	for _, n := range folders {
		bytes += n
	}
	return left, bytes, err
}

// leaveOut gives the databases that are left out, and the bytes of their files by folder.
func leaveOut(ctx context.Context, b Backup, chosen []string) ([]Database, map[uint32]int64, error) {
	all, err := Databases(ctx, b)
	if err != nil {
		return nil, nil, fmt.Errorf("read the databases of backup %s: %w", b.Info().ID, err)
	}
	left, err := chooseDatabases(all, chosen)
	if err != nil {
		return nil, nil, err
	}
	bytes := map[uint32]int64{}
	for f, err := range b.Files(ctx) {
		if err != nil {
			return nil, nil, err
		}
		if isHollow(left, &f) {
			bytes[f.Folder] += f.Size
		}
	}
	return left, bytes, nil
}

// hollowBytes is how much is left out of all folders.
func (r *restore) hollowBytes() (n int64) {
	for _, bytes := range r.hollow {
		n += bytes
	}
	return n
}

func (r *restore) isHollow(f *repository.File) bool { return isHollow(r.leftOut, f) }

// isHollow tells whether a file is of a database that is left out: it gets its length and no content, so that WAL can be
// replayed on it. pg_filenode.map, which is small, is restored: PostgreSQL looks at it without WAL. PG_VERSION is not: whoever
// connects is turned away by it, and would else find no catalogs, at which PostgreSQL panics and ends all sessions of the cluster.
func isHollow(left []Database, f *repository.File) bool {
	if len(left) == 0 || f.Type != repository.RegularFile {
		return false
	}
	oid := databaseOf(f)
	return oid != 0 && path.Base(f.Path) != filenodeMap &&
		slices.ContainsFunc(left, func(d Database) bool { return d.OID == oid })
}

// databaseOf gives the database in whose directory a file lies: base/OID, or PG_15_202209061/OID of a tablespace, which may
// lie in the data directory; 0: in none.
func databaseOf(f *repository.File) uint32 {
	dir := path.Dir(f.Path)
	above := path.Dir(dir)
	in := f.Folder == 0 && above == "base" || f.Folder != 0 && strings.HasPrefix(above, "PG_") ||
		f.Folder == 0 && strings.HasPrefix(above, "pg_tblspc/") && strings.HasPrefix(path.Base(above), "PG_")
	oid, err := strconv.ParseUint(path.Base(dir), 10, 32)
	if !in || err != nil {
		return 0
	}
	return uint32(oid)
}
