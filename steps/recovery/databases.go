package recovery

import (
	"context"
	"fmt"
	"path"
	"regexp"
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

// mostDatabases bounds what is read of pg_database.
const mostDatabases = 256 << 20

// Database is a database as the backup's pg_database has it.
type Database struct {
	OID  uint32 `json:"oid"`
	Name string `json:"name"`

	unsure bool // a newer version of its row may stand elsewhere, or it was deleted
}

// Drop gives the statement that removes a database whose data was left out.
func (d Database) Drop() string {
	return `DROP DATABASE "` + strings.ReplaceAll(d.Name, `"`, `""`) + `";`
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
	content, err := filesOf(ctx, b, func(name string) bool { return name == "global/pg_filenode.map" })
	if err != nil {
		return nil, err
	}
	nodes, err := postgres.FilenodeMap(content["global/pg_filenode.map"])
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
	all, err := Databases(ctx, r.Backup)
	if err != nil {
		return fmt.Errorf("read the databases of backup %s: %w", r.Route.Backup, err)
	}
	if r.leftOut, err = chooseDatabases(all, chosen); err != nil {
		return err
	}
	r.hollow = map[uint32]int64{}
	for f, err := range r.Backup.Files(ctx) {
		if err != nil {
			return err
		}
		if r.isHollow(&f) {
			r.hollow[f.Folder] += f.Size
		}
	}
	for _, d := range r.leftOut {
		r.note(fmt.Sprintf("database %q was left out and cannot be used: drop it when recovery has ended: %s", d.Name, d.Drop()))
	}
	return nil
}

// hollowBytes is how much is left out of all folders.
func (r *restore) hollowBytes() (n int64) {
	for _, bytes := range r.hollow {
		n += bytes
	}
	return n
}

// isHollow tells whether a file is of a database that is left out: it gets its length and no content, so that WAL can be
// replayed on it. PG_VERSION and pg_filenode.map, which are small, are restored: PostgreSQL looks at them without WAL.
func (r *restore) isHollow(f *repository.File) bool {
	if len(r.leftOut) == 0 || f.Type != repository.RegularFile {
		return false
	}
	name := path.Base(f.Path)
	oid := databaseOf(f)
	return oid != 0 && name != "PG_VERSION" && name != "pg_filenode.map" &&
		slices.ContainsFunc(r.leftOut, func(d Database) bool { return d.OID == oid })
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

// Offsets in ControlFileData, from pg_control.h: the same in 13 to 18.
const (
	controlFullPages = 56  // checkPointCopy.fullPageWrites
	controlLogHints  = 176 // wal_log_hints
	controlChecksums = 252 // data_checksum_version
)

// ignoresInvalid tells whether WAL may come for pages that have no content and without an image of them: VACUUM writes such
// records on a server that logs no hints, and one without full_page_writes never writes images. Elsewhere PostgreSQL goes on to
// end recovery at a page that should be there and is not.
func (r *restore) ignoresInvalid() bool {
	c := r.control
	return len(r.leftOut) > 0 && (c[controlFullPages] == 0 || c[controlLogHints] == 0 && c[controlChecksums] == 0)
}

// invalidPages lets PostgreSQL pass over such records. Start looks that they are of databases that were left out.
func (r *restore) invalidPages() []setting {
	if !r.ignoresInvalid() {
		return nil
	}
	r.note("ignore_invalid_pages is on, for the databases that were left out: look that no WARNING about an uninitialized page names another " +
		"database, which --start does, and remove it from postgresql.auto.conf when recovery has ended")
	return []setting{{"ignore_invalid_pages", "on"}}
}

// IgnoresInvalidPages tells whether what was restored into a directory replays WAL past pages without content.
func IgnoresInvalidPages(dataDir string) bool {
	m, err := readMarker(stateDir(dataDir))
	return err == nil && m != nil && m.Invalid
}

// invalidPage is PostgreSQL's word, from xlogutils.c, on a page without content that WAL refers to.
var invalidPage = regexp.MustCompile(`^page \d+ of relation (\S+) (?:is uninitialized|does not exist)`)

// relationDatabase finds the database in the path of a relation: base/16384/2619, or pg_tblspc/16390/PG_15_202209061/16384/2619.
func relationDatabase(relation string) (uint32, bool) {
	parts := strings.Split(relation, "/")
	if len(parts) < 3 {
		return 0, false
	}
	oid, err := strconv.ParseUint(parts[len(parts)-2], 10, 32)
	return uint32(oid), err == nil
}

// invalid takes a WARNING of the startup process.
func (l *serverLog) invalid(text string) {
	m := invalidPage.FindStringSubmatch(text)
	if m == nil {
		return
	}
	oid, _ := relationDatabase(m[1]) // 0: of no database, which is none that was left out
	if l.invalids == nil {
		l.invalids = map[uint32]string{}
	}
	l.invalids[oid] = text
}

// passedOver says which page of a database that was restored has no content although WAL refers to it; empty: none.
func (s *starting) passedOver() (string, error) {
	left, err := LeftOut(s.dir)
	for oid, text := range s.log.log.invalids {
		if !slices.ContainsFunc(left, func(d Database) bool { return d.OID == oid }) {
			return text, err
		}
	}
	return "", err
}
