package main

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/attest/tpm"
	"github.com/go-teep/teep/internal/program"
)

// enrolTask is what the confined process does for an enrolment of the TPM: to ask for it, or to answer
// a credential.
type enrolTask struct {
	Intermediates [][]byte
	Credential    []byte
}

func enrolCommand(at *place) *cobra.Command {
	var path, credential string
	var intermediates []string
	c := &cobra.Command{
		Use:   "enrol --config FILE",
		Short: "Have the TPM's attestation key endorsed by the owner of the device",
		Long: `Enrols the attestation key of the TPM with an owner who is somewhere else, by credential activation: the owner
checks the certificate of the TPM's endorsement key, and the TPM proves that the attestation key lies in it too.
Without --credential it writes the request; with it, the answer to what the owner sent back. Run it before
"serve" or while the agent is stopped. Nothing that is written is secret.`,
		Example: `  teep-agent enrol --config device/agent.yaml > request.cbor
  teep attest challenge request.cbor --collateral makers.yaml --state enrolment.secret -o credential.cbor
  teep-agent enrol --config device/agent.yaml --credential credential.cbor > answer
  teep attest endorse answer --state enrolment.secret --owner "Example Fleet" --oemid pen:32473 --hwmodel 64656d6f`,
		Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := load(path)
			if err != nil {
				return err
			}
			t := &enrolTask{}
			if credential != "" {
				if t.Credential, err = os.ReadFile(credential); err != nil {
					return err
				}
			}
			for _, name := range intermediates {
				data, err := os.ReadFile(name)
				if err != nil {
					return err
				}
				for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
					t.Intermediates = append(t.Intermediates, block.Bytes)
				}
			}
			return launch(cmd.Context(), c, task{Enrol: t}, at)
		},
	}
	c.Flags().StringVar(&credential, "credential", "", "what the owner answered to the request")
	c.Flags().StringArrayVar(&intermediates, "intermediate", nil, "PEM file with certificates between the endorsement key's and its maker's root; may be repeated")
	return configFlag(c, &path)
}

func enrol(ctx context.Context, t *task, inside *surroundings, out io.Writer) error {
	environment, err := openEnvironment(ctx, t.Config, t.Hardware, inside, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer environment.Close()
	answer, err := environment.enrolment(t.Config.Path, *t.Enrol)
	if err != nil {
		return err
	}
	_, err = out.Write(answer)
	return err
}

// enrolment is the request or, with a credential, the answer to it.
func (e *environment) enrolment(config string, t enrolTask) ([]byte, error) {
	quoter := e.hardware.Quoter()
	if quoter == nil {
		return nil, fmt.Errorf("%s: attestation.formats does not name tpm: there is no TPM to enrol", config)
	}
	if t.Credential == nil {
		request, err := quoter.Request(t.Intermediates...)
		if err != nil {
			return nil, err
		}
		return request.Encode()
	}
	c, err := tpm.ParseCredential(t.Credential)
	if err != nil {
		return nil, err
	}
	answer, err := quoter.Activate(*c)
	if err != nil {
		return nil, errors.Join(errors.New("the credential is for another TPM or another attestation key"), err)
	}
	return answer, nil
}
