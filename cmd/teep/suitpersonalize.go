package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/distribute"
)

// personalizeFlags say what a device gets: the key to a payload, or data.
type personalizeFlags struct {
	to, keyFiles                                   []string
	manifestID, device, uri, info, data, component string
	algorithm, output                              string
	sequenceNumber                                 uint64
}

func suitPersonalize() *cobra.Command {
	var f personalizeFlags
	c := &cobra.Command{
		Use:   "personalize --to KEY --manifest-id ID --sequence-number N -o ENVELOPE DEVELOPER-ENVELOPE",
		Short: "Make the manifest that gives one device its key, or its data",
		Long: `Makes a manifest of the distributor's own, such as a TAM's, for one device or a group of them. It depends on
the developer's manifest, of which nothing changes.

With --info, the devices get the key to a payload that the developer encrypted to the distributor ("info: separate"
in the description): the content key is unwrapped with --key, and wrapped to the devices.

With --data, they get data of their own, encrypted to them, in the component --component. The developer's envelope
is that of the application that reads it, which is installed before and kept as long as the data.

The new envelope holds the developer's, unless --uri says where devices fetch it. It is not signed yet: see
'teep suit sign'. Its signer needs rights on the device to ID and, with --data, to the component.`,
		Example: `  teep suit create -f hello.yaml --payloads payloads --infos infos -o hello.suit
  teep suit sign --key dev.pem hello.suit
  teep suit personalize --info infos/hello.info --key tam.pem --to device.pub.pem --manifest-id keys/hello \
    --sequence-number 1 -o device.suit hello.suit
  teep suit sign --key tam-sign.pem device.suit
  teep suit personalize --data licence --component hello/licence --to device.pub.pem --manifest-id licences/hello \
    --sequence-number 1 -o licence.suit hello.suit`,
		Args: program.ExactArgs("DEVELOPER-ENVELOPE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(cmd); err != nil {
				return err
			}
			developer, err := readEnvelope(args[0])
			if err != nil {
				return err
			}
			envelope, err := f.envelope(developer)
			if err != nil {
				return err
			}
			return replaceFile(f.output, envelope.Encode())
		},
	}
	flags := c.Flags()
	flags.StringArrayVar(&f.to, "to", nil, "public key of a device (PEM or COSE_Key); may be repeated")
	flags.StringVar(&f.manifestID, "manifest-id", "", "manifest-component-id of the new manifest, such as keys/hello")
	flags.Uint64Var(&f.sequenceNumber, "sequence-number", 0, "sequence number of the new manifest, which rises with each version")
	flags.StringVar(&f.device, "device-id", "", "UUID of the one device that the manifest is for; without it, all of the developer's class")
	flags.StringVar(&f.uri, "uri", "", "where devices fetch the developer's envelope; without it, it is inside the new one")
	flags.StringVar(&f.info, "info", "", "SUIT_Encryption_Info of the developer's payload")
	flags.StringArrayVar(&f.keyFiles, "key", nil, "with --info: your own key, which unwraps the content key; may be repeated")
	flags.StringVar(&f.data, "data", "", "file whose content the devices get")
	flags.StringVar(&f.component, "component", "", "with --data: where the data is put, such as hello/licence")
	flags.StringVar(&f.algorithm, "alg", "A128GCM", "with --data: A128GCM, A256GCM, ChaCha20-Poly1305, A128CTR or A256CTR")
	outputFlag(c, &f.output, "envelope to make")
	return require(c, "to", "manifest-id", "sequence-number")
}

func (f *personalizeFlags) check(cmd *cobra.Command) error {
	usage := func(text string) error { return &program.Usage{Err: errors.New(text)} }
	switch {
	case (f.info == "") == (f.data == ""):
		return usage("give --info for the key to a payload, or --data for data, one of the two")
	case f.info != "" && len(f.keyFiles) == 0:
		return usage("--info needs your own key: --key KEY")
	case f.info != "" && (f.component != "" || cmd.Flags().Changed("alg")):
		return usage("--component and --alg go with --data")
	case f.data != "" && f.component == "":
		return usage("--data needs --component: where the data is put")
	case f.data != "" && len(f.keyFiles) > 0:
		return usage("--key goes with --info")
	}
	return nil
}

