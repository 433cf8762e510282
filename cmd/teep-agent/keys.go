package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/tee"
)

// keysTask is what the confined process is to print.
type keysTask struct{ Use tee.KeyUse }

func keysCommand(at *place) *cobra.Command {
	var path, use string
	c := &cobra.Command{
		Use:   "keys --config FILE",
		Short: "Print a public key of this device",
		Long: `Prints one of the device's public keys as PEM: the one that payloads and personalization data are encrypted
to, or with --use that of the agent's messages, of Evidence or of SUIT Reports. Private keys never leave the TEE.
Run it before "serve" or while the agent is stopped; the keys are made at the first start.`,
		Example: `  teep-agent keys --config device/agent.yaml > device.pub.pem
  teep suit encrypt --to device.pub.pem -o hello.enc --info hello.info hello.wasm`,
		Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			which := tee.KeyUse(use)
			if !slices.Contains([]tee.KeyUse{tee.KeyAgent, tee.KeyAttestation, tee.KeyReport, tee.KeyEncryption}, which) {
				return &program.Usage{Err: fmt.Errorf("--use %q: write agent, attestation, report or encryption", use)}
			}
			c, err := load(path)
			if err != nil {
				return err
			}
			return launch(cmd.Context(), c, task{Keys: &keysTask{Use: which}}, at)
		},
	}
	c.Flags().StringVar(&use, "use", string(tee.KeyEncryption), "encryption, agent, attestation or report")
	return configFlag(c, &path)
}

func printKey(ctx context.Context, t *task, inside *surroundings, out io.Writer) error {
	environment, err := openEnvironment(ctx, t.Config, t.Hardware, inside, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer environment.Close()
	text, err := environment.publicKey(t.Keys.Use)
	if err != nil {
		return err
	}
	_, err = out.Write(text)
	return err
}

// publicKey is a public key of the device in PEM.
func (e *environment) publicKey(use tee.KeyUse) ([]byte, error) {
	key, err := e.Keys().Public(use)
	if err != nil {
		return nil, err
	}
	return key.MarshalPEM()
}
