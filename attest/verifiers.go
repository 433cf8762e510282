package attest

import (
	"context"
	"fmt"
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
