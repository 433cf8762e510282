package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/internal/inspect"
	"github.com/go-teep/teep/internal/program"
)

func suitShow() *cobra.Command {
	var full bool
	c := &cobra.Command{
		Use:   "show ENVELOPE",
		Short: "Print an envelope in annotated diagnostic notation",
		Long: `Prints an envelope, manifest or report in diagnostic notation, with the name of every label and
everything opened that is wrapped in byte strings. Nothing is verified: see 'teep suit verify' and
'teep inspect'. Byte strings of more than 256 bytes, such as payloads, and text of
more than 1024 are cut short.`,
		Example: `  teep suit show hello.suit`,
		Args:    program.ExactArgs("ENVELOPE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			show := inspect.Notation
			if full {
				show = inspect.FullNotation
			}
			text, err := show(data)
			if err != nil {
				return fmt.Errorf("%s: %w; 'teep inspect' tells more", args[0], err)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
			return err
		},
	}
	c.Flags().BoolVar(&full, "full", false, "print byte strings and text whole, however long")
	return c
}
