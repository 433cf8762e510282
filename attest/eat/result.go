package eat

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/cose"
)

// issue signs what the verifier found as an Attestation Result: the claims that the TAM needs
// (TEEP §4.3.1), the key that the Evidence was bound to, and the appraisal.
func (v *Verifier) issue(c *Claims, d *verdict, key *cose.Key, now time.Time) (*attest.Result, error) {
	appraised := &Claims{
		Profile: Profile, Appraised: true, Status: d.status, Vector: d.vector, Nonce: c.Nonce,
		Reasons: bounded(d.reasons), Weaknesses: c.Weaknesses, Submods: componentSubmods(c),
		PolicyIDs: d.policies,
	}
	// The key beside its identifier: a relying party that has never met the agent could not check
	// the message that presents the result otherwise.
	confirmation := Confirm(key)
	confirmation.Key = key.Public()
	token := &Claims{
		Profile: Profile, IssuedAt: now, Expires: now.Add(v.c.ResultLifetime),
		Confirmation: confirmation, Nonce: c.Nonce,
		UEID: c.UEID, OEMID: c.OEMID, HWModel: c.HWModel, HWVersion: c.HWVersion,
		Debug: c.Debug, Manifests: c.Manifests, Measurements: c.Measurements,
		Appraised: true, Status: d.status, EncryptionKey: c.EncryptionKey,
		VerifierID: &VerifierID{Developer: v.c.Developer, Build: v.c.Build},
		Submods:    map[string]Submodule{AppraisalLabel: {Claims: appraised}},
	}
	// Whatever comes from the Evidence was parsed, and is within the same limits here.
	payload, err := token.encode()
	if err != nil {
		return nil, fmt.Errorf("eat: attestation result: %w", err)
	}
	signed, err := sign(payload, v.c.Signer, cose.SignOptions{}, v.c.Rand)
	if err != nil {
		return nil, fmt.Errorf("eat: attestation result: %w", err)
	}
	return token.result(signed)
}

// bounded shortens texts, which may come from the Evidence, and keeps the reasons that weigh most
// when there are more than a token may hold.
func bounded(reasons []attest.Reason) []attest.Reason {
	for i := range reasons {
		reasons[i].Claim, reasons[i].Text = clip(reasons[i].Claim, 128), clip(reasons[i].Text, 512)
	}
	if len(reasons) <= MaxReasons {
		return reasons
	}
	var kept []attest.Reason
	for _, s := range []attest.Status{attest.StatusContraindicated, attest.StatusWarning, attest.StatusAffirming, attest.StatusNone} {
		for _, r := range reasons {
			if r.Status == s && len(kept) < MaxReasons {
				kept = append(kept, r)
			}
		}
	}
	return kept
}

// componentSubmods takes over what the Evidence says about installed components, and of each only
// what describes it.
func componentSubmods(c *Claims) map[string]Submodule {
	var subs map[string]Submodule
	for label, s := range c.Submods {
		if _, ok := componentID(label); ok && s.Claims != nil {
			if subs == nil {
				subs = map[string]Submodule{}
			}
			subs[label] = Submodule{Claims: &Claims{SWName: s.Claims.SWName, SWVersion: s.Claims.SWVersion, Manifests: s.Claims.Manifests}}
		}
	}
	return subs
}

// result reads an Attestation Result out of its claims.
func (c *Claims) result(token []byte) (*attest.Result, error) {
	r := &attest.Result{
		Status: c.Status, UEID: c.UEID, OEMID: c.OEMID, HWModel: c.HWModel, HWVersion: c.HWVersion.Text,
		Nonce: c.Nonce, Reasons: c.Reasons, IssuedAt: c.IssuedAt, Expires: c.Expires,
		EncryptionKey: c.EncryptionKey, MediaType: MediaType, Token: token,
	}
	for _, m := range c.Measurements {
		if m.Component != nil {
			r.Measurement = m.Component.Digest.Value
			break
		}
	}
	described := c
	if sub := c.Submods[AppraisalLabel].Claims; sub != nil {
		described = sub
		r.Reasons = sub.Reasons
		// The overall status claims no more trust than any part (EAR §3).
		r.Status = r.Status.Worst(sub.Status).Worst(sub.Vector.Status())
	}
	components, err := described.Components()
	if err != nil {
		return nil, err
	}
	r.Components = components
	return r, nil
}

