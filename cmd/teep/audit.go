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
	var after int64
	var limit int
	c := &cobra.Command{
		Use: "list", Short: "List the audit log, oldest first",
		Long: `Lists the audit log, or --limit entries of it after the entry --after. What is long is better exported: an export
goes to its file as it arrives.`,
		Example: "  teep audit list --json\n  teep audit list --after 1203 --limit 50", Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			all, err := api.Collect(limit, fmt.Sprint(after), func(after string) (*api.Page[audit.Entry], error) { return client.Audit(cmd.Context(), after) })
			if err != nil {
				return err
			}
			return at.print(cmd.OutOrStdout(), all, func(w *tabwriter.Writer) {
				fmt.Fprintln(w, "SEQ\tAT\tWHO\tVIA\tACTION\tTARGET\tDETAIL")
				for _, e := range all {
					fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", e.Seq, when(e.At), plain(e.Actor), plain(e.Via), plain(string(e.Action)), plain(e.Target), plain(e.Detail))
				}
			})
		},
	}
	c.Flags().Int64Var(&after, "after", 0, "begin after the entry of this number")
	limitFlag(c, &limit)
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
	var after int64
	c := &cobra.Command{
		Use:   "export -o FILE",
		Short: "Write the audit log to a new file, one entry a line",
		Long: `Writes the whole audit log, or what follows the entry --after, to a new file and verifies it against what the TAM
says is its end. The line that it prints names the newest entry and its hash: kept elsewhere, it shows later whether
the log was computed anew (teep audit verify --head). Of a log that does not hold, the file stays for whoever looks
into it.`,
		Example: "  teep audit export -o audit.jsonl\n  teep audit export --after 1203 -o audit-2.jsonl", Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			head, err := client.AuditHead(cmd.Context())
			if err != nil {
				return err
			}
			f, err := os.OpenFile(out, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return err
			}
			defer f.Close()
			if err := errors.Join(client.ExportAuditFrom(cmd.Context(), after, f), f.Sync()); err != nil {
				return errors.Join(err, os.Remove(out))
			}
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				return err
			}
			return verifyExport(cmd.OutOrStdout(), f, after, *head)
		},
	}
	outputFlag(c, &out, "file to make")
	c.Flags().Int64Var(&after, "after", 0, "begin after the entry of this number, with which an earlier export ended")
	return at.register(c)
}

// verifyExport verifies what a TAM gave from the entry `after` on, and that it leads without a gap to the end that
// the TAM named before.
func verifyExport(w io.Writer, r io.Reader, after int64, head audit.Head) error {
	var noted []audit.Head
	if head.Seq > after {
		noted = []audit.Head{head}
	}
	report, err := audit.Verify(r, noted...)
	if err != nil {
		return err
	}
	if len(report.Missing) > 0 {
		return fmt.Errorf("the TAM says that its audit log ends with entry %d and the hash %v, and that is not what it gave: its database was changed", head.Seq, head.Hash)
	}
	if report.Entries > 0 && report.First != after+1 {
		return fmt.Errorf("the audit log begins with entry %d, and should with %d: entries were removed from the TAM's database", report.First, after+1)
	}
	return writeVerified(w, report)
}

func auditVerify() *cobra.Command {
	var heads []string
	c := &cobra.Command{
		Use:   "verify FILE",
		Short: "Check that an exported audit log is unbroken",
		Long: `Checks every entry's hash and that each follows the one before it. It needs no TAM.

Whoever can write to the TAM's database can compute a whole new chain, or cut off its end. That shows when the
newest entry and its hash, which this command prints, were kept elsewhere and are given as --head. A file of any
length takes little memory.`,
		Example: `  teep audit verify audit.jsonl
  teep audit verify audit.jsonl --head 1203:5a0c…`,
		Args: program.ExactArgs("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			return verifyAudit(cmd.OutOrStdout(), f, heads)
		},
	}
	c.Flags().StringArrayVar(&heads, "head", nil, "SEQ:HASH of an entry that must be in the log unchanged; may be repeated")
	return c
}

func verifyAudit(w io.Writer, r io.Reader, known []string) error {
	noted, err := parseHeads(known)
	if err != nil {
		return &program.Usage{Err: err}
	}
	report, err := audit.Verify(r, noted...)
	if err != nil {
		return err
	}
	for _, head := range report.Missing {
		return fmt.Errorf("entry %d with the hash %v is not in this log: it was changed after that hash was noted, or its end was cut off", head.Seq, head.Hash)
	}
	return writeVerified(w, report)
}

func writeVerified(w io.Writer, report *audit.Report) error {
	if report.Entries == 0 {
		_, err := fmt.Fprintln(w, "empty: no entry")
		return err
	}
	from := "from the first entry on"
	if !report.Complete() {
		from = fmt.Sprintf("from entry %d on; those before it are not in this file", report.First)
	}
	_, err := fmt.Fprintf(w, "unbroken: %d entries %s, %s to %s\nhead %d:%v\n",
		report.Entries, from, when(report.Begin), when(report.End), report.Head.Seq, report.Head.Hash)
	return err
}

// parseHeads reads SEQ:HASH of each noted entry.
func parseHeads(texts []string) (heads []audit.Head, err error) {
	for _, s := range texts {
		var h audit.Head
		seq, hash, ok := strings.Cut(strings.TrimSpace(s), ":")
		if h.Seq, err = strconv.ParseInt(seq, 10, 64); err == nil {
			err = h.Hash.UnmarshalText([]byte(hash))
		}
		if !ok || err != nil {
			return nil, fmt.Errorf("--head %q is not SEQ:HASH, as 'teep audit verify' prints it", s)
		}
		heads = append(heads, h)
	}
	return heads, nil
}
