package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/steps/export"
)

const exportHelp = `Writes a backup, full or incremental, as PostgreSQL's own pg_basebackup would have: nobody needs pgkeep to use it.

  --format plain   a data directory, and a directory for each tablespace (--tablespace NAME=DIR)
  --format tar     base.tar, OID.tar for each tablespace and, with --wal, pg_wal.tar; compressed with --compress

backup_manifest is computed anew, and pg_verifybackup accepts it. With --wal the WAL from the backup's start to its end is added, as
pg_basebackup -X does: a server that is started there becomes consistent by itself. Without it, pg_verifybackup --no-parse-wal.

The configuration is the server's own, with its archive_command and primary_conninfo: for a copy that is disarmed, and for a moment
after the backup, pgkeep recover is the command. The directory must be absent or empty; an export that fails removes what it wrote.`

// exportOrder is what the flags of backups export say.
type exportOrder struct {
	at              holdTarget
	into, format    string
	compress, owner string
	tablespaces     []string
	wal             bool
}

// exported is what was written, as --json prints it.
type exported struct {
	Backup     string `json:"backup"`
	Server     string `json:"server"`
	Repository string `json:"repository"`
	Format     string `json:"format"`
	Into       string `json:"into"`
	export.Result
}

func backupsExportCommand(a *app) *cobra.Command {
	var o exportOrder
	var p printed
	c := &cobra.Command{
		Use: "export BACKUP", Short: "Write a backup as pg_basebackup would, as a data directory or tar files", Args: cobra.ExactArgs(1), Long: exportHelp,
		Example: "  pgkeep backups export 20260210T211617Z-F-7f3a --into /srv/copy --wal\n" +
			"  pgkeep backups export 20260210T211617Z-F-7f3a --into /srv/copy --wal --owner postgres --tablespace fast=/mnt/nvme/copy\n" +
			"  pgkeep backups export 20260210T211617Z-F-7f3a --into /mnt/tape --format tar --compress zstd --wal",
		RunE: func(c *cobra.Command, ids []string) error {
			options, err := o.read(a.now)
			if err != nil {
				return err
			}
			done, err := a.export(c.Context(), ids[0], o, options, !p.json)
			if err != nil {
				return err
			}
			return p.show(a, done, func() { a.showExported(done, o) })
		},
	}
	f := c.Flags()
	f.StringVar(&o.into, "into", "", "directory to write into: absent or empty")
	f.StringVar(&o.format, "format", export.Plain, "plain or tar")
	f.StringVar(&o.compress, "compress", "none", "of tar files: none, gzip, zstd or lz4")
	f.BoolVar(&o.wal, "wal", false, "add the WAL that the backup needs to become consistent")
	f.StringArrayVar(&o.tablespaces, "tablespace", nil, "NAME=DIR, where a tablespace goes; can be repeated")
	f.StringVar(&o.owner, "owner", "", "user who will own the files (who runs pgkeep)")
	f.StringVar(&o.at.server, "server", "", "stored name of the server; found by the id without it")
	f.StringVar(&o.at.repository, "repository", "", "read it from this repository; the first that has it without it")
	_ = c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{export.Plain, export.Tar}, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("compress", cobra.FixedCompletions([]string{"none", "gzip", "zstd", "lz4"}, cobra.ShellCompDirectiveNoFileComp))
	p.flag(c, "what was written")
	return c
}

// read reads the flags.
func (o *exportOrder) read(now func() time.Time) (export.Options, error) {
	out := export.Options{Format: o.format, WAL: o.wal, Now: now}
	if o.into == "" {
		return out, usage("--into DIR says where to write")
	}
	if o.format != export.Plain && o.format != export.Tar {
		return out, usage("--format is plain or tar")
	}
	compression, err := export.ParseCompression(o.compress)
	if err != nil {
		return out, usage("--compress is none, gzip, zstd or lz4")
	}
	if compression != "" && o.format != export.Tar {
		return out, usage("--compress is for --format tar")
	}
	out.Compression = compression
	if out.Into, err = filepath.Abs(o.into); err != nil {
		return out, fmt.Errorf("find %s: %w", o.into, err)
	}
	if out.Owner, err = host.LookupOwner(o.owner); err != nil {
		return out, usage("--owner: %s", err)
	}
	if !host.CanGiveTo(out.Owner) {
		return out, &state.Error{Code: state.CodePermission, Text: fmt.Sprintf("files cannot be given to %q by this user", o.owner), Hint: "run as root or as that user"}
	}
	return out, nil
}

