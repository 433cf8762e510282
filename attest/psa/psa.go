// Package psa appraises attestation tokens of Arm's Platform Security Architecture (RFC 9783), as
// Trusted Firmware-M makes them, and those of the Confidential Compute Architecture, whose platform
// token is a PSA token that vouches for the key of a realm. It implements [bound.Reports]: the
// challenge in the token is the binding of the agent's claims.
//
// A token is verified with a key that its owner endorsed for the device: tokens name the device
// (instance-id, which is the UEID), and most name no key. The implementation-id is the hardware
// model, so reference values are loaded under it; software components are measured components
// named by [ComponentName], a realm's initial measurement by [RealmName].
package psa

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/bound"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
)

// Profile is the eat_profile of PSA tokens, and MediaType what they go under (RFC 9783 §9.2).
const (
	Profile   = "tag:psacertified.org,2023:psa#tfm"
	MediaType = `application/eat+cwt; eat_profile="` + Profile + `"`
)

// Limits of a token.
const (
	MaxTokenBytes = 64 << 10
	maxComponents = 64
)

// ComponentName is the measured component of a software component, by its type.
func ComponentName(kind string) string { return "psa " + kind }

// claims are those of a PSA token and of a CCA platform token (RFC 9783 §4).
//
//	{ 10 => bstr, 256 => bstr .size 33, 265 => tstr, 2394 => int, 2395 => 0..65535,
//	  2396 => bstr .size 32, 2399 => [ + software-component ], * => any }
type claims struct {
	Nonce          []byte      `cbor:"10,keyasint"`
	InstanceID     []byte      `cbor:"256,keyasint"`
	Profile        string      `cbor:"265,keyasint"`
	ClientID       *int64      `cbor:"2394,keyasint"`
	Lifecycle      *uint16     `cbor:"2395,keyasint"`
	Implementation []byte      `cbor:"2396,keyasint"`
	Components     []component `cbor:"2399,keyasint"`
}

// component is a software component (RFC 9783 §4.4.1).
//
//	{ ? 1 => tstr, 2 => bstr, ? 4 => tstr, 5 => bstr, ? 6 => tstr }
type component struct {
	Type        string `cbor:"1,keyasint"`
	Measurement []byte `cbor:"2,keyasint"`
	Version     string `cbor:"4,keyasint"`
	Signer      []byte `cbor:"5,keyasint"`
	Algorithm   string `cbor:"6,keyasint"`
}

func malformed(what string, err error) error {
	return fmt.Errorf("%w: %s: %w", attest.ErrFormat, what, err)
}

// parse reads the claims and checks that the mandatory ones are there.
func parse(what string, payload []byte) (*claims, error) {
	c := &claims{}
	if err := cbor.Unmarshal(payload, c); err != nil {
		return nil, malformed(what, err)
	}
	switch {
	case len(c.InstanceID) != 33 || c.InstanceID[0] != 0x01:
		return nil, malformed(what, errors.New("the instance-id is not a UEID of 33 bytes of type RAND"))
	case len(c.Implementation) != 32:
		return nil, malformed(what, errors.New("the implementation-id does not have 32 bytes"))
	case c.Lifecycle == nil:
		return nil, malformed(what, errors.New("there is no security-lifecycle"))
	case len(c.Components) == 0 || len(c.Components) > maxComponents:
		return nil, malformed(what, fmt.Errorf("%d software components, 1 to %d are possible", len(c.Components), maxComponents))
	}
	return c, nil
}

// Reports authenticates PSA tokens. It is safe for concurrent use.
type Reports struct{ endorsements appraisal.DeviceEndorsements }

var _ bound.Reports = (*Reports)(nil)

// NewReports takes the endorsements of devices' initial attestation keys.
func NewReports(endorsements appraisal.DeviceEndorsements) (*Reports, error) {
	if endorsements == nil {
		return nil, errors.New("psa: endorsements are needed; without any no device is known")
	}
	return &Reports{endorsements: endorsements}, nil
}

// Accepts implements [bound.Reports].
func (r *Reports) Accepts(mediaType string) bool { return mediaType == MediaType }

// Read implements [bound.Reports].
func (r *Reports) Read(ctx context.Context, token []byte, b bound.Beside) (*bound.Report, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c, e, err := authenticate("PSA token", token, r.endorsements, b.Now)
	if err != nil {
		return nil, err
	}
	if c.Profile != Profile || c.ClientID == nil {
		return nil, malformed("PSA token", fmt.Errorf("its profile is %.100q, or it has no client-id", c.Profile))
	}
	out, err := report(c, e)
	if err != nil {
		return nil, err
	}
	out.Bound = c.Nonce
	return out, nil
}

