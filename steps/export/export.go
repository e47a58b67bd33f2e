package export

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/wal"
)

// The forms of an export.
const (
	Plain = "plain" // a data directory, and a directory for each tablespace
	Tar   = "tar"   // base.tar, OID.tar for each tablespace, pg_wal.tar
)

// Backup is what an export reads; *repository.BackupReader is one.
type Backup interface {
	Info() state.Backup
	Folders() []repository.Folder
	BackupLabel(ctx context.Context) ([]byte, error)
	InOrder(ctx context.Context, o repository.PieceOptions, visit func(f *repository.File, offset int64, data []byte) error) error
}

// Archive is where the backup's WAL is; *repository.Cluster is one.
type Archive interface {
	Facts(ctx context.Context) (repository.ClusterFacts, error)
	OpenSegment(ctx context.Context, seg wal.Segment) (*repository.WALReader, error)
	OpenPartial(ctx context.Context, seg wal.Segment) (*repository.WALReader, wal.LSN, error)
	History(ctx context.Context, t wal.Timeline) ([]byte, error)
	Hold(ctx context.Context, id string, h state.Hold, now time.Time) error
	ReleaseBy(ctx context.Context, id, holder string, now time.Time) error
}

// Options say what to export and how.
type Options struct {
	Backup      Backup
	Archive     Archive
	SystemID    string            // of the cluster, in decimal
	Into        string            // absolute path of a directory that is absent or empty
	Format      string            // Plain or Tar
	Compression Compression       // of tar files; empty: none
	Tablespaces map[uint32]string // by OID, absolute: Plain writes there; Tar notes them in tablespace_map, without one the server's own
	Owner       host.Owner        // of what is written
	WAL         bool              // also what the backup needs to become consistent
	Now         func() time.Time
	Report      func(done, total int64) // bytes of files; nil: nobody listens
}

// Result is what was written.
type Result struct {
	Files       int64    `json:"files"` // regular files of the backup
	Bytes       int64    `json:"bytes"` // of these, before any compression
	WALSegments int      `json:"wal_segments"`
	Written     []string `json:"written"` // directories or tar files, absolute
	Notes       []string `json:"notes,omitempty"`
}

// Export writes the backup. When it returns nil everything is durable and backup_manifest stands there. Errors have
// CodeDestination where the destination cannot be used, CodeCorrupt where the backup is damaged, CodeGap where WAL that was
// asked for is not archived.
func Export(ctx context.Context, o Options) (Result, error) {
	e := &export{Options: o, links: map[uint32]string{}}
	result, err := e.run(ctx)
	if err != nil {
		return result, fmt.Errorf("export backup %s: %w", o.Backup.Info().ID, err)
	}
	return result, nil
}

// sink is one of the two forms.
type sink interface {
	directory(f *repository.File) error
	// link is pg_tblspc/OID of a tablespace.
	link(oid uint32, at *repository.File) error
	begin(f *repository.File) error
	write(p []byte) error
	end() error
	// wal gives the writer of a member of pg_wal, and what ends it.
	wal(name string, size int64) (io.Writer, func() error, error)
	// finish makes everything durable and writes the manifest last.
	finish(ctx context.Context, manifest io.Reader) ([]string, error)
	// undo closes everything and, when nothing is to stay, removes it.
	undo(remove bool)
}

// export is one export on its way.
type export struct {
	Options
	to       sink
	manifest *postgres.ManifestWriter
	label    []byte
	links    map[uint32]string // where tablespaces are said to be
	result   Result
	sum      uint32
}

func (e *export) run(ctx context.Context) (_ Result, err error) {
	if err := e.look(ctx); err != nil {
		return e.result, err
	}
	spool, err := newSpool()
	if err != nil {
		return e.result, err
	}
	defer spool.close()
	if e.manifest, err = postgres.NewManifestWriter(spool, e.Backup.Info().Version/10000, e.SystemID); err != nil {
		return e.result, err
	}
	if err := e.open(); err != nil {
		return e.result, err
	}
	whole := false
	defer func() { e.to.undo(!whole) }()
	defer e.hold(ctx)()
	if err := e.members(ctx); err != nil {
		return e.result, err
	}
	if e.WAL {
		if err := e.wal(ctx); err != nil {
			return e.result, err
		}
	}
	info := e.Backup.Info()
	if err := e.manifest.Close([]wal.Range{{Timeline: info.Timeline, From: info.Redo, To: info.Stop}}); err != nil {
		return e.result, err
	}
	manifest, err := spool.content()
	if err != nil {
		return e.result, err
	}
	if e.result.Written, err = e.to.finish(ctx, manifest); err != nil {
		return e.result, err
	}
	whole = true
	return e.result, nil
}

// look refuses what cannot be exported before anything is written.
func (e *export) look(ctx context.Context) error {
	info := e.Backup.Info()
	if info.State == state.BackupDamaged {
		return &state.Error{Code: state.CodeCorrupt, Text: "it is damaged: pages of the server failed their checksum", Hint: "choose another: pgkeep backups list"}
	}
	content, err := e.Backup.BackupLabel(ctx)
	if err != nil {
		return fmt.Errorf("read backup_label: %w", err)
	}
	if _, err := postgres.ParseBackupLabel(content); err != nil {
		return &state.Error{Code: state.CodeCorrupt, Text: "it has no good backup_label", Hint: "pgkeep verify " + info.ID, Err: err}
	}
	e.label = postgres.WholeBackupLabel(content)
	for _, f := range e.Backup.Folders() {
		if f.OID != 0 {
			e.links[f.OID] = f.Location
			if dir := e.Tablespaces[f.OID]; dir != "" {
				e.links[f.OID] = dir
			}
		}
	}
	return nil
}