// export reads the backup from the first repository that has it and whose data is read here.
func (a *app) export(ctx context.Context, id string, o exportOrder, options export.Options, draw bool) (exported, error) {
	found, err := a.find(ctx, id, o.at.server, o.at.repository)
	if err != nil {
		return exported{}, err
	}
	from, r, closeStore, err := a.openReadable(ctx, found)
	if err != nil {
		return exported{}, fmt.Errorf("export backup %s: %w", id, err)
	}
	defer closeStore()
	cluster := r.Cluster(from.Server, from.SystemID)
	b, err := cluster.OpenBackup(ctx, id)
	if err != nil {
		return exported{}, err
	}
	options.Backup, options.Archive, options.SystemID = b, cluster, from.SystemID
	if options.Tablespaces, err = exportPlaces(ctx, b, o.tablespaces); err != nil {
		return exported{}, err
	}
	if draw && a.errTerminal {
		options.Report = a.exportProgress(id)
		defer fmt.Fprint(a.err, "\r\x1b[K")
	}
	result, err := export.Export(ctx, options)
	return exported{id, from.Server, from.Repository, o.format, options.Into, result}, err
}

// openReadable opens the first repository whose data an identity here opens; the error is that of the first. The caller closes it.
func (a *app) openReadable(ctx context.Context, found []foundBackup) (foundBackup, *repository.Repository, func(), error) {
	spec, err := a.load()
	if err != nil {
		return foundBackup{}, nil, nil, err
	}
	var first error
	for _, f := range found {
		r, closeStore, err := openRepository(ctx, spec, f.Repository)
		if err == nil {
			if err = r.NeedData(); err == nil {
				return f, r, closeStore, nil
			}
			closeStore()
		}
		if first == nil {
			first = fmt.Errorf("read it in %s: %w", f.Repository, err)
		}
	}
	return foundBackup{}, nil, nil, first
}

// exportPlaces finds the tablespaces that are named by name, OID or place on the server.
func exportPlaces(ctx context.Context, b *repository.BackupReader, named []string) (map[uint32]string, error) {
	names, err := capturedNames(ctx, b)
	if err != nil {
		return nil, err
	}
	out := map[uint32]string{}
	for _, n := range named {
		name, dir, ok := strings.Cut(n, "=")
		if !ok || dir == "" {
			return nil, usage("--tablespace is NAME=DIR, not %q", n)
		}
		at, err := filepath.Abs(dir)
		if err != nil {
			return nil, fmt.Errorf("find %s: %w", dir, err)
		}
		known := false
		for _, f := range b.Folders() {
			if f.OID != 0 && (name == names[f.OID] || name == fmt.Sprint(f.OID) || name == f.Location) {
				out[f.OID], known = at, true
			}
		}
		if !known {
			return nil, &state.Error{Code: state.CodeAbsent, Text: fmt.Sprintf("backup %s has no tablespace %q", b.Info().ID, name), Hint: "pgkeep backups files " + b.Info().ID + " lists what it has"}
		}
	}
	return out, nil
}

func (a *app) exportProgress(id string) func(done, total int64) {
	var said time.Time
	return func(done, total int64) {
		now := a.now()
		if total == 0 || now.Sub(said) < 500*time.Millisecond {
			return
		}
		said = now
		fmt.Fprintf(a.err, "\r\x1b[Kexport of %s: %s of %s, %d %%\r", id, plan.Size(done), plan.Size(total), done*100/total)
	}
}

func (a *app) showExported(x exported, o exportOrder) {
	for _, n := range x.Notes {
		fmt.Fprintf(a.out, "Note: %s\n", n)
	}
	fmt.Fprintf(a.out, "Exported %s of %s from repository %s: %s, %s", x.Backup, x.Server, x.Repository, counted(int(x.Files), "file"), plan.Size(x.Bytes))
	if o.wal {
		fmt.Fprintf(a.out, ", %s of WAL", counted(x.WALSegments, "segment"))
	}
	fmt.Fprintln(a.out, ".")
	for _, w := range x.Written {
		fmt.Fprintf(a.out, "  %s\n", w)
	}
	fmt.Fprintln(a.out, "Its configuration is the server's own: look at archive_command and primary_conninfo before you start it.")
	without := ""
	if !o.wal {
		without = "--no-parse-wal "
	}
	fmt.Fprintf(a.out, "→ pg_verifybackup %s%s\n", without, x.Into)
}
