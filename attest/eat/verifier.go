package eat

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/cose"
)

// DefaultMaxSkew is how far the clocks of attester and verifier may lie apart.
const DefaultMaxSkew = time.Minute

// DefaultResultLifetime is how long an Attestation Result may be relied upon.
const DefaultResultLifetime = time.Hour

// VerifierConfig configures [NewVerifier].
type VerifierConfig struct {
	// Signer signs Attestation Results. Its key is the verifier's alone.
	Signer cose.Signer
	// Developer and Build name this verifier in its results (ear_verifier_id).
	Developer, Build string
	// Endorsements and References are what the verifier knows.
	Endorsements appraisal.Endorsements
	References   appraisal.References
	// Algorithms that Evidence may be signed with; empty means the secure default of package cose.
	Algorithms []cose.Algorithm
	// Hashes that a kid in cnf may be made with; empty means SHA-256.
	Hashes []cose.Algorithm
	// Policy is asked for a verdict of its own; nil means that reference values alone decide.
	Policy Policy
	// MaxSkew and ResultLifetime are DefaultMaxSkew and DefaultResultLifetime when zero.
	MaxSkew, ResultLifetime time.Duration
	Now                     func() time.Time
	Rand                    io.Reader
}

// Verifier appraises Evidence in the TEEP profile. It is safe for concurrent use and keeps no
// state between appraisals. It implements [attest.Verifier].
type Verifier struct {
	c VerifierConfig
}

var _ attest.Verifier = (*Verifier)(nil)

// NewVerifier checks the configuration.
func NewVerifier(c VerifierConfig) (*Verifier, error) {
	switch {
	case c.Signer == nil || c.Now == nil || c.Rand == nil:
		return nil, errors.New("eat: a verifier needs a key for its results, a clock and randomness")
	case c.Endorsements == nil || c.References == nil:
		return nil, errors.New("eat: a verifier needs endorsements and reference values; without any it can trust nobody")
	case c.Developer == "" || c.Build == "":
		return nil, errors.New("eat: a verifier needs a developer and a build to name itself by")
	case c.MaxSkew < 0 || c.ResultLifetime < 0:
		return nil, errors.New("eat: the verifier's skew or result lifetime is negative")
	}
	if c.MaxSkew == 0 {
		c.MaxSkew = DefaultMaxSkew
	}
	if c.ResultLifetime == 0 {
		c.ResultLifetime = DefaultResultLifetime
	}
	return &Verifier{c: c}, nil
}

// Accepts implements [attest.Verifier].
func (v *Verifier) Accepts(mediaType string) bool { return mediaKind(mediaType) != kindNone }

// Appraise implements [attest.Verifier]. The checks run in the order in which they give least to
// a stranger: signature, claims, freshness, key binding, device; only then what the Evidence says
// is compared with reference values.
func (v *Verifier) Appraise(ctx context.Context, e attest.Evidence, x attest.Expectation) (*attest.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	now := v.c.Now()
	claims, trusted, err := v.authenticate(e, now)
	if err != nil {
		return nil, err
	}
	return v.judge(ctx, &Authenticated{MediaType: e.MediaType, Claims: claims, Authority: *trusted}, x, now)
}

// authenticate checks who signed the Evidence.
func (v *Verifier) authenticate(e attest.Evidence, now time.Time) (*Claims, *Authority, error) {
	token := e.Payload
	var bundle *Bundle
	switch mediaKind(e.MediaType) {
	case kindBundle:
		b, err := ParseBundle(token)
		if err != nil {
			return nil, nil, err
		}
		bundle, token = b, b.Token
	case kindNone:
		return nil, nil, fmt.Errorf("%w: %.100q; this verifier reads %s", attest.ErrUnknownType, e.MediaType, MediaType)
	}
	if IsEncrypted(token) {
		return nil, nil, fmt.Errorf("%w: the Evidence is encrypted; decrypt it with the TAM's key first", attest.ErrFormat)
	}
	source := &attesterKeys{endorsements: v.c.Endorsements, now: now}
	claims, signed, err := verifySigned(token, source, v.c.Algorithms)
	if source.broken != nil {
		return nil, nil, source.broken
	}
	if err != nil {
		return nil, nil, err
	}
	trusted := source.found[string(signed.Key.Thumbprint())]
	if trusted == nil {
		return nil, nil, fmt.Errorf("%w: the signature is by a key that was not looked up", attest.ErrUntrusted)
	}
	if claims.Appraised || claims.VerifierID != nil {
		return nil, nil, fmt.Errorf("%w: this is an Attestation Result, not Evidence", attest.ErrFormat)
	}
	if bundle != nil {
		if err := bundle.Attach(claims); err != nil {
			return nil, nil, err
		}
	}
	return claims, trusted, nil
}

// checkFreshness holds TEEP §9: the nonce that was issued, or else a recent timestamp.
func (v *Verifier) checkFreshness(c *Claims, x attest.Expectation, now time.Time) error {
	if err := c.checkTimes(now, v.c.MaxSkew); err != nil {
		return err
	}
	if len(x.Nonce) > 0 {
		if subtle.ConstantTimeCompare(c.Nonce, x.Nonce) != 1 {
			return fmt.Errorf("%w: eat_nonce is not the challenge that was issued", attest.ErrNotFresh)
		}
		return nil
	}
	switch {
	case x.MaxAge <= 0:
		return fmt.Errorf("%w: neither a challenge nor a greatest age was given to compare with", attest.ErrNotFresh)
	case c.IssuedAt.IsZero():
		return fmt.Errorf("%w: the Evidence has no iat, and no challenge was issued", attest.ErrNotFresh)
	case now.Sub(c.IssuedAt) > x.MaxAge+v.c.MaxSkew:
		return fmt.Errorf("%w: issued at %s, more than %s ago", attest.ErrNotFresh, c.IssuedAt.Format(time.RFC3339), x.MaxAge)
	}
	return nil
}