func (f *personalizeFlags) envelope(developer *suit.Envelope) (*suit.Envelope, error) {
	id, err := suit.ParseComponentID(f.manifestID)
	if err != nil {
		return nil, &program.Usage{Err: fmt.Errorf("--manifest-id: %w", err)}
	}
	var identity distribute.Identity
	if f.device != "" {
		if identity.Device, err = suit.ParseUUID(f.device); err != nil {
			return nil, &program.Usage{Err: fmt.Errorf("--device-id: %w", err)}
		}
	}
	devices, err := readRecipients(f.to)
	if err != nil {
		return nil, err
	}
	if f.info != "" {
		key, err := recoverKey(f.info, f.keyFiles)
		if err != nil {
			return nil, err
		}
		return distribute.Key{ID: id, SequenceNumber: f.sequenceNumber, Developer: developer, DeveloperURI: f.uri,
			Identity: identity}.Wrap(rand.Reader, key, devices...)
	}
	component, err := suit.ParseComponentID(f.component)
	if err != nil {
		return nil, &program.Usage{Err: fmt.Errorf("--component: %w", err)}
	}
	alg, err := parseContentAlgorithm(f.algorithm)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(f.data)
	if err != nil {
		return nil, err
	}
	envelope, _, err := distribute.Personalization{ID: id, SequenceNumber: f.sequenceNumber, Component: component,
		Application: developer, ApplicationURI: f.uri, Identity: identity, Algorithm: alg}.Encrypt(rand.Reader, data, devices...)
	return envelope, err
}

// readRecipients reads public keys of devices.
func readRecipients(files []string) ([]*cose.Key, error) {
	keys, err := readKeys(files)
	if err != nil {
		return nil, err
	}
	for i, key := range keys {
		switch {
		case key.Type() == cose.KeyTypeSymmetric:
			return nil, fmt.Errorf("%s is a symmetric key, and --to takes public ones", files[i])
		case key.IsPrivate():
			return nil, fmt.Errorf("%s is a private key, which belongs to the device alone: --to takes the public one", files[i])
		case key.SignsOnly() || labelledForSignatures(files[i]):
			return nil, fmt.Errorf("%s is a signing key, and nothing can be encrypted to it: --to takes the encryption key of a device, "+
				"such as 'teep key generate --alg ECDH-ES+A128KW' makes, or that of a TAM ('teep deposit recipient')", files[i])
		}
	}
	return keys, nil
}

// labelledForSignatures looks at what 'teep key' wrote in front of the PEM block.
func labelledForSignatures(file string) bool {
	data, err := os.ReadFile(file)
	return err == nil && cose.PEMLabel(data).IsSignature()
}

// recoverKey unwraps the content key of an encryption info in a file.
func recoverKey(file string, keyFiles []string) (*suit.PayloadKey, error) {
	info, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	own, err := readKeys(keyFiles)
	if err != nil {
		return nil, err
	}
	key, err := suit.RecoverPayloadKey(info, own)
	if errors.Is(err, cose.ErrNoKey) || errors.Is(err, cose.ErrDecrypt) {
		return nil, fmt.Errorf("%s: %w: give with --key the private key of one of those that it was encrypted to", file, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return key, nil
}

// parseContentAlgorithm also reads the name that the algorithm has outside of the IANA registry.
func parseContentAlgorithm(name string) (cose.Algorithm, error) {
	if name == "ChaCha20-Poly1305" {
		return cose.AlgChaCha20Poly1305, nil
	}
	alg, err := cose.ParseAlgorithm(name)
	if err != nil {
		return 0, &program.Usage{Err: fmt.Errorf("--alg: %w", err)}
	}
	return alg, nil
}
