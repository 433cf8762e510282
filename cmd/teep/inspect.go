package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/inspect"
	"github.com/go-teep/teep/internal/program"
)

func inspectCommand() *cobra.Command {
	var keyFiles, decryptFiles []string
	var asJSON, quiet, full bool
	c := &cobra.Command{
		Use:   "inspect FILE|-",
		Short: "Show any TEEP, SUIT, EAT or COSE data, and say what is wrong with it",
		Long: `Shows a TEEP message, SUIT envelope, manifest or report, EAT claims, COSE message or COSE_Key in
annotated diagnostic notation, with everything opened that is wrapped inside, and lists what is
wrong with it and by which section of which text.

The input is binary, hexadecimal (white space and # comments are skipped), base64, base64url,
diagnostic notation or a PEM key; which of them is detected. "-" reads standard input. Private and
symmetric keys are never printed.

With --key, signatures and MACs are checked: each is verified (by the thumbprint of a key), not
verified, or of an unknown signer. What is inspected must then be signed by one of the keys;
structures inside may be signed by others. With --decrypt-key, encrypted parts are opened.

The exit code is 0 if nothing is wrong, 1 if there are errors or a signature does not verify, and 2
if the command was called wrongly. Warnings and notes do not change it.

--json prints one object:
  schema      1; members may be added, none changes its meaning
  encoding    binary, hex, base64, base64url, diagnostic or pem
  bytes       size of the decoded input
  kind        teep-message, suit-envelope, suit-manifest, suit-report, eat-claims, eat-bundle,
              cose-key, cose-key-set, cose-sign1, cose-sign, cose-mac0, cose-mac, cose-encrypt0,
              cose-encrypt, x509-certificate (in parts only), cbor or unreadable
  summary     one line about it
  notation    annotated diagnostic notation; absent for what is not CBOR
  parts       list of {path, kind, summary, bytes, decrypted, notation}: the structures found
  signatures  list of {path, kind, algorithm, kid, status, thumbprint, reason}; status is
              "verified", "not verified", "unknown signer" or "not checked"
  findings    list of {severity, section, path, problem}; severity is error, warning or note`,
		Example: `  teep inspect message.cbor
  teep inspect --key tam.pub.pem --key dev.pub.pem message.cbor
  teep inspect --decrypt-key tam-ecdh.pem response.cbor
  xxd -p message.cbor | teep inspect -
  teep inspect --json hello.suit | jq '.findings[] | select(.severity == "error")'`,
		Args: program.ExactArgs("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if asJSON && quiet {
				return &program.Usage{Err: errors.New("--json and --quiet exclude each other: programs pick what they need")}
			}
			data, err := readInput(args[0], cmd.InOrStdin())
			if err != nil {
				return err
			}
			o := inspect.Options{Now: time.Now(), FullBytes: full}
			if o.Keys, err = readKeys(keyFiles); err != nil {
				return &program.Usage{Err: err}
			}
			if o.DecryptKeys, err = readKeys(decryptFiles); err != nil {
				return &program.Usage{Err: err}
			}
			report, err := inspect.Inspect(data, o)
			if err != nil {
				return &program.Usage{Err: err}
			}
			if asJSON {
				err = printJSONReport(cmd.OutOrStdout(), report)
			} else {
				err = printReport(cmd.OutOrStdout(), report, quiet)
			}
			return errors.Join(err, verdict(args[0], report))
		},
	}
	c.Flags().StringArrayVar(&keyFiles, "key", nil, "key that may have signed (PEM or COSE_Key); may be repeated")
	c.Flags().StringArrayVar(&decryptFiles, "decrypt-key", nil, "key that decrypts (PEM or COSE_Key); may be repeated")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON for programs")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "leave the notation out: print signatures and findings only")
	c.Flags().BoolVar(&full, "full", false, "print byte strings whole, however long")
	return c
}

// verdict makes the exit code.
func verdict(name string, r *inspect.Report) error {
	if !r.Failed() {
		return nil
	}
	count := 0
	for _, f := range r.Findings {
		if f.Severity == inspect.SeverityError {
			count++
		}
	}
	if count == 1 {
		return fmt.Errorf("%s: 1 error", name)
	}
	return fmt.Errorf("%s: %d errors", name, count)
}

func readInput(name string, stdin io.Reader) ([]byte, error) {
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		stdin = f
	}
	return io.ReadAll(io.LimitReader(stdin, inspect.MaxInput+1))
}

func readKeys(files []string) ([]*cose.Key, error) {
	keys := make([]*cose.Key, len(files))
	for i, f := range files {
		var err error
		if keys[i], err = readKey(f); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

func printJSONReport(w io.Writer, r *inspect.Report) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// printReport prints a report for people: what it is, the notation, what was decrypted, the
// signatures, the findings.
func printReport(w io.Writer, r *inspect.Report, quiet bool) error {
	p := &printer{w: w}
	p.line("%s (%s, %d bytes)", r.Summary, r.Encoding, r.Bytes)
	if !quiet && r.Notation != "" {
		p.line("\n%s", r.Notation)
	}
	for _, part := range r.Parts {
		if part.Decrypted && !quiet && part.Notation != "" {
			p.line("\ndecrypted: %s (at %s)\n%s", part.Summary, part.Path, part.Notation)
		}
	}
	if len(r.Parts) > 1 {
		p.line("\ninside:")
		for _, part := range r.Parts[1:] {
			p.line("  %s: %s", part.Path, part.Summary)
		}
	}
	if len(r.Signatures) > 0 {
		p.line("\nsignatures:")
		for _, s := range r.Signatures {
			p.line("  %v", s)
		}
	}
	if len(r.Findings) == 0 {
		p.line("\nnothing is wrong with it")
		return p.err
	}
	p.line("\nfindings:")
	for _, f := range r.Findings {
		p.line("  %v", f)
	}
	return p.err
}

// printer keeps the first error of writing.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}
