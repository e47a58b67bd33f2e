package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/seal/keyfile"
)

func keyCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "key", Short: "Make keys, and say who reads an encrypted repository",
		Long: `Keys of encrypted repositories. A repository has keys of its own, which are wrapped for each reader that its encryption
block names; to add a reader or to make a new key touches nothing that is stored.`,
	}
	c.AddCommand(keyGenerateCommand(a), keyCheckCommand(a), keyAddCommand(a), keyRemoveCommand(a), keyRotateCommand(a))
	return c
}

func keyGenerateCommand(a *app) *cobra.Command {
	var writer, quantum bool
	c := &cobra.Command{
		Use: "generate FILE", Short: "Make a key in a new file, and show its public half", Args: cobra.ExactArgs(1),
		Long: `Without a flag it makes an age identity: its public half goes into data_recipients (who restores) or meta_recipients (a
backup host), and FILE into identity_files where it is used. With --writer it makes a signing key: its public half goes
into trusted_writers, and FILE into signing_key. The file has mode 0600 and is never written over.

When every key of data_recipients is lost, every backup is lost. Keep a copy apart from the machines that are backed up.`,
		Example: "  pgkeep key generate /etc/pgkeep/meta.key\n  pgkeep key generate --writer /etc/pgkeep/writer.key",
		RunE: func(_ *cobra.Command, args []string) error {
			kind := keyfile.Reader
			switch {
			case writer && quantum:
				return usage("--writer and --post-quantum make different keys")
			case writer:
				kind = keyfile.Writer
			case quantum:
				kind = keyfile.PostQuantum
			}
			public, err := keyfile.Generate(args[0], kind, a.now())
			if err != nil {
				return err
			}
			fmt.Fprintln(a.out, public)
			return nil
		},
	}
	c.Flags().BoolVar(&writer, "writer", false, "a key that objects are signed with")
	c.Flags().BoolVar(&quantum, "post-quantum", false, "an identity that a quantum computer could not break; age reads it from 1.3 on")
	return c
}

// eachEncrypted does something in each encrypted repository of the configuration, or in one.
func (a *app) eachEncrypted(ctx context.Context, only string, do func(x hclspec.Repository, r *repository.Repository) error) error {
	spec, err := a.load()
	if err != nil {
		return err
	}
	done := 0
	for _, x := range spec.Repositories {
		if x.Encryption == nil || only != "" && x.Name != only {
			continue
		}
		done++
		r, closeStore, err := openRepository(ctx, spec, x.Name)
		if err != nil {
			return fmt.Errorf("open %s: %w", x.Address, err)
		}
		err = do(x, r)
		closeStore()
		if err != nil {
			return fmt.Errorf("%s: %w", x.Address, err)
		}
	}
	if done == 0 {
		return &state.Error{Text: "the configuration has no encrypted repository" + named(only), Hint: "write an encryption block into it before it is created: docs/repositories.md"}
	}
	return nil
}

func named(only string) string {
	if only == "" {
		return ""
	}
	return fmt.Sprintf(" %q", only)
}

func keyCheckCommand(a *app) *cobra.Command {
	var only string
	c := &cobra.Command{
		Use: "check", Short: "Say what the keys of this machine can read", Args: cobra.NoArgs,
		Long: `Opens each encrypted repository with the keys of its encryption block, and says for each of the repository's own keys
whether metadata and data can be read here, and for how many readers it is wrapped. The exit code is 8 when a reader of
the configuration cannot read everything. A restore needs data.`,
		RunE: func(c *cobra.Command, _ []string) error {
			bad := false
			err := a.eachEncrypted(c.Context(), only, func(x hclspec.Repository, r *repository.Repository) error {
				fmt.Fprintf(a.out, "%s\n", x.Address)
				for _, k := range r.Keys() {
					fmt.Fprintf(a.out, "  key %s, number %d, of %s: metadata %s, data %s here; wrapped for %s\n", k.ID, k.Number, k.Created.Format(time.RFC3339),
						readHere(k.Meta), readHere(k.Data), counted(readersOf(k), "data reader"))
				}
				unopened, err := r.Unopened(c.Context())
				if err != nil {
					return err
				}
				if len(unopened) > 0 {
					bad = true
					fmt.Fprintf(a.out, "  what is wrapped for them is not opened by their identities here: %s\n  → %s\n", strings.Join(unopened, ", "), wrapAgain)
				}
				if missing := r.Missing(); len(missing) > 0 {
					bad = true
					fmt.Fprintf(a.out, "  not everything can be read by %s\n  → where a data identity is: pgkeep key add --repository %s\n", strings.Join(missing, ", "), x.Name)
				}
				return nil
			})
			if err == nil && bad {
				return exit{code: exitCheck}
			}
			return err
		},
	}
	c.Flags().StringVar(&only, "repository", "", "only this one")
	return c
}

