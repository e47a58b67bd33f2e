package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// BackupOptions says what kind of base backup to ask for. Manifest checksums are always CRC-32C.
type BackupOptions struct {
	Label       string
	Checkpoint  string    // "fast", else spread
	MaxRate     int64     // bytes a second; 0: none. The server knows 32 kB/s to 1 GB/s
	VerifyPages bool      // the server checks page checksums as it reads
	Compression string    // 15 and later: "zstd:1", "gzip", "lz4"; Archive's streams are then compressed. Empty: none
	Incremental io.Reader // 17 and later: the manifest of the backup to build on; nil: a full backup
}

// BackupTablespace is one archive of a base backup.
type BackupTablespace struct {
	OID      uint32 // 0: the data directory
	Location string // where the tablespace lies on the server; empty for the data directory
	Size     int64  // bytes, as the server estimated; -1: not known
}

// BackupStart is what the server says first.
type BackupStart struct {
	LSN         wal.LSN // where replay will begin
	Timeline    wal.Timeline
	Tablespaces []BackupTablespace // the data directory among them, in the order of the archives
}

// BackupSink takes a base backup as it arrives. An error of any of its methods ends the backup and the session.
type BackupSink interface {
	// Begin is called once, before any data.
	Begin(s BackupStart) error
	// Archive is called once for each tablespace in the order of Begin, with a tar stream to its end. What it does not
	// read is passed over. Up to 14 the stream may lack the two blocks of zeros at a tar's end.
	Archive(t BackupTablespace, r io.Reader) error
	// Manifest is called once, after the archives. The manifest was not parsed.
	Manifest(r io.Reader) error
	// Progress tells how many bytes of all archives came so far.
	Progress(done int64)
}

// BackupResult is what the server says last.
type BackupResult struct {
	StartLSN wal.LSN
	StopLSN  wal.LSN // WAL up to here makes the backup consistent
	Timeline wal.Timeline
	Damaged  *state.Error // all data came, but the server found pages whose checksum does not fit; nil: none
}

// sinkError marks an error of the sink, which is given back as it is.
type sinkError struct{ err error }

// Error gives the sink's words.
func (e sinkError) Error() string { return e.err.Error() }

// Unwrap gives the sink's error.
func (e sinkError) Unwrap() error { return e.err }

// RefusedError says that the server does not take an incremental backup on the manifest that it was given. Nothing
// has begun then, and the session can take another backup.
type RefusedError struct {
	Why string // the server's words
	Err error  // as BaseBackup would give it
}

// Error gives what went wrong.
func (e *RefusedError) Error() string { return e.Err.Error() }

// Unwrap gives the error of the server.
func (e *RefusedError) Unwrap() error { return e.Err }

// refused makes a RefusedError of what the server said to an incremental backup before it began, for example that WAL
// summaries are missing; any other error stays as it is.
func (r *Replication) refused(err error) error {
	var pg *pgconn.PgError
	if r.broken != nil || !errors.As(err, &pg) {
		return err
	}
	return &RefusedError{Why: said{pg}.Error(), Err: err}
}

// BaseBackup takes a base backup. The result counts only when the error is nil; then everything has been given to the
// sink whole. An error of the sink is given back unchanged, and the session is of no use then. A server that refuses an
// incremental backup before it has begun gives a RefusedError.
func (r *Replication) BaseBackup(ctx context.Context, o BackupOptions, sink BackupSink) (BackupResult, error) {
	action := "take a base backup of " + r.server
	command, err := o.command(r.version / 10000)
	if err != nil {
		return BackupResult{}, &state.Error{Code: state.CodeSettings, Text: action, Err: err}
	}
	if o.Incremental != nil {
		if err := r.uploadManifest(ctx, o.Incremental); err != nil {
			return BackupResult{}, r.refused(err)
		}
	}
	b := backup{r: r, sink: sink}
	err = r.command(ctx, action, func() error {
		if err := r.wire.sendQuery(ctx, command); err != nil {
			return err
		}
		return b.run()
	})
	var own sinkError
	if errors.As(err, &own) {
		return BackupResult{}, own.err
	}
	if err != nil && o.Incremental != nil && !b.begun {
		return BackupResult{}, r.refused(err)
	}
	if err != nil {
		return BackupResult{}, err
	}
	return b.result, nil
}

// command writes BASE_BACKUP in the grammar of the server's major version.
func (o BackupOptions) command(major int) (string, error) {
	switch {
	case o.Compression != "" && major < 15:
		return "", fmt.Errorf("transfer_compression needs PostgreSQL 15, this is %d", major)
	case o.Incremental != nil && major < 17:
		return "", fmt.Errorf("an incremental backup by the server needs PostgreSQL 17, this is %d", major)
	case o.MaxRate != 0 && o.MaxRate < 32<<10:
		return "", errors.New("max_rate is below the 32 KiB/s that PostgreSQL knows")
	case strings.ContainsRune(o.Label, 0) || len(o.Label) > 1000:
		return "", errors.New("the label is too long")
	}
	if major < 15 {
		return "BASE_BACKUP " + strings.Join(o.words(), " "), nil
	}
	return "BASE_BACKUP (" + strings.Join(o.list(), ", ") + ")", nil
}

// maxRateLimit is the highest MAX_RATE of the server, in kB/s; above it there is no limit to set.
const maxRateLimit = 1 << 20

// common are the options that all versions write alike.
func (o BackupOptions) common() []string {
	p := []string{"LABEL " + quoteLiteral(o.Label), "PROGRESS", "MANIFEST 'yes'", "MANIFEST_CHECKSUMS 'CRC32C'"}
	if kb := o.MaxRate >> 10; kb > 0 && kb <= maxRateLimit {
		p = append(p, fmt.Sprintf("MAX_RATE %d", kb))
	}
	return p
}

