package main

import (
	"encoding/pem"
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/cose/revocation"
	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/tam/api"
)

func publisherRevocations() *cobra.Command {
	var at tamFlags
	var files []string
	var remove bool
	c := &cobra.Command{
		Use: "revocations NAME [--crl FILE]…", Short: "Certificate revocation lists of a publisher's signers, and what they revoke",
		Long: "With --crl, puts newer lists in force: the TAM takes nothing more of a signer whose certificate is on one, and offers nothing\n" +
			"that it signed. Lists that are left out stay in force, and none may be older than what it replaces. A list that is past its next\n" +
			"update counts as if it named everybody, until a newer one comes: renew it in time, for example with cron.\n" +
			"Lists what is not offered, with how many devices have it; --remove takes it off them.",
		Example: "  teep publisher revocations example --crl ca.crl --remove\n  teep publisher revocations example", Args: program.ExactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			var in *api.RevocationLists
			if len(files) == 0 && !cmd.Flags().Changed("remove") {
				in, err = client.RevocationLists(cmd.Context(), args[0])
			} else {
				var n api.NewRevocationLists
				if n.Lists, err = readLists(files); err != nil {
					return err
				}
				if cmd.Flags().Changed("remove") {
					n.Remove = &remove
				}
				in, err = client.RenewRevocationLists(cmd.Context(), args[0], n)
			}
			if err != nil {
				return err
			}
			return at.print(cmd.OutOrStdout(), in, func(w *tabwriter.Writer) { revocationTables(w, in) })
		},
	}
	c.Flags().StringArrayVar(&files, "crl", nil, "X.509 CRLs in DER or PEM; may be repeated")
	c.Flags().BoolVar(&remove, "remove", false, "take what a revoked certificate signed off devices; --remove=false leaves it there")
	return at.registerOutput(c)
}

// readLists reads revocation lists as PEM.
func readLists(files []string) ([]string, error) {
	var all []string
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		lists, err := revocation.Parse(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		for _, der := range lists {
			all = append(all, string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})))
		}
	}
	return all, nil
}

func revocationTables(w *tabwriter.Writer, in *api.RevocationLists) {
	fmt.Fprintln(w, "ISSUER\tKNOWN\tNUMBER\tOF\tNEXT\tREVOKES")
	for _, l := range in.Lists {
		next := "no date"
		if l.NextUpdate != nil {
			next = when(*l.NextUpdate)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\n", plain(l.Issuer), choose(l.Known, "yes", "not below an anchor yet"), l.Number, when(l.ThisUpdate), next, l.Certificates)
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, "NOT OFFERED\tSEQUENCE\tDEVICES\tBECAUSE")
	for _, v := range in.Versions {
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\n", v.Manifest, v.Sequence, v.Devices, plain(v.Reason))
	}
}
