// Package attest is the contract between who makes Evidence, who appraises it and who relies on
// the result (RFC 9334). The agent holds an [Attester]; the TAM holds a [Verifier]; what passes
// between them is [Evidence] under a media type, and an [Result] signed by the verifier.
//
// One folder below holds one evidence technology; attest/eat is the Entity Attestation Token in
// the TEEP profile.
package attest

import (
	"context"
	"errors"
	"time"

	"github.com/go-teep/teep/cose"
)

// Errors that say which binding of the Evidence failed. Appraisal wraps them with the claim.
var (
	ErrFormat      = errors.New("attest: evidence is malformed")
	ErrUnknownType = errors.New("attest: no verifier for this media type")
	ErrSignature   = errors.New("attest: evidence signature does not verify")
	ErrUntrusted   = errors.New("attest: attester is not known")
	ErrNotFresh    = errors.New("attest: evidence is not fresh")
	ErrKeyBinding  = errors.New("attest: evidence does not name the key that signed the message")
	ErrMeasurement = errors.New("attest: measurement is not among the reference values")
)

// Evidence is a payload and the media type it goes under (TEEP attestation-payload-format).
type Evidence struct {
	MediaType string
	Payload   []byte
}

// Component is one installed component, as Evidence and Attestation Results name it.
type Component struct {
	// ID is the component identifier.
	ID [][]byte
	// ManifestURI and ManifestDigest are the SUIT_Reference (SUIT Report §4); the digest is
	// SHA-256 over the bstr-wrapped manifest.
	ManifestURI    string
	ManifestDigest []byte
	SequenceNumber uint64
}

// Request is what the attester binds into Evidence.
type Request struct {
	// Nonce goes into eat_nonce unchanged. Empty means timestamp freshness.
	Nonce []byte
	// AgentKey is the public key that signs the TEEP message; it goes into cnf.
	AgentKey *cose.Key
	// Components is what is installed.
	Components []Component
}

// Attester makes Evidence inside the TEE. Safe for concurrent use.
type Attester interface {
	// MediaTypes lists what the attester can make, preferred first.
	MediaTypes() []string
	// Attest makes Evidence; mediaType "" means the preferred one.
	Attest(ctx context.Context, mediaType string, r Request) (Evidence, error)
}

// Expectation is what the relying party knows about the exchange that brought the Evidence.
type Expectation struct {
	// Nonce is the challenge that was issued. Empty: the Evidence must be fresh by timestamp.
	Nonce []byte
	// AgentKey is the key that verified the message around the Evidence; cnf must name it.
	AgentKey *cose.Key
	// MaxAge bounds the age of timestamped Evidence.
	MaxAge time.Duration
}

// Status is the appraisal's verdict, with the values of AR4SI (rats-ar4si §2.3.2).
type Status int8

// Verdicts, in the encoding of EAR.
const (
	StatusNone            Status = 0
	StatusAffirming       Status = 2
	StatusWarning         Status = 32
	StatusContraindicated Status = 96
)

// Reason says for one claim what was appraised and why it counts as it does.
type Reason struct {
	Claim  string
	Status Status
	Text   string
}

// Result is an appraisal. Token is the Attestation Result itself, signed by the verifier: an EAT
// in the TEEP profile with cnf, which the TAM checks as TEEP §7.1 asks and may pass on.
type Result struct {
	Status    Status
	UEID      []byte
	OEMID     []byte // CBOR of the claim
	HWModel   []byte
	HWVersion string
	// Measurement is the appraised digest of the agent.
	Measurement []byte
	Components  []Component
	Reasons     []Reason
	IssuedAt    time.Time
	MediaType   string
	Token       []byte
}

// Verifier appraises Evidence. Safe for concurrent use.
//
// A nil error with a Result means that the Evidence was authentic, fresh and bound; whether it is
// good enough is the Result's Status. Evidence that fails one of those three yields an error that
// is one of the sentinels above, and no Result.
type Verifier interface {
	// Accepts tells whether the verifier understands the media type.
	Accepts(mediaType string) bool
	Appraise(ctx context.Context, e Evidence, x Expectation) (*Result, error)
}