func (e *export) open() (err error) {
	if e.Format == Tar {
		e.to, err = newTar(e)
		return err
	}
	e.to, err = newPlain(e)
	return err
}

// holdFor is how long expiry leaves the backup alone; a read-only repository relies on the day that it gives everybody.
const holdFor = 24 * time.Hour

// hold holds the backup, and gives what ends that: also when the export was interrupted.
func (e *export) hold(ctx context.Context) func() {
	name, _ := host.Name() // the number alone tells exports apart
	var number [8]byte
	rand.Read(number[:]) // never fails
	id, holder := e.Backup.Info().ID, "export-"+name+"-"+hex.EncodeToString(number[:])
	h := state.Hold{Holder: holder, Reason: "exported to " + e.Into, Expires: e.Now().Add(holdFor).UTC()}
	if err := e.Archive.Hold(ctx, id, h, e.Now()); err != nil {
		e.result.Notes = append(e.result.Notes, fmt.Sprintf("backup %s could not be held against deletion (%s); it stays for 24 hours after it was chosen for deletion", id, err))
		return func() {}
	}
	return func() { // a hold that stays ends by itself
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		_ = e.Archive.ReleaseBy(ctx, id, holder, e.Now())
	}
}

// members writes every member, and backup_label and tablespace_map as they must be.
func (e *export) members(ctx context.Context) error {
	if err := e.made("backup_label", e.label); err != nil {
		return err
	}
	if err := e.tablespaceMap(); err != nil {
		return err
	}
	return e.Backup.InOrder(ctx, repository.PieceOptions{Want: wanted}, e.member)
}

// wanted tells whether a member is copied: some are written anew, and some belong to a running server.
func wanted(f *repository.File) bool {
	if f.Folder != 0 {
		return true
	}
	return !slices.Contains([]string{"backup_label", "tablespace_map", "backup_manifest", "postmaster.pid", "postmaster.opts"}, f.Path)
}

// tablespaceMap is written into tar files, which hold no links: from it PostgreSQL makes them when it starts.
func (e *export) tablespaceMap() error {
	if e.Format != Tar || len(e.links) == 0 {
		return nil
	}
	escape := strings.NewReplacer("\\", "\\\\", "\n", "\\\n", "\r", "\\\r")
	text := ""
	for _, f := range e.Backup.Folders() {
		if f.OID != 0 {
			text += fmt.Sprintf("%d %s\n", f.OID, escape.Replace(e.links[f.OID]))
		}
	}
	return e.made("tablespace_map", []byte(text))
}

// made writes a file of the data directory whose content is made here.
func (e *export) made(name string, content []byte) error {
	f := &repository.File{Path: name, Type: repository.RegularFile, Mode: 0o600, Size: int64(len(content)), ModTime: e.Backup.Info().Began, NoCRC: true}
	return e.member(f, 0, content)
}

// member is given members in their order, and the bytes of files from first to last.
func (e *export) member(f *repository.File, offset int64, data []byte) error {
	if err := repository.CheckPath(f.Path); err != nil {
		return &state.Error{Code: state.CodeCorrupt, Text: "a name of the backup cannot be trusted", Hint: "pgkeep verify " + e.Backup.Info().ID, Err: err}
	}
	switch f.Type {
	case repository.Directory:
		return e.to.directory(f)
	case repository.SymbolicLink:
		oid, err := strconv.ParseUint(path.Base(f.Path), 10, 32)
		if err != nil || f.Folder != 0 || path.Dir(f.Path) != "pg_tblspc" || e.links[uint32(oid)] == "" {
			return &state.Error{Code: state.CodeCorrupt, Text: fmt.Sprintf("%q is a symbolic link to no tablespace of the backup", f.Path), Hint: "pgkeep verify " + e.Backup.Info().ID}
		}
		return e.to.link(uint32(oid), f)
	case repository.RegularFile:
	}
	if offset == 0 {
		e.sum = 0
		if err := e.to.begin(f); err != nil {
			return err
		}
	}
	if err := e.to.write(data); err != nil {
		return err
	}
	e.sum = crc32.Update(e.sum, crc32.MakeTable(crc32.Castagnoli), data)
	e.result.Bytes += int64(len(data))
	if e.Report != nil {
		e.Report(e.result.Bytes, max(e.Backup.Info().DataBytes, e.result.Bytes))
	}
	if offset+int64(len(data)) < f.Size {
		return nil
	}
	return e.ended(f)
}

// ended compares a file with what was recorded of it, and enters it into the manifest.
func (e *export) ended(f *repository.File) error {
	if !f.NoCRC && e.sum != f.CRC32C {
		return &state.Error{
			Code: state.CodeCorrupt, Text: fmt.Sprintf("%q has checksum %08X, recorded was %08X", f.Path, e.sum, f.CRC32C),
			Hint: "pgkeep verify " + e.Backup.Info().ID,
		}
	}
	if err := e.to.end(); err != nil {
		return err
	}
	e.result.Files++
	name := f.Path
	if f.Folder != 0 {
		name = fmt.Sprintf("pg_tblspc/%d/%s", f.Folder, f.Path)
	}
	if strings.HasPrefix(name, "pg_wal/") {
		return nil // it is in no manifest
	}
	return e.manifest.File(postgres.ManifestFile{
		Path: name, Size: f.Size, ModTime: f.ModTime, Algorithm: "CRC32C", Checksum: postgres.ManifestCRC32C(e.sum),
	})
}

func refuse(hint, text string, args ...any) error {
	return &state.Error{Code: state.CodeDestination, Text: fmt.Sprintf(text, args...), Hint: hint}
}
