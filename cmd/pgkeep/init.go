package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/state"
)

// starter is what `pgkeep init` writes.
const starter = `# What must be true. "pgkeep plan" shows what is missing, "pgkeep apply" does it.
# The whole language: docs/language.md

repository "main" {
  path = "/var/lib/pgkeep/repository" # better another machine's disk than the server's
}

server "main" {
  # A role with LOGIN and REPLICATION is enough. The password belongs into ~/.pgpass.
  conninfo     = "host=127.0.0.1 port=5432 user=pgkeep dbname=postgres"
  repositories = [repository.main]

  receiver {
    spool = "/var/lib/pgkeep/spool"
  }
}

schedule "nightly" {
  servers = [server.main]
  cron    = "0 1 * * *"
}

retention "standard" {
  servers         = [server.main]
  recovery_window = "7d" # any moment of the last 7 days
}
`

func initCommand(a *app) *cobra.Command {
	var dsn string
	var d draft
	c := &cobra.Command{
		Use: "init", Short: "Write a first configuration", Args: cobra.NoArgs,
		Long: `Writes pgkeep.hcl with one server, one repository, a nightly backup and a window of seven days. An existing file is left
alone. With --from-server it looks at a running server first, changing nothing there: it writes what fits that server,
never a password, and prints the SQL and the pg_hba.conf lines that are still missing.`,
		Example: "  pgkeep init\n  pgkeep init -C /etc/pgkeep\n  pgkeep init --from-server 'host=10.0.1.1 user=pgkeep dbname=postgres' --name orders --repository /srv/pgkeep",
		RunE: func(c *cobra.Command, _ []string) error {
			if c.Flags().Changed("from-server") {
				return a.initFromServer(c.Context(), dsn, d)
			}
			if d.name != "" || c.Flags().Changed("repository") || c.Flags().Changed("spool") {
				return usage("--name, --repository and --spool go with --from-server")
			}
			file := filepath.Join(a.dir, "pgkeep.hcl")
			if err := writeNew(file, starter); err != nil {
				return err
			}
			fmt.Fprintf(a.out, "%s is written. Change host, user and paths in it, then run:\n\n  pgkeep validate\n  pgkeep plan\n", file)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&dsn, "from-server", "", "connection string or URI of a server to look at; others may see a password in it: better ~/.pgpass")
	f.StringVar(&d.name, "name", "", "label of the server, under which backups are stored (default: its cluster_name, or main)")
	f.StringVar(&d.repository, "repository", "/var/lib/pgkeep/repository", "directory for backups and WAL")
	f.StringVar(&d.spool, "spool", "/var/lib/pgkeep/spool", "directory for WAL on its way")
	return c
}

func existsAlready(file string) error {
	return &state.Error{Text: file + " exists already", Hint: "edit it, and run pgkeep validate"}
}

// writeNew writes a file that must not exist, for its owner alone.
func writeNew(file, content string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return existsAlready(file)
	}
	if err != nil {
		return fmt.Errorf("create the configuration: %w", err)
	}
	_, err = f.WriteString(content)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}
