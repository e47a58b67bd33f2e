package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/spf13/cobra"
)

func fmtCommand(a *app) *cobra.Command {
	var check bool
	c := &cobra.Command{
		Use: "fmt", Short: "Lay the configuration out evenly", Args: cobra.NoArgs,
		Long:    "Rewrites every *.hcl of the directory with even indentation and aligned equals signs, and names those that changed.",
		Example: "  pgkeep fmt\n  pgkeep fmt --check       exit code 3 when a file would change",
		RunE: func(_ *cobra.Command, _ []string) error {
			names, err := filepath.Glob(filepath.Join(a.dir, "*.hcl"))
			if err != nil {
				return fmt.Errorf("list %s: %w", a.dir, err)
			}
			changed := 0
			for _, name := range names {
				did, err := format(name, check)
				if err != nil {
					return err
				}
				if did {
					changed++
					fmt.Fprintln(a.out, name)
				}
			}
			if check && changed > 0 {
				return exit{code: exitUnformatted}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&check, "check", false, "change nothing; exit code 3 when a file would change")
	return c
}

// format lays one file out; false: it was so already.
func format(name string, check bool) (bool, error) {
	src, err := os.ReadFile(name)
	if err != nil {
		return false, fmt.Errorf("read: %w", err)
	}
	out := hclwrite.Format(src)
	if bytes.Equal(src, out) {
		return false, nil
	}
	if check {
		return true, nil
	}
	return true, replace(name, out)
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
