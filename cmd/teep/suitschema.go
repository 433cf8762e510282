package main

import (
	"github.com/spf13/cobra"

	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/suit/describe"
)

func suitSchema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON schema of descriptions, for editors",
		Long: `Prints the JSON schema that descriptions conform to. Editors that know it complete keys and mark mistakes;
with a language server for YAML, the first line of a description names it:

  # yaml-language-server: $schema=suit-description.schema.json`,
		Example: `  teep suit schema > suit-description.schema.json`,
		Args:    program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			schema, err := describe.Schema()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(schema)
			return err
		},
	}
}
