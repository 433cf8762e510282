package eat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/cose"
)

// AttesterConfig configures [NewAttester].
type AttesterConfig struct {
	Identity Identity
	// Signer is the attestation key: never the key that signs TEEP messages (RFC 9397 §5).
	Signer cose.Signer
	// X5Chain certifies the attestation key, end entity first, in DER; empty where the verifier
	// knows the key by endorsement.
	X5Chain [][]byte
	// Now is the clock and Rand the randomness of the TEE.
	Now  func() time.Time
	Rand io.Reader
}

// Attester makes Evidence in the TEEP profile. It is safe for concurrent use if its signer, clock
// and randomness are. It implements [attest.Attester].
type Attester struct {
	c    AttesterConfig
	base Claims // what is the same in all Evidence
}

var _ attest.Attester = (*Attester)(nil)

// NewAttester checks that the identity can be attested at all, by attesting it once.
func NewAttester(c AttesterConfig) (*Attester, error) {
	if c.Signer == nil || c.Now == nil || c.Rand == nil {
		return nil, errors.New("eat: an attester needs an attestation key, a clock and randomness")
	}
	base, err := IdentityClaims(c.Identity)
	if err != nil {
		return nil, err
	}
	return &Attester{c: c, base: *base}, nil
}

// MediaTypes implements [attest.Attester].
func (a *Attester) MediaTypes() []string { return []string{MediaType} }

// Attest implements [attest.Attester].
func (a *Attester) Attest(ctx context.Context, mediaType string, r attest.Request) (attest.Evidence, error) {
	if err := ctx.Err(); err != nil {
		return attest.Evidence{}, err
	}
	if mediaKind(mediaType) != kindToken {
		return attest.Evidence{}, fmt.Errorf("%w: %q; this attester makes %s", attest.ErrUnknownType, mediaType, MediaType)
	}
	if r.AgentKey != nil && r.AgentKey.Equal(a.c.Signer.Public()) {
		return attest.Evidence{}, errors.New("eat: the agent key and the attestation key are the same; each key has one use (RFC 9397 §5)")
	}
	c, err := a.base.For(r, a.c.Now())
	if err != nil {
		return attest.Evidence{}, err
	}
	payload, err := c.Encode()
	if err != nil {
		return attest.Evidence{}, err
	}
	token, err := sign(payload, a.c.Signer, cose.SignOptions{X5Chain: a.c.X5Chain}, a.c.Rand)
	if err != nil {
		return attest.Evidence{}, err
	}
	return attest.Evidence{MediaType: MediaType, Payload: token}, nil
}