// ResultExpectation is what a relying party knows about an Attestation Result that it received.
type ResultExpectation struct {
	// Verifiers are the keys of the verifiers that are trusted. Required.
	Verifiers cose.KeySource
	// Key verified the TEEP message that came with the result: the agent's key at the TAM, the
	// TAM's key at the agent. Required.
	Key *cose.Key
	// Hashes are the digest algorithms of the SUIT profiles in use; empty means SHA-256.
	Hashes []cose.Algorithm
	// Nonce is the token of the QueryRequest in the passport model (TEEP §9). Empty: the result
	// must be fresh by its timestamps, and not older than MaxAge unless that is zero and the
	// result says itself when it expires.
	Nonce  []byte
	MaxAge time.Duration
	// Algorithms that results may be signed with; empty means the secure default of package cose.
	Algorithms []cose.Algorithm
	// Now is the time to compare with. Required.
	Now time.Time
	// MaxSkew is DefaultMaxSkew when zero.
	MaxSkew time.Duration
}

// CheckResult does what TEEP asks of whoever relies on an Attestation Result, the TAM (TEEP
// §7.1.1.1) or the agent (TEEP §7.2.1.1): a trusted verifier signed it, and its cnf names the key
// that signed the message. It must also be fresh, in the TEEP profile and complete.
//
// The token may come in a detached EAT bundle, which the TEEP profile permits (TEEP §5).
//
// Errors are the sentinels of package attest. Without an error the caller still has to look at
// Status: a verifier that says nothing about trustworthiness leaves it StatusNone, which affirms
// nothing. Reasons are from the token.
func CheckResult(token []byte, x ResultExpectation) (*attest.Result, error) {
	if x.Verifiers == nil || x.Key == nil || x.Now.IsZero() {
		return nil, errors.New("eat: checking a result needs trusted verifiers, the key that signed the message, and the time")
	}
	if x.MaxSkew == 0 {
		x.MaxSkew = DefaultMaxSkew
	}
	if IsEncrypted(token) {
		return nil, fmt.Errorf("%w: the Attestation Result is encrypted; decrypt it first", attest.ErrFormat)
	}
	main := token
	bundle, err := ParseBundle(token)
	if err == nil {
		main = bundle.Token
	}
	c, signed, err := verifySigned(main, x.Verifiers, x.Algorithms)
	if err != nil {
		return nil, err
	}
	if bundle != nil {
		if err := bundle.Attach(c); err != nil {
			return nil, err
		}
	}
	if signed.Key.Equal(x.Key) {
		return nil, fmt.Errorf("%w: the result is signed by the very key that it is to vouch for", attest.ErrUntrusted)
	}
	if err := c.CheckProfile(); err != nil {
		return nil, err
	}
	if err := c.Confirmation.Names(x.Key, x.Hashes...); err != nil {
		return nil, err
	}
	if err := checkResultFreshness(c, x); err != nil {
		return nil, err
	}
	r, err := c.result(token)
	if err == nil && bundle != nil {
		r.MediaType = BundleMediaType
	}
	return r, err
}

// IsResultFormat tells whether a media type is one of the two that [CheckResult] reads: a token or a
// bundle in the TEEP profile. "" is that of a token.
func IsResultFormat(mediaType string) bool { return mediaKind(mediaType) != kindNone }

func checkResultFreshness(c *Claims, x ResultExpectation) error {
	if err := c.checkTimes(x.Now, x.MaxSkew); err != nil {
		return err
	}
	if len(x.Nonce) > 0 {
		if subtle.ConstantTimeCompare(c.Nonce, x.Nonce) != 1 {
			return fmt.Errorf("%w: eat_nonce of the Attestation Result is not the one that was issued", attest.ErrNotFresh)
		}
		return nil
	}
	switch {
	case x.MaxAge == 0 && !c.Expires.IsZero():
		return nil
	case x.MaxAge <= 0:
		return fmt.Errorf("%w: the Attestation Result never expires, and neither a nonce nor a greatest age was given", attest.ErrNotFresh)
	case c.IssuedAt.IsZero():
		return fmt.Errorf("%w: the Attestation Result has no iat", attest.ErrNotFresh)
	case x.Now.Sub(c.IssuedAt) > x.MaxAge+x.MaxSkew:
		return fmt.Errorf("%w: the Attestation Result was issued at %s, more than %s ago", attest.ErrNotFresh, c.IssuedAt.Format(time.RFC3339), x.MaxAge)
	}
	return nil
}

// Concerns tells whether an Attestation Result in the TEEP profile says that it is about a key and for a
// nonce, for who brings it to somebody else: nothing of it is verified. Errors are the sentinels of
// package attest.
func Concerns(token []byte, key *cose.Key, nonce []byte) error {
	signed, err := untag(token)
	if err != nil {
		return err
	}
	payload, err := cose.UnverifiedPayload(signed)
	if err != nil {
		return fmt.Errorf("%w: %w", attest.ErrFormat, err)
	}
	c, err := ParseClaims(payload)
	if err != nil {
		return err
	}
	if err := c.Confirmation.Names(key); err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(c.Nonce, nonce) != 1 {
		return fmt.Errorf("%w: eat_nonce of the Attestation Result is another one", attest.ErrNotFresh)
	}
	return nil
}
