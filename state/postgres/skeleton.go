package postgres

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

var errNotBuilt = errors.New("not built yet")

// Files gives the content of files by path.
type Files interface {
	ReadFile(name string) ([]byte, error)
}

// Conninfo is a parsed connection string.
type Conninfo struct{ hosts []string }

// ParseConninfo reads a conninfo.
func ParseConninfo(s string, env map[string]string, files Files) (Conninfo, error) {
	return Conninfo{}, errNotBuilt
}

// String gives the redacted form.
func (c Conninfo) String() string { return "" }

// SSLMode gives the effective sslmode.
func (c Conninfo) SSLMode() string { return "" }

// User gives the role.
func (c Conninfo) User() string { return "" }

// Hosts gives "host:port" in order.
func (c Conninfo) Hosts() []string { return c.hosts }

// ConnectOptions says how to connect.
type ConnectOptions struct {
	ApplicationName string
	Timeout         time.Duration
}

// Conn is a SQL session.
type Conn struct{}

// Connect opens a SQL session.
func Connect(ctx context.Context, c Conninfo, o ConnectOptions) (*Conn, error) {
	return nil, errNotBuilt
}

func (c *Conn) Facts(ctx context.Context) (state.Server, error)            { return state.Server{}, errNotBuilt }
func (c *Conn) CreateSlot(ctx context.Context, name string) error          { return errNotBuilt }
func (c *Conn) DropSlot(ctx context.Context, name string) error            { return errNotBuilt }
func (c *Conn) Slot(ctx context.Context, name string) (*state.Slot, error) { return nil, errNotBuilt }
func (c *Conn) AdvanceSlot(ctx context.Context, name string, to wal.LSN) error {
	return errNotBuilt
}
func (c *Conn) SwitchWAL(ctx context.Context) (wal.LSN, error) { return 0, errNotBuilt }
func (c *Conn) CreateRestorePoint(ctx context.Context, name string) (wal.LSN, error) {
	return 0, errNotBuilt
}
func (c *Conn) TerminateBackend(ctx context.Context, pid int) error { return errNotBuilt }
func (c *Conn) TryLock(ctx context.Context, name string) (unlock func(), err error) {
	return nil, errNotBuilt
}
func (c *Conn) Captured(ctx context.Context) (Captured, error) { return Captured{}, errNotBuilt }
func (c *Conn) Ping(ctx context.Context) error                 { return errNotBuilt }
func (c *Conn) Close() error                                   { return nil }

// Captured is the server's configuration.
type Captured struct {
	Settings []CapturedSetting `json:"settings"`
	HBA      []string          `json:"hba,omitempty"`
}

// CapturedSetting is a setting that isn't at its default.
type CapturedSetting struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Source string `json:"source"`
}

// Replication is a walsender session.
type Replication struct{}

// ConnectReplication opens a walsender session.
func ConnectReplication(ctx context.Context, c Conninfo, o ConnectOptions) (*Replication, error) {
	return nil, errNotBuilt
}

// System is what IDENTIFY_SYSTEM says.
type System struct {
	ID       string
	Timeline wal.Timeline
	FlushLSN wal.LSN
}

func (r *Replication) IdentifySystem(ctx context.Context) (System, error) {
	return System{}, errNotBuilt
}
func (r *Replication) Version() int { return 0 }
func (r *Replication) SegmentSize(ctx context.Context) (wal.SegmentSize, error) {
	return 0, errNotBuilt
}
func (r *Replication) TimelineHistory(ctx context.Context, t wal.Timeline) ([]byte, error) {
	return nil, errNotBuilt
}
func (r *Replication) Close() error { return nil }

// StreamOptions says what to stream.
type StreamOptions struct {
	Slot     string
	Timeline wal.Timeline
	From     wal.LSN
}

// Stream is a running WAL stream.
type Stream struct{}

// Message is a stretch of WAL or a keepalive.
type Message struct {
	Keepalive      bool
	Start          wal.LSN
	Data           []byte
	ServerEnd      wal.LSN
	ServerTime     time.Time
	ReplyRequested bool
}

// Status is what a receiver reports.
type Status struct {
	Written, Flushed wal.LSN
	Now              time.Time
	RequestReply     bool
}

// ErrIdle says that nothing came before the deadline.
var ErrIdle = errors.New("no message before the deadline")

// ErrServerShutdown says that the server ended the stream because it shuts down.
var ErrServerShutdown = errors.New("the server shut down")

// EndOfTimeline says that the timeline ended.
type EndOfTimeline struct {
	Next   wal.Timeline
	Switch wal.LSN
}

func (e *EndOfTimeline) Error() string { return "end of timeline" }

func (r *Replication) Stream(ctx context.Context, o StreamOptions) (*Stream, error) {
	return nil, errNotBuilt
}
func (s *Stream) Next(ctx context.Context, deadline time.Time) (Message, error) {
	return Message{}, errNotBuilt
}
func (s *Stream) Buffered() bool                                     { return false }
func (s *Stream) SendStatus(ctx context.Context, status Status) error { return errNotBuilt }
func (s *Stream) Close() error                                       { return nil }

// BackupOptions says what kind of base backup to ask for.
type BackupOptions struct {
	Label, Checkpoint string
	MaxRate           int64
	VerifyPages       bool
	Compression       string
	Incremental       io.Reader
}

// BackupTablespace is one archive of a base backup.
type BackupTablespace struct {
	OID      uint32
	Location string
	Size     int64
}

// BackupStart is what the server says first.
type BackupStart struct {
	LSN         wal.LSN
	Timeline    wal.Timeline
	Tablespaces []BackupTablespace
}

// BackupSink takes a base backup.
type BackupSink interface {
	Begin(BackupStart) error
	Archive(t BackupTablespace, r io.Reader) error
	Manifest(r io.Reader) error
	Progress(done int64)
}

// BackupResult is what the server says last.
type BackupResult struct {
	StartLSN, StopLSN wal.LSN
	Timeline          wal.Timeline
	Damaged           *state.Error
}

func (r *Replication) BaseBackup(ctx context.Context, o BackupOptions, sink BackupSink) (BackupResult, error) {
	return BackupResult{}, errNotBuilt
}

// Manifest is PostgreSQL's backup_manifest.
type Manifest struct {
	Version   int
	SystemID  string
	Files     []ManifestFile
	WALRanges []wal.Range
}

// ManifestFile is one file.
type ManifestFile struct {
	Path      string
	Size      int64
	ModTime   time.Time
	Algorithm string
	Checksum  string
}

// ParseManifest reads a manifest.
func ParseManifest(r io.Reader) (Manifest, error) { return Manifest{}, errNotBuilt }

// PageVerdict is CheckPage's answer.
type PageVerdict int

const (
	PageGood  PageVerdict = iota // the checksum fits
	PageNew                      // never used: all zero header
	PageNewer                    // written after start: replay writes it again
	PageBad                      // the checksum does not fit
)

func PageChecksum(page []byte, block uint32) uint16 { return 0 }
func CheckPage(page []byte, block uint32, start wal.LSN) PageVerdict {
	return PageGood
}

// BackupLabel is what backup_label says.
type BackupLabel struct {
	StartLSN     wal.LSN
	StartSegment string
	Checkpoint   wal.LSN
	Method       string
	From         string
	StartTime    string
	Label        string
	Timeline     wal.Timeline
}

func ParseBackupLabel(b []byte) (BackupLabel, error) { return BackupLabel{}, errNotBuilt }
