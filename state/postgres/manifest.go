package postgres

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/state/wal"
)

// Manifest is PostgreSQL's backup_manifest: version 1 (13 to 16) or 2 (17 and later).
type Manifest struct {
	Version   int
	SystemID  string         // version 2; empty in version 1
	Files     []ManifestFile // in the manifest's order
	WALRanges []wal.Range
}

// ManifestFile is one file of a backup.
type ManifestFile struct {
	Path      string // local, with slashes; bytes as the server has them, whether or not they are UTF-8
	Size      int64
	ModTime   time.Time
	Algorithm string // "CRC32C", "SHA256" …; empty: none
	Checksum  string // lower-case hexadecimal, as the manifest prints it
}

// ManifestCRC32C prints a CRC-32C (Castagnoli) as manifests do: the four bytes as they lie in the server's memory.
func ManifestCRC32C(sum uint32) string {
	return hex.EncodeToString([]byte{byte(sum), byte(sum >> 8), byte(sum >> 16), byte(sum >> 24)})
}

// ParseManifest reads a whole manifest and checks its own checksum. The input need not be trusted: paths are local,
// numbers in range, and memory is in proportion to what was read.
func ParseManifest(r io.Reader) (Manifest, error) {
	var files []ManifestFile
	m, err := WalkManifest(r, func(f ManifestFile) error {
		files = append(files, f)
		return nil
	})
	m.Files = files
	if err != nil {
		return Manifest{}, err
	}
	return m, nil
}

// WalkManifest is ParseManifest for manifests of any size: each file is given to visit, and not kept. What was visited
// is to be believed only when WalkManifest returned no error, because the checksum stands at the end.
func WalkManifest(r io.Reader, visit func(ManifestFile) error) (Manifest, error) {
	sum := &manifestSum{hash: sha256.New()}
	limit := &allowance{r: io.TeeReader(r, sum)}
	p := manifestParser{dec: json.NewDecoder(limit), limit: limit, visit: visit}
	p.dec.UseNumber()
	if err := p.parse(); err != nil {
		return Manifest{}, fmt.Errorf("parse backup manifest: %w", err)
	}
	if err := p.end(); err != nil {
		return Manifest{}, fmt.Errorf("parse backup manifest: %w", err)
	}
	if got := sum.value(); got != p.checksum {
		return Manifest{}, fmt.Errorf("parse backup manifest: its checksum is %q, its content has %s", p.checksum, got)
	}
	return p.m, nil
}

type manifestParser struct {
	dec      *json.Decoder
	limit    *allowance
	visit    func(ManifestFile) error
	m        Manifest
	checksum string
}

// parse reads the top-level object, whose first key is the version.
func (p *manifestParser) parse() error {
	p.limit.renew()
	if err := p.delim('{'); err != nil {
		return err
	}
	seen := map[string]bool{}
	for p.dec.More() {
		key, err := p.string()
		if err != nil {
			return err
		}
		if seen[key] {
			return fmt.Errorf("%q stands there twice", key)
		}
		if len(seen) == 0 && key != "PostgreSQL-Backup-Manifest-Version" {
			return fmt.Errorf("the first key is not the version")
		}
		seen[key] = true
		if err := p.field(key); err != nil {
			return err
		}
	}
	for _, key := range []string{"Files", "WAL-Ranges", "Manifest-Checksum"} {
		if !seen[key] {
			return fmt.Errorf("no %s", key)
		}
	}
	return p.delim('}')
}

func (p *manifestParser) field(key string) error {
	p.limit.renew()
	switch key {
	case "PostgreSQL-Backup-Manifest-Version":
		if err := p.dec.Decode(&p.m.Version); err != nil {
			return err
		}
		if p.m.Version != 1 && p.m.Version != 2 {
			return fmt.Errorf("version %d is not known", p.m.Version)
		}
		return nil
	case "System-Identifier":
		var n json.Number
		if err := p.dec.Decode(&n); err != nil {
			return err
		}
		p.m.SystemID = n.String()
		return checkSystemID(p.m.SystemID)
	case "Files":
		return p.array(p.file)
	case "WAL-Ranges":
		return p.array(p.walRange)
	case "Manifest-Checksum":
		return p.dec.Decode(&p.checksum)
	}
	return errors.New("a key that no manifest has")
}

func (p *manifestParser) array(element func() error) error {
	if err := p.delim('['); err != nil {
		return err
	}
	for p.dec.More() {
		p.limit.renew()
		if err := element(); err != nil {
			return err
		}
	}
	return p.delim(']')
}

