package basebackup

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/repository"
)

// tarBlock is the unit of a tar stream.
const tarBlock = 512

// folder reads one tar stream: archive/tar understands it, and every raw byte goes on as it came.
type folder struct {
	t          *taking
	ts         postgres.BackupTablespace
	writers    []*repository.FolderWriter // one for each group
	terminated bool                       // the server ends an archive with two blocks of zeros (15 and later)
	checks     memberChecks
}

func (f *folder) name() string {
	if f.ts.OID == 0 {
		return "the data directory"
	}
	return fmt.Sprintf("tablespace %d", f.ts.OID)
}

// recorder keeps the raw bytes that archive/tar reads as headers and padding.
type recorder struct {
	r      io.Reader
	raw    []byte
	inData bool // content is read: its bytes go another way
}

// maxRaw bounds what lies between two members: padding and one header; anything longer is refused before it is kept.
const maxRaw = 64 << 10

// Read reads on and keeps what is not content.
func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if !r.inData {
		if len(r.raw)+n > maxRaw {
			return 0, errors.New("a tar header longer than any that PostgreSQL writes")
		}
		r.raw = append(r.raw, p[:n]...)
	}
	return n, err
}

// read takes the stream member by member.
func (f *folder) read(r io.Reader) error {
	rec := &recorder{r: r}
	tr := tar.NewReader(rec)
	buf := make([]byte, 128<<10)
	padding := 0
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return f.end(rec, padding)
		}
		if errors.Is(err, tar.ErrHeader) {
			return f.refuse(err)
		}
		if err != nil {
			return fmt.Errorf("read tar header: %w", err)
		}
		if err := context.Cause(f.t.ctx); err != nil {
			return err
		}
		m, err := f.checkMember(h, rec.raw, padding)
		if errors.Is(err, errLate) {
			rec.raw = rec.raw[:padding] // what pads the member before stays; the header is left out
			continue
		}
		if err != nil {
			return f.refuse(err)
		}
		if err := f.take(&content{rec: rec, r: tr, m: m, buf: buf}); err != nil {
			return fmt.Errorf("%q: %w", m.Path, err)
		}
		padding = int(-m.Size & (tarBlock - 1))
	}
}

// refuse says that the stream is none that PostgreSQL writes.
func (f *folder) refuse(err error) error {
	return &state.Error{
		Code: state.CodeCorrupt, Text: fmt.Sprintf("the archive of %s is not one that PostgreSQL writes", f.name()),
		Hint: "make sure that the connection leads to the server you mean, then take the backup again", Err: err,
	}
}

// manifestPath gives the member's path as PostgreSQL's manifest has it.
func (f *folder) manifestPath(path string) string { return inManifest(f.ts.OID, path) }

// end takes what follows the last member: padding and the archive's end, nothing else. Servers up to 14 leave the two
// blocks of zeros out; they are added, so that every tar reads the stream without complaint.
func (f *folder) end(rec *recorder, padding int) error {
	rest, err := io.ReadAll(io.LimitReader(rec.r, maxRaw))
	if err != nil {
		return fmt.Errorf("read the end of the archive: %w", err)
	}
	tail := append(bytes.Clone(rec.raw), rest...)
	if len(bytes.Trim(tail[min(padding, len(tail)):], "\x00")) > 0 || len(tail) >= maxRaw {
		return f.refuse(errors.New("data follows the end of the archive"))
	}
	zeros := len(tail) - padding
	switch {
	case zeros >= 2*tarBlock && zeros%tarBlock == 0:
	case !f.terminated && zeros == 0:
		tail = append(tail, make([]byte, 2*tarBlock)...)
	default:
		return f.refuse(errors.New("the archive stops without its end: it was cut short"))
	}
	return f.each(func(w *repository.FolderWriter) error {
		if err := w.Trailer(tail); err != nil {
			return err
		}
		return w.Close()
	})
}

// each gives something to the folder's writer of every group that still goes.
func (f *folder) each(do func(*repository.FolderWriter) error) error {
	return f.t.each(func(g *group) error {
		for i := range f.t.groups {
			if f.t.groups[i] == g {
				return do(f.writers[i])
			}
		}
		return nil
	})
}

// checkMember refuses what PostgreSQL never sends. header is the padding of the member before and the raw header.
func (f *folder) checkMember(h *tar.Header, raw []byte, padding int) (repository.Member, error) {
	m, err := f.checks.member(h, raw[min(padding, len(raw)):], f.ts.OID, f.t.start.Tablespaces)
	if err != nil {
		return m, err
	}
	placed := m
	if path, part := f.whole(m); part {
		placed.Path, placed.Type = path, inPart
	}
	if err := f.t.members.place(f.manifestPath(placed.Path), placed, f.ts.OID); err != nil {
		return m, err
	}
	m.Inspect = f.t.o.VerifyPages && m.Type == repository.RegularFile && isRelation(f.manifestPath(m.Path))
	return m, nil
}
