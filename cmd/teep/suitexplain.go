package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
)

func suitExplain() *cobra.Command {
	var dependencies, keyFiles, decryptFiles []string
	var procedure string
	var insecureUnverified bool
	c := &cobra.Command{
		Use:   "explain REPORT ENVELOPE",
		Short: "Expand a report into the commands that a device executed",
		Long: `Runs the manifest again without a device and lets the records of the report decide, which gives
the trail of commands that the device executed, and where it ended. Envelopes of dependencies are
given with --dependency, in any order.

The report's signature is checked with --key; a report that something else authenticated, or nothing,
needs --insecure-unverified.`,
		Example: `  teep suit explain --key agent.pub.pem report.cbor hello.suit
  teep suit explain --insecure-unverified --procedure uninstall report.cbor hello.suit`,
		Args: program.ExactArgs("REPORT", "ENVELOPE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			kind, ok := procedures[procedure]
			if !ok {
				return &program.Usage{Err: fmt.Errorf("--procedure %q: use update, validate, invoke or uninstall", procedure)}
			}
			if len(keyFiles) == 0 && !insecureUnverified {
				return &program.Usage{Err: errors.New("say with --key who signed the report, or take it unverified with --insecure-unverified")}
			}
			report, err := openReport(args[0], keyFiles, decryptFiles, insecureUnverified)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			root, err := readEnvelope(args[1])
			if err != nil {
				return err
			}
			var others []*suit.Envelope
			for _, name := range dependencies {
				e, err := readEnvelope(name)
				if err != nil {
					return err
				}
				others = append(others, e)
			}
			steps, err := processor.Explain(report, kind, root, others...)
			p := &printer{w: cmd.OutOrStdout()}
			for _, s := range steps {
				p.line("%v", s)
			}
			if report.Failure != nil {
				p.line("failed: %v", report.Failure.Reason)
			} else {
				p.line("succeeded")
			}
			return errors.Join(p.err, err)
		},
	}
	c.Flags().StringArrayVar(&dependencies, "dependency", nil, "envelope of a dependency; may be repeated")
	c.Flags().StringArrayVar(&keyFiles, "key", nil, "public key that may have signed the report; may be repeated")
	c.Flags().StringArrayVar(&decryptFiles, "decrypt-key", nil, "private key that decrypts the report; may be repeated")
	c.Flags().StringVar(&procedure, "procedure", "update", "what the device did: update, validate, invoke or uninstall")
	c.Flags().BoolVar(&insecureUnverified, "insecure-unverified", false, "take a report whose signature nobody checked")
	return c
}

var procedures = map[string]processor.Procedure{
	"update": processor.ProcedureUpdate, "validate": processor.ProcedureValidate,
	"invoke": processor.ProcedureInvoke, "uninstall": processor.ProcedureUninstall,
}

func openReport(name string, keyFiles, decryptFiles []string, unverified bool) (*suit.Report, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	o := suit.OpenReportOptions{AuthenticatedByContainer: unverified}
	if len(keyFiles) > 0 {
		if o.Keys, err = readKeySet(keyFiles); err != nil {
			return nil, err
		}
	}
	if o.DecryptKeys, err = readKeys(decryptFiles); err != nil {
		return nil, err
	}
	opened, err := suit.OpenReport(data, o)
	if err != nil {
		return nil, err
	}
	return opened.Report, nil
}
