package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/distribute"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/api"
)

func depositCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "deposit",
		Short: "Keys and data that a TAM brings to each device by itself",
		Long: `A TAM brings each device, in a manifest of its own around the developer's, the key to a payload that was
encrypted once, and data of its own: licences, settings, credentials. What is deposited is encrypted to the TAM
here, and to each device there; nothing of it can be read in the TAM's store, its log or on the way.

The TAM has to have a distribution key (distribution in tam.yaml), and agents have to trust it
('teep-tam anchors').`,
		Example: `  teep deposit recipient > tam.pub.pem
  teep suit create -f hello.yaml --infos infos -o hello.suit     # encrypt: {to: [tam.pub.pem], info: separate}
  teep suit sign --key dev.pem hello.suit
  teep deposit key --info infos/hello.info hello.suit
  teep publish hello.suit
  teep deposit data --manifest hello/manifest --component keys/licence --device 0123abcd licence.txt
  teep deposit list`,
	}
	c.AddCommand(depositRecipient(), depositKey(), depositData(), depositList(), depositRemove())
	return c
}

func depositRecipient() *cobra.Command {
	var at tamFlags
	c := &cobra.Command{
		Use: "recipient", Short: "Print the public key that payloads and data are encrypted to",
		Example: "  teep deposit recipient > tam.pub.pem", Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			d, err := client.Distribution(cmd.Context())
			if err != nil {
				return err
			}
			if _, err := recipientKey(d); err != nil {
				return err
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), d.Recipient)
			return err
		},
	}
	return at.register(c)
}

// recipientKey reads the key that the TAM names, which must not be a private one.
func recipientKey(d *api.Distribution) (*cose.Key, error) {
	key, err := cose.ParsePEM([]byte(d.Recipient))
	if err == nil && key.IsPrivate() {
		err = fmt.Errorf("it is a private key")
	}
	if err != nil {
		return nil, fmt.Errorf("the key that the TAM names as recipient: %w", err)
	}
	return key, nil
}

func depositKey() *cobra.Command {
	var at tamFlags
	var info string
	c := &cobra.Command{
		Use: "key --info INFO ENVELOPE", Short: "Deposit the key to the encrypted payload of an envelope",
		Long: `Deposits the SUIT_Encryption_Info that 'teep suit create --infos' kept out of the manifest ("info: separate"). Do so
before 'teep publish', so that no device is offered a version that it cannot decrypt.`,
		Example: "  teep deposit key --info infos/hello.info hello.suit", Args: program.ExactArgs("ENVELOPE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			d, err := depositContentKey(cmd.Context(), client, args[0], info)
			if err != nil {
				return err
			}
			return at.print(cmd.OutOrStdout(), d, func(w *tabwriter.Writer) {
				fmt.Fprintf(w, "the TAM has the key to %s, sequence number %d\n", d.Manifest, d.Sequence)
			})
		},
	}
	c.Flags().StringVar(&info, "info", "", "SUIT_Encryption_Info of the payload, encrypted to the TAM")
	return require(at.registerOutput(c), "info")
}

// depositContentKey deposits an encryption info for the manifest in an envelope.
func depositContentKey(ctx context.Context, client *api.Client, envelope, info string) (*api.Deposit, error) {
	e, err := readEnvelope(envelope)
	if err != nil {
		return nil, err
	}
	m, err := e.UnverifiedManifest()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", envelope, err)
	}
	if m.ComponentID == nil {
		return nil, fmt.Errorf("%s: the manifest has no manifest-component-id, which the TAM's own manifest would name it by: set one and sign it again", envelope)
	}
	if err := distribute.UsesKey(m); err != nil {
		return nil, fmt.Errorf("%s: %w", envelope, err)
	}
	data, err := os.ReadFile(info)
	if err != nil {
		return nil, err
	}
	d, err := client.DepositContentKey(ctx, api.ContentKey{Manifest: m.ComponentID.String(), Sequence: m.SequenceNumber, EncryptionInfo: data})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", info, err)
	}
	return d, nil
}

