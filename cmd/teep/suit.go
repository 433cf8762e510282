package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/cose/pkcs11"
	"github.com/go-teep/teep/internal/program"
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

func suitSign() *cobra.Command {
	var keyFile, out string
	c := &cobra.Command{
		Use:   "sign --key KEY ENVELOPE",
		Short: "Sign an envelope",
		Long: `Adds a COSE_Sign1 over the digest of the manifest to the authentication wrapper. The envelope is
replaced in one step, or written elsewhere with -o. Signing again with another key adds a signature.`,
		Example: `  teep suit sign --key dev.pem hello.suit
  teep suit sign --key dev.pem hello.suit -o signed.suit`,
		Args: program.ExactArgs("ENVELOPE"),
		RunE: func(_ *cobra.Command, args []string) error {
			signer, done, err := openSigner(keyFile)
			if err != nil {
				return err
			}
			defer done()
			envelope, err := readEnvelope(args[0])
			if err != nil {
				return err
			}
			if signedBy(envelope, signer) {
				return fmt.Errorf("%s is signed with this key already", args[0])
			}
			if err := envelope.Sign(rand.Reader, signer); err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			if out == "" {
				out = args[0]
			}
			return replaceFile(out, envelope.Encode())
		},
	}
	c.Flags().StringVar(&keyFile, "key", "", "private key of the signer: a file (PEM or COSE_Key), or a PKCS#11 URI")
	c.Flags().StringVarP(&out, "output", "o", "", "write here instead of replacing ENVELOPE")
	return require(c, "key")
}

func suitVerify() *cobra.Command {
	var keyFiles []string
	var older bool
	c := &cobra.Command{
		Use:   "verify --key KEY ENVELOPE",
		Short: "Check the signature, the digests and the format of an envelope",
		Long: `Checks that the manifest has the digest that was signed, that one of the keys signed it, that
severed members have the digests in the manifest, and that the manifest is well-formed.`,
		Example: `  teep suit verify --key dev.pub.pem hello.suit`,
		Args:    program.ExactArgs("ENVELOPE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			keys, err := readKeySet(keyFiles)
			if err != nil {
				return err
			}
			envelope, err := readEnvelope(args[0])
			if err != nil {
				return err
			}
			o := suit.VerifyOptions{}
			if older {
				o.Algorithms = append(cose.DefaultSignatureAlgorithms(), cose.AlgES256, cose.AlgES384, cose.AlgEdDSA)
			}
			verified, err := envelope.Verify(keys, o)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			m := verified.Manifest
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: manifest %v, sequence number %d, signed with %v by %x\n",
				args[0], m.ComponentID, m.SequenceNumber, verified.Algorithm, verified.Signer.Thumbprint())
			return err
		},
	}
	c.Flags().StringArrayVar(&keyFiles, "key", nil, "public key to trust (PEM or COSE_Key); may be repeated")
	c.Flags().BoolVar(&older, "insecure-older-algorithms", false, "also accept ES256, ES384 and EdDSA, whose identifiers leave the curve open")
	return require(c, "key")
}

// signedBy tells whether a key has signed an envelope before. A second signature says nothing new.
func signedBy(envelope *suit.Envelope, signer cose.Signer) bool {
	keys, err := cose.NewKeySet(signer.Public())
	if err != nil {
		return false
	}
	_, err = envelope.Verify(keys, suit.VerifyOptions{Algorithms: []cose.Algorithm{signer.Algorithm()}})
	return err == nil
}

// openSigner opens a private key from a file, or the key in a token that a PKCS#11 URI names.
func openSigner(name string) (signer cose.Signer, done func(), err error) {
	if pkcs11.IsURI(name) {
		where, err := pkcs11.ParseURI(name)
		if err != nil {
			return nil, nil, err
		}
		key, err := pkcs11.Open(where)
		if err != nil {
			return nil, nil, err
		}
		done := func() { _ = key.Close() } // nothing is left to lose when a token is let go
		public, err := cose.NewPublicKey(key.Public())
		if err == nil {
			signer, err = cose.NewSigner(public.Alg(), key)
		}
		if err != nil {
			done()
			return nil, nil, fmt.Errorf("%s: %w", name, err)
		}
		return signer, done, nil
	}
	key, err := readKey(name)
	if err != nil {
		return nil, nil, err
	}
	if !key.IsPrivate() {
		return nil, nil, fmt.Errorf("%s is a public key: signing takes the private one", name)
	}
	if signer, err = key.Signer(); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	return signer, func() {}, nil
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
