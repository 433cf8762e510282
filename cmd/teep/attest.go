package main

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/builtin"
	"github.com/go-teep/teep/attest/cmw"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/attest/policy"
	"github.com/go-teep/teep/attest/tdx"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/tam/api"
)

func attestCommand() *cobra.Command {
	c := &cobra.Command{Use: "attest", Short: "Appraise Evidence, serve as a verifier, check appraisal policies, sign collateral, enrol TPMs"}
	c.AddCommand(appraiseCommand(), serveVerifierCommand(), checkPolicyCommand(), signCollateralCommand(), challengeCommand(), endorseCommand())
	return c
}

// appraisalFlags are what the person at the terminal knows about the Evidence.
type appraisalFlags struct {
	policy, mediaType, nonce, agentKey, key, output, tdxCache string
	collateral, owners                                        []string
	pcrs                                                      []int
	maxAge                                                    time.Duration
	anyNonce, anyKey                                          bool
}

func appraiseCommand() *cobra.Command {
	var f appraisalFlags
	c := &cobra.Command{
		Use:   "appraise FILE|-",
		Short: "Judge Evidence as a verifier does, and say why",
		Long: `Appraises Evidence offline: an EAT in the TEEP profile, or a report of SEV-SNP, a quote of TDX or
of a TPM, or a PSA or CCA token that is bound to one, bare or in a conceptual message wrapper (CMW).

Collateral files hold what the verifier knows: endorsements, manufacturers' roots and CRLs, reference
values and TCB levels. A file is YAML, or signed by an owner that --owner names with its key.

Evidence must be fresh: it answers the challenge of --nonce, or it is younger than --max-age. And it
must be about the key that signed the message that brought it, --agent-key.

The verdict is printed with a reason for each claim. With --output, the Attestation Result is written,
signed with --key. The exit code is 0 if the verdict is affirming, 1 if it is anything else or there
is none, and 2 if the command was called wrongly.`,
		Example: `  teep attest appraise evidence.cbor --collateral devices.yaml --policy edge.yaml \
      --nonce 0102030405060708 --agent-key agent.pub.pem
  teep attest appraise evidence.cbor --collateral image.cose --owner 'Example=example.pub.pem' \
      --max-age 5m --agent-key agent.pub.pem --key verifier.pem --output result.cbor`,
		Args: program.ExactArgs("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			verifier, err := f.verifier()
			if err != nil {
				return &program.Usage{Err: err}
			}
			data, err := readInput(args[0], cmd.InOrStdin())
			if err != nil {
				return err
			}
			e := attest.Evidence{MediaType: f.typeOf(data), Payload: data}
			x, err := f.expectation(cmd.ErrOrStderr(), verifier, e)
			if err != nil {
				return err
			}
			result, err := verifier.Appraise(cmd.Context(), e, x)
			if err != nil {
				return fmt.Errorf("no verdict: %w", err)
			}
			if f.output != "" {
				if err := os.WriteFile(f.output, result.Token, 0o644); err != nil {
					return err
				}
			}
			if err := printVerdict(cmd.OutOrStdout(), result); err != nil {
				return err
			}
			if result.Status != attest.StatusAffirming {
				return fmt.Errorf("%s: %v", args[0], result.Status)
			}
			return nil
		},
	}
	fl := c.Flags()
	fl.StringArrayVar(&f.collateral, "collateral", nil, "collateral file; may be repeated")
	fl.StringArrayVar(&f.owners, "owner", nil, "NAME=KEYFILE of who may sign collateral; may be repeated")
	fl.StringVar(&f.policy, "policy", "", "appraisal policy in CEL (YAML file)")
	fl.StringVar(&f.mediaType, "media-type", "", "of the Evidence; without it, CMW and EAT are told apart")
	fl.StringVar(&f.nonce, "nonce", "", "the challenge that was issued, in hexadecimal")
	fl.DurationVar(&f.maxAge, "max-age", 0, "greatest age of Evidence that answers no challenge")
	fl.StringVar(&f.agentKey, "agent-key", "", "public key that verified the message with the Evidence")
	fl.IntSliceVar(&f.pcrs, "pcr", builtin.DefaultPCRs(), "PCRs that a TPM quote must hold")
	fl.StringVar(&f.tdxCache, "tdx-cache", "", "folder with what Intel publishes, without which there is no verdict on TDX quotes")
	fl.StringVar(&f.key, "key", "", "key that signs the Attestation Result")
	fl.StringVarP(&f.output, "output", "o", "", "write the Attestation Result to this file")
	fl.BoolVar(&f.anyNonce, "insecure-any-nonce", false, "believe the challenge that the Evidence names: it may be old")
	fl.BoolVar(&f.anyKey, "insecure-any-agent-key", false, "believe the key that the Evidence names: it may be another agent's")
	return c
}

