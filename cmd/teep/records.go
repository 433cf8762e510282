package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/tam/api"
)

// shown makes a command that shows one record, in the form in which it is written too.
func shown[T any](short, example string, get func(*api.Client, context.Context, string) (*T, string, error)) *cobra.Command {
	var at tamFlags
	c := &cobra.Command{
		Use: "show NAME", Short: short, Example: example, Args: program.ExactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			v, _, err := get(client, cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if at.json {
				return at.print(cmd.OutOrStdout(), v, nil)
			}
			return writeYAML(cmd.OutOrStdout(), v)
		},
	}
	return at.registerOutput(c)
}

// writeYAML writes what has a JSON form as YAML.
func writeYAML(w io.Writer, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var node yaml.Node // JSON is YAML; a node keeps the order of members
	if err := yaml.Unmarshal(data, &node); err != nil {
		return err
	}
	unflow(&node)
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(&node); err != nil {
		return err
	}
	return enc.Close()
}

// unflow takes JSON's brackets away.
func unflow(n *yaml.Node) {
	n.Style &^= yaml.FlowStyle
	for _, c := range n.Content {
		unflow(c)
	}
}

func payloadCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "payload", Short: "Payloads that lie beside their envelopes", Example: "  teep payload list",
	}
	c.AddCommand(payloadList())
	return c
}

func payloadList() *cobra.Command {
	var at tamFlags
	c := &cobra.Command{
		Use: "list", Short: "List payloads, the space that they take, and whether a version needs them",
		Long: `Lists the payloads that a TAM serves. 'teep publish --payload' uploads them. What no version needs that is not
withdrawn is removed after a while.`,
		Example: "  teep payload list", Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			list, err := client.PayloadList(cmd.Context(), "")
			for next := list; err == nil && next.Next != ""; {
				if next, err = client.PayloadList(cmd.Context(), next.Next); err == nil {
					list.Items = append(list.Items, next.Items...)
				}
			}
			if err != nil {
				return err
			}
			list.Next = ""
			return at.print(cmd.OutOrStdout(), list, func(w *tabwriter.Writer) {
				fmt.Fprintln(w, "SHA-256\tBYTES\tSTORED\tNEEDED")
				for _, p := range list.Items {
					fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", p.SHA256, p.Size, when(p.Stored), choose(p.Needed, "yes", "no"))
				}
				fmt.Fprintf(w, "\nTogether\t%d%s\n", list.Used, choose(list.Limit > 0, fmt.Sprintf(" of %d", list.Limit), ""))
			})
		},
	}
	return at.registerOutput(c)
}

func fleetInstalled() *cobra.Command {
	var at tamFlags
	history, manifest := false, ""
	c := &cobra.Command{
		Use: "installed", Short: "How many devices have each version",
		Example: "  teep fleet installed\n  teep fleet installed --manifest hello/manifest\n  teep fleet installed --history --json", Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			if !history {
				counts, err := allPages(func(after string) (*api.Page[api.InstalledCount], error) {
					return client.Installed(cmd.Context(), manifest, after)
				})
				if err != nil {
					return err
				}
				return at.print(cmd.OutOrStdout(), counts, func(w *tabwriter.Writer) {
					fmt.Fprintln(w, "MANIFEST\tSEQUENCE\tDEVICES")
					for _, i := range counts {
						fmt.Fprintf(w, "%s\t%d\t%d\n", i.Manifest, i.Sequence, i.Devices)
					}
				})
			}
			counts, err := allPages(func(after string) (*api.Page[api.FieldCount], error) { return client.Field(cmd.Context(), after) })
			if err != nil {
				return err
			}
			return at.print(cmd.OutOrStdout(), counts, func(w *tabwriter.Writer) {
				fmt.Fprintln(w, "HOUR\tMANIFEST\tSEQUENCE\tDEVICES")
				for _, f := range counts {
					fmt.Fprintf(w, "%s\t%s\t%d\t%d\n", when(f.Hour), f.Manifest, f.Sequence, f.Devices)
				}
			})
		},
	}
	c.Flags().BoolVar(&history, "history", false, "in the last seven days, by the hour")
	c.Flags().StringVar(&manifest, "manifest", "", "only versions of this manifest, now")
	c.MarkFlagsMutuallyExclusive("history", "manifest")
	return at.registerOutput(c)
}

func publisherSigned() *cobra.Command {
	var at tamFlags
	c := &cobra.Command{
		Use: "signed NAME THUMBPRINT", Short: "What a key of a publisher signed, and how many devices have it",
		Example: "  teep publisher signed example 5d1c…", Args: program.ExactArgs("NAME", "THUMBPRINT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			signed, err := allPages(func(after string) (*api.Page[api.SignedVersion], error) {
				return client.SignedBy(cmd.Context(), args[0], args[1], after)
			})
			if err != nil {
				return err
			}
			return at.print(cmd.OutOrStdout(), signed, func(w *tabwriter.Writer) { signedTable(w, signed) })
		},
	}
	return at.registerOutput(c)
}

func signedTable(w io.Writer, versions []api.SignedVersion) {
	fmt.Fprintln(w, "MANIFEST\tSEQUENCE\tDEVICES")
	for _, v := range versions {
		fmt.Fprintf(w, "%s\t%d\t%d\n", v.Manifest, v.Sequence, v.Devices)
	}
}
