package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
)

func suitCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "suit",
		Short: "Author, sign and inspect SUIT manifests",
		Example: `  teep suit template show integrated > hello.yaml
  teep suit create -f hello.yaml -o hello.suit
  teep suit sign --key dev.pem hello.suit
  teep suit verify --key dev.pub.pem hello.suit
  teep suit show hello.suit`,
	}
	c.AddCommand(suitTemplate(), suitCreate(), suitSchema(), suitSign(), suitVerify(), suitShow(), suitDiff(), suitExplain(), suitSever(), suitAddPayload(),
		suitRun(), suitEncrypt(), suitPersonalize())
	return c
}

// require marks flags as required.
func require(c *cobra.Command, flags ...string) *cobra.Command {
	for _, name := range flags {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // the flag does not exist: a mistake in this program
		}
	}
	return c
}

func readKeySet(files []string) (cose.KeySet, error) {
	keys := make([]*cose.Key, len(files))
	for i, f := range files {
		key, err := readPublicKey(f)
		if err != nil {
			return nil, err
		}
		keys[i] = key
	}
	return cose.NewKeySet(keys...)
}

func readEnvelope(path string) (*suit.Envelope, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	envelope, err := suit.ParseEnvelope(data)
	if err != nil {
		return nil, fmt.Errorf("%s is not a SUIT envelope: %w", path, err)
	}
	return envelope, nil
}

// replaceFile writes a file in one step: whoever reads it sees the old or the new content.
func replaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err := errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