func (f *appraisalFlags) verifier() (*cmw.Verifier, error) {
	switch {
	case len(f.collateral) == 0:
		return nil, errors.New("--collateral is missing: without any, nobody is known")
	case (f.nonce != "") == f.anyNonce && f.maxAge == 0, f.nonce != "" && f.anyNonce:
		return nil, errors.New("say how fresh the Evidence is: --nonce, --max-age, or --insecure-any-nonce")
	case (f.agentKey != "") == f.anyKey:
		return nil, errors.New("say whose Evidence it is: --agent-key, or --insecure-any-agent-key")
	case (f.key != "") != (f.output != ""):
		return nil, errors.New("--key and --output go together: a result is of use to others only when they know who signed it")
	}
	store, err := f.store()
	if err != nil {
		return nil, err
	}
	c := builtin.Config{Collateral: store, Developer: "go-teep", Build: "teep", PCRs: f.pcrs}
	if c.Signer, err = f.signer(); err != nil {
		return nil, err
	}
	if f.tdxCache != "" {
		if c.TDXCache, err = tdx.OpenFolder(f.tdxCache); err != nil {
			return nil, err
		}
	}
	if f.policy != "" {
		if c.Policy, err = readPolicy(f.policy); err != nil {
			return nil, err
		}
	}
	return builtin.New(c)
}

// signer is a key for this run alone where the result stays here.
func (f *appraisalFlags) signer() (cose.Signer, error) {
	if f.key == "" {
		key, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
		if err != nil {
			return nil, err
		}
		return key.Signer()
	}
	key, err := readKey(f.key)
	if err != nil {
		return nil, err
	}
	return key.Signer()
}

func (f *appraisalFlags) store() (*appraisal.Store, error) {
	contents := make([][]byte, len(f.collateral))
	for i, path := range f.collateral {
		var err error
		if contents[i], err = os.ReadFile(path); err != nil {
			return nil, err
		}
	}
	return collateralStore(f.collateral, contents, f.owners)
}

// collateralStore reads collateral files, each signed by one of the owners or in YAML.
func collateralStore(paths []string, contents [][]byte, ownerFlags []string) (*appraisal.Store, error) {
	var owners []appraisal.Owner
	for _, o := range ownerFlags {
		name, path, ok := strings.Cut(o, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--owner %q: write NAME=KEYFILE", o)
		}
		keys, err := readKeySet([]string{path})
		if err != nil {
			return nil, err
		}
		owners = append(owners, appraisal.Owner{Name: name, Keys: keys})
	}
	var all []*appraisal.Collateral
	for i, data := range contents {
		var one *appraisal.Collateral
		var err error
		if isCOSE(data) {
			one, err = appraisal.ParseSigned(data, owners...)
		} else {
			one, err = appraisal.ParseYAML(data)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", paths[i], err)
		}
		all = append(all, one)
	}
	return appraisal.NewStore(all...)
}

// isCOSE tells signed collateral, a COSE_Sign1 tagged or not, from YAML, which starts with text.
func isCOSE(data []byte) bool { return len(data) > 0 && (data[0] == 0xd2 || data[0] == 0x84) }

func (f *appraisalFlags) typeOf(data []byte) string {
	if f.mediaType != "" {
		return f.mediaType
	}
	if m, err := cmw.Parse(data); err == nil && (m.Record == nil || !isCOSE(data)) {
		return cmw.MediaType
	}
	return eat.MediaType
}

// expectation completes what the flags say by what the Evidence says, where that was asked for.
func (f *appraisalFlags) expectation(warnings io.Writer, p attest.Peeker, e attest.Evidence) (x attest.Expectation, err error) {
	x.MaxAge = f.maxAge
	if x.Nonce, err = hex.DecodeString(f.nonce); err != nil {
		return x, &program.Usage{Err: fmt.Errorf("--nonce: %w", err)}
	}
	if f.agentKey != "" {
		if x.AgentKey, err = readPublicKey(f.agentKey); err != nil {
			return x, &program.Usage{Err: err}
		}
	}
	if !f.anyNonce && !f.anyKey {
		return x, nil
	}
	nonce, key, err := p.Peek(e)
	if err != nil {
		return x, err
	}
	if f.anyNonce {
		x.Nonce = bytes.Clone(nonce)
		fmt.Fprintln(warnings, "insecure: the challenge is what the Evidence names; nothing shows that it is fresh")
	}
	if f.anyKey {
		x.AgentKey = key
		fmt.Fprintln(warnings, "insecure: the agent key is what the Evidence names; nothing shows that its agent sent it")
	}
	return x, nil
}

func printVerdict(w io.Writer, r *attest.Result) error {
	p := &printer{w: w}
	p.line("%v", r.Status)
	for _, reason := range r.Reasons {
		p.line("  %-15v  %s: %s", reason.Status, reason.Claim, reason.Text)
	}
	for _, c := range r.Components {
		p.line("  installed        %x, sequence number %d", c.ID, c.SequenceNumber)
	}
	return p.err
}

func readPolicy(path string) (*policy.Policy, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	p, err := policy.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

func checkPolicyCommand() *cobra.Command {
	var f tamFlags
	return f.register(&cobra.Command{
		Use:   "check-policy FILE",
		Short: "Check an appraisal policy: syntax, names and types of every rule",
		Long: `Checks an appraisal policy as the TAM does when it loads one. With --tam, the TAM is asked, whose version of the rules' names
is what counts; nothing is changed there.`,
		Example: `  teep attest check-policy appraisal.yaml
  teep attest check-policy appraisal.yaml --tam http://127.0.0.1:8081 --token-file tam/token`,
		Args: program.ExactArgs("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("tam") {
				p, err := readPolicy(args[0])
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s can be used\n", p.ID())
				return err
			}
			client, err := f.client()
			if err != nil {
				return err
			}
			text, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			p, err := client.CheckAppraisalPolicy(cmd.Context(), api.NewAppraisalPolicy{Policy: string(text)})
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s can be used there: %d classes, %d rules\n", plain(p.ID), p.Classes, p.Rules)
			return err
		},
	})
}
