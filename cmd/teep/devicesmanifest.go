package main

import (
	"encoding/base64"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/tam/api"
)

func deviceManifest() *cobra.Command {
	var at tamFlags
	var out, manifest, digest string
	c := &cobra.Command{
		Use:   "manifest ID",
		Short: "The manifests that were sent to a device, the TAM's own among them; one of them as a file",
		Long: `Lists the envelopes that were sent to a device: the newest ones of the TAM's own, which bring the device its keys and
data, and those in the messages that the TAM recorded, newest first. With -o, writes the first one of the list to a
file; --manifest and --digest choose another. The digest is what a report of 'teep devices report' names its manifest
by.

Of the TAM's own manifests the developer's envelope inside may be missing: give it to 'teep suit explain' with
--dependency.`,
		Example: `  teep devices manifest 4ba31c
  teep devices manifest 4ba31c --manifest keys/hello/manifest -o keys.suit
  teep suit explain --insecure-unverified --dependency hello.suit report.cbor keys.suit`,
		Args: program.ExactArgs("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			want, err := manifestFlag(manifest)
			if err != nil {
				return err
			}
			client, err := at.client()
			if err != nil {
				return err
			}
			d, err := findDevice(cmd.Context(), client, args[0])
			if err != nil {
				return err
			}
			sent, err := allPages(func(after string) (*api.Page[api.SentManifest], error) {
				return client.SentManifests(cmd.Context(), d.ID, after)
			})
			if err != nil {
				return err
			}
			chosen := []api.SentManifest{}
			for _, m := range sent {
				if (want == "" || m.Manifest == want) && strings.Contains(m.Digest, digest) {
					chosen = append(chosen, m)
				}
			}
			if out == "" {
				return at.print(cmd.OutOrStdout(), chosen, func(w *tabwriter.Writer) { sentTable(w, chosen) })
			}
			return writeSent(out, args[0], chosen, len(sent))
		},
	}
	c.Flags().StringVarP(&out, "output", "o", "", "file to write the first of them to, as a SUIT envelope")
	c.Flags().StringVar(&manifest, "manifest", "", "only manifests of this identifier")
	c.Flags().StringVar(&digest, "digest", "", "only the manifest of this digest, or a part of it")
	return at.registerOutput(c)
}

func sentTable(w *tabwriter.Writer, list []api.SentManifest) {
	fmt.Fprintln(w, "MANIFEST\tSEQUENCE\tDIGEST\tBYTES\tMESSAGE\tAT")
	for _, m := range list {
		name, message, sent := m.Manifest, "-", "-"
		if m.Problem != "" {
			name = "not readable: " + plain(m.Problem)
		}
		if m.At != nil {
			message, sent = fmt.Sprint(m.Message), when(*m.At)
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%s\t%s\n", name, m.Sequence, m.Digest, base64.StdEncoding.DecodedLen(len(strings.TrimRight(m.Data, "="))), message, sent)
	}
}

func writeSent(out, device string, chosen []api.SentManifest, all int) error {
	switch {
	case all == 0:
		return fmt.Errorf("the TAM keeps no manifest that it sent to this device: of its own it keeps the newest, of others those in the newest messages, and 'teep devices messages %s' lists these", device)
	case len(chosen) == 0:
		return fmt.Errorf("none of the %d manifests is that: 'teep devices manifest %s' lists them", all, device)
	}
	data, err := base64.StdEncoding.DecodeString(chosen[0].Data)
	if err != nil {
		return fmt.Errorf("the TAM's answer is not base64: %w", err)
	}
	return replaceFile(out, data)
}
