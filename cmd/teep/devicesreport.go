package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/tam/api"
)

func deviceReport() *cobra.Command {
	var message int64
	records := deviceRecords[api.Report]{
		short: "The SUIT Reports of a device; one of them as a file for 'teep suit explain'",
		long: `Lists the SUIT Reports in the messages that the TAM recorded, newest first: what the device did with which
manifest, and how it ended. With -o, writes the newest one to a file, opened, for 'teep suit explain';
--manifest and --message choose another.

The TAM checked the signature of the message that the report came in. The file has no signature any more, which is
why 'teep suit explain' wants --insecure-unverified for it.`,
		example: `  teep devices report 4ba31c
  teep devices report 4ba31c --manifest hello/manifest -o report.cbor
  teep suit explain --insecure-unverified report.cbor hello.suit`,
		output:   "file to write the newest of them to, as a SUIT_Report without protection",
		page:     (*api.Client).Reports,
		manifest: func(r *api.Report) string { return r.Manifest },
		chosen:   func(r *api.Report) bool { return message == 0 || r.Message == message },
		table:    reportTable,
		data:     func(r *api.Report) (string, string) { return r.Data, plain(r.Problem) },
		nothing:  "the TAM has recorded no SUIT Report of this device: it keeps the newest messages of a device, and 'teep devices messages %s' lists them",
		plural:   "reports",
	}
	c := records.command("report")
	c.Flags().Int64Var(&message, "message", 0, "only reports that came in this message")
	return c
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
