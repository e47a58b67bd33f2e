package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/hclspec"
)

// layout is what `pgkeep fmt` was asked to do.
type layout struct {
	*app
	check, diff, recursive bool
	changed                int
	broken                 bool
}

func fmtCommand(a *app) *cobra.Command {
	l := &layout{app: a}
	c := &cobra.Command{
		Use: "fmt [FILE | DIRECTORY | -]...", Short: "Lay the configuration out evenly", Args: cobra.ArbitraryArgs,
		Long: `Rewrites every *.hcl of the directory, or what is named, with even indentation and aligned equals signs, and names those
that changed. "-" reads standard input and writes standard output. A file that is no HCL is left alone, and said.`,
		Example: "  pgkeep fmt\n  pgkeep fmt --check --diff     change nothing; exit code 3 when a file would change\n  pgkeep fmt --recursive .\n  pgkeep fmt - < pgkeep.hcl",
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{a.dir}
			}
			for _, name := range args {
				if err := l.formatNamed(name); err != nil {
					return err
				}
			}
			switch {
			case l.broken:
				return exit{code: exitError}
			case l.check && l.changed > 0:
				return exit{code: exitUnformatted}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&l.check, "check", false, "change nothing; exit code 3 when a file would change")
	c.Flags().BoolVar(&l.diff, "diff", false, "show what changes, as a patch")
	c.Flags().BoolVarP(&l.recursive, "recursive", "r", false, "also the directories below")
	return c
}

// formatNamed lays out a file, the files of a directory, or standard input.
func (l *layout) formatNamed(name string) error {
	if name == "-" {
		return l.formatInput()
	}
	at, err := os.Stat(name)
	if err != nil {
		return fmt.Errorf("look at %s: %w", name, reasonOf(err))
	}
	if !at.IsDir() {
		return l.formatFile(name)
	}
	return filepath.WalkDir(name, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return fmt.Errorf("list %s: %w", path, reasonOf(err))
		case d.IsDir() && path != name && (!l.recursive || strings.HasPrefix(d.Name(), ".")):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".hcl") || strings.HasPrefix(d.Name(), "."):
			return nil
		}
		return l.formatFile(path)
	})
}

// reasonOf takes the path out of an error that names it already.
func reasonOf(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

func (l *layout) formatInput() error {
	src, err := io.ReadAll(io.LimitReader(l.in, 1<<20))
	if err != nil {
		return fmt.Errorf("read standard input: %w", err)
	}
	out, ok, err := l.laidOut("(standard input)", src)
	if err != nil || !ok {
		return err
	}
	if !bytes.Equal(src, out) {
		l.changed++
	}
	switch {
	case l.diff:
		_, err = io.WriteString(l.out, patch("standard input", src, out))
	case !l.check:
		_, err = l.out.Write(out)
	}
	return err
}

// laidOut gives a source evenly; false: it is no HCL, which was drawn.
func (l *layout) laidOut(name string, src []byte) ([]byte, bool, error) {
	out, files, diags := hclspec.Format(name, src)
	if err := l.drawn(files, diags); err != nil {
		l.broken = true
		if !errors.As(err, new(exit)) {
			return nil, false, err
		}
		return nil, false, nil
	}
	return out, true, nil
}

func (l *layout) formatFile(name string) error {
	src, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	out, ok, err := l.laidOut(filepath.ToSlash(name), src)
	if err != nil || !ok || bytes.Equal(src, out) {
		return err
	}
	l.changed++
	if l.diff {
		_, err = io.WriteString(l.out, patch(filepath.ToSlash(name), src, out))
	} else {
		_, err = fmt.Fprintln(l.out, name)
	}
	if err != nil || l.check {
		return err
	}
	return replace(name, out)
}

// replace writes a file whole or not at all, with the mode that it had.
func replace(name string, content []byte) error {
	at, err := os.Stat(name)
	if err != nil {
		return fmt.Errorf("look at file: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+strings.TrimSuffix(filepath.Base(name), ".hcl")+".*.tmp")
	if err != nil {
		return fmt.Errorf("create file: %w", err)
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(at.Mode().Perm()), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
