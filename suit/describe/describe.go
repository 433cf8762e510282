// Package describe makes SUIT envelopes from descriptions that people write in YAML.
//
// The common case needs only what the author knows; everything else follows from the templates of
// the SUIT texts:
//
//	manifest-component-id: [hello, manifest]
//	sequence-number: 1
//	version: "1.0.0"
//	vendor: {domain: example.com}
//	class: {name: sandbox-wasm}
//	components:
//	  - id: [hello]
//	    payload: {file: hello.wasm, integrated: true}
//
// [Build] turns this into an envelope that is ready to be signed:
//
//	result, err := describe.Build(source, describe.Options{Name: "hello.yaml", ReadFile: os.ReadFile})
//	err = result.Envelope.Sign(rand.Reader, signer)
//
// Vendor and class become UUIDs of version 5, checked in the shared sequence together with digest
// and size of every payload; the install sequence fetches and checks, the validate sequence checks
// again, the uninstall sequence unlinks. A payload may be in several places (uris), which are tried
// one after the other, and be encrypted. A component may also say content (data in the manifest,
// encrypted if wanted), copy-from, swap-with, load-from, slots (A/B) and invoke; dependencies are
// envelopes that are fetched or integrated. Where templates do not reach, sequences replaces any
// section by commands written one by one.
//
// A description is strict: unknown keys, wrong types and contradictions are errors that name line
// and column and say what to write instead. Nothing is read from disk but through
// [Options.ReadFile]. The same description and files give the same envelope, unless it encrypts.
package describe

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/go-teep/teep/suit"
)

// Options are what a description cannot say itself.
type Options struct {
	// Name is the name of the description in errors.
	Name string
	// ReadFile reads the files that the description names. Nil refuses all of them.
	ReadFile func(name string) ([]byte, error)
	// OpenFile opens the files of payloads that devices fetch, which may be too large for memory; nil
	// reads them with ReadFile. They are read once for their digest, and again to be encrypted.
	OpenFile func(name string) (io.ReadCloser, error)
	// MaxIntegrated bounds each payload that goes into the envelope, and all of them together, in bytes: they are
	// held in memory, here and by who reads the envelope. 0 means DefaultMaxIntegrated, negative any size.
	MaxIntegrated int64
	// CreateScratch makes a place for the ciphertext of one such payload; nil holds it in memory.
	CreateScratch func() (Scratch, error)
	// Rand is needed only if the description encrypts something.
	Rand io.Reader
}

// DefaultMaxIntegrated is as much as a TAM takes of an envelope unless it is configured otherwise. Devices may accept
// less.
const DefaultMaxIntegrated = 64 << 20

// FromFS makes a [Options.ReadFile] that reads below a directory.
func FromFS(fsys fs.FS) func(name string) ([]byte, error) {
	return func(name string) ([]byte, error) { return fs.ReadFile(fsys, name) }
}

// Result is what a description makes.
type Result struct {
	// Envelope is complete but for its signature.
	Envelope *suit.Envelope
	// Payloads are those that devices fetch from a URI: what has to be put there.
	Payloads []Payload
	// Separate are the encryption infos that were kept out of the manifest (info: separate), for
	// whoever distributes the keys: see suit/distribute.
	Separate []EncryptionInfo
}

// EncryptionInfo is a SUIT_Encryption_Info that is not in the manifest.
type EncryptionInfo struct {
	// Component is what it decrypts.
	Component suit.ComponentID
	Info      []byte
}

// Payload is content that belongs to a URI.
type Payload struct {
	URI string
	// File is the file in the description that it came from.
	File string
	// Content is what to serve: the file's content, or its ciphertext. It is nil where that was not held
	// in memory: [Payload.Open] has it in any case.
	Content []byte
	// Encrypted tells that it is a ciphertext that was made here and exists nowhere else, and Scratch
	// where, if [Options.CreateScratch] made a place for it.
	Encrypted bool
	Scratch   Scratch

	open func() (io.ReadCloser, error)
}

// Open reads the content from its beginning.
func (p Payload) Open() (io.ReadCloser, error) { return p.open() }

// Error is a fault of a description.
type Error struct {
	// Name is the description's, Line and Column count from 1.
	Name         string
	Line, Column int
	Err          error
}

func (e *Error) Error() string {
	name := e.Name
	if name == "" {
		name = "description"
	}
	return fmt.Sprintf("%s:%d:%d: %v", name, e.Line, e.Column, e.Err)
}

// Unwrap returns the fault without its position.
func (e *Error) Unwrap() error { return e.Err }

// Build makes the envelope of a description. Errors in the description are [*Error].
func Build(source []byte, o Options) (*Result, error) {
	b := &builder{o: o, integrated: map[string][]byte{}}
	root, err := b.document(source)
	if err != nil {
		return nil, err
	}
	if err := b.readDescription(root); err != nil {
		return nil, err
	}
	if err := b.generate(); err != nil {
		return nil, err
	}
	e, err := suit.Builder{
		Manifest: b.manifest, Severable: b.severable, Hash: b.hash, Integrated: b.integrated, Untagged: b.untagged,
	}.Build()
	if err != nil {
		return nil, b.errorf(root, "the manifest that this describes is not valid: %w", err)
	}
	return &Result{Envelope: e, Payloads: b.payloads, Separate: b.separate}, nil
}

var errNoFiles = errors.New("files cannot be read here")

func (o Options) readFile(name string) ([]byte, error) {
	if o.ReadFile == nil {
		return nil, errNoFiles
	}
	return o.ReadFile(name)
}