// wrapAgain says what to do where something else is wrapped for a reader than he opens.
const wrapAgain = "if the passphrase was changed, or somebody else has written there: take the reader out of the encryption block, pgkeep key remove, write it in again, pgkeep key add"

func readHere(yes bool) string {
	if yes {
		return "is read"
	}
	return "is not read"
}

func readersOf(k repository.KeyFact) int {
	n := 0
	for _, name := range k.Wrapped {
		if strings.HasPrefix(name, "data-") {
			n++
		}
	}
	return n
}

func keyAddCommand(a *app) *cobra.Command {
	var only string
	c := &cobra.Command{
		Use: "add", Short: "Let new readers of the configuration read what is there", Args: cobra.NoArgs,
		Long: `Wraps the repository's keys for every reader that data_recipients and meta_recipients name and who cannot open them yet.
Nothing that is encrypted is written again. It runs where an identity opens what is to be wrapped.`,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.eachEncrypted(c.Context(), only, func(x hclspec.Repository, r *repository.Repository) error {
				added, err := r.AddReaders(c.Context())
				for _, name := range added {
					fmt.Fprintf(a.out, "%s: wrapped for %s\n", x.Address, name)
				}
				if err != nil {
					return err
				}
				unopened, err := r.Unopened(c.Context())
				if len(unopened) > 0 {
					return &state.Error{Code: state.CodeNoKey, Text: "what is wrapped for them is not opened by their identities here: " + strings.Join(unopened, ", "), Hint: wrapAgain}
				}
				if err == nil && len(added) == 0 {
					fmt.Fprintf(a.out, "%s: every reader of the configuration can read already\n", x.Address)
				}
				return err
			})
		},
	}
	c.Flags().StringVar(&only, "repository", "", "only this one")
	return c
}

func keyRemoveCommand(a *app) *cobra.Command {
	var only string
	c := &cobra.Command{
		Use: "remove RECIPIENT|FINGERPRINT", Short: "Take a reader's wrapped keys away", Args: cobra.ExactArgs(1),
		Long: `Takes away what is wrapped for a reader who no longer stands in the configuration; plans tell of him by the fingerprint of
16 digits under which it lies. It does not take away what he has read,
nor a repository key that he has unwrapped and kept: with it he reads on, old and new. pgkeep key rotate afterwards keeps
from him what is written from then on. It runs where the identity of another reader opens what he could: nothing is taken
away as long as nothing shows that somebody else can read it.`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.eachEncrypted(c.Context(), only, func(x hclspec.Repository, r *repository.Repository) error {
				n, err := r.RemoveReader(c.Context(), args[0])
				if err != nil {
					return err
				}
				fmt.Fprintf(a.out, "%s: %s taken away; pgkeep key rotate keeps what is written from then on from who has kept a copy\n", x.Address, counted(n, "wrapped copy"))
				return nil
			})
		},
	}
	c.Flags().StringVar(&only, "repository", "", "only this one")
	return c
}

func keyRotateCommand(a *app) *cobra.Command {
	var only string
	c := &cobra.Command{
		Use: "rotate", Short: "Make a new repository key for what is written from now on", Args: cobra.NoArgs,
		Long: `Makes a new key, wrapped for the readers of the configuration. What is there stays as it is: old keys stay, and readers of
them read it. Receivers and agents that run go on with the old key until they are started again.`,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.eachEncrypted(c.Context(), only, func(x hclspec.Repository, r *repository.Repository) error {
				k, err := r.Rotate(c.Context(), a.now())
				if err != nil {
					return err
				}
				fmt.Fprintf(a.out, "%s: key %s, number %d, seals what is written from now on; restart the receivers and agents that write there\n", x.Address, k.ID, k.Number)
				return nil
			})
		},
	}
	c.Flags().StringVar(&only, "repository", "", "only this one")
	return c
}
