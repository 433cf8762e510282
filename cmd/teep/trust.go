package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/agent/trust"
	"github.com/go-teep/teep/broker/app"
	"github.com/go-teep/teep/internal/config"
	"github.com/go-teep/teep/internal/program"
)

func trustCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "trust",
		Short: "Change whom the agents of a device trust, as its administrator",
		Long: `An agent's first trust anchors are a file at its first start. If they name an administrator (a public key),
whoever has the private key changes them from then on: on the device, or from anywhere by a place that brokers look at
("supplies" in broker.yaml). Who brings a signed set does not matter; one that is not newer changes nothing.`,
		Example: `  teep key generate -o admin.pem && teep key public admin.pem -o admin.pub.pem
  teep trust sign --key admin.pem trust.yaml -o anchors.cose
  teep trust replace anchors.cose --broker broker/app.sock`,
	}
	c.AddCommand(trustSign(), trustReplace(), trustRevocations())
	return c
}

func trustSign() *cobra.Command {
	var keyFile, output string
	c := &cobra.Command{
		Use:   "sign FILE --key FILE -o FILE",
		Short: "Sign a set of trust anchors as the administrator whom the set in force names",
		Long: `Reads a set in YAML, with the keys that it names, and writes it in the form that agents take, signed. Raise its
version with each change. The administrator that the new set names signs the next one.`,
		Example: `  teep trust sign --key admin.pem trust.yaml -o anchors.cose`,
		Args:    program.ExactArgs("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			set, err := trust.ParseYAML(data, func(name string) ([]byte, error) { return os.ReadFile(config.Relative(args[0], name)) })
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			key, err := readKey(keyFile)
			if err != nil {
				return err
			}
			signer, err := key.Signer()
			if err != nil {
				return fmt.Errorf("%s: %w", keyFile, err)
			}
			signed, err := trust.Sign(rand.Reader, set, signer)
			if err != nil {
				return err
			}
			if set.Administrator == nil {
				fmt.Fprintf(cmd.ErrOrStderr(), "%s names no administrator: nobody can change the set after this one\n", args[0])
			}
			return os.WriteFile(output, signed, 0o644)
		},
	}
	c.Flags().StringVar(&keyFile, "key", "", "private key of the administrator, in PEM")
	c.Flags().StringVarP(&output, "output", "o", "", "file to write")
	for _, required := range []string{"key", "output"} {
		if err := c.MarkFlagRequired(required); err != nil {
			panic(err) // the flag was added above
		}
	}
	return c
}

func trustReplace() *cobra.Command {
	return broughtToAgents(&cobra.Command{
		Use:   "replace FILE",
		Short: "Give the agents of this device a signed set of trust anchors",
		Long: `Takes effect at once, and outlives a restart. What a TAM or signer that is trusted no longer installed stays
installed; what a signer that is trusted no longer signed does not run.`,
		Example: `  teep trust replace anchors.cose --broker broker/app.sock`,
	}, (*app.Client).ReplaceTrustAnchors)
}

func trustRevocations() *cobra.Command {
	return broughtToAgents(&cobra.Command{
		Use:   "revocations FILE",
		Short: "Give the agents of this device X.509 revocation lists for the certificates of TAMs and signers",
		Long: `The file holds one list in DER, or several in PEM. None takes the place of a newer one of its issuer, and one in
the name of an authority that the agent knows is taken only if it is signed by it.`,
		Example: `  teep trust revocations ca.crl --broker broker/app.sock`,
	}, (*app.Client).RenewRevocationLists)
}

// broughtToAgents completes a command that brings a file.
func broughtToAgents(c *cobra.Command, call func(*app.Client, context.Context, []byte, app.Requirements) error) *cobra.Command {
	var device deviceFlags
	c.Args = program.ExactArgs("FILE")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		data, err := os.ReadFile(args[0])
		if err != nil {
			return err
		}
		client, err := device.dial(cmd.Context())
		if err != nil {
			return err
		}
		defer client.Close()
		return call(client, cmd.Context(), data, device.requirements())
	}
	return device.register(c)
}
