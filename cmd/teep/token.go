package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/tam/api"
)

func tokenCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "token",
		Short:   "Tokens of a TAM's operator API",
		Example: "  teep token create --name ci --scope publisher > ci.token\n  teep token list",
	}
	c.AddCommand(tokenCreate(), tokenList(), tokenRevoke())
	return c
}

func tokenCreate() *cobra.Command {
	var at tamFlags
	var t api.NewToken
	var scopes []string
	var lifetime time.Duration
	c := &cobra.Command{
		Use: "create --name NAME --scope SCOPE", Short: "Make a token and print it, once",
		Example: "  teep token create --name ci --scope publisher --publisher example --lifetime 720h", Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			for _, s := range scopes {
				t.Scopes = append(t.Scopes, api.Scope(s))
			}
			t.Lifetime = api.Duration(lifetime)
			made, err := client.AddToken(cmd.Context(), t)
			if err != nil {
				return err
			}
			return at.print(cmd.OutOrStdout(), made, func(w *tabwriter.Writer) { fmt.Fprintln(w, made.Secret) })
		},
	}
	c.Flags().StringVar(&t.Name, "name", "", "what the token is for")
	c.Flags().StringSliceVar(&scopes, "scope", nil, "what it allows: administrator, operator, publisher or auditor; may be repeated")
	c.Flags().StringVar(&t.Publisher, "publisher", "", "limit uploads to those that this publisher signed")
	c.Flags().StringVar(&t.Owner, "owner", "", "whose token it is, by e-mail address or another name of theirs (default: yours); needed for approvals by a second person")
	c.Flags().DurationVar(&lifetime, "lifetime", 90*24*time.Hour, "how long it is good for, at most 8784h")
	return require(at.registerOutput(c), "name", "scope")
}

func tokenList() *cobra.Command {
	var at tamFlags
	c := &cobra.Command{
		Use: "list", Short: "List tokens, without their secrets", Example: "  teep token list", Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			all, err := allPages(func(after string) (*api.Page[api.Token], error) { return client.Tokens(cmd.Context(), after) })
			if err != nil {
				return err
			}
			return at.print(cmd.OutOrStdout(), all, func(w *tabwriter.Writer) {
				fmt.Fprintln(w, "ID\tNAME\tOWNER\tSCOPES\tEXPIRES\tSTATE")
				for _, t := range all {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", t.ID, plain(t.Name), plain(t.Owner), strings.Join(t.Scopes, ", "), when(t.Expires),
						choose(t.Revoked == nil, "good", "revoked"))
				}
			})
		},
	}
	return at.registerOutput(c)
}

func tokenRevoke() *cobra.Command {
	return tamAction("revoke ID", "Revoke a token, for good", "teep token revoke 0123456789abcdef", (*api.Client).RevokeToken)
}

// tamAction is a command that does one thing to one record and prints nothing.
func tamAction(use, short, example string, do func(*api.Client, context.Context, string) error) *cobra.Command {
	var at tamFlags
	_, argument, _ := strings.Cut(use, " ")
	c := &cobra.Command{
		Use: use, Short: short, Example: "  " + example, Args: program.ExactArgs(argument),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			return do(client, cmd.Context(), args[0])
		},
	}
	return at.register(c)
}

func fleetCommand() *cobra.Command {
	var at tamFlags
	c := &cobra.Command{
		Use: "fleet", Short: "The devices of a TAM in numbers", Example: "  teep fleet --json", Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			o, err := client.Overview(cmd.Context())
			if err != nil {
				return err
			}
			return at.print(cmd.OutOrStdout(), o, func(w *tabwriter.Writer) {
				fmt.Fprintln(w, "STATUS\tATTESTATION\tDEVICES")
				for _, d := range o.Devices {
					fmt.Fprintf(w, "%s\t%s\t%d\n", d.Status, d.Attestation, d.Devices)
				}
				if !o.CountedAt.IsZero() && time.Since(o.CountedAt) > 10*time.Second {
					fmt.Fprintf(w, "\nCounted at %s: so large a fleet is not counted for everyone who asks.\n", o.CountedAt.Local().Format(time.DateTime))
				}
			})
		},
	}
	c.AddCommand(fleetInstalled())
	return at.registerOutput(c)
}
