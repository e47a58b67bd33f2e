package postgres

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"unicode/utf8"
)

// manifestVersion is the version of manifests that PostgreSQL 17 and later write, and the only one that they take for an
// incremental backup.
const manifestVersion = 2

// ComposeManifest writes a manifest as PostgreSQL 17 and later do, in memory that does not grow with the number of files.
// Of m only SystemID and WALRanges are used.
func ComposeManifest(w io.Writer, m Manifest, files iter.Seq2[ManifestFile, error]) error {
	sum := sha256.New()
	c := composer{w: bufio.NewWriterSize(io.MultiWriter(w, sum), 64<<10)}
	if err := checkSystemID(m.SystemID); err != nil {
		return fmt.Errorf("compose backup manifest: %w", err)
	}
	c.text(fmt.Sprintf("{ \"PostgreSQL-Backup-Manifest-Version\": %d,\n\"System-Identifier\": %s,\n\"Files\": [", manifestVersion, m.SystemID))
	first := "\n"
	for f, err := range files {
		if err != nil {
			return fmt.Errorf("compose backup manifest: %w", err)
		}
		c.text(first)
		c.file(f)
		first = ",\n"
	}
	c.text("\n],\n\"WAL-Ranges\": [")
	first = "\n"
	for _, r := range m.WALRanges {
		c.text(fmt.Sprintf("%s{ \"Timeline\": %d, \"Start-LSN\": \"%s\", \"End-LSN\": \"%s\" }", first, r.Timeline, r.From, r.To))
		first = ",\n"
	}
	c.text("\n],\n")
	if err := c.flush(); err != nil {
		return fmt.Errorf("compose backup manifest: %w", err)
	}
	_, err := fmt.Fprintf(w, "\"Manifest-Checksum\": \"%s\"}\n", hex.EncodeToString(sum.Sum(nil)))
	return err
}

// composer writes until the first error, which flush gives.
type composer struct {
	w   *bufio.Writer
	err error
}

func (c *composer) text(s string) {
	if c.err == nil {
		_, c.err = c.w.WriteString(s)
	}
}

func (c *composer) file(f ManifestFile) {
	line := struct {
		Path      string `json:"Path,omitempty"`
		Encoded   string `json:"Encoded-Path,omitempty"`
		Size      int64  `json:"Size"`
		Modified  string `json:"Last-Modified"`
		Algorithm string `json:"Checksum-Algorithm,omitempty"`
		Checksum  string `json:"Checksum,omitempty"`
	}{Path: f.Path, Size: f.Size, Modified: f.ModTime.UTC().Format("2006-01-02 15:04:05 GMT"), Algorithm: f.Algorithm, Checksum: f.Checksum}
	if !utf8.ValidString(f.Path) {
		line.Path, line.Encoded = "", hex.EncodeToString([]byte(f.Path))
	}
	b, err := json.Marshal(line)
	if c.err == nil {
		c.err = err
	}
	c.text(string(b))
}

func (c *composer) flush() error {
	if c.err == nil {
		c.err = c.w.Flush()
	}
	return c.err
}
