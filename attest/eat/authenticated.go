package eat

import (
	"context"
	"fmt"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/cose"
)

// Finding is what authenticating hardware brought to light: one claim of the hardware and what it
// is worth, in the values of AR4SI.
type Finding struct {
	Claim  string
	Aspect appraisal.Aspect
	Value  int8
	Text   string
}

// Authenticated is a claims set that is known to come from a device, by the signature of a token
// or by the report of its hardware.
type Authenticated struct {
	// MediaType is what the Evidence came as.
	MediaType string
	// Claims may be changed by the appraisal.
	Claims    *Claims
	Authority Authority
	// Measurements and Debug are what the hardware says; its word on debugging replaces that of
	// the claims.
	Measurements []MeasuredComponent
	Debug        DebugStatus
	Findings     []Finding
}

// Appraisal is what a [Policy] judges: authentic, fresh and bound claims after they were compared
// with reference values. It is not to be changed.
type Appraisal struct {
	MediaType string
	Claims    *Claims
	Vector    appraisal.TrustVector
	Reasons   []attest.Reason
	Owner     string // who vouches for the device
	Now       time.Time
}

// Policy is the appraisal policy of the verifier. Implementations are safe for concurrent use.
type Policy interface {
	// ID names the policy in the Attestation Result (ear_appraisal_policy_ids).
	ID() string
	// Judge returns a verdict and why. It lowers trust only: no more trust is claimed than by
	// any part of the trust vector (EAR §3). An error means that the policy could not be asked.
	Judge(ctx context.Context, a *Appraisal) (attest.Status, []attest.Reason, error)
}

// AppraiseAuthenticated appraises claims that the caller has authenticated, as [Verifier.Appraise]
// does with those of a token: freshness, key binding and device are checked here, and the result
// is signed with the verifier's key. It is for verifiers of hardware whose report stands for the
// signature of a token.
func (v *Verifier) AppraiseAuthenticated(ctx context.Context, a *Authenticated, x attest.Expectation) (*attest.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if a.Claims.Appraised || a.Claims.VerifierID != nil {
		return nil, fmt.Errorf("%w: these are the claims of an Attestation Result, not of Evidence", attest.ErrFormat)
	}
	for _, m := range a.Measurements {
		for _, said := range a.Claims.Measurements {
			if said.Component != nil && said.Component.Name == m.Name {
				return nil, fmt.Errorf("%w: the claims measure %q, which only the hardware can", attest.ErrFormat, m.Name)
			}
		}
	}
	for i := range a.Measurements {
		a.Claims.Measurements = append(a.Claims.Measurements, Measurement{Component: &a.Measurements[i]})
	}
	if a.Debug != DebugNotReported {
		a.Claims.Debug = a.Debug
	}
	return v.judge(ctx, a, x, v.c.Now())
}

// judge does what is the same for all Evidence once it is authentic.
func (v *Verifier) judge(ctx context.Context, a *Authenticated, x attest.Expectation, now time.Time) (*attest.Result, error) {
	claims := a.Claims
	if err := claims.CheckProfile(); err != nil {
		return nil, err
	}
	if err := v.checkFreshness(claims, x, now); err != nil {
		return nil, err
	}
	if x.AgentKey != nil && a.Authority.Key != nil && a.Authority.Key.Equal(x.AgentKey) {
		return nil, fmt.Errorf("%w: the attestation key signed the message too; each key has one use (RFC 9397 §5)", attest.ErrKeyBinding)
	}
	if err := claims.Confirmation.Names(x.AgentKey, v.c.Hashes...); err != nil {
		return nil, err
	}
	if err := a.Authority.checkDevice(claims); err != nil {
		return nil, err
	}
	d, err := v.appraise(claims, &a.Authority, now)
	if err != nil {
		return nil, err
	}
	for _, f := range a.Findings {
		d.say(f.Claim, f.Aspect, f.Value, "%s", f.Text)
	}
	d.status = d.vector.Status()
	if err := v.ask(ctx, a, d, now); err != nil {
		return nil, err
	}
	return v.issue(claims, d, x.AgentKey, now)
}

// ask lets the policy lower the verdict.
func (v *Verifier) ask(ctx context.Context, a *Authenticated, d *verdict, now time.Time) error {
	if v.c.Policy == nil {
		return nil
	}
	status, reasons, err := v.c.Policy.Judge(ctx, &Appraisal{
		MediaType: a.MediaType, Claims: a.Claims, Vector: d.vector, Reasons: d.reasons, Owner: a.Authority.Owner, Now: now,
	})
	if err != nil {
		return fmt.Errorf("eat: appraisal policy %s: %w", v.c.Policy.ID(), err)
	}
	d.status = d.status.Worst(status)
	d.policies = []string{v.c.Policy.ID()}
	d.reasons = append(d.reasons, reasons...)
	return nil
}

// Peek tells the challenge and the agent key that Evidence speaks of. Nothing of it is verified; a
// relying party that has not met the agent checks its message with the key before it has the
// Evidence appraised.
func (v *Verifier) Peek(e attest.Evidence) (nonce []byte, agentKey *cose.Key, err error) {
	token := e.Payload
	if b, err := ParseBundle(token); err == nil {
		token = b.Token
	}
	if token, err = untag(token); err != nil {
		return nil, nil, err
	}
	payload, err := cose.UnverifiedPayload(token)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", attest.ErrFormat, err)
	}
	claims, err := ParseClaims(payload)
	if err != nil {
		return nil, nil, err
	}
	nonce, agentKey = claims.About()
	return nonce, agentKey, nil
}

// About returns the challenge and the agent key that the claims name. The key is nil where they
// name it by thumbprint alone.
func (c *Claims) About() (nonce []byte, agentKey *cose.Key) {
	if c.Confirmation == nil {
		return c.Nonce, nil
	}
	return c.Nonce, c.Confirmation.Key
}