func (p *manifestParser) file() error {
	var f struct {
		Path         *string `json:"Path"`
		EncodedPath  *string `json:"Encoded-Path"`
		Size         int64   `json:"Size"`
		LastModified string  `json:"Last-Modified"`
		Algorithm    string  `json:"Checksum-Algorithm"`
		Checksum     string  `json:"Checksum"`
	}
	if err := p.dec.Decode(&f); err != nil {
		return err
	}
	out := ManifestFile{Size: f.Size, Algorithm: strings.ToUpper(f.Algorithm), Checksum: f.Checksum}
	switch {
	case f.Path != nil && f.EncodedPath == nil:
		out.Path = *f.Path
	case f.Path == nil && f.EncodedPath != nil:
		b, err := hex.DecodeString(*f.EncodedPath)
		if err != nil {
			return fmt.Errorf("an encoded path is not hexadecimal: %w", err)
		}
		out.Path = string(b)
	default:
		return errors.New("a file has no path, or two")
	}
	if !filepath.IsLocal(out.Path) || strings.ContainsRune(out.Path, 0) || out.Size < 0 {
		return fmt.Errorf("file %q of %d bytes cannot be", out.Path, out.Size)
	}
	if n, known := checksumDigits(out.Algorithm); !known || len(out.Checksum) != n || !isLowerHex(out.Checksum) {
		return fmt.Errorf("file %q: checksum %q is not %s", out.Path, out.Checksum, out.Algorithm)
	}
	t, err := time.Parse("2006-01-02 15:04:05 GMT", f.LastModified)
	if err != nil {
		return fmt.Errorf("file %q: last modification %q is no time", out.Path, f.LastModified)
	}
	out.ModTime = t
	return p.visit(out)
}

func checksumDigits(algorithm string) (int, bool) {
	n, ok := map[string]int{"": 0, "CRC32C": 8, "SHA224": 56, "SHA256": 64, "SHA384": 96, "SHA512": 128}[algorithm]
	return n, ok
}

func (p *manifestParser) walRange() error {
	var w struct {
		Timeline uint32  `json:"Timeline"`
		Start    wal.LSN `json:"Start-LSN"`
		End      wal.LSN `json:"End-LSN"`
	}
	if err := p.dec.Decode(&w); err != nil {
		return err
	}
	if w.Timeline == 0 || w.End < w.Start {
		return fmt.Errorf("WAL of timeline %d from %s to %s cannot be", w.Timeline, w.Start, w.End)
	}
	p.m.WALRanges = append(p.m.WALRanges, wal.Range{Timeline: wal.Timeline(w.Timeline), From: w.Start, To: w.End})
	return nil
}

// end makes sure that nothing but white space follows, and that everything went through the checksum.
func (p *manifestParser) end() error {
	p.limit.renew()
	switch _, err := p.dec.Token(); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	}
	return errors.New("something follows its end")
}

func (p *manifestParser) delim(want json.Delim) error {
	t, err := p.dec.Token()
	if err != nil {
		return noEOF(err)
	}
	if t != want {
		return fmt.Errorf("found %v instead of %q", t, rune(want))
	}
	return nil
}

func (p *manifestParser) string() (string, error) {
	t, err := p.dec.Token()
	if err != nil {
		return "", noEOF(err)
	}
	s, ok := t.(string)
	if !ok {
		return "", fmt.Errorf("found %v instead of a name", t)
	}
	return s, nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// manifestSum computes the manifest's checksum: SHA-256 over every line but the last.
type manifestSum struct {
	hash hash.Hash
	last []byte // the line that may be the last
}

// Write takes the manifest's next bytes.
func (s *manifestSum) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if k := len(s.last); k > 0 && s.last[k-1] == '\n' {
			s.hash.Write(s.last)
			s.last = s.last[:0]
		}
		line := p
		if i := bytes.IndexByte(p, '\n'); i >= 0 {
			line = p[:i+1]
		}
		if len(s.last)+len(line) > elementLimit {
			return 0, errors.New("a line is too long")
		}
		s.last = append(s.last, line...)
		p = p[len(line):]
	}
	return n, nil
}

func (s *manifestSum) value() string { return hex.EncodeToString(s.hash.Sum(nil)) }

// elementLimit bounds one element of a manifest: a path of PostgreSQL has at most a kilobyte, hexadecimal doubles it.
const elementLimit = 1 << 20

// allowance fails a read that would let the decoder collect too much of one element.
type allowance struct {
	r    io.Reader
	left int
}

func (a *allowance) renew() { a.left = elementLimit }

// Read gives at most what is left.
func (a *allowance) Read(p []byte) (int, error) {
	if a.left <= 0 {
		return 0, errors.New("an element is too long")
	}
	n, err := a.r.Read(p[:min(len(p), a.left)])
	a.left -= n
	return n, err
}
