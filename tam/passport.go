package tam

import (
	"context"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
)

// PassportVerifier is a [Config.Results] for Attestation Results in the TEEP profile, tokens and detached
// EAT bundles: it accepts those that one of the given verifiers' keys signed, that name the agent's key in cnf, and that are
// fresh (TEEP §7.1.1.1). Hashes may be those of every SUIT profile that this TAM supports, which is
// SHA-256.
func PassportVerifier(verifiers cose.KeySource, clock func() time.Time) attest.Verifier {
	return passportVerifier{verifiers, clock}
}

type passportVerifier struct {
	keys  cose.KeySource
	clock func() time.Time
}

func (v passportVerifier) Accepts(mediaType string) bool {
	return teep.IsEATFormat(mediaType) || eat.IsResultFormat(mediaType)
}

func (v passportVerifier) Appraise(ctx context.Context, e attest.Evidence, x attest.Expectation) (*attest.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return eat.CheckResult(e.Payload, eat.ResultExpectation{
		Verifiers: v.keys, Key: x.AgentKey, Nonce: x.Nonce, MaxAge: x.MaxAge, Now: v.clock(),
	})
}
