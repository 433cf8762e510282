package main

import (
	"crypto/rand"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/audit"
)

func tokenCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "token",
		Short:   "Make tokens for the operator API, beside a running TAM or before its first start",
		Example: `  teep-tam token create --config tam/tam.yaml --name ci --scope publisher > ci.token`,
	}
	c.AddCommand(tokenCreate())
	return c
}

// commandLine is who acts here, for the audit log.
func commandLine() audit.Actor {
	return audit.Actor{Via: "command-line", Name: fmt.Sprintf("user %d", os.Getuid())}
}

func tokenCreate() *cobra.Command {
	var path, publisher string
	var r api.TokenRequest
	var scopes []string
	c := &cobra.Command{
		Use:   "create --config FILE --name NAME --scope SCOPE",
		Short: "Make a token and print it, once",
		Long: `Makes a bearer token for the operator API and prints it. Only its hash is stored: it cannot be shown again.

Scopes: administrator, operator, publisher, auditor. Every token expires.`,
		Example: `  teep-tam token create --config tam/tam.yaml --name ops --scope administrator --owner ann@example.com
  teep-tam token create --config tam/tam.yaml --name ci --scope publisher --publisher example --lifetime 720h`,
		Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := load(path)
			if err != nil {
				return err
			}
			store, err := openStore(cmd.Context(), c)
			if err != nil {
				return err
			}
			defer store.Close()
			for _, s := range scopes {
				r.Scopes = append(r.Scopes, api.Scope(s))
			}
			r.Publisher = publisher
			secret, _, err := api.IssueToken(audit.WithActor(cmd.Context(), commandLine()), store, r, time.Now(), rand.Reader)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), secret)
			return err
		},
	}
	c.Flags().StringVar(&r.Name, "name", "", "what the token is for")
	c.Flags().StringSliceVar(&scopes, "scope", nil, "what it allows; may be repeated")
	c.Flags().StringVar(&publisher, "publisher", "", "limit uploads to those that this publisher signed")
	c.Flags().StringVar(&r.Owner, "owner", "", "whose token it is, by e-mail address or another name of theirs; needed for approvals by a second person")
	c.Flags().DurationVar(&r.Lifetime, "lifetime", 90*24*time.Hour, "how long it is good for, at most 8784h")
	return configFlag(c, &path)
}
