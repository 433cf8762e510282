package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
	"github.com/go-teep/teep/suit/processor/rehearse"
)

// runFlags are what the user says of a rehearsal besides the description of the device.
type runFlags struct {
	device, procedure, manifestID, report             string
	dependencies, payloads, keyFiles, decryptKeyFiles []string
	insecureUnverified, json                          bool
}

func suitRun() *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "run --device DEVICE ENVELOPE",
		Short: "Rehearse a manifest on a device that is described",
		Long: `Runs a manifest on a device that exists as a description only, with the processor that devices run, and
prints every command in its order, what it changes, or the reason with which the device would refuse it.
The exit code is 1 if it would refuse. Nothing is fetched but from the files that are given.

Validate, invoke and uninstall act on what is installed: a manifest that the description does not list is
installed first.

Signatures are checked with the signers of the description, and with --key. For a manifest that is not
signed yet there is --insecure-unverified. The digests in the envelope are checked in any case.

A description of a device, whose files are relative to it; what is left out, the device does not have:

  vendor: {domain: example.com}         # or {uuid: …}, {pen: 32473}
  class: {name: sandbox-wasm}           # or {uuid: …}
  device: {uuid: 0b2ecd2e-8b4b-4f3c-9d5b-0a6b5f3b8a11}
  components: ["*"]                     # prefixes of the identifiers that it has: [[hello], [lib]]
  installed:                            # what is in its components
    - id: [hello]
      content: {file: hello-1.wasm}     # or {text: …}, {hex: …}
      slot: 0
      version: "1.0.0"
  manifests:                            # what is installed
    - envelope: hello-1.suit
    - {id: [lib, manifest], sequence-number: 7, components: [[lib]]}
  payloads:                             # what it finds where
    https://example.com/hello.wasm: hello-2.wasm
  battery: 5000                         # mWh
  clock: 2026-07-01T12:00:00Z           # without it, the time of this computer
  authorizes-priority: 10               # it agrees to updates of this priority, or a smaller number
  events: [power, network]              # wait events that come
  keys: [device.pem]                    # unwrap content keys
  signers:
    - keys: [dev.pub.pem]
      components: [[hello]]             # or "*"
      commands: [fetch, image-match]    # without it, all; parameters likewise
      max-sequence-number: 1000
  limits: {payload-bytes: 1048576, total-bytes: 8388608, components: 16}
  implicit-dependency-integrity: true   # as TEEP Agents have it`,
		Example: `  teep suit run --device device.yaml hello.suit
  teep suit run --device device.yaml --insecure-unverified --payload https://example.com/hello.wasm=hello.wasm hello.suit
  teep suit run --device device.yaml --procedure invoke --dependency lib.suit hello.suit`,
		Args: program.ExactArgs("ENVELOPE"),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	flags := c.Flags()
	flags.StringVar(&f.device, "device", "", "description of the device (YAML)")
	flags.StringVar(&f.procedure, "procedure", "update", "update, validate, invoke or uninstall")
	flags.StringArrayVar(&f.dependencies, "dependency", nil, "envelope that comes along; may be repeated")
	flags.StringArrayVar(&f.payloads, "payload", nil, "URI=FILE: what the device finds at a URI; may be repeated")
	flags.StringArrayVar(&f.keyFiles, "key", nil, "public key of a signer who may sign for all components; may be repeated")
	flags.StringArrayVar(&f.decryptKeyFiles, "decrypt-key", nil, "key of the device that unwraps content keys; may be repeated")
	flags.StringVar(&f.manifestID, "manifest-id", "", "where to keep a manifest that has no manifest-component-id")
	flags.StringVar(&f.report, "report", "", "write the SUIT report here, unprotected, for 'teep suit explain'")
	flags.BoolVar(&f.json, "json", false, "print JSON")
	flags.BoolVar(&f.insecureUnverified, "insecure-unverified", false, "run it whoever signed it, or nobody, as if a signer with all rights had")
	return require(c, "device")
}

func (f *runFlags) run(cmd *cobra.Command, name string) error {
	r, err := f.rehearsal(name)
	if err != nil {
		return err
	}
	device, err := readDevice(f.device)
	if err != nil {
		return err
	}
	outcome, err := device.Rehearse(cmd.Context(), *r)
	if errors.Is(err, rehearse.ErrNoSigners) {
		return &program.Usage{Err: fmt.Errorf("%s names no signers: add them, say with --key who signed, or run it unverified with --insecure-unverified", f.device)}
	}
	if err != nil {
		return err
	}
	if f.insecureUnverified {
		fmt.Fprintln(cmd.ErrOrStderr(), "insecure: signatures are not checked, and no signer's rights are")
	}
	if f.report != "" {
		data, err := outcome.Report.Encode()
		if err != nil {
			return err
		}
		if err := replaceFile(f.report, data); err != nil {
			return err
		}
	}
	if f.json {
		err = printOutcomeJSON(cmd.OutOrStdout(), outcome, f.insecureUnverified)
	} else {
		err = printOutcome(cmd.OutOrStdout(), outcome)
	}
	if err != nil {
		return err
	}
	if outcome.Failure != nil {
		return fmt.Errorf("%s: the device refuses it: %w", name, outcome.Failure)
	}
	return nil
}

