package main

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/suit/describe"
)

func suitCreate() *cobra.Command {
	var source, out, payloads string
	c := &cobra.Command{
		Use:   "create -f DESCRIPTION -o ENVELOPE",
		Short: "Make an unsigned envelope from a YAML description",
		Long: `Makes an unsigned envelope. Files that the description names are relative to it. Payloads that
devices fetch by URI are written to the folder --payloads, ready to be served.

A description of one component:

  manifest-component-id: [hello, manifest]
  sequence-number: 1
  vendor: {domain: example.com}
  class: {name: sandbox-wasm}
  components:
    - id: [hello]
      payload: {file: hello.wasm, integrated: true}`,
		Example: `  teep suit create -f hello.yaml -o hello.suit`,
		Args:    program.NoArgs,
		RunE: func(_ *cobra.Command, _ []string) error {
			text, err := os.ReadFile(source)
			if err != nil {
				return err
			}
			result, err := describe.Build(text, describe.Options{
				Name: source, Rand: rand.Reader,
				ReadFile: func(name string) ([]byte, error) {
					if !filepath.IsAbs(name) {
						name = filepath.Join(filepath.Dir(source), name)
					}
					return os.ReadFile(name)
				},
			})
			if err != nil {
				return err
			}
			if err := writePayloads(payloads, result.Payloads); err != nil {
				return err
			}
			return replaceFile(out, result.Envelope.Encode())
		},
	}
	c.Flags().StringVarP(&source, "file", "f", "", "YAML description")
	c.Flags().StringVar(&payloads, "payloads", "", "folder for the payloads that devices fetch by URI")
	outputFlag(c, &out, "envelope to make")
	return require(c, "file")
}

// writePayloads writes what has to be served, each under the last element of its URI. Without a
// folder only encrypted payloads are an error: their ciphertext exists nowhere else.
func writePayloads(dir string, payloads []describe.Payload) error {
	for _, p := range payloads {
		if dir == "" {
			if p.Encrypted {
				return fmt.Errorf("the payload for %s was encrypted and has to be kept: say where with --payloads DIR", p.URI)
			}
			continue
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := replaceFile(filepath.Join(dir, filepath.Base(p.URI)), p.Content); err != nil {
			return err
		}
	}
	return nil
}
