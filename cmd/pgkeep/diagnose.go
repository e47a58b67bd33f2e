package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
)

const diagnoseHelp = `Gathers what somebody needs who helps from afar, in one file (tar.gz, mode 0600): version and build, facts of this machine,
the configuration, what was seen of servers, repositories, spools and receivers, the plan, the verdicts of check, the end
of the logs and of the journal, and how many objects of which kind each repository holds. It holds nothing of what the
databases hold, and no file of a backup.

Passwords, connection strings and the values of sensitive variables are taken out: by name, by form, and each known one
wherever it stands. Host names, role names, paths and settings stay. Look before you send it: --list shows what would be
in it, and it is plain text inside.`

func diagnoseCommand(a *app) *cobra.Command {
	var out string
	var list, asJSON bool
	var logs []string
	c := &cobra.Command{
		Use: "diagnose", Short: "Write a support bundle without secrets", Long: diagnoseHelp, Args: cobra.NoArgs,
		Example: "  pgkeep diagnose --list\n  pgkeep diagnose\n  pgkeep diagnose --out /tmp/orders.tar.gz --log /var/log/pgkeep/agent.log",
		RunE: func(c *cobra.Command, _ []string) error {
			if asJSON && !list {
				return usage("--json goes with --list")
			}
			b := a.gather(c.Context(), logs)
			if err := context.Cause(c.Context()); err != nil {
				return err
			}
			if list {
				return a.listBundle(b, asJSON)
			}
			if out == "" {
				out = b.name + ".tar.gz"
			}
			if err := b.write(out); err != nil {
				return err
			}
			fmt.Fprintf(a.out, "%s: %s, mode 0600.\n", out, counted(len(b.files), "file"))
			a.notCollected(b)
			fmt.Fprintln(a.out, "→ look at what you send: tar tzf "+out)
			return nil
		},
	}
	c.Flags().StringVar(&out, "out", "", "file to write, which must not exist (pgkeep-diagnose-HOST-TIME.tar.gz)")
	c.Flags().BoolVar(&list, "list", false, "only show what would be in it")
	c.Flags().BoolVar(&asJSON, "json", false, "with --list: print as JSON")
	c.Flags().StringArrayVar(&logs, "log", nil, "another log whose end is wanted; can be repeated")
	return c
}

// bundle is what was gathered, without secrets.
type bundle struct {
	name   string // of the directory in the archive
	at     time.Time
	files  []bundled
	failed []string // what could not be gathered, and why
}

// bundled is one file of a bundle.
type bundled struct {
	Name    string `json:"name"`
	Bytes   int    `json:"bytes"`
	About   string `json:"about"`
	content []byte
}

func newBundle(now time.Time) *bundle {
	machine, err := host.Name()
	if err != nil {
		machine = "unknown"
	}
	now = now.UTC().Truncate(time.Second)
	return &bundle{name: "pgkeep-diagnose-" + filepath.Base(machine) + "-" + now.Format("20060102T150405Z"), at: now}
}

// add keeps a file; what is in it holds no secret any more.
func (b *bundle) add(name, about string, content []byte) {
	b.files = append(b.files, bundled{Name: name, Bytes: len(content), About: about, content: content})
}

// write puts the bundle into a new file that only its owner can read. What was begun and not ended is removed.
func (b *bundle) write(name string) (err error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		hint := "choose another name with --out"
		if errors.Is(err, os.ErrExist) {
			hint = "pgkeep never overwrites a bundle: " + hint
		}
		return &state.Error{Code: state.CodeIO, Text: "the bundle was not written", Hint: hint, Err: err}
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(fmt.Errorf("write %s: %w", name, err), os.Remove(name))
		}
	}()
	z := gzip.NewWriter(f)
	t := tar.NewWriter(z)
	for _, file := range b.files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: b.name + "/" + file.Name, Mode: 0o600, Size: int64(len(file.content)), ModTime: b.at}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := t.Write(file.content); err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), z.Close())
}

func (a *app) listBundle(b *bundle, asJSON bool) error {
	if asJSON {
		return writeJSON(a.out, map[string]any{"files": b.files, "not_collected": b.failed})
	}
	t := a.newTable()
	t.AppendHeader(table.Row{"file", "size", "what it is"})
	for _, f := range b.files {
		t.AppendRow(table.Row{f.Name, plan.Size(int64(f.Bytes)), f.About})
	}
	fmt.Fprintln(a.out, t.Render())
	a.notCollected(b)
	fmt.Fprintln(a.out, "\nNothing was written.\n→ pgkeep diagnose")
	return nil
}

func (a *app) notCollected(b *bundle) {
	if len(b.failed) == 0 {
		return
	}
	fmt.Fprintf(a.out, "\n%s could not be gathered, which the bundle says too:\n", counted(len(b.failed), "thing"))
	for _, f := range b.failed {
		fmt.Fprintf(a.out, "  %s\n", f)
	}
}
