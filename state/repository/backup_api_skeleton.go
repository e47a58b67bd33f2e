package repository

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

var errNotBuilt = errors.New("not built yet")

// Intent is what a writer announces before it writes a backup.
type Intent struct {
	ID          string // the same in every repository; see NewBackupID
	Kind        string
	Label       string
	Schedule    string
	Host        string
	Program     string // "pgkeep 0.1.0"
	Parent      string
	Version     int // server_version_num
	Timeline    wal.Timeline
	Start       wal.LSN
	Redo        wal.LSN
	FromStandby bool
	Now         time.Time
}

// CommitFacts are what is known of a backup once its data is complete.
type CommitFacts struct {
	Stop       wal.LSN
	Timeline   wal.Timeline
	Ended      time.Time // the server's clock
	Decided    time.Time // this machine's clock
	Damaged    []DamagedPages
	Suspects   []DamagedPages
	DamageText string
}

// NewBackupID makes an id from the moment, the kind and a random number.
func NewBackupID(now time.Time, kind string, random uint32) string { return "" }

// BackupWriter writes one backup into one repository.
type BackupWriter struct{}

// ID gives the backup's id.
func (w *BackupWriter) ID() string { return "" }

// BeginBackup puts START and then looks at the parent again.
func (c *Cluster) BeginBackup(ctx context.Context, in Intent) (*BackupWriter, error) {
	return nil, errNotBuilt
}

// Commit decides `committed`.
func (w *BackupWriter) Commit(ctx context.Context, f CommitFacts) error { return errNotBuilt }

// Abort decides `aborted`.
func (w *BackupWriter) Abort(ctx context.Context, why string, now time.Time) error {
	return errNotBuilt
}

// Backups lists the cluster's backups, oldest first. Undecided ones are `running`: whether their writer lives is for the caller to find out.
func (c *Cluster) Backups(ctx context.Context) ([]state.Backup, error) { return nil, errNotBuilt }

// AbortBackup decides `aborted` unless the backup is decided already, and gives what it is now.
func (c *Cluster) AbortBackup(ctx context.Context, id, why string, now time.Time) (state.BackupState, error) {
	return "", errNotBuilt
}

// RemoveAborted removes what an aborted backup left. It gives the bytes freed.
func (c *Cluster) RemoveAborted(ctx context.Context, id string) (int64, error) { return 0, errNotBuilt }

// Tomb marks a decided backup as to be deleted. Its volumes and WAL stay until Sweep finds them free, 24 hours later at the earliest.
func (c *Cluster) Tomb(ctx context.Context, id string, now time.Time) error { return errNotBuilt }

// Sweep removes what no live backup and no open intent needs. It gives the bytes freed.
func (c *Cluster) Sweep(ctx context.Context, now time.Time) (int64, error) { return 0, errNotBuilt }

// Hold keeps a backup from being deleted.
func (c *Cluster) Hold(ctx context.Context, id string, h state.Hold, now time.Time) error {
	return errNotBuilt
}

// Release ends the operator's hold.
func (c *Cluster) Release(ctx context.Context, id string, now time.Time) error { return errNotBuilt }

// ReleaseBy ends the hold of one holder.
func (c *Cluster) ReleaseBy(ctx context.Context, id, holder string, now time.Time) error {
	return errNotBuilt
}

// OpenBackup reads a committed backup.
func (c *Cluster) OpenBackup(ctx context.Context, id string) (*BackupReader, error) {
	return nil, errNotBuilt
}

// BackupReader reads one committed backup.
type BackupReader struct{}

// File is one member of a backup.
type File struct {
	Folder  uint32 // 0: the data directory; else the tablespace, and Path is relative to it
	Path    string
	Type    FileType
	Mode    uint32
	Size    int64
	ModTime time.Time
	Link    string // of a symbolic link
	CRC32C  uint32
	Extents []Extent
}

// FileType tells what a member is.
type FileType byte

// The types of members.
const (
	RegularFile  FileType = 'f'
	Directory    FileType = 'd'
	SymbolicLink FileType = 'l'
)

// Extent is a stretch of a file that lies in one frame.
type Extent struct {
	Frame  int // index into the frames of the file's shard
	In     int // offset in the plain frame
	Length int
	Offset int64 // in the file
}

// PieceOptions say what to read and with how much.
type PieceOptions struct {
	Workers int              // 0: one for each CPU
	Want    func(*File) bool // nil: every file
	Budget  *Budget          // nil: one of its own, 96 MiB
}

// Piece is a stretch of a file's bytes; Data is valid during the call only.
type Piece struct {
	File   *File
	Offset int64
	Data   []byte
}

// Info gives the backup's facts.
func (b *BackupReader) Info() state.Backup { return state.Backup{} }

// Folders gives the data directory and the tablespaces.
func (b *BackupReader) Folders() []Folder { return nil }

// Files gives every member in the order of the server's stream: directories, links, files.
func (b *BackupReader) Files(ctx context.Context) iter.Seq2[File, error] { return nil }

// PGManifest gives PostgreSQL's own manifest, verbatim.
func (b *BackupReader) PGManifest(ctx context.Context) ([]byte, error) { return nil, errNotBuilt }

// BackupLabel gives backup_label, verbatim.
func (b *BackupReader) BackupLabel(ctx context.Context) ([]byte, error) { return nil, errNotBuilt }

// Captured gives the captured settings; ErrNotExist where the role could not read them.
func (b *BackupReader) Captured(ctx context.Context) ([]byte, error) { return nil, errNotBuilt }

// Pieces reads the data of every wanted file, each volume once.
func (b *BackupReader) Pieces(ctx context.Context, o PieceOptions, write func(Piece) error) error {
	return errNotBuilt
}

// Finding is one thing wrong with a backup.
type Finding struct {
	Object string     `json:"object"` // key in the store
	Code   state.Code `json:"code"`
	Text   string     `json:"text"`
}

// Verify proves the stored bytes: quick looks at presence and sizes, full reads everything.
func (b *BackupReader) Verify(ctx context.Context, full bool, report func(Finding)) error {
	return errNotBuilt
}

// Budget bounds the bytes in flight in one process.
type Budget struct{}

// NewBudget makes a budget of n bytes.
func NewBudget(n int64) *Budget { return &Budget{} }
