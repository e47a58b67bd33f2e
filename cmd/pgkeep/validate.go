package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/hclspec"
)

func validateCommand(a *app) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "validate", Short: "Check the configuration", Args: cobra.NoArgs,
		Long:    "Reads every *.hcl and *.hcl.json of the directory and says what is wrong with it. Nothing is asked of servers or repositories.",
		Example: "  pgkeep validate\n  pgkeep validate -C /etc/pgkeep --var env=staging\n  pgkeep validate --json            for editors and CI",
		RunE: func(_ *cobra.Command, _ []string) error {
			if asJSON {
				return a.validateJSON()
			}
			spec, err := a.load()
			if err != nil {
				return err
			}
			fmt.Fprintf(a.out, "The configuration is valid: %s, %s, %s, %s.\n", counted(len(spec.Servers), "server"),
				counted(len(spec.Repositories), "repository"), counted(len(spec.Schedules), "schedule"), counted(len(spec.Retentions), "retention"))
			for _, o := range spec.Outputs {
				value := string(o.JSON)
				if o.Sensitive {
					value = "(sensitive)"
				}
				fmt.Fprintf(a.out, "%s = %s\n", o.Name, value)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "write the diagnostics as one JSON object (format_version "+hclspec.DiagnosticsVersion+")")
	return c
}

// validateJSON writes what is wrong as JSON, also when nothing is.
func (a *app) validateJSON() error {
	o, err := a.loadOptions()
	if err != nil {
		return err
	}
	spec, diags := hclspec.Load(paths{}, filepath.ToSlash(a.dir), o)
	b, err := hclspec.DiagnosticsJSON(spec.Files, diags)
	if err != nil {
		return err
	}
	if _, err := a.out.Write(b); err != nil {
		return fmt.Errorf("write diagnostics: %w", err)
	}
	if diags.HasErrors() {
		return exit{code: exitError}
	}
	return nil
}

// counted writes "1 repository" or "3 repositories".
func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	if what[len(what)-1] == 'y' {
		return fmt.Sprintf("%d %sies", n, what[:len(what)-1])
	}
	return fmt.Sprintf("%d %ss", n, what)
}
