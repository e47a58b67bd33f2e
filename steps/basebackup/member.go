package basebackup

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"

	"github.com/zeebo/xxh3"

	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/repository"
)

// memberChecks turns tar headers into members, and refuses those that no PostgreSQL writes: a data directory holds
// regular files and directories, and symbolic links to its tablespaces.
type memberChecks struct{}

// The fields of a raw tar header.
const (
	tarName   = 100 // bytes 0 to 99
	tarTypeAt = 156
)

// member checks one header. raw is the header as it came.
func (memberChecks) member(h *tar.Header, raw []byte, folder uint32, tablespaces []postgres.BackupTablespace) (repository.Member, error) {
	// The server writes one name with a dot before it: ./pg_wal/archive_status.
	path := strings.TrimPrefix(strings.TrimSuffix(h.Name, "/"), "./")
	m := repository.Member{Path: path, Mode: uint32(h.Mode) & 0o777, Size: h.Size, ModTime: h.ModTime.Unix()}
	if len(raw) != tarBlock || len(h.PAXRecords) > 0 {
		return m, fmt.Errorf("%.200q has an extended tar header", h.Name)
	}
	name, rest, _ := bytes.Cut(raw[:tarName], []byte{0})
	if len(bytes.Trim(rest, "\x00")) > 0 {
		return m, fmt.Errorf("%.200q goes on after a NUL", name)
	}
	if err := repository.CheckPath(m.Path); err != nil {
		return m, err
	}
	if raw[tarTypeAt] != h.Typeflag && raw[tarTypeAt] != 0 {
		return m, fmt.Errorf("%q is of type %q and read as %q", m.Path, raw[tarTypeAt], h.Typeflag)
	}
	switch h.Typeflag {
	case tar.TypeReg:
		if strings.HasSuffix(h.Name, "/") {
			return m, fmt.Errorf("%q is a file named like a directory", h.Name)
		}
		m.Type = repository.RegularFile
		return m, nil
	case tar.TypeDir:
		m.Type = repository.Directory
	case tar.TypeSymlink:
		m.Type, m.Link = repository.SymbolicLink, h.Linkname
		if err := checkLink(m, folder, tablespaces); err != nil {
			return m, err
		}
	default:
		return m, fmt.Errorf("%q is of type %q: neither file, directory nor link to a tablespace", m.Path, h.Typeflag)
	}
	if m.Size != 0 {
		return m, fmt.Errorf("%q has %d bytes and is no file", m.Path, m.Size)
	}
	return m, nil
}

// errLate marks the link to a tablespace that was created while the backup ran. The server told which there were at the
// backup's start, and sends the link of a later one but not its files: replay of the WAL creates both.
var errLate = errors.New("the tablespace was created after the backup's start")

// checkLink accepts pg_tblspc/<oid> pointing where the server said that this tablespace lies, and nothing else. The error
// is errLate for a tablespace that the server did not name.
func checkLink(m repository.Member, folder uint32, tablespaces []postgres.BackupTablespace) error {
	digits, ok := strings.CutPrefix(m.Path, "pg_tblspc/")
	oid, err := strconv.ParseUint(digits, 10, 32)
	if ok && err == nil && folder == 0 && strconv.FormatUint(oid, 10) == digits {
		named := slices.IndexFunc(tablespaces, func(ts postgres.BackupTablespace) bool { return ts.OID == uint32(oid) })
		switch {
		case named < 0 && m.Size == 0:
			return errLate
		case named >= 0 && tablespaces[named].Location == m.Link && oid != 0:
			return nil
		}
	}
	return fmt.Errorf("%q is a link to %.200q, which is no tablespace that the server named", m.Path, m.Link)
}

// members is what came of the backup, by the hash of the path in the manifest.
type members struct {
	known seen
	files int64 // regular ones
	bytes int64
	match int64 // regular ones that the manifest lists
}

func newMembers() *members { return &members{} }

// inPart is the kind of a regular file of which some pages came, in a file named INCREMENTAL.<file>. It is known by its own
// name, so that it does not come whole too; its size and sum are those of what came.
const inPart repository.FileType = 'i'

// place makes sure that a member comes once, and below a directory that came before: so nothing is written through a
// link, and no file takes the place of a directory.
func (s *members) place(path string, m repository.Member, folder uint32) error {
	key := xxh3.HashString128(path)
	if _, twice := s.known.find(key); twice {
		return fmt.Errorf("%q comes twice", path)
	}
	parent, _, nested := cutLast(m.Path)
	if nested {
		parentPath := path[:len(path)-len(m.Path)+len(parent)]
		if p, _ := s.known.find(xxh3.HashString128(parentPath)); p.kind != repository.Directory {
			return fmt.Errorf("%q comes without a directory %q before it", path, parentPath)
		}
	}
	return s.known.put(came{path: key, size: m.Size, kind: m.Type})
}

func cutLast(path string) (parent, name string, nested bool) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path, false
	}
	return path[:i], path[i+1:], true
}

// came notes a member's content, which makes a file of size bytes. path is that under which the member was placed.
func (s *members) came(path string, m repository.Member, crc uint32, size int64) error {
	if m.Type != repository.RegularFile {
		return nil
	}
	s.files++
	s.bytes += size
	c, ok := s.known.find(xxh3.HashString128(path))
	if !ok {
		return fmt.Errorf("%q has content and never came", path)
	}
	c.crc = crc
	return s.known.put(c)
}

// listed compares one line of the manifest with what came.
func (s *members) listed(f postgres.ManifestFile) error {
	m, whole := s.known.find(xxh3.HashString128(f.Path))
	kind := repository.RegularFile
	if name, part := postgres.IncrementalName(f.Path); part && !whole {
		m, _ = s.known.find(xxh3.HashString128(name))
		kind = inPart
	}
	switch {
	case m.kind != kind:
		return fmt.Errorf("the manifest lists %q, which did not come", f.Path)
	case m.listed:
		return fmt.Errorf("the manifest lists %q twice", f.Path)
	case m.size != f.Size:
		return fmt.Errorf("%q came with %d bytes; the manifest says %d", f.Path, m.size, f.Size)
	case strings.EqualFold(f.Algorithm, "CRC32C") && postgres.ManifestCRC32C(m.crc) != f.Checksum:
		return fmt.Errorf("%q came with CRC32C %s; the manifest says %s", f.Path, postgres.ManifestCRC32C(m.crc), f.Checksum)
	}
	m.listed = true
	s.match++
	return s.known.put(m)
}

// allListed makes sure that nothing came which the manifest does not list.
func (s *members) allListed() error {
	if s.match != s.files {
		return fmt.Errorf("%d files came and the manifest lists %d of them", s.files, s.match)
	}
	return nil
}

func updateCRC(crc uint32, p []byte) uint32 {
	return crc32.Update(crc, crc32.MakeTable(crc32.Castagnoli), p)
}
