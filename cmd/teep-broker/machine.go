package main

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/broker/machine"
	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/link/owner"
)

// machineCommand has what 'teep-agent' does on devices where that is a program of the device.
func machineCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "machine",
		Short: "Ask the agent in a virtual machine what its owner has to know",
		Long: `The agent in a virtual machine has no command line. While 'teep-broker serve' runs the machine, these commands ask it, through
a channel of its own. Nothing that it answers is secret.`,
	}
	c.AddCommand(machineKeyCommand(), machineCollateralCommand(), machineEnrolCommand())
	return c
}

// machineFlags say which machine is meant.
type machineFlags struct{ config, tee string }

// ownerPatience is how long the agent may take to answer; TPMs are slow.
const ownerPatience = 2 * time.Minute

func (f *machineFlags) register(c *cobra.Command) *cobra.Command {
	c.Flags().StringVar(&f.config, "config", "", "configuration file of the broker")
	c.Flags().StringVar(&f.tee, "tee", "", "name of the machine among tees (default: the only one)")
	if err := c.MarkFlagRequired("config"); err != nil {
		panic(err) // the flag was added above
	}
	return c
}

// ask connects to the machine's agent and prints what it answers.
func (f *machineFlags) ask(ctx context.Context, out io.Writer, question func(context.Context, *owner.Client) ([]byte, error)) error {
	c, err := load(f.config)
	if err != nil {
		return err
	}
	m, err := c.machine(f.tee)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, ownerPatience)
	defer cancel()
	conn, err := machine.DialOwner(ctx, *m)
	if err != nil {
		return err
	}
	client := owner.NewClient(conn)
	answer, err := question(ctx, client)
	if err = errors.Join(err, client.Close()); err != nil {
		return err
	}
	_, err = out.Write(answer)
	return err
}

// machine is the machine of a name; of no name if there is but one.
func (c *configuration) machine(name string) (*machine.Config, error) {
	var found *machine.Config
	for _, t := range c.TEEs {
		if t.VM == nil || name != "" && t.Name != name {
			continue
		}
		if found != nil {
			return nil, &program.Usage{Err: errors.New("there are several machines: name one with --tee")}
		}
		m := t.VM.config()
		found = &m
	}
	if found == nil && name != "" {
		return nil, fmt.Errorf("--tee %q is no machine among tees", name)
	}
	if found == nil {
		return nil, errors.New("there is no machine among tees: 'teep-agent' has these commands where the TEE is a process")
	}
	return found, nil
}

func machineKeyCommand() *cobra.Command {
	var f machineFlags
	var use string
	c := &cobra.Command{
		Use:     "key --config FILE",
		Short:   "Print a public key of the device",
		Example: `  teep-broker machine key --config broker.yaml --use encryption > device.pub.pem`,
		Args:    program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains([]string{"agent", "attestation", "report", "encryption"}, use) {
				return &program.Usage{Err: fmt.Errorf("--use %q: write agent, attestation, report or encryption", use)}
			}
			return f.ask(cmd.Context(), cmd.OutOrStdout(), func(ctx context.Context, c *owner.Client) ([]byte, error) { return c.Key(ctx, use) })
		},
	}
	c.Flags().StringVar(&use, "use", "encryption", "encryption, agent, attestation or report")
	return f.register(c)
}

func machineCollateralCommand() *cobra.Command {
	var f machineFlags
	var r owner.Collateral
	c := &cobra.Command{
		Use:   "collateral --config FILE --owner NAME",
		Short: "Print what a verifier needs to know of the device, as 'teep-agent collateral' does",
		Long: `Prints a collateral file for a verifier: the endorsements of the device, and the reference values of what it booted. This host could
change it: do it where the host is trusted, at the end of the production line; elsewhere, enrol the TPM.`,
		Example: `  teep-broker machine collateral --config broker.yaml --owner "Example Devices" > collateral.yaml`,
		Args:    program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if r.AcceptWeaknesses {
				fmt.Fprintln(cmd.ErrOrStderr(), "teep-broker: insecure: the reference value accepts every weakness that the TEE has now; they are listed in it")
			}
			return f.ask(cmd.Context(), cmd.OutOrStdout(), func(ctx context.Context, c *owner.Client) ([]byte, error) { return c.Collateral(ctx, r) })
		},
	}
	c.Flags().StringVar(&r.Owner, "owner", "", "who vouches for the device")
	c.Flags().DurationVar(&r.Lifetime, "lifetime", 365*24*time.Hour, "how long the file counts")
	c.Flags().BoolVar(&r.AcceptWeaknesses, "insecure-accept-weaknesses", false, "list the TEE's weaknesses as accepted")
	if err := c.MarkFlagRequired("owner"); err != nil {
		panic(err) // the flag was added above
	}
	return f.register(c)
}

func machineEnrolCommand() *cobra.Command {
	var f machineFlags
	var credential string
	var intermediates []string
	c := &cobra.Command{
		Use:   "enrol --config FILE",
		Short: "Have the TPM's attestation key endorsed by the owner of the device, as 'teep-agent enrol' does",
		Example: `  teep-broker machine enrol --config broker.yaml > request.cbor
  teep attest challenge request.cbor --collateral makers.yaml --state enrolment.secret -o credential.cbor
  teep-broker machine enrol --config broker.yaml --credential credential.cbor > answer`,
		Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			var r owner.Enrolment
			if credential != "" {
				if r.Credential, err = os.ReadFile(credential); err != nil {
					return err
				}
				if len(r.Credential) == 0 {
					return fmt.Errorf("%s is empty: it holds no credential", credential)
				}
			}
			for _, name := range intermediates {
				data, err := os.ReadFile(name)
				if err != nil {
					return err
				}
				for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
					r.Intermediates = append(r.Intermediates, block.Bytes)
				}
			}
			return f.ask(cmd.Context(), cmd.OutOrStdout(), func(ctx context.Context, c *owner.Client) ([]byte, error) { return c.Enrol(ctx, r) })
		},
	}
	c.Flags().StringVar(&credential, "credential", "", "what the owner answered to the request")
	c.Flags().StringArrayVar(&intermediates, "intermediate", nil, "PEM file with certificates between the endorsement key's and its maker's root; may be repeated")
	return f.register(c)
}
