package main

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/describe"
)

func suitCreate() *cobra.Command {
	var source, out, payloads, infos string
	c := &cobra.Command{
		Use:   "create -f DESCRIPTION -o ENVELOPE",
		Short: "Make an unsigned envelope from a YAML description",
		Long: `Makes an unsigned envelope. Files that the description names are relative to it. Payloads that
devices fetch by URI are written to the folder --payloads, ready to be served. The encryption infos of payloads
that say "info: separate" are written to the folder --infos: whoever distributes the keys needs them, and
'teep suit personalize' makes the manifest for each device of them.

'teep suit template list' has descriptions to start from. One of one component:

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
			if err := writeInfos(infos, result.Separate); err != nil {
				return err
			}
			return replaceFile(out, result.Envelope.Encode())
		},
	}
	c.Flags().StringVarP(&source, "file", "f", "", "YAML description")
	c.Flags().StringVar(&payloads, "payloads", "", "folder for the payloads that devices fetch by URI")
	c.Flags().StringVar(&infos, "infos", "", "folder for the encryption infos that are kept out of the manifest")
	outputFlag(c, &out, "envelope to make")
	return require(c, "file")
}

// writeInfos writes the encryption infos that exist nowhere else, each under the name of its component.
func writeInfos(dir string, infos []describe.EncryptionInfo) error {
	if len(infos) > 0 && dir == "" {
		return fmt.Errorf("the encryption info of %v is kept out of the manifest and has to be kept: say where with --infos DIR", infos[0].Component)
	}
	for _, i := range infos {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := replaceFile(filepath.Join(dir, infoName(i.Component)), i.Info); err != nil {
			return err
		}
	}
	return nil
}

// infoName is a file name for a component: its segments where they are plain words, in hexadecimal
// where not.
func infoName(id suit.ComponentID) string {
	words := regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._]*$`)
	parts := make([]string, len(id))
	for i, segment := range id {
		if parts[i] = string(segment); !words.Match(segment) {
			parts[i] = "x" + hex.EncodeToString(segment)
		}
	}
	return strings.Join(parts, "-") + ".info"
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
