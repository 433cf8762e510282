package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/tpm"
	"github.com/go-teep/teep/internal/program"
)

func challengeCommand() *cobra.Command {
	var f appraisalFlags
	var state, out string
	c := &cobra.Command{
		Use:   "challenge REQUEST --collateral FILE --state FILE -o FILE",
		Short: "Answer a device that wants its TPM enrolled",
		Long: `Checks the certificate of a TPM's endorsement key against the makers in the collateral, and makes a credential that
this TPM alone can open, and only if the attestation key lies in it too. The credential goes to the device, for
'teep-agent enrol --credential'. The file of --state is a secret until the device answers; 'teep attest endorse' uses
it up.`,
		Example: `  teep attest challenge request.cbor --collateral makers.yaml --state enrolment.secret -o credential.cbor`,
		Args:    program.ExactArgs("REQUEST"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(f.collateral) == 0 {
				return &program.Usage{Err: errors.New("--collateral is missing: it names the makers of TPMs whose word counts")}
			}
			known, err := f.store()
			if err != nil {
				return &program.Usage{Err: err}
			}
			makers, err := known.Manufacturers()
			if err != nil {
				return err
			}
			data, err := readInput(args[0], cmd.InOrStdin())
			if err != nil {
				return err
			}
			request, err := tpm.ParseEnrolmentRequest(data)
			if err != nil {
				return err
			}
			ch, err := tpm.NewChallenge(rand.Reader, *request, makers, time.Now())
			if err != nil {
				return err
			}
			secret, err := ch.EncodeSecret()
			if err != nil {
				return err
			}
			credential, err := ch.Credential.Encode()
			if err != nil {
				return err
			}
			if err := writeNew(state, secret, 0o600); err != nil {
				return err
			}
			if err := writeNew(out, credential, 0o644); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.ErrOrStderr(), "device %x: send %s to it\n", ch.UEID, out)
			return err
		},
	}
	c.Flags().StringArrayVar(&f.collateral, "collateral", nil, "collateral file with makers of TPMs; may be repeated")
	c.Flags().StringArrayVar(&f.owners, "owner", nil, "NAME=KEYFILE of who may sign collateral; may be repeated")
	c.Flags().StringVar(&state, "state", "", "secret file to make, for 'teep attest endorse'")
	if err := c.MarkFlagRequired("state"); err != nil {
		panic(err) // the flag was added a line above
	}
	outputFlag(c, &out, "credential file to make")
	return c
}

func endorseCommand() *cobra.Command {
	var state, owner, oemid, hwmodel string
	var lifetime time.Duration
	c := &cobra.Command{
		Use:   "endorse ANSWER --state FILE --owner NAME --oemid OEMID --hwmodel HEX",
		Short: "Endorse the attestation key of a TPM that answered a challenge",
		Long: `Compares the device's answer with the secret that 'teep attest challenge' kept, and prints collateral that endorses the
TPM's attestation key. An answer counts once, right or wrong: the file of --state is removed.`,
		Example: `  teep attest endorse answer --state enrolment.secret --owner "Example Fleet" --oemid pen:32473 --hwmodel 64656d6f > device.yaml`,
		Args:    program.ExactArgs("ANSWER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			class := appraisal.Class{}
			var err error
			if class.OEMID, err = attest.ParseOEMID(oemid); err != nil {
				return &program.Usage{Err: fmt.Errorf("--oemid: %w", err)}
			}
			if class.HWModel, err = hex.DecodeString(hwmodel); err != nil || len(class.HWModel) == 0 {
				return &program.Usage{Err: fmt.Errorf("--hwmodel %q: write it in hexadecimal", hwmodel)}
			}
			answer, err := readInput(args[0], cmd.InOrStdin())
			if err != nil {
				return err
			}
			secret, err := os.ReadFile(state)
			if err != nil {
				return err
			}
			ch, err := tpm.ParseChallenge(secret)
			if err != nil {
				return fmt.Errorf("%s: %w", state, err)
			}
			if err := os.Remove(state); err != nil {
				return fmt.Errorf("the challenge could not be used up: %w", err)
			}
			e, err := ch.Endorse(answer)
			if err != nil {
				return err
			}
			e.Class = class
			text, err := (&appraisal.Collateral{Owner: owner, Expires: time.Now().Add(lifetime).UTC().Truncate(time.Second),
				Endorsements: []appraisal.Endorsement{*e}}).YAML()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	c.Flags().StringVar(&state, "state", "", "what 'teep attest challenge' kept")
	c.Flags().StringVar(&owner, "owner", "", "who vouches for the device")
	c.Flags().StringVar(&oemid, "oemid", "", "vendor of the device, such as pen:32473")
	c.Flags().StringVar(&hwmodel, "hwmodel", "", "model of the device, in hexadecimal")
	c.Flags().DurationVar(&lifetime, "lifetime", 365*24*time.Hour, "how long the endorsement counts")
	for _, name := range []string{"state", "owner", "oemid", "hwmodel"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // the flag was added above
		}
	}
	return c
}

func signCollateralCommand() *cobra.Command {
	var keyFile, out string
	c := &cobra.Command{
		Use:   "sign-collateral FILE --key KEY -o FILE",
		Short: "Sign a collateral file as its owner",
		Long: `Signs a collateral file in YAML, so that a verifier that lists this owner's key under verifier.owners takes it from
any place. A file that could not be read back is not signed.`,
		Example: `  teep attest sign-collateral collateral.yaml --key owner.pem -o collateral.cose`,
		Args:    program.ExactArgs("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := readInput(args[0], cmd.InOrStdin())
			if err != nil {
				return err
			}
			key, err := readKey(keyFile)
			if err != nil {
				return err
			}
			signer, err := key.Signer()
			if err != nil {
				return &program.Usage{Err: fmt.Errorf("%s: %w", keyFile, err)}
			}
			signed, err := appraisal.Sign(rand.Reader, text, signer)
			if err != nil {
				return err
			}
			return writeNew(out, signed, 0o644)
		},
	}
	c.Flags().StringVar(&keyFile, "key", "", "the owner's private key")
	if err := c.MarkFlagRequired("key"); err != nil {
		panic(err) // the flag was added a line above
	}
	outputFlag(c, &out, "signed file to make")
	return c
}
