package postgres

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"unicode/utf8"

	"github.com/pgkeep/pgkeep/state/wal"
)

// ManifestWriter writes a backup_manifest while the files it lists are written: it holds no list of them. Begin it with
// NewManifestWriter, give it each file once, and end it with Close.
type ManifestWriter struct {
	out   io.Writer
	sum   hash.Hash
	files int
}

// NewManifestWriter begins the manifest of a server of this major: version 2 with the system identifier from 17 on,
// version 1 before. systemID is in decimal.
func NewManifestWriter(out io.Writer, major int, systemID string) (*ManifestWriter, error) {
	m := &ManifestWriter{sum: sha256.New()}
	m.out = io.MultiWriter(out, m.sum)
	head := "{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": ["
	if major >= 17 {
		head = "{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": " + systemID + ",\n\"Files\": ["
	}
	_, err := io.WriteString(m.out, head)
	return m, err
}

// manifestLine is a file as the manifest has it; one of the two paths is set.
type manifestLine struct {
	Path         string `json:"Path,omitempty"`
	EncodedPath  string `json:"Encoded-Path,omitempty"`
	Size         int64  `json:"Size"`
	LastModified string `json:"Last-Modified"`
	Algorithm    string `json:"Checksum-Algorithm,omitempty"`
	Checksum     string `json:"Checksum,omitempty"`
}

// File adds one file. A path that is not UTF-8 is written in hexadecimal, as PostgreSQL does.
func (m *ManifestWriter) File(f ManifestFile) error {
	line := manifestLine{
		Path: f.Path, Size: f.Size, LastModified: f.ModTime.UTC().Format("2006-01-02 15:04:05") + " GMT",
		Algorithm: f.Algorithm, Checksum: f.Checksum,
	}
	if !utf8.ValidString(f.Path) {
		line.Path, line.EncodedPath = "", hex.EncodeToString([]byte(f.Path))
	}
	var text bytes.Buffer
	encode := json.NewEncoder(&text)
	encode.SetEscapeHTML(false)
	if err := encode.Encode(line); err != nil {
		return fmt.Errorf("write the manifest: %w", err)
	}
	before := ",\n"
	if m.files == 0 {
		before = "\n"
	}
	m.files++
	_, err := m.out.Write(append([]byte(before), bytes.TrimSuffix(text.Bytes(), []byte("\n"))...))
	return err
}

// Close writes the WAL that the backup needs and the manifest's own checksum. It does not close what it wrote to.
func (m *ManifestWriter) Close(needs []wal.Range) error {
	end := "\n],\n\"WAL-Ranges\": ["
	for i, r := range needs {
		if i > 0 {
			end += ","
		}
		end += fmt.Sprintf("\n{ \"Timeline\": %d, \"Start-LSN\": %q, \"End-LSN\": %q }", r.Timeline, r.From, r.To)
	}
	if _, err := io.WriteString(m.out, end+"\n],\n"); err != nil {
		return err
	}
	_, err := fmt.Fprintf(m.out, "\"Manifest-Checksum\": \"%x\"}\n", m.sum.Sum(nil))
	return err
}
