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
	return &cobra.Command{
		Use: "init", Short: "Write a first configuration", Args: cobra.NoArgs,
		Long:    "Writes pgkeep.hcl with one server, one repository, a nightly backup and a window of seven days. An existing file is left alone.",
		Example: "  pgkeep init\n  pgkeep init -C /etc/pgkeep",
		RunE: func(_ *cobra.Command, _ []string) error {
			name := filepath.Join(a.dir, "pgkeep.hcl")
			f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if errors.Is(err, fs.ErrExist) {
				return &state.Error{Text: name + " exists already", Hint: "edit it, and run pgkeep validate"}
			}
			if err != nil {
				return fmt.Errorf("create the configuration: %w", err)
			}
			_, err = f.WriteString(starter)
			if err := errors.Join(err, f.Close()); err != nil {
				return fmt.Errorf("write %s: %w", name, err)
			}
			fmt.Fprintf(a.out, "%s is written. Change host, user and paths in it, then run:\n\n  pgkeep validate\n  pgkeep plan\n", name)
			return nil
		},
	}
}
