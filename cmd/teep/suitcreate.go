package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
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
	var overwrite bool
	var integrated int64
	c := &cobra.Command{
		Use:   "create -f DESCRIPTION -o ENVELOPE",
		Short: "Make an unsigned envelope from a YAML description",
		Long: `Makes an unsigned envelope. Files that the description names are relative to it. Payloads that
devices fetch by URI are written to the folder --payloads, ready to be served; they may be larger than memory.
The encryption infos of payloads that say "info: separate" are written to the folder --infos: whoever distributes
the keys needs them, and 'teep suit personalize' makes the manifest for each device of them.

Content of another run is not overwritten: devices may be about to fetch it, and of a ciphertext and the key to it
there is no other copy. --overwrite does it.

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
			if integrated < 1 || integrated > 1<<20 {
				return &program.Usage{Err: errors.New("--max-integrated: give a number of MiB from 1 to 1048576")}
			}
			text, err := os.ReadFile(source)
			if err != nil {
				return err
			}
			path := func(name string) string {
				if filepath.IsAbs(name) {
					return name
				}
				return filepath.Join(filepath.Dir(source), name)
			}
			files := &outFolder{dir: payloads, overwrite: overwrite}
			defer files.discard()
			o := describe.Options{
				Name: source, Rand: rand.Reader, MaxIntegrated: integrated << 20,
				ReadFile: func(name string) ([]byte, error) { return os.ReadFile(path(name)) },
				OpenFile: func(name string) (io.ReadCloser, error) { return os.Open(path(name)) },
			}
			if payloads != "" {
				o.CreateScratch = files.scratch
			}
			result, err := describe.Build(text, o)
			if err != nil {
				return err
			}
			kept := &outFolder{dir: infos, overwrite: overwrite}
			defer kept.discard()
			if err := kept.takeInfos(result.Separate); err != nil {
				return err
			}
			if err := files.takePayloads(result.Payloads); err != nil {
				return err
			}
			// Nothing was written up to here that has a name.
			if err := errors.Join(files.publish(), kept.publish()); err != nil {
				return err
			}
			return replaceFile(out, result.Envelope.Encode())
		},
	}
	c.Flags().StringVarP(&source, "file", "f", "", "YAML description")
	c.Flags().StringVar(&payloads, "payloads", "", "folder for the payloads that devices fetch by URI")
	c.Flags().StringVar(&infos, "infos", "", "folder for the encryption infos that are kept out of the manifest")
	c.Flags().BoolVar(&overwrite, "overwrite", false, "replace payloads and encryption infos of another run")
	c.Flags().Int64Var(&integrated, "max-integrated", describe.DefaultMaxIntegrated>>20, "MiB of payloads that the envelope may hold, all together")
	outputFlag(c, &out, "envelope to make")
	return require(c, "file")
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