// algorithms of tokens: their text names ES256 to ES512, the fully specified names are younger.
func algorithms() []cose.Algorithm {
	return []cose.Algorithm{cose.AlgESP256, cose.AlgESP384, cose.AlgES256, cose.AlgES384, cose.AlgEd25519}
}

// authenticate verifies a token with the keys that are endorsed for the device that it names. What
// it names is read before the signature is checked, to find the keys, and again after.
func authenticate(what string, token []byte, endorsements appraisal.DeviceEndorsements, now time.Time) (*claims, *appraisal.Endorsement, error) {
	if len(token) > MaxTokenBytes {
		return nil, nil, malformed(what, fmt.Errorf("%d bytes, at most %d are read", len(token), MaxTokenBytes))
	}
	payload, err := cose.UnverifiedPayload(token)
	if err != nil {
		return nil, nil, malformed(what, err)
	}
	named, err := parse(what, payload)
	if err != nil {
		return nil, nil, err
	}
	known, err := endorsements.EndorsementsOf(named.InstanceID)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", eat.ErrLookup, err)
	}
	refusal := fmt.Errorf("%w: %s: no one endorses a key of device %x; load an endorsement of the device", attest.ErrUntrusted, what, named.InstanceID)
	for _, e := range known {
		keys, err := cose.NewKeySet(e.Key)
		if err != nil {
			refusal = fmt.Errorf("%w: %s: %w", attest.ErrUntrusted, what, err)
			continue
		}
		v, err := cose.Verify(token, keys, cose.VerifyOptions{Algorithms: algorithms()})
		if err != nil {
			refusal = fmt.Errorf("%w: %s: %w", attest.ErrSignature, what, err)
			continue
		}
		if err := e.Check(now); err != nil {
			return nil, nil, err
		}
		c, err := parse(what, v.Payload)
		if err == nil && !bytes.Equal(c.InstanceID, e.UEID) {
			err = fmt.Errorf("%w: %s of another device", attest.ErrUntrusted, what)
		}
		return c, e, err
	}
	return nil, nil, refusal
}

// report maps the claims of a token.
func report(c *claims, e *appraisal.Endorsement) (*bound.Report, error) {
	if e.Class.HWModel != nil && !bytes.Equal(e.Class.HWModel, c.Implementation) {
		return nil, fmt.Errorf("%w: the token's implementation-id is not the model that %s endorsed device %x for", attest.ErrUntrusted, e.Owner, e.UEID)
	}
	out := &bound.Report{Authority: eat.Authority{Key: e.Key, UEID: e.UEID, Owner: e.Owner,
		Class: appraisal.Class{OEMID: e.Class.OEMID, HWModel: c.Implementation}}}
	seen := map[string]bool{}
	for i, sc := range c.Components {
		kind := sc.Type
		if kind == "" {
			kind = fmt.Sprintf("component %d", i)
		}
		digest, err := digestOf(sc.Measurement)
		if err != nil || seen[kind] || len(kind) > eat.MaxTextBytes {
			return nil, malformed("software component "+kind, errors.Join(err, errors.New("its measurement is no digest, or its type is there twice")))
		}
		seen[kind] = true
		mc := eat.MeasuredComponent{Name: ComponentName(kind), Digest: digest}
		if sc.Version != "" {
			mc.Version = &eat.Version{Text: sc.Version}
		}
		out.Measurements = append(out.Measurements, mc)
	}
	judgeLifecycle(out, *c.Lifecycle)
	return out, nil
}

func digestOf(value []byte) (appraisal.Digest, error) {
	alg := map[int]cose.Algorithm{32: cose.AlgSHA256, 48: cose.AlgSHA384, 64: cose.AlgSHA512}[len(value)]
	return appraisal.NewDigest(alg, value)
}

// judgeLifecycle maps the state of the root of trust (RFC 9783 §4.3.1); the low byte is the maker's.
func judgeLifecycle(out *bound.Report, state uint16) {
	say := func(value int8, text string) {
		out.Findings = append(out.Findings, eat.Finding{Claim: "security-lifecycle", Aspect: appraisal.Configuration, Value: value, Text: text})
	}
	switch state >> 8 {
	case 0x30:
		out.Debug = eat.DebugDisabled
		say(appraisal.Affirmed, "secured")
	case 0x40:
		out.Debug = eat.DebugDisabled
		say(appraisal.ConfigurationVulnerable, "debugging outside of the root of trust is possible")
	case 0x50:
		out.Debug = eat.DebugEnabled
		say(appraisal.ConfigurationUnsupported, "the root of trust is being debugged")
	default:
		say(appraisal.ConfigurationUnsupported, fmt.Sprintf("state %#04x: not secured", state))
	}
}
