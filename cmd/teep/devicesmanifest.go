package main

import (
	"encoding/base64"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/tam/api"
)

func deviceManifest() *cobra.Command {
	var digest string
	records := deviceRecords[api.SentManifest]{
		short: "The manifests that were sent to a device, the TAM's own among them; one of them as a file",
		long: `Lists the envelopes that were sent to a device: the newest ones of the TAM's own, which bring the device its keys and
data, and those in the messages that the TAM recorded, newest first. With -o, writes the first one of the list to a
file; --manifest and --digest choose another. The digest is what a report of 'teep devices report' names its manifest
by.

Of the TAM's own manifests the developer's envelope inside may be missing: give it to 'teep suit explain' with
--dependency.`,
		example: `  teep devices manifest 4ba31c
  teep devices manifest 4ba31c --manifest keys/hello/manifest -o keys.suit
  teep suit explain --insecure-unverified --dependency hello.suit report.cbor keys.suit`,
		output:   "file to write the first of them to, as a SUIT envelope",
		page:     (*api.Client).SentManifests,
		manifest: func(m *api.SentManifest) string { return m.Manifest },
		chosen:   func(m *api.SentManifest) bool { return strings.Contains(m.Digest, digest) },
		table:    sentTable,
		data:     func(m *api.SentManifest) (string, string) { return m.Data, "" }, // an envelope that cannot be read is still one
		nothing:  "the TAM keeps no manifest that it sent to this device: of its own it keeps the newest, of others those in the newest messages, and 'teep devices messages %s' lists these",
		plural:   "manifests",
	}
	c := records.command("manifest")
	c.Flags().StringVar(&digest, "digest", "", "only the manifest of this digest, or a part of it")
	return c
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