// words are the options as 13 and 14 read them.
func (o BackupOptions) words() []string {
	p := append(o.common(), "NOWAIT")
	if o.Checkpoint == "fast" {
		p = append(p, "FAST")
	}
	if !o.VerifyPages {
		p = append(p, "NOVERIFY_CHECKSUMS")
	}
	return p
}

// list are the options as 15 and later read them.
func (o BackupOptions) list() []string {
	p := append(o.common(), "WAIT false")
	if o.Checkpoint == "fast" {
		p = append(p, "CHECKPOINT 'fast'")
	} else {
		p = append(p, "CHECKPOINT 'spread'")
	}
	if !o.VerifyPages {
		p = append(p, "VERIFY_CHECKSUMS false")
	}
	if algorithm, detail, _ := strings.Cut(o.Compression, ":"); algorithm != "" {
		p = append(p, "COMPRESSION "+quoteLiteral(algorithm))
		if detail != "" {
			p = append(p, "COMPRESSION_DETAIL "+quoteLiteral(detail))
		}
	}
	if o.Incremental != nil {
		p = append(p, "INCREMENTAL")
	}
	return p
}

// backup is one running BASE_BACKUP.
type backup struct {
	r      *Replication
	sink   BackupSink
	start  BackupStart
	begun  bool // the sink was told
	done   int64
	result BackupResult
}

func (b *backup) run() error {
	if err := b.begin(); err != nil {
		return err
	}
	var err error
	if b.r.version >= 150000 {
		err = b.oneCopy()
	} else {
		err = b.manyCopies()
	}
	if err != nil {
		return err
	}
	return b.end()
}

// begin reads the two results that come before the data.
func (b *backup) begin() error {
	rows, err := b.r.resultSet()
	if err != nil {
		return err
	}
	if b.start.LSN, b.start.Timeline, err = position(rows); err != nil {
		return err
	}
	if rows, err = b.r.resultSet(); err != nil {
		return err
	}
	if b.start.Tablespaces, err = tablespaces(rows); err != nil {
		return err
	}
	b.begun = true
	return sunk(b.sink.Begin(b.start))
}

// end reads the stop position. An XX001 behind it, with everything sent, is the server's verdict on its own pages.
func (b *backup) end() error {
	rows, err := b.r.resultSet()
	if err != nil {
		return err
	}
	b.result = BackupResult{StartLSN: b.start.LSN, Timeline: b.start.Timeline}
	timeline := wal.Timeline(0)
	if b.result.StopLSN, timeline, err = position(rows); err != nil {
		return err
	}
	if b.result.StopLSN < b.start.LSN || timeline != b.start.Timeline {
		return protocolError("a backup from %s on timeline %d to %s on %d", b.start.LSN, b.start.Timeline, b.result.StopLSN, timeline)
	}
	err = b.r.readyForQuery()
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "XX001" { // data_corrupted
		b.r.settle(pg)
		b.result.Damaged = &state.Error{
			Code: state.CodeCorrupt, Err: said{pg},
			Text: b.r.server + " read pages whose checksum does not fit",
			Hint: "the server's log names the files; check its disks, and amcheck the relations",
		}
		return b.r.broken
	}
	return err
}

// position reads the row (LSN, timeline).
func position(rows [][][]byte) (wal.LSN, wal.Timeline, error) {
	if len(rows) != 1 || len(rows[0]) != 2 {
		return 0, 0, protocolError("no position")
	}
	l, err := wal.ParseLSN(string(rows[0][0]))
	if err != nil || l == 0 {
		return 0, 0, protocolError("the position %q", cleanText(string(rows[0][0])))
	}
	t, err := parseTimeline(string(rows[0][1]))
	if err != nil {
		return 0, 0, protocolError("%v", err)
	}
	return l, t, nil
}

// tablespaces reads rows of (OID, location, size in kB) of which exactly one, the data directory, has no OID.
func tablespaces(rows [][][]byte) ([]BackupTablespace, error) {
	var out []BackupTablespace
	seen := map[uint32]bool{}
	for _, row := range rows {
		if len(row) != 3 {
			return nil, protocolError("a tablespace of %d fields", len(row))
		}
		t := BackupTablespace{Location: string(row[1]), Size: -1}
		if row[0] != nil {
			n, err := strconv.ParseUint(string(row[0]), 10, 32)
			if err != nil || n == 0 {
				return nil, protocolError("the tablespace %q", cleanText(string(row[0])))
			}
			t.OID = uint32(n)
		}
		if row[2] != nil {
			kb, err := strconv.ParseInt(string(row[2]), 10, 52)
			if err != nil || kb < 0 {
				return nil, protocolError("a tablespace of %q kB", cleanText(string(row[2])))
			}
			t.Size = kb << 10
		}
		if seen[t.OID] || t.OID == 0 && t.Location != "" || t.OID != 0 && !plainPath(t.Location) {
			return nil, protocolError("the tablespace %d at %q", t.OID, cleanText(t.Location))
		}
		seen[t.OID] = true
		out = append(out, t)
	}
	if !seen[0] {
		return nil, protocolError("a backup without the data directory")
	}
	return out, nil
}

// plainPath accepts an absolute path, or one inside the data directory (an in-place tablespace of 15 and later), that has
// no "..", no NUL and no newline.
func plainPath(p string) bool {
	if strings.ContainsAny(p, "\x00\n\r") || p == "" {
		return false
	}
	return filepath.Clean(p) == p && (filepath.IsAbs(p) || filepath.IsLocal(p))
}

func sunk(err error) error {
	if err != nil {
		return sinkError{err}
	}
	return nil
}
