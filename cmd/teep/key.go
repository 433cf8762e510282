package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/program"
)

func keyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "key",
		Short: "Make and look at keys",
		Example: `  teep key generate -o dev.pem
  teep key public dev.pem -o dev.pub.pem
  teep key thumbprint dev.pub.pem`,
	}
	c.AddCommand(keyGenerate(), keyPublic(), keyThumbprint())
	return c
}

func keyGenerate() *cobra.Command {
	var algorithm, out string
	c := &cobra.Command{
		Use:   "generate -o FILE",
		Short: "Make a private key",
		Long: `Makes a private key and writes it to a new file that only its owner can read.

Algorithms: ESP256 (the default), ESP384, Ed25519 and ML-DSA-65 sign; ECDH-ES+A128KW makes a P-256 key that
content keys are wrapped to; A128KW and A256KW (to wrap content keys) and "HMAC 256/256" make a shared key, which is
written as a COSE_Key.`,
		Example: `  teep key generate -o dev.pem
  teep key generate --alg Ed25519 -o tam-ed25519.pem`,
		Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			alg, err := cose.ParseAlgorithm(algorithm)
			if err != nil {
				return &program.Usage{Err: err}
			}
			key, err := cose.GenerateKey(rand.Reader, alg)
			if err != nil {
				return err
			}
			data, err := encodePrivate(key, alg)
			if err != nil {
				return err
			}
			return writeNew(out, data, 0o600)
		},
	}
	c.Flags().StringVar(&algorithm, "alg", "ESP256", "algorithm the key is for")
	outputFlag(c, &out, "private key file to make")
	return c
}

// encodePrivate is PEM for what has such a form, and a COSE_Key for symmetric keys. PEM gets a line in front
// that says what the key is for.
func encodePrivate(key *cose.Key, alg cose.Algorithm) ([]byte, error) {
	if key.Type() == cose.KeyTypeSymmetric {
		return key.MarshalCBOR()
	}
	block, err := key.MarshalPEM()
	return cose.LabelPEM(alg, block), err
}

func keyPublic() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use:     "public KEY -o FILE",
		Short:   "Write the public part of a key",
		Example: `  teep key public dev.pem -o dev.pub.pem`,
		Args:    program.ExactArgs("KEY"),
		RunE: func(_ *cobra.Command, args []string) error {
			key, err := readPublicKey(args[0])
			if err != nil {
				return err
			}
			data, err := key.MarshalPEM()
			if err != nil {
				return err
			}
			private, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			if alg := cose.PEMLabel(private); alg != 0 {
				data = cose.LabelPEM(alg, data)
			}
			return writeNew(out, data, 0o644)
		},
	}
	outputFlag(c, &out, "public key file to make")
	return c
}

func keyThumbprint() *cobra.Command {
	return &cobra.Command{
		Use:     "thumbprint KEY",
		Short:   "Print the COSE key thumbprint (RFC 9679, SHA-256)",
		Example: `  teep key thumbprint dev.pub.pem`,
		Args:    program.ExactArgs("KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := readKey(args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), hex.EncodeToString(key.Thumbprint()))
			return err
		},
	}
}

// outputFlag adds -o, which every command that makes a file requires.
func outputFlag(c *cobra.Command, out *string, usage string) {
	c.Flags().StringVarP(out, "output", "o", "", usage)
	if err := c.MarkFlagRequired("output"); err != nil {
		panic(err) // the flag was added a line above
	}
}

// readKey reads a key from PEM or, failing that, a COSE_Key.
func readKey(path string) (*cose.Key, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	key, pemErr := cose.ParsePEM(data)
	if pemErr == nil {
		return key, nil
	}
	key, err = cose.ParseKey(data)
	if err != nil {
		return nil, fmt.Errorf("%s is neither a PEM key (%v) nor a COSE_Key (%v)", path, pemErr, err)
	}
	return key, nil
}

// readPublicKey is readKey for the public part. A shared key has none.
func readPublicKey(path string) (*cose.Key, error) {
	key, err := readKey(path)
	if err != nil {
		return nil, err
	}
	public := key.Public()
	if public == nil {
		return nil, fmt.Errorf("%s is a symmetric key, which has no public part: name a key pair, or its public key", path)
	}
	return public, nil
}

// writeNew writes a file that must not exist yet: keys are never overwritten.
func writeNew(path string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s exists already and is not overwritten: choose another name, or remove it", path)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}
