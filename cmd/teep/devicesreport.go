package main

import (
	"encoding/base64"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam/api"
)

func deviceReport() *cobra.Command {
	var at tamFlags
	var out, manifest string
	var message int64
	c := &cobra.Command{
		Use:   "report ID",
		Short: "The SUIT Reports of a device; one of them as a file for 'teep suit explain'",
		Long: `Lists the SUIT Reports in the messages that the TAM recorded, newest first: what the device did with which
manifest, and how it ended. With -o, writes the newest one to a file, opened, for 'teep suit explain';
--manifest and --message choose another.

The TAM checked the signature of the message that the report came in. The file has no signature any more, which is
why 'teep suit explain' wants --insecure-unverified for it.`,
		Example: `  teep devices report 4ba31c
  teep devices report 4ba31c --manifest hello/manifest -o report.cbor
  teep suit explain --insecure-unverified report.cbor hello.suit`,
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
			reports, err := allPages(func(after string) (*api.Page[api.Report], error) { return client.Reports(cmd.Context(), d.ID, after) })
			if err != nil {
				return err
			}
			chosen := []api.Report{}
			for _, r := range reports {
				if (want == "" || r.Manifest == want) && (message == 0 || r.Message == message) {
					chosen = append(chosen, r)
				}
			}
			if out == "" {
				return at.print(cmd.OutOrStdout(), chosen, func(w *tabwriter.Writer) { reportTable(w, chosen) })
			}
			return writeReport(out, args[0], chosen, len(reports))
		},
	}
	c.Flags().StringVarP(&out, "output", "o", "", "file to write the newest of them to, as a SUIT_Report without protection")
	c.Flags().StringVar(&manifest, "manifest", "", "only reports of this manifest, by its component identifier")
	c.Flags().Int64Var(&message, "message", 0, "only reports that came in this message")
	return at.registerOutput(c)
}

// manifestFlag is the flag --manifest as the TAM writes identifiers; empty: any manifest.
func manifestFlag(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	id, err := suit.ParseComponentID(text)
	if err != nil {
		return "", &program.Usage{Err: fmt.Errorf("--manifest: %w", err)}
	}
	return id.String(), nil
}

func reportTable(w *tabwriter.Writer, list []api.Report) {
	fmt.Fprintln(w, "MESSAGE\tAT\tMANIFEST\tPROCEDURE\tRESULT")
	for _, r := range list {
		result, name := r.Reason, r.Manifest
		switch {
		case r.Problem != "":
			result = "not readable: " + plain(r.Problem)
		case r.Place != "":
			result += " in " + r.Place
		}
		if name == "" {
			name = r.Digest
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", r.Message, when(r.At), name, r.Procedure, result)
	}
}

func writeReport(out, device string, chosen []api.Report, all int) error {
	switch {
	case all == 0:
		return fmt.Errorf("the TAM has recorded no SUIT Report of this device: it keeps the newest messages of a device, and 'teep devices messages %s' lists them", device)
	case len(chosen) == 0:
		return fmt.Errorf("none of the %d reports of this device is that: 'teep devices report %s' lists them", all, device)
	case chosen[0].Problem != "":
		return fmt.Errorf("the TAM cannot open the report: %s", plain(chosen[0].Problem))
	}
	data, err := base64.StdEncoding.DecodeString(chosen[0].Data)
	if err != nil {
		return fmt.Errorf("the TAM's answer is not base64: %w", err)
	}
	return replaceFile(out, data)
}
