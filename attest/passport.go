package attest

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Passport is an [Attester] in the passport model (RFC 9334 §5.1): its Evidence goes to a verifier
// at once, and what it gives is the Attestation Result, to be presented to any relying party that
// trusts that verifier. An agent uses it towards TAMs that ask with a token or accept timestamps
// (TEEP §9), and a TAM towards agents that demand its own attestation (TEEP §7.2.1).
type Passport struct {
	// Attester makes the Evidence, and Verifier appraises it; both are required.
	Attester Attester
	Verifier Verifier
	// MaxAge bounds the age of Evidence that is appraised without a nonce; 0 means a minute.
	MaxAge time.Duration
}

var _ Attester = Passport{}

// MediaTypes implements [Attester]. Which type the results have is for the verifier to say, so
// there is nothing to choose from.
func (p Passport) MediaTypes() []string { return nil }

// Attest implements [Attester]; mediaType must be "". The nonce goes into the Evidence, and a
// verifier of this project carries it over into the result. A result that does not affirm is
// returned like any other: relying parties judge.
func (p Passport) Attest(ctx context.Context, mediaType string, r Request) (Evidence, error) {
	if p.Attester == nil || p.Verifier == nil {
		return Evidence{}, errors.New("attest: a Passport needs an Attester and a Verifier")
	}
	if mediaType != "" {
		return Evidence{}, fmt.Errorf("%w: %.100q; the verifier chooses the format of its results", ErrUnknownType, mediaType)
	}
	evidence, err := p.Attester.Attest(ctx, "", r)
	if err != nil {
		return Evidence{}, err
	}
	maxAge := p.MaxAge
	if maxAge == 0 {
		maxAge = time.Minute
	}
	result, err := p.Verifier.Appraise(ctx, evidence, Expectation{Nonce: r.Nonce, AgentKey: r.AgentKey, MaxAge: maxAge})
	if err != nil {
		return Evidence{}, fmt.Errorf("attest: own Evidence was not accepted by the verifier: %w", err)
	}
	if len(result.Token) == 0 {
		return Evidence{}, errors.New("attest: the verifier gave an appraisal without an Attestation Result")
	}
	return Evidence{MediaType: result.MediaType, Payload: result.Token}, nil
}
