package main

import (
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/tam/api"
)

func deviceMessages() *cobra.Command {
	var at tamFlags
	c := &cobra.Command{
		Use:   "messages ID [MESSAGE]",
		Short: "The newest messages of a device's sessions; one of them, opened and explained",
		Long: `Without MESSAGE, lists the messages that the TAM recorded, newest first. With one, shows it in annotated diagnostic
notation, and what was encrypted in it, as far as the TAM has the key.`,
		Example: `  teep devices messages 4ba31c
  teep devices messages 4ba31c 1772368200000000
  teep devices messages 4ba31c 1772368200000000 --json | jq -r .data | teep inspect -`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			d, err := findDevice(cmd.Context(), client, args[0])
			if err != nil {
				return err
			}
			if len(args) == 1 {
				list, err := allPages(func(after string) (*api.Page[api.Message], error) { return client.Messages(cmd.Context(), d.ID, after) })
				if err != nil {
					return err
				}
				return at.print(cmd.OutOrStdout(), list, func(w *tabwriter.Writer) { messageTable(w, list) })
			}
			n, err := strconv.ParseInt(args[1], 10, 64)
			if err != nil {
				return &program.Usage{Err: fmt.Errorf("%q is no message: 'teep devices messages %s' lists them", args[1], args[0])}
			}
			m, err := client.Message(cmd.Context(), d.ID, n)
			if err != nil {
				return err
			}
			return at.print(cmd.OutOrStdout(), m, func(w *tabwriter.Writer) { writeMessage(w, m) })
		},
	}
	return at.registerOutput(c)
}

func messageTable(w *tabwriter.Writer, list []api.Message) {
	fmt.Fprintln(w, "MESSAGE\tAT\tWAY\tBYTES")
	for _, m := range list {
		fmt.Fprintf(w, "%d\t%s\t%s\t%d\n", m.ID, when(m.At), m.Direction, m.Size)
	}
}

func writeMessage(w *tabwriter.Writer, m *api.DecodedMessage) {
	fmt.Fprintf(w, "%s, %s %s, %d bytes\n", plain(m.Summary), m.Message.Direction, when(m.Message.At), m.Message.Size)
	for _, f := range m.Findings {
		fmt.Fprintf(w, "%s: %s %s %s\n", f.Severity, plain(f.Section), plain(f.Text), plain(f.Path))
	}
	writeNotation(w, m.Notation)
	for _, p := range m.Parts {
		if p.Notation != "" {
			fmt.Fprintf(w, "\n%s (%s), opened:\n", plain(p.Summary), plain(p.Path))
			writeNotation(w, p.Notation)
		}
	}
}

func writeNotation(w *tabwriter.Writer, notation string) {
	for line := range strings.Lines(notation) {
		fmt.Fprintln(w, plain(strings.TrimSuffix(line, "\n")))
	}
}
