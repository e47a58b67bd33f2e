package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func validateCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "validate", Short: "Check the configuration", Args: cobra.NoArgs,
		Long:    "Reads every *.hcl of the directory and says what is wrong with it. Nothing is asked of servers or repositories.",
		Example: "  pgkeep validate\n  pgkeep validate -C /etc/pgkeep --var env=staging",
		RunE: func(_ *cobra.Command, _ []string) error {
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
