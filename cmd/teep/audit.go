package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/audit"
)

func auditCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "audit",
		Short: "Who changed what at a TAM",
		Example: `  teep audit list
  teep audit export -o audit.jsonl
  teep audit verify audit.jsonl`,
	}
	c.AddCommand(auditList(), auditHead(), auditExport(), auditVerify())
	return c
}

func auditList() *cobra.Command {
	var at tamFlags
	c := &cobra.Command{
		Use: "list", Short: "List the audit log, oldest first", Example: "  teep audit list --json", Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			all, err := allPages(func(after string) (*api.Page[audit.Entry], error) { return client.Audit(cmd.Context(), after) })
			if err != nil {
				return err
			}
			return at.print(cmd.OutOrStdout(), all, func(w *tabwriter.Writer) {
				fmt.Fprintln(w, "SEQ\tAT\tWHO\tVIA\tACTION\tTARGET\tDETAIL")
				for _, e := range all {
					fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", e.Seq, when(e.At), plain(e.Actor), plain(e.Via), e.Action, plain(e.Target), plain(e.Detail))
				}
			})
		},
	}
	return at.registerOutput(c)
}

func auditHead() *cobra.Command {
	var at tamFlags
	c := &cobra.Command{
		Use: "head", Short: "Print the end of the audit log, to keep elsewhere",
		Long:    "Prints the number and the hash of the newest entry, for 'teep audit verify --head' one day.",
		Example: "  teep audit head >> elsewhere/heads.txt", Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			head, err := client.AuditHead(cmd.Context())
			if err != nil {
				return err
			}
			return at.print(cmd.OutOrStdout(), head, func(w *tabwriter.Writer) { fmt.Fprintf(w, "%d:%v\n", head.Seq, head.Hash) })
		},
	}
	return at.registerOutput(c)
}

func auditExport() *cobra.Command {
	var at tamFlags
	var out string
	c := &cobra.Command{
		Use:   "export -o FILE",
		Short: "Write the audit log to a new file, one entry a line",
		Long: `Writes the whole audit log to a new file and verifies it. The line that it prints names the newest entry and
its hash: kept elsewhere, it shows later whether the log was computed anew (teep audit verify --head).`,
		Example: "  teep audit export -o audit.jsonl", Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			f, err := os.OpenFile(out, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return err
			}
			defer f.Close()
			if err := errors.Join(client.ExportAudit(cmd.Context(), f), f.Sync()); err != nil {
				return errors.Join(err, os.Remove(out))
			}
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				return err
			}
			return verifyAudit(cmd.OutOrStdout(), f, "")
		},
	}
	outputFlag(c, &out, "file to make")
	return at.register(c)
}

func auditVerify() *cobra.Command {
	var head string
	c := &cobra.Command{
		Use:   "verify FILE",
		Short: "Check that an exported audit log is unbroken",
		Long: `Checks every entry's hash and that each follows the one before it. It needs no TAM.

Whoever can write to the TAM's database can compute a whole new chain, or cut off its end. That shows when the
newest entry and its hash, which this command prints, were kept elsewhere and are given as --head.`,
		Example: `  teep audit verify audit.jsonl
  teep audit verify audit.jsonl --head 1203:5a0c…`,
		Args: program.ExactArgs("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			return verifyAudit(cmd.OutOrStdout(), f, head)
		},
	}
	c.Flags().StringVar(&head, "head", "", "SEQ:HASH of an entry that must be in the log unchanged")
	return c
}

func verifyAudit(w io.Writer, r io.Reader, known string) error {
	head, err := parseHead(known)
	if err != nil {
		return &program.Usage{Err: err}
	}
	report, err := audit.Verify(r)
	if err != nil {
		return err
	}
	if known != "" && !report.Has(head) {
		return fmt.Errorf("entry %d with the hash %v is not in this log: it was changed after that hash was noted, or its end was cut off", head.Seq, head.Hash)
	}
	if report.Entries == 0 {
		_, err := fmt.Fprintln(w, "empty: no entry")
		return err
	}
	from := "from the first entry on"
	if !report.Complete() {
		from = fmt.Sprintf("from entry %d on; those before it are not in this file", report.First)
	}
	_, err = fmt.Fprintf(w, "unbroken: %d entries %s, %s to %s\nhead %d:%v\n",
		report.Entries, from, when(report.Begin), when(report.End), report.Head.Seq, report.Head.Hash)
	return err
}

// parseHead reads SEQ:HASH; the empty text is no head.
func parseHead(s string) (h audit.Head, err error) {
	if s == "" {
		return h, nil
	}
	seq, hash, ok := strings.Cut(s, ":")
	if h.Seq, err = strconv.ParseInt(seq, 10, 64); err == nil {
		err = h.Hash.UnmarshalText([]byte(hash))
	}
	if !ok || err != nil {
		return h, fmt.Errorf("--head %q is not SEQ:HASH, as 'teep audit verify' prints it", s)
	}
	return h, nil
}
