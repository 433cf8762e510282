package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/suit"
)

// encryptFlags say what is encrypted, or wrapped anew, and for whom.
type encryptFlags struct {
	to, keks, keyFiles            []string
	algorithm, output, info, wrap string
}

func suitEncrypt() *cobra.Command {
	var f encryptFlags
	c := &cobra.Command{
		Use:   "encrypt --to KEY -o CIPHERTEXT --info INFO PAYLOAD",
		Short: "Encrypt a payload to devices, or wrap its key for further ones",
		Long: `Encrypts a payload with a new content key, and wraps that key to each recipient: with ECDH-ES+A128KW
to the public keys of devices (--to), with A128KW or A256KW under shared keys (--kek). It writes the ciphertext,
which all of them fetch, and the SUIT_Encryption_Info, which says how to decrypt it.

A128GCM and ChaCha20-Poly1305 notice any change of the ciphertext. A128CTR and A256CTR do not: the manifest
has to hold a digest of the payload, as those of 'teep suit create' do. ("ChaCha20/Poly1305" is its name in the
IANA registry, which is understood too.)

With --rewrap, the content key of an existing INFO is unwrapped with your own key and wrapped for others. The
ciphertext stays what it is, and need not be at hand.

A description refers to the two files beside the payload itself, which gives digest and size:

  components:
    - id: [hello]
      payload:
        file: hello.wasm
        uri: https://example.com/hello.enc
        encrypt: {ciphertext: hello.enc, encryption-info: hello.info}

A shared key is a COSE_Key in a file, as from 'teep key generate --alg A128KW'. A P-256 key to try this with comes from
'teep key generate --alg ECDH-ES+A128KW'; devices print their own public keys.`,
		Example: `  teep suit encrypt --to device.pub.pem -o hello.enc --info hello.info hello.wasm
  teep suit encrypt --to tam.pub.pem --kek fleet.cosekey --alg A128CTR -o hello.enc --info hello.info hello.wasm
  teep suit encrypt --rewrap hello.info --key tam.pem --to other.pub.pem --info other.info`,
		Args: func(cmd *cobra.Command, args []string) error {
			if f.wrap != "" {
				return program.NoArgs(cmd, args)
			}
			return program.ExactArgs("PAYLOAD")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(cmd); err != nil {
				return err
			}
			recipients, err := f.recipients()
			if err != nil {
				return err
			}
			if f.wrap != "" {
				return f.rewrap(recipients)
			}
			return f.encrypt(args[0], recipients)
		},
	}
	flags := c.Flags()
	flags.StringArrayVar(&f.to, "to", nil, "public key of a device (PEM or COSE_Key); may be repeated")
	flags.StringArrayVar(&f.keks, "kek", nil, "key encryption key that is shared with devices (COSE_Key of 16 or 32 bytes); may be repeated")
	flags.StringVar(&f.algorithm, "alg", "A128GCM", "A128GCM, A256GCM, ChaCha20-Poly1305, A128CTR or A256CTR")
	flags.StringVarP(&f.output, "output", "o", "", "ciphertext to write")
	flags.StringVar(&f.info, "info", "", "SUIT_Encryption_Info to write")
	flags.StringVar(&f.wrap, "rewrap", "", "SUIT_Encryption_Info whose content key to wrap for others")
	flags.StringArrayVar(&f.keyFiles, "key", nil, "with --rewrap: your own key, which unwraps the content key; may be repeated")
	return require(c, "info")
}

// check refuses combinations of flags that contradict each other.
func (f *encryptFlags) check(cmd *cobra.Command) error {
	usage := func(format string, args ...any) error { return &program.Usage{Err: fmt.Errorf(format, args...)} }
	switch {
	case len(f.to)+len(f.keks) == 0:
		return usage("say with --to or --kek for whom")
	case f.wrap == "" && f.output == "":
		return usage("say with -o where to write the ciphertext")
	case f.wrap == "" && len(f.keyFiles) > 0:
		return usage("--key goes with --rewrap; for whom to encrypt is said with --to or --kek")
	case f.wrap != "" && len(f.keyFiles) == 0:
		return usage("--rewrap needs your own key: --key KEY")
	case f.wrap != "" && f.output != "":
		return usage("--rewrap leaves the ciphertext as it is, so there is none to write: leave -o out")
	case f.wrap != "" && cmd.Flags().Changed("alg"):
		return usage("--rewrap leaves the content encryption as it is: leave --alg out")
	}
	return nil
}

func (f *encryptFlags) recipients() ([]cose.Recipient, error) {
	var list []cose.Recipient
	devices, err := readRecipients(f.to)
	if err != nil {
		return nil, err
	}
	for i, key := range devices {
		if list, err = addRecipient(list, f.to[i], key); err != nil {
			return nil, err
		}
	}
	for _, file := range f.keks {
		key, err := readKey(file)
		if err != nil {
			return nil, err
		}
		if key.Type() != cose.KeyTypeSymmetric {
			return nil, fmt.Errorf("%s is not a symmetric key: --kek takes a COSE_Key of kty 4, and --to public keys", file)
		}
		if list, err = addRecipient(list, file, key); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func addRecipient(list []cose.Recipient, file string, key *cose.Key) ([]cose.Recipient, error) {
	r, err := suit.PayloadRecipient(key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return append(list, r), nil
}

// encrypt writes ciphertext and info. Neither file is there before both are whole.
func (f *encryptFlags) encrypt(payload string, recipients []cose.Recipient) error {
	if err := distinct(payload, f.output, f.info); err != nil {
		return err
	}
	alg, err := parseContentAlgorithm(f.algorithm)
	if err != nil {
		return err
	}
	plaintext, err := os.Open(payload)
	if err != nil {
		return err
	}
	defer plaintext.Close()
	var info []byte
	return replaceWith(f.output, func(w io.Writer) error {
		info, err = suit.EncryptPayload(rand.Reader, plaintext, w, alg, recipients...)
		return err
	}, func() error { return replaceFile(f.info, info) })
}

// distinct refuses to write over what is read, or twice to one file.
func distinct(names ...string) error {
	for i, a := range names {
		for _, b := range names[:i] {
			if sameFile(a, b) {
				return &program.Usage{Err: fmt.Errorf("%s and %s are the same file: payload, ciphertext and info need one each", a, b)}
			}
		}
	}
	return nil
}

func sameFile(a, b string) bool {
	if filepath.Clean(a) == filepath.Clean(b) {
		return true
	}
	sa, errA := os.Stat(a)
	sb, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(sa, sb)
}

// replaceWith is replaceFile for content that is too large for memory. The file appears after
// before returned nil.
func replaceWith(path string, write func(io.Writer) error, before func() error) error {
	w, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(w.Name())
	err = write(w)
	if err := errors.Join(err, w.Chmod(0o644), w.Sync(), w.Close()); err != nil {
		return err
	}
	if err := before(); err != nil {
		return err
	}
	return os.Rename(w.Name(), path)
}

func (f *encryptFlags) rewrap(recipients []cose.Recipient) error {
	key, err := recoverKey(f.wrap, f.keyFiles)
	if err != nil {
		return err
	}
	wrapped, err := key.EncryptionInfo(rand.Reader, recipients...)
	if err != nil {
		return fmt.Errorf("%s: %w", f.wrap, err)
	}
	return replaceFile(f.info, wrapped)
}
