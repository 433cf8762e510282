package processor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
)

// Config is what a Processor is made of.
type Config struct {
	// Platform is the device. Required.
	Platform Platform
	// Authority knows the trusted signers. Required.
	Authority Authority
	// Components are the prefixes of the component identifiers that the device has. Required:
	// a manifest that names any other is refused with reason component-unsupported. The empty
	// identifier stands for every component.
	Components []suit.ComponentID
	// Algorithms are the signature and MAC algorithms that are accepted; nil means the secure
	// default of package cose.
	Algorithms []cose.Algorithm
	// MACKeys are shared keys for manifests under a MAC; nil refuses them. Authority must know
	// their rights too.
	MACKeys cose.KeySource
	// ContentAlgorithms are the ciphers that payloads may be under; nil means A128GCM, A256GCM,
	// ChaCha20-Poly1305, A128CTR and A256CTR. The last two do not authenticate; what they yield
	// is never committed before a digest matched.
	ContentAlgorithms []cose.Algorithm
	// Limits bound what one run may take. Fields that are zero take those of DefaultLimits.
	Limits Limits
	// Retry says how a broken fetch is taken up again.
	Retry Retry
	// ImplicitDependencyIntegrity lets suit-directive-process-dependency do the dependency
	// integrity check itself where the manifest forgot suit-condition-dependency-integrity.
	// The text wants an abort there (trust domains §suit-directive-process-dependency); the
	// examples of the TEEP protocol leave it out. The check itself is the same and is never
	// skipped.
	ImplicitDependencyIntegrity bool
	// InsecureAnyDevice accepts manifests whose shared sequence does not check vendor and class,
	// which SUIT §6.2 asks for: nothing then keeps a manifest that was meant for another
	// product from being installed here.
	InsecureAnyDevice bool
}

// Limits bound one run. All are inclusive.
type Limits struct {
	// Envelope is the largest envelope in bytes, integrated payloads included.
	Envelope int64
	// Components is the largest number of components of one manifest, and Dependencies of
	// manifests in one tree.
	Components, Dependencies int
	// Depth is how deep dependencies may nest, Nesting how deep command sequences may.
	Depth, Nesting int
	// Commands is how many commands one run may execute, loops counted each time. A command counts
	// once for every component that is selected when it runs, override-multiple and copy-params for
	// every entry; set-component-index counts once. The checks of a manifest that come before it runs
	// are held to the same number, with all sections and all sequences of a try-each counted.
	Commands int
	// Payload is the largest component in bytes, Total the most that one run may store.
	Payload, Total int64
	// Records is the largest number of records in a report; further ones are left out. A run also
	// keeps what a later failure may turn into records, at most 16 events for each of these; of a run
	// with more, all that comes after is left out. The failure itself is always reported.
	Records int
	// Time is the longest that one run may take, the checks before it included.
	Time time.Duration
}

// DefaultLimits are generous for a device with an operating system.
func DefaultLimits() Limits {
	return Limits{
		Envelope: 16 << 20, Components: 1024, Dependencies: 64, Depth: 8, Nesting: 8, Commands: 100_000,
		Payload: 4 << 30, Total: 16 << 30, Records: 1024, Time: time.Hour,
	}
}

func orDefault[T int | int64 | time.Duration](v, d T) T {
	if v == 0 {
		return d
	}
	return v
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	return Limits{
		Envelope:   orDefault(l.Envelope, d.Envelope),
		Components: orDefault(l.Components, d.Components), Dependencies: orDefault(l.Dependencies, d.Dependencies),
		Depth: orDefault(l.Depth, d.Depth), Nesting: orDefault(l.Nesting, d.Nesting),
		Commands: orDefault(l.Commands, d.Commands),
		Payload:  orDefault(l.Payload, d.Payload), Total: orDefault(l.Total, d.Total),
		Records: orDefault(l.Records, d.Records), Time: orDefault(l.Time, d.Time),
	}
}

// Retry is the policy for a fetch that breaks off: it is taken up again at the offset where it
// broke. The zero value does not retry.
type Retry struct {
	// Attempts is how many further connections one fetch may open.
	Attempts int
	// Wait is called before each further attempt, counted from 1, and may block until ctx
	// ends; nil does not wait. An error from it ends the fetch.
	Wait func(ctx context.Context, attempt int) error
}

// UpdateOptions are those of Update.
type UpdateOptions struct {
	// Nonce goes into the report.
	Nonce []byte
	// ManifestID stands in for the manifest-component-id of a manifest that has none. It is
	// the caller's word, and is not held against the signer's rights.
	ManifestID suit.ComponentID
	// Available are further envelopes that came along: a dependency is taken from there if its
	// digest is the one that is asked for, before it is fetched.
	Available [][]byte
	// Trail is told of every command, as it ends.
	Trail func(Step)
	// DryRun goes through everything and then rolls back. Fetches happen.
	DryRun bool
}

// Options are those of Validate, Invoke and Uninstall.
type Options struct {
	// Nonce goes into the report.
	Nonce []byte
	// Trail is told of every command, as it ends.
	Trail func(Step)
	// DryRun rolls back in the end. Invoke starts nothing.
	DryRun bool
	// Pending, if set, receives a report with reason invoke-pending before a component is
	// started (SUIT report §4.2); an error from it ends the procedure.
	Pending func(*suit.Report) error
}

// Processor runs manifests on one platform. It is safe for concurrent use.
type Processor struct {
	cfg Config
	// mu serializes procedures: the platform holds one generation, and what a procedure read
	// of it must stay true until it commits.
	mu sync.Mutex
}

// New makes a Processor. It fails when something is missing that has no safe default.
func New(cfg Config) (*Processor, error) {
	switch {
	case cfg.Platform == nil:
		return nil, errors.New("processor: Config.Platform is missing")
	case cfg.Authority == nil:
		return nil, errors.New("processor: Config.Authority is missing: say which keys may sign, see NewSigners")
	case len(cfg.Components) == 0:
		return nil, errors.New("processor: Config.Components is empty: name the prefixes of the components that the device has")
	case cfg.Retry.Attempts < 0:
		return nil, fmt.Errorf("processor: Config.Retry.Attempts is %d", cfg.Retry.Attempts)
	}
	cfg.Limits = cfg.Limits.withDefaults()
	if cfg.ContentAlgorithms == nil {
		cfg.ContentAlgorithms = []cose.Algorithm{cose.AlgA128GCM, cose.AlgA256GCM, cose.AlgChaCha20Poly1305,
			cose.AlgA128CTR, cose.AlgA256CTR}
	}
	return &Processor{cfg: cfg}, nil
}
