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
the trail of commands that the device executed, and where it ended. Envelopes of dependencies that are not inside
of their dependents are given with --dependency, in any order; and of manifests that were removed because nobody needed them any
more, where their commands are wanted too.

Reports of this project's agents say which procedure ran, and whether an update found the manifest
installed and so only validated it. For a report that does not, say with --procedure what the device did:
nobody can tell that from a success without records.

'teep devices report' gets the report of a device from a TAM, and 'teep devices manifest' a manifest that the TAM
made for the device itself.

The report's signature is checked with --key; a report that something else authenticated, or nothing,
needs --insecure-unverified.`,
		Example: `  teep suit explain --key agent.pub.pem report.cbor hello.suit
  teep suit explain --insecure-unverified --procedure uninstall report.cbor hello.suit`,
		Args: program.ExactArgs("REPORT", "ENVELOPE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			kind, ok := procedures[procedure]
			if !ok && procedure != "" {
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
			ex, err := processor.Explain(report, kind, root, withIntegrated(root, others)...)
			if errors.Is(err, processor.ErrUntold) {
				return &program.Usage{Err: errors.New("the report does not say which procedure ran, and has no record that shows it: say what the device did with --procedure update, validate, invoke or uninstall; an update that found the manifest installed only validated it")}
			}
			p := &printer{w: cmd.OutOrStdout()}
			if ex != nil {
				writeExplanation(p, ex, report.Failure, err)
			}
			return errors.Join(p.err, explainError(err))
		},
	}
	c.Flags().StringArrayVar(&dependencies, "dependency", nil, "envelope of a dependency; may be repeated")
	c.Flags().StringArrayVar(&keyFiles, "key", nil, "public key that may have signed the report; may be repeated")
	c.Flags().StringArrayVar(&decryptFiles, "decrypt-key", nil, "private key that decrypts the report; may be repeated")
	c.Flags().StringVar(&procedure, "procedure", "", "what the device did, where the report does not say: update, validate, invoke or uninstall")
	c.Flags().BoolVar(&insecureUnverified, "insecure-unverified", false, "take a report whose signature nobody checked")
	return c
}

// withIntegrated adds the envelopes that lie inside of others. What a report wants is found by its digest, so that those
// which nobody asks for do no harm.
func withIntegrated(root *suit.Envelope, others []*suit.Envelope) []*suit.Envelope {
	all := append([]*suit.Envelope{root}, others...)
	for i := 0; i < len(all); i++ {
		for _, content := range all[i].Integrated {
			if e, err := suit.ParseEnvelope(content); err == nil {
				all = append(all, e)
			}
		}
	}
	return all[1:]
}

var procedures = map[string]processor.Procedure{
	"update": processor.ProcedureUpdate, "validate": processor.ProcedureValidate,
	"invoke": processor.ProcedureInvoke, "uninstall": processor.ProcedureUninstall,
}

// writeExplanation prints the trail, and above it whose word it is that this ran.
func writeExplanation(p *printer, ex *processor.Explanation, failure *suit.Failure, err error) {
	switch {
	case ex.Procedure == 0:
		p.line("nothing of the manifest ran")
	case !ex.Told:
		p.line("procedure: %v, because --procedure says so; the report does not", ex.Procedure)
		if ex.Procedure == processor.ProcedureUpdate {
			p.line("if the device had this manifest installed already, only suit-validate ran: the report does not say")
		}
	case ex.Removed:
		p.line("procedure: %v; nothing of the manifest ran, because its signer is not trusted any more", ex.Procedure)
	case ex.Repaired:
		p.line("procedure: %v; the manifest was installed, did not hold, and was applied again", ex.Procedure)
	case ex.Found:
		p.line("procedure: %v; the manifest was installed already, and was validated only", ex.Procedure)
	default:
		p.line("procedure: %v", ex.Procedure)
	}
	writeSteps(p, ex)
	if err != nil {
		p.line("what came next is not known")
	}
	switch {
	case failure == nil:
		p.line("succeeded")
	case failure.Record.Section == 0:
		p.line("failed: %v", failure.Reason)
	default:
		p.line("failed: %v in %v at byte %d", failure.Reason, failure.Record.Section, failure.Record.Offset)
	}
}

// writeSteps prints the trail, and in between what was removed because nobody needs it any more.
func writeSteps(p *printer, ex *processor.Explanation) {
	unneeded := ex.Unneeded
	for i := range len(ex.Steps) + 1 {
		for ; len(unneeded) > 0 && unneeded[0].At <= i; unneeded = unneeded[1:] {
			switch u := unneeded[0]; {
			case u.Executed && !u.Expanded:
				p.line("(%v) is removed, because nobody needs it any more; what its uninstall section did is told with --dependency and the manifest of digest %v", u.ID, u.Digest)
			default:
				p.line("(%v) is removed, because nobody needs it any more", u.ID)
			}
		}
		if i < len(ex.Steps) {
			p.line("%v", ex.Steps[i])
		}
	}
}

// explainError says what to do about it.
func explainError(err error) error {
	var missing *processor.DependencyError
	switch {
	case errors.As(err, &missing) && len(missing.Digest.Bytes) > 0:
		return fmt.Errorf("dependency %s was processed, and its manifest is needed to follow that: give --dependency with the manifest of digest %s", missing.Dependency, missing.Digest)
	case errors.As(err, &missing):
		return fmt.Errorf("dependency %s was processed, and the manifest does not say which version of it: it cannot be followed", missing.Dependency)
	case errors.Is(err, processor.ErrCut):
		return fmt.Errorf("%w, because there were more than it keeps", err)
	}
	return err
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
