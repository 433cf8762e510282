package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/tpm"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/tee"
	"github.com/go-teep/teep/tee/sandbox"
)

func collateralCommand(at *place) *cobra.Command {
	var path, owner string
	var lifetime time.Duration
	var accept bool
	c := &cobra.Command{
		Use:   "collateral --config FILE --owner NAME",
		Short: "Print what a verifier needs to know of this device and this program",
		Long: `Prints a collateral file for a verifier: the endorsement of this device's attestation key, and the
reference value of this program. It is what a maker of devices does at the end of the production line. With
a TPM it also endorses the TPM's attestation key, unless that is certified, and prints the values of its PCRs. Run it
before "serve" or while the agent is stopped. Nothing in it is secret; that it reaches the verifier unchanged
is what attestation rests on.

The weaknesses of this TEE make its Evidence end in a warning, unless the reference value accepts them.`,
		Example: `  teep-agent collateral --config device/agent.yaml --owner "Example Devices" --insecure-accept-weaknesses > tam/collateral.yaml`,
		Args:    program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := load(path)
			if err != nil {
				return err
			}
			if accept {
				fmt.Fprintln(cmd.ErrOrStderr(), "teep-agent: insecure: the reference value accepts every weakness that this TEE has now; they are listed in it")
			}
			return launch(cmd.Context(), c, task{Collateral: &collateralTask{Owner: owner, Lifetime: lifetime, Accept: accept}}, at)
		},
	}
	c.Flags().StringVar(&owner, "owner", "", "who vouches for this device and this program")
	c.Flags().DurationVar(&lifetime, "lifetime", 365*24*time.Hour, "how long the file counts")
	c.Flags().BoolVar(&accept, "insecure-accept-weaknesses", false, "list this TEE's weaknesses as accepted")
	if err := c.MarkFlagRequired("owner"); err != nil {
		panic(err) // the flag was added above
	}
	return configFlag(c, &path)
}

// collateralTask is what the confined process is to print.
type collateralTask struct {
	Owner    string
	Lifetime time.Duration
	Accept   bool
}

func printCollateral(ctx context.Context, t *task, inside *surroundings, out io.Writer) error {
	environment, err := openEnvironment(ctx, t.Config, t.Hardware, inside, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer environment.Close()
	text, err := environment.collateralFile(*t.Collateral)
	if err != nil {
		return err
	}
	_, err = out.Write(text)
	return err
}

func (e *environment) collateralFile(t collateralTask) ([]byte, error) {
	all, err := collateral(e, t.Owner, time.Now().Add(t.Lifetime), t.Accept)
	if err != nil {
		return nil, err
	}
	return all.YAML()
}

func collateral(environment *environment, owner string, expires time.Time, accept bool) (*appraisal.Collateral, error) {
	id := environment.Identity()
	key, err := environment.Keys().Public(tee.KeyAttestation)
	if err != nil {
		return nil, err
	}
	oemid, err := attest.CanonicalOEMID(id.OEMID)
	if err != nil {
		return nil, err
	}
	class := appraisal.Class{OEMID: oemid, HWModel: id.HWModel}
	expires = expires.UTC().Truncate(time.Second)
	reference := appraisal.Reference{
		Owner: owner, Class: class, Expires: expires,
		Name: id.AgentName, Version: id.AgentVersion, Algorithm: cose.AlgSHA256, Digest: id.Measurement,
		Status: attest.StatusAffirming, Why: "the agent that printed this",
	}
	if accept {
		reference.AcceptedWeaknesses = id.Weaknesses
	}
	all, err := environment.hardware.Collateral(owner, class, id.UEID, key, expires)
	if err != nil {
		return nil, err
	}
	all.References = append([]appraisal.Reference{reference}, all.References...)
	return all, nil
}

func measureCommand() *cobra.Command {
	var pcrs bool
	c := &cobra.Command{
		Use:   "measure",
		Short: "Print the measurement of this program, as it goes into Evidence",
		Example: `  teep-agent measure
  teep-agent measure --pcrs`,
		Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			digest, err := sandbox.MeasureExecutable()
			if err != nil {
				return err
			}
			if _, err = fmt.Fprintf(cmd.OutOrStdout(), "sha-256:%s\n", hex.EncodeToString(digest)); err != nil || !pcrs {
				return err
			}
			return printPCRs(cmd.OutOrStdout(), "/sys/class/tpm/tpm0/pcr-sha256")
		},
	}
	c.Flags().BoolVar(&pcrs, "pcrs", false, "also print the registers of the TPM, in which the firmware measured the boot")
	return c
}

// printPCRs prints what the kernel shows of the SHA-256 bank: a file for each register.
func printPCRs(out io.Writer, dir string) error {
	for pcr := range tpm.MaxPCRs {
		value, err := os.ReadFile(filepath.Join(dir, strconv.Itoa(pcr)))
		if err != nil {
			return fmt.Errorf("the registers of the TPM: %w", err)
		}
		if _, err := fmt.Fprintf(out, "%s sha-256:%s\n", tpm.PCRName(pcr), strings.ToLower(strings.TrimSpace(string(value)))); err != nil {
			return err
		}
	}
	return nil
}