// rehearsal reads the files that the flags name.
func (f *runFlags) rehearsal(name string) (*rehearse.Run, error) {
	kind, ok := procedures[f.procedure]
	if !ok {
		return nil, &program.Usage{Err: fmt.Errorf("--procedure %q: use update, validate, invoke or uninstall", f.procedure)}
	}
	r := &rehearse.Run{Procedure: kind, InsecureUnverified: f.insecureUnverified, Payloads: map[string][]byte{}, Now: time.Now(), Rand: rand.Reader}
	var err error
	if f.manifestID != "" {
		if r.ManifestID, err = suit.ParseComponentID(f.manifestID); err != nil {
			return nil, &program.Usage{Err: fmt.Errorf("--manifest-id: %w", err)}
		}
	}
	if r.Envelope, err = os.ReadFile(name); err != nil {
		return nil, err
	}
	for _, file := range f.dependencies {
		e, err := readEnvelope(file)
		if err != nil {
			return nil, err
		}
		r.Dependencies = append(r.Dependencies, e.Encode())
	}
	for _, pair := range f.payloads {
		// A URI may contain "=", in its query; the name of a file hardly does.
		at := strings.LastIndexByte(pair, '=')
		if at <= 0 || at == len(pair)-1 {
			return nil, &program.Usage{Err: fmt.Errorf("--payload %q: write it as URI=FILE", pair)}
		}
		if r.Payloads[pair[:at]], err = os.ReadFile(pair[at+1:]); err != nil {
			return nil, err
		}
	}
	return r, f.keys(r)
}

func (f *runFlags) keys(r *rehearse.Run) error {
	for _, file := range f.keyFiles {
		key, err := readPublicKey(file)
		if err != nil {
			return err
		}
		r.Signers = append(r.Signers, processor.Signer{Key: key, Rights: processor.AllComponents()})
	}
	var err error
	r.DecryptKeys, err = readKeys(f.decryptKeyFiles)
	return err
}

func readDevice(name string) (*rehearse.Device, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return rehearse.ParseYAML(text, rehearse.Options{Name: name, ReadFile: func(file string) ([]byte, error) {
		if !filepath.IsAbs(file) {
			file = filepath.Join(filepath.Dir(name), file)
		}
		return os.ReadFile(file)
	}})
}

// procedureName is the reverse of procedures.
func procedureName(p processor.Procedure) string {
	for name, kind := range procedures {
		if kind == p {
			return name
		}
	}
	return ""
}

func printOutcome(w io.Writer, o *rehearse.Outcome) error {
	p := &printer{w: w}
	if m := o.Manifest; m != nil {
		p.line("%s of manifest %v, sequence number %d", procedureName(o.Procedure), m.ComponentID, m.SequenceNumber)
	}
	for _, s := range o.Trail {
		p.line("  %v", s)
	}
	for _, fetch := range o.Fetches {
		p.line("fetched %s", plain(fetch.URI))
	}
	for _, i := range o.Invocations {
		p.line("invoked %v with %d bytes of arguments", i.ID, len(i.Args))
	}
	for _, c := range o.Changes {
		p.line("%v", c)
	}
	if o.Failure != nil {
		p.line("refused: %v", o.Failure.Reason)
	} else {
		p.line("accepted")
	}
	return p.err
}

// outcomeJSON is an outcome for programs.
type outcomeJSON struct {
	Procedure      string        `json:"procedure"`
	Manifest       string        `json:"manifest,omitempty"`
	SequenceNumber *uint64       `json:"sequence-number,omitempty"`
	Unverified     bool          `json:"insecure-unverified,omitempty"`
	Accepted       bool          `json:"accepted"`
	Reason         string        `json:"reason"`
	Error          string        `json:"error,omitempty"`
	Trail          []stepJSON    `json:"trail"`
	Fetched        []string      `json:"fetched"`
	Invoked        []invokedJSON `json:"invoked"`
	Changes        []changeJSON  `json:"changes"`
}

type stepJSON struct {
	Dependency []uint64 `json:"dependency,omitempty"`
	Manifest   string   `json:"manifest"`
	Procedure  string   `json:"procedure"`
	Section    string   `json:"section"`
	Offset     int      `json:"offset"`
	Depth      int      `json:"depth"`
	Command    string   `json:"command"`
	Component  string   `json:"component,omitempty"`
	Failed     bool     `json:"failed"`
	Why        string   `json:"why,omitempty"`
}

type invokedJSON struct {
	Component string `json:"component"`
	Arguments []byte `json:"arguments"`
}

type changeJSON struct {
	What   string `json:"what"`
	ID     string `json:"id"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

func printOutcomeJSON(w io.Writer, o *rehearse.Outcome, unverified bool) error {
	out := outcomeJSON{Procedure: procedureName(o.Procedure), Unverified: unverified, Accepted: o.Failure == nil,
		Reason: suit.ReasonOK.String(), Trail: []stepJSON{}, Fetched: []string{}, Invoked: []invokedJSON{}, Changes: []changeJSON{}}
	if o.Manifest != nil {
		out.Manifest, out.SequenceNumber = o.Manifest.ComponentID.String(), &o.Manifest.SequenceNumber
	}
	if o.Failure != nil {
		out.Reason, out.Error = o.Failure.Reason.String(), o.Failure.Error()
	}
	for _, s := range o.Trail {
		step := stepJSON{Dependency: s.Manifest, Manifest: s.ManifestID.String(), Procedure: s.Procedure.String(),
			Section: s.Section.String(), Offset: s.Offset, Depth: s.Depth, Command: s.Command.String(), Failed: s.Failed}
		if s.Component != nil {
			step.Component = s.Component.String()
		}
		if s.Why != nil {
			step.Why = s.Why.Error()
		}
		out.Trail = append(out.Trail, step)
	}
	for _, fetch := range o.Fetches {
		out.Fetched = append(out.Fetched, fetch.URI)
	}
	for _, i := range o.Invocations {
		out.Invoked = append(out.Invoked, invokedJSON{Component: i.ID.String(), Arguments: i.Args})
	}
	for _, c := range o.Changes {
		out.Changes = append(out.Changes, changeJSON(c))
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(out)
}
