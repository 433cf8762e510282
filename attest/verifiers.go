package attest

import (
	"context"
	"fmt"

	"github.com/go-teep/teep/cose"
)

// Verifiers appraises each kind of Evidence with the first verifier that accepts its media type.
// It implements [Verifier]; without a verifier for the media type the error is [ErrUnknownType].
type Verifiers []Verifier

var _ Verifier = Verifiers(nil)

// Accepts implements [Verifier].
func (all Verifiers) Accepts(mediaType string) bool {
	for _, v := range all {
		if v.Accepts(mediaType) {
			return true
		}
	}
	return false
}

// Appraise implements [Verifier].
func (all Verifiers) Appraise(ctx context.Context, e Evidence, x Expectation) (*Result, error) {
	for _, v := range all {
		if v.Accepts(e.MediaType) {
			return v.Appraise(ctx, e, x)
		}
	}
	return nil, fmt.Errorf("%w: %.100q; %d verifiers are configured", ErrUnknownType, e.MediaType, len(all))
}

// Peeker tells the challenge and the agent key that Evidence speaks of, before it is appraised.
type Peeker interface {
	Peek(e Evidence) (nonce []byte, agentKey *cose.Key, err error)
}

// Peek asks the verifier that would appraise the Evidence. Nothing of the answer is verified.
func (all Verifiers) Peek(e Evidence) (nonce []byte, agentKey *cose.Key, err error) {
	for _, v := range all {
		if !v.Accepts(e.MediaType) {
			continue
		}
		if p, ok := v.(Peeker); ok {
			return p.Peek(e)
		}
		return nil, nil, fmt.Errorf("%w: the verifier for %.100q cannot tell whose Evidence it is before it is appraised", ErrFormat, e.MediaType)
	}
	return nil, nil, fmt.Errorf("%w: %.100q; %d verifiers are configured", ErrUnknownType, e.MediaType, len(all))
}
