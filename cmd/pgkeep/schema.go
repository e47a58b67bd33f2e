package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/hclspec"
)

func schemaCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of the language", Args: cobra.NoArgs,
		Long: `Prints the JSON Schema (draft 2020-12) of *.hcl.json files, for editors that complete and check JSON. It is made from the
tables that pgkeep reads configurations by, so it fits just this version.`,
		Example: "  pgkeep schema > pgkeep.schema.json",
		RunE: func(_ *cobra.Command, _ []string) error {
			b, err := hclspec.JSONSchema()
			if err != nil {
				return err
			}
			if _, err := a.out.Write(b); err != nil {
				return fmt.Errorf("write the schema: %w", err)
			}
			return nil
		},
	}
}
