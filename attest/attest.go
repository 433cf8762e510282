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
	"fmt"
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
	// Nonce goes into eat_nonce unchanged, 8 to 64 bytes (RFC 9711 §4.1). Empty means timestamp
	// freshness.
	Nonce []byte
	// AgentKey is the public key that signs the TEEP message; it goes into cnf.
	AgentKey *cose.Key
	// EncryptionKey is the public key that content keys and data for this TEE are wrapped to; nil
	// leaves it out.
	EncryptionKey *cose.Key
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

// Verdicts, in the encoding of EAR: the first value of each tier.
const (
	StatusNone            Status = 0
	StatusAffirming       Status = 2
	StatusWarning         Status = 32
	StatusContraindicated Status = 96
)

// StatusOf returns the tier that an AR4SI trustworthiness claim lies in (rats-ar4si §2.3.2). The
// negative values are reasons outside the standard, in the same tiers.
func StatusOf(claim int8) Status {
	n := int(claim)
	if n < 0 {
		n = -n - 1
	}
	switch {
	case n < 2 && claim >= -1:
		return StatusNone
	case n < 32:
		return StatusAffirming
	case n < 96:
		return StatusWarning
	}
	return StatusContraindicated
}

// Worst returns the less trusted of two verdicts. StatusNone says nothing and yields to any other.
func (s Status) Worst(o Status) Status { return max(s, o) }

// String names the tier.
func (s Status) String() string {
	switch s {
	case StatusNone:
		return "none"
	case StatusAffirming:
		return "affirming"
	case StatusWarning:
		return "warning"
	case StatusContraindicated:
		return "contraindicated"
	}
	return fmt.Sprintf("status %d", int8(s))
}

// ParseStatus is the reverse of String for the three tiers that assert something.
func ParseStatus(name string) (Status, error) {
	for _, s := range []Status{StatusAffirming, StatusWarning, StatusContraindicated} {
		if s.String() == name {
			return s, nil
		}
	}
	return StatusNone, fmt.Errorf("attest: unknown status %q: write affirming, warning or contraindicated", name)
}

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
	// Nonce is the nonce of the Evidence, nil where freshness was by timestamp.
	Nonce      []byte
	Components []Component
	// EncryptionKey is what content keys and data for the TEE are wrapped to; nil if the Evidence
	// does not tell.
	EncryptionKey *cose.Key
	Reasons       []Reason
	IssuedAt      time.Time
	// Expires is when the Attestation Result must no longer be relied upon; zero means never.
	Expires   time.Time
	MediaType string
	Token     []byte
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