func depositData() *cobra.Command {
	var at tamFlags
	var p api.Personalization
	c := &cobra.Command{
		Use: "data --manifest ID --component ID FILE", Short: "Deposit data for one device, for some, for a group, or for all",
		Long: `Encrypts the file to the TAM and deposits it. Each device that has the manifest, or is to get it, gets the data
in the component, encrypted to it alone; what was deposited for a device goes before what is for a group, and that
before what is for all. Who is in a group ('teep group') is found out anew in each session. Depositing again
replaces it.`,
		Example: `  teep deposit data --manifest hello/manifest --component keys/licence --device 0123abcd licence.txt
  teep deposit data --manifest hello/manifest --component keys/region --group europe europe.json
  teep deposit data --manifest hello/manifest --component keys/region world.json`,
		Args: program.ExactArgs("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			if err := wholeIDs(cmd.Context(), client, p.Devices); err != nil {
				return err
			}
			if err := encryptDeposit(cmd.Context(), client, &p, args[0]); err != nil {
				return err
			}
			list, err := client.DepositData(cmd.Context(), p)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			return at.print(cmd.OutOrStdout(), list.Items, func(w *tabwriter.Writer) { depositTable(w, list.Items) })
		},
	}
	c.Flags().StringVar(&p.Manifest, "manifest", "", "manifest-component-id of the application that reads it")
	c.Flags().StringVar(&p.Component, "component", "", "where it is put: below what agents trust the TAM's distribution key with")
	c.Flags().StringSliceVar(&p.Devices, "device", nil, "only these devices, by ID or its beginning")
	c.Flags().StringVar(&p.Group, "group", "", "only the devices that are in this group")
	c.MarkFlagsMutuallyExclusive("device", "group")
	return require(at.registerOutput(c), "manifest", "component")
}

// wholeIDs completes the IDs of devices in place, where only the beginning was given.
func wholeIDs(ctx context.Context, client *api.Client, ids []string) error {
	for i, id := range ids {
		d, err := findDevice(ctx, client, id)
		if err != nil {
			return fmt.Errorf("--device %s: %w", id, err)
		}
		ids[i] = d.ID
	}
	return nil
}

// encryptDeposit encrypts a file to the TAM.
func encryptDeposit(ctx context.Context, client *api.Client, p *api.Personalization, file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if len(data) > tam.MaxDepositData-64 {
		return fmt.Errorf("%s has %d bytes, and data of at most %d travels in a manifest: let a payload bring it", file, len(data), tam.MaxDepositData-64)
	}
	d, err := client.Distribution(ctx)
	if err != nil {
		return err
	}
	key, err := recipientKey(d)
	if err != nil {
		return err
	}
	recipient, err := suit.PayloadRecipient(key)
	if err != nil {
		return err
	}
	var ciphertext bytes.Buffer
	if p.EncryptionInfo, err = suit.EncryptPayload(rand.Reader, bytes.NewReader(data), &ciphertext, cose.AlgA128GCM, recipient); err != nil {
		return err
	}
	p.Ciphertext = ciphertext.Bytes()
	return nil
}

func depositTable(w *tabwriter.Writer, list []api.Deposit) {
	fmt.Fprintln(w, "ID\tWHAT\tMANIFEST\tVERSION OR COMPONENT\tFOR\tSINCE")
	for _, d := range list {
		what, whose := d.Component, "all devices"
		if d.Kind == tam.DepositContentKey {
			what = strconv.FormatUint(d.Sequence, 10)
		}
		switch {
		case d.Device != "":
			whose = "device " + plain(d.Device)
		case d.Group != "":
			whose = "group " + plain(d.Group)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", d.ID, d.Kind, d.Manifest, what, whose, when(d.Deposited))
	}
}

func depositList() *cobra.Command {
	var at tamFlags
	c := &cobra.Command{
		Use: "list", Short: "List what was deposited, without its content", Example: "  teep deposit list", Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			all, err := allPages(func(after string) (*api.Page[api.Deposit], error) { return client.Deposits(cmd.Context(), after) })
			if err != nil {
				return err
			}
			return at.print(cmd.OutOrStdout(), all, func(w *tabwriter.Writer) { depositTable(w, all) })
		},
	}
	return at.registerOutput(c)
}

func depositRemove() *cobra.Command {
	var at tamFlags
	c := &cobra.Command{
		Use: "remove ID", Short: "Remove a deposit: devices lose the data, or get the version no longer",
		Example: "  teep deposit remove 4f1c0a52e0c94b0cb4b3a2f9d1e3c07a", Args: program.ExactArgs("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			return client.RemoveDeposit(cmd.Context(), args[0])
		},
	}
	return at.register(c)
}
