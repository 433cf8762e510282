package eat_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
)

func TestAttestAndAppraise(t *testing.T) {
	b := newBench(t)
	r := b.mustAppraise(b.evidence())
	if r.Status != attest.StatusAffirming {
		t.Fatalf("%v: %+v", r.Status, r.Reasons)
	}
	if !bytes.Equal(r.UEID, b.identity.UEID) || !bytes.Equal(r.OEMID, b.identity.OEMID) || !bytes.Equal(r.HWModel, b.identity.HWModel) ||
		r.HWVersion != "1.3.4" || !bytes.Equal(r.Measurement, b.identity.Measurement) || !bytes.Equal(r.Nonce, b.nonce) {
		t.Errorf("%+v", r)
	}
	if len(r.Components) != 2 {
		t.Fatalf("%+v", r.Components)
	}
	for _, c := range r.Components {
		want := components[0]
		if len(c.ID) == 2 {
			want = components[1]
		}
		if c.SequenceNumber != want.SequenceNumber || c.ManifestURI != want.ManifestURI || !bytes.Equal(c.ManifestDigest, want.ManifestDigest) {
			t.Errorf("got %+v, want %+v", c, want)
		}
	}
	for _, reason := range r.Reasons {
		if reason.Claim == "" || reason.Text == "" {
			t.Errorf("a verdict without its reason: %+v", reason)
		}
	}
	if !r.IssuedAt.Equal(testNow) || !r.Expires.Equal(testNow.Add(eat.DefaultResultLifetime)) || r.MediaType != eat.MediaType {
		t.Errorf("%+v", r)
	}
}

// TestEvidenceFollowsTheProfile looks at the Evidence itself (TEEP §5).
func TestEvidenceFollowsTheProfile(t *testing.T) {
	b := newBench(t)
	token := b.evidence().Payload
	if token[0] != 0x84 {
		t.Errorf("the token starts with %#x: the profile has no CBOR tags", token[0])
	}
	c := claimsOf(t, token)
	if err := c.CheckProfile(); err != nil {
		t.Error(err)
	}
	if c.Profile != eat.Profile || !bytes.Equal(c.Confirmation.KeyID, b.agentKey.Thumbprint()) || c.Confirmation.Key == nil {
		t.Errorf("%+v", c)
	}
	if len(c.Manifests) != 3 || c.Manifests[0].Reference.URI != "#teep-agent/1.2.0" {
		t.Errorf("%+v", c.Manifests)
	}
	label, err := eat.ComponentLabel(components[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	if sub := c.Submods[label].Claims; sub == nil || sub.SWName != components[0].ManifestURI || sub.SWVersion.Text != "3" {
		t.Errorf("%+v", c.Submods)
	}
}

func TestTimestampFreshness(t *testing.T) {
	b := newBench(t)
	b.nonce = nil
	e := b.evidence()
	for _, c := range []struct {
		after  time.Duration
		maxAge time.Duration
		ok     bool
	}{
		{0, time.Minute, true}, {time.Minute, time.Minute, true}, {2 * time.Minute, time.Minute, true},
		{2*time.Minute + time.Second, time.Minute, false}, {-time.Minute, time.Minute, true},
		{-time.Minute - time.Second, time.Minute, false}, {0, 0, false}, {0, -time.Hour, false},
	} {
		b.now = testNow.Add(c.after)
		_, err := b.verifier.Appraise(context.Background(), e, attest.Expectation{AgentKey: b.agentKey.Public(), MaxAge: c.maxAge})
		if c.ok && err != nil || !c.ok && !errors.Is(err, attest.ErrNotFresh) {
			t.Errorf("%v after, at most %v: %v", c.after, c.maxAge, err)
		}
	}
}

// TestBindings: each case breaks one binding of Evidence, and is told apart from the others.
func TestBindings(t *testing.T) {
	other := newBench(t)
	for name, c := range map[string]struct {
		change   func(*bench)
		evidence func(*bench) attest.Evidence
		expect   func(*attest.Expectation)
		want     error
	}{
		"another device's evidence": {evidence: func(b *bench) attest.Evidence { other.nonce = b.nonce; return other.evidence() }, want: attest.ErrUntrusted},
		"another device's evidence, both endorsed": {
			change: func(b *bench) {
				e := b.collateral.Endorsements[0]
				e.UEID, e.Key = other.identity.UEID, other.attestKey.Public()
				b.collateral.Endorsements = append(b.collateral.Endorsements, e)
			},
			evidence: func(b *bench) attest.Evidence { other.nonce = b.nonce; return other.evidence() }, want: attest.ErrKeyBinding},
		"a genuine key speaks for another device": {evidence: func(b *bench) attest.Evidence {
			return b.resign(func(c *eat.Claims) { c.UEID = bytes.Repeat([]byte{2}, 17) })
		}, want: attest.ErrUntrusted},
		"another class than endorsed": {evidence: func(b *bench) attest.Evidence {
			return b.resign(func(c *eat.Claims) { c.HWModel = []byte{1} })
		}, want: attest.ErrUntrusted},
		"another vendor than endorsed": {evidence: func(b *bench) attest.Evidence {
			return b.resign(func(c *eat.Claims) { c.OEMID = []byte{0x18, 0x63} })
		}, want: attest.ErrUntrusted},
		"old nonce":    {expect: func(x *attest.Expectation) { x.Nonce = []byte("fedcba9876543210") }, want: attest.ErrNotFresh},
		"nonce prefix": {expect: func(x *attest.Expectation) { x.Nonce = x.Nonce[:8] }, want: attest.ErrNotFresh},
		"longer nonce": {expect: func(x *attest.Expectation) { x.Nonce = append([]byte(nil), append(x.Nonce, 0)...) }, want: attest.ErrNotFresh},
		"no nonce":     {evidence: func(b *bench) attest.Evidence { return b.resign(func(c *eat.Claims) { c.Nonce = nil }) }, want: attest.ErrNotFresh},
		"expired": {evidence: func(b *bench) attest.Evidence {
			return b.resign(func(c *eat.Claims) { c.Expires = testNow.Add(-time.Hour) })
		}, want: attest.ErrNotFresh},
		"not yet valid": {evidence: func(b *bench) attest.Evidence {
			return b.resign(func(c *eat.Claims) { c.NotBefore = testNow.Add(time.Hour) })
		}, want: attest.ErrNotFresh},
		"from the future": {evidence: func(b *bench) attest.Evidence {
			return b.resign(func(c *eat.Claims) { c.IssuedAt = testNow.Add(time.Hour) })
		}, want: attest.ErrNotFresh},
		"no iat, no nonce": {evidence: func(b *bench) attest.Evidence { return b.resign(func(c *eat.Claims) { c.IssuedAt = time.Time{} }) },
			expect: func(x *attest.Expectation) { x.Nonce = nil }, want: attest.ErrNotFresh},
		"another agent's key": {expect: func(x *attest.Expectation) { x.AgentKey = other.agentKey.Public() }, want: attest.ErrKeyBinding},
		"no agent key":        {expect: func(x *attest.Expectation) { x.AgentKey = nil }, want: attest.ErrKeyBinding},
		"cnf with another key": {evidence: func(b *bench) attest.Evidence {
			return b.resign(func(c *eat.Claims) { c.Confirmation = eat.Confirm(other.agentKey) })
		}, want: attest.ErrKeyBinding},
		"cnf that contradicts itself": {evidence: func(b *bench) attest.Evidence {
			return b.resign(func(c *eat.Claims) { c.Confirmation.Key = other.agentKey.Public() })
		}, want: attest.ErrKeyBinding},
		"cnf with a truncated thumbprint": {evidence: func(b *bench) attest.Evidence {
			return b.resign(func(c *eat.Claims) { c.Confirmation.KeyID = c.Confirmation.KeyID[:16] })
		}, want: attest.ErrKeyBinding},
		"revoked endorsement": {change: func(b *bench) { b.collateral.Endorsements[0].Revoked = "lost" }, want: attest.ErrUntrusted},
		"expired endorsement": {change: func(b *bench) { b.collateral.Endorsements[0].Expires = testNow }, want: attest.ErrUntrusted},
		"no endorsement":      {change: func(b *bench) { b.collateral.Endorsements = nil }, want: attest.ErrUntrusted},
		"other media type": {evidence: func(b *bench) attest.Evidence {
			e := b.evidence()
			e.MediaType = "application/eat+cwt"
			return e
		}, want: attest.ErrUnknownType},
		"bundle media type": {evidence: func(b *bench) attest.Evidence {
			e := b.evidence()
			e.MediaType = eat.BundleMediaType
			return e
		}, want: attest.ErrFormat},
		"an attestation result": {evidence: func(b *bench) attest.Evidence {
			return b.resign(func(c *eat.Claims) { c.Appraised, c.Status = true, attest.StatusAffirming })
		}, want: attest.ErrFormat},
		"empty": {evidence: func(*bench) attest.Evidence { return attest.Evidence{MediaType: eat.MediaType} }, want: attest.ErrFormat},
		"oversize": {evidence: func(*bench) attest.Evidence {
			return attest.Evidence{MediaType: eat.MediaType, Payload: make([]byte, eat.MaxTokenBytes+1)}
		}, want: attest.ErrFormat},
	} {
		t.Run(name, func(t *testing.T) {
			var changes []func(*bench)
			if c.change != nil {
				changes = append(changes, c.change)
			}
			b := newBench(t, changes...)
			e := b.evidence()
			if c.evidence != nil {
				e = c.evidence(b)
			}
			x := b.expectation()
			if c.expect != nil {
				c.expect(&x)
			}
			r, err := b.verifier.Appraise(context.Background(), e, x)
			if r != nil || !errors.Is(err, c.want) {
				t.Errorf("%v, %v; want %v", r, err, c.want)
			}
		})
	}
}

// TestOneKeyForBoth: a device that signs Evidence and messages with one key is refused.
func TestOneKeyForBoth(t *testing.T) {
	b := newBench(t)
	if _, err := b.attester.Attest(context.Background(), "", attest.Request{Nonce: b.nonce, AgentKey: b.attestKey.Public()}); err == nil {
		t.Error("the attester attested its own key")
	}
	e := b.resign(func(c *eat.Claims) { c.Confirmation = eat.Confirm(b.attestKey) })
	_, err := b.verifier.Appraise(context.Background(), e, attest.Expectation{Nonce: b.nonce, AgentKey: b.attestKey.Public()})
	if !errors.Is(err, attest.ErrKeyBinding) {
		t.Error(err)
	}
}

func TestMissingClaims(t *testing.T) {
	for name, drop := range map[string]func(*eat.Claims){
		"ueid":      func(c *eat.Claims) { c.UEID = nil },
		"oemid":     func(c *eat.Claims) { c.OEMID, c.HWModel, c.HWVersion = nil, nil, nil },
		"hwmodel":   func(c *eat.Claims) { c.HWModel, c.HWVersion = nil, nil },
		"hwversion": func(c *eat.Claims) { c.HWVersion = nil },
		"manifests": func(c *eat.Claims) { c.Manifests = nil },
		"cnf":       func(c *eat.Claims) { c.Confirmation = nil },
	} {
		b := newBench(t)
		r, err := b.appraise(b.resign(drop))
		if r != nil || !errors.Is(err, attest.ErrFormat) || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v, %v", name, r, err)
		}
		if name == "cnf" && !errors.Is(err, attest.ErrKeyBinding) {
			t.Errorf("without cnf: %v", err)
		}
	}
	b := newBench(t)
	if _, err := b.appraise(b.resign(func(c *eat.Claims) { c.Profile = "tag:example.com,2026:x" })); !errors.Is(err, attest.ErrFormat) {
		t.Errorf("another profile: %v", err)
	}
}

// TestVerdicts: authentic Evidence always gets a result, and the result says what is wrong.
func TestVerdicts(t *testing.T) {
	ref := func(change func(*appraisal.Reference)) func(*bench) {
		return func(b *bench) { change(&b.collateral.References[0]) }
	}
	for name, c := range map[string]struct {
		change func(*bench)
		want   attest.Status
		text   string
	}{
		"known":                {nil, attest.StatusAffirming, "known to Maker"},
		"unknown measurement":  {func(b *bench) { b.identity.Measurement = make([]byte, 32) }, attest.StatusContraindicated, "not among the reference values"},
		"warning":              {ref(func(r *appraisal.Reference) { r.Status, r.Why = attest.StatusWarning, "slow" }), attest.StatusWarning, "slow"},
		"contraindicated":      {ref(func(r *appraisal.Reference) { r.Status, r.Why = attest.StatusContraindicated, "leaks" }), attest.StatusContraindicated, "leaks"},
		"expired reference":    {ref(func(r *appraisal.Reference) { r.Expires = testNow }), attest.StatusContraindicated, "expired"},
		"other component name": {ref(func(r *appraisal.Reference) { r.Name = "firmware" }), attest.StatusContraindicated, "not among"},
		"unknown class":        {func(b *bench) { b.collateral.References = nil }, attest.StatusContraindicated, "no reference values for vendor ieee:89-48-23"},
		"other class's values": {ref(func(r *appraisal.Reference) { r.Class.HWModel = []byte{1} }), attest.StatusContraindicated, "no reference values"},
		"debug enabled":        {func(b *bench) { b.identity.Debug = eat.DebugEnabled }, attest.StatusContraindicated, "debugging is enabled"},
		"debug not reported":   {func(b *bench) { b.identity.Debug = eat.DebugNotReported }, attest.StatusAffirming, "not reported"},
		"debug must be reported": {func(b *bench) {
			b.identity.Debug = eat.DebugNotReported
			b.collateral.References[0].RequireDebugDisabled = true
		}, attest.StatusContraindicated, "requires that it is disabled"},
		"weakness": {func(b *bench) { b.identity.Weaknesses = []string{"no monotonic counter: rollback is not detected"} }, attest.StatusWarning, "no monotonic counter"},
		"accepted weakness": {func(b *bench) {
			b.identity.Weaknesses = []string{"no monotonic counter: rollback is not detected"}
			b.collateral.References[0].AcceptedWeaknesses = []string{"no monotonic counter"}
		}, attest.StatusAffirming, "accepted by Maker"},
		"one of two weaknesses": {func(b *bench) {
			b.identity.Weaknesses = []string{"no monotonic counter: x", "swap is not encrypted"}
			b.collateral.References[0].AcceptedWeaknesses = []string{"no monotonic counter"}
		}, attest.StatusWarning, "swap"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			if c.change != nil {
				b = newBench(t, c.change)
			}
			r := b.mustAppraise(b.evidence())
			if r.Status != c.want {
				t.Errorf("%v, want %v: %+v", r.Status, c.want, r.Reasons)
			}
			found := false
			for _, reason := range r.Reasons {
				found = found || strings.Contains(reason.Text, c.text)
			}
			if !found {
				t.Errorf("no reason says %q: %+v", c.text, r.Reasons)
			}
		})
	}
}

func TestMeasurementsMustAllBeKnown(t *testing.T) {
	b := newBench(t)
	digest := appraisal.Digest{Algorithm: cose.AlgSHA256, Value: make([]byte, 32)}
	for name, add := range map[string]func(*eat.Claims){
		"a further component": func(c *eat.Claims) {
			c.Measurements = append(c.Measurements, eat.Measurement{Component: &eat.MeasuredComponent{Name: "rootkit", Digest: digest}})
		},
		"none at all": func(c *eat.Claims) { c.Measurements = nil },
	} {
		if r := b.mustAppraise(b.resign(add)); r.Status != attest.StatusContraindicated {
			t.Errorf("%s: %v", name, r.Status)
		}
	}
	r := b.mustAppraise(b.resign(func(c *eat.Claims) {
		c.Measurements = append(c.Measurements, eat.Measurement{ContentFormat: 258, Body: []byte{0x41, 0}})
	}))
	if r.Status != attest.StatusWarning {
		t.Errorf("a measurement in another format: %v", r.Status)
	}
	r = b.mustAppraise(b.resign(func(c *eat.Claims) {
		c.Submods = map[string]eat.Submodule{"modem": {Claims: &eat.Claims{Debug: eat.DebugEnabled}}}
	}))
	if r.Status != attest.StatusContraindicated {
		t.Errorf("a submodule in debug mode: %v", r.Status)
	}
}

// TestBitFlips changes every bit, and cuts at every length: none of it may pass.
func TestBitFlips(t *testing.T) {
	b := newBench(t)
	e := b.evidence()
	payload := func(p []byte) attest.Evidence { return attest.Evidence{MediaType: eat.MediaType, Payload: p} }
	for i := range e.Payload {
		for bit := range 8 {
			flipped := bytes.Clone(e.Payload)
			flipped[i] ^= 1 << bit
			if r, err := b.appraise(payload(flipped)); err == nil {
				t.Fatalf("bit %d of byte %d changed, result %v", bit, i, r.Status)
			}
		}
		if _, err := b.appraise(payload(e.Payload[:i])); err == nil {
			t.Fatalf("cut at %d and accepted", i)
		}
	}
	if _, err := b.appraise(payload(append(bytes.Clone(e.Payload), 0))); !errors.Is(err, attest.ErrFormat) {
		t.Errorf("trailing byte: %v", err)
	}
}

// TestDowngrade: the same key under an older algorithm identifier is refused unless listed.
func TestDowngrade(t *testing.T) {
	b := newBench(t)
	payload, err := cose.UnverifiedPayload(b.evidence().Payload)
	if err != nil {
		t.Fatal(err)
	}
	s, err := b.attestKey.SignerFor(cose.AlgES256)
	if err != nil {
		t.Fatal(err)
	}
	token, err := cose.Sign1(rand.Reader, payload, s, cose.SignOptions{})
	if err != nil {
		t.Fatal(err)
	}
	e := attest.Evidence{MediaType: eat.MediaType, Payload: token}
	if _, err := b.appraise(e); !errors.Is(err, attest.ErrSignature) {
		t.Errorf("ES256 by default: %v", err)
	}
	c := b.verifierConfig()
	c.Algorithms = []cose.Algorithm{cose.AlgES256}
	if b.verifier, err = eat.NewVerifier(c); err != nil {
		t.Fatal(err)
	}
	b.mustAppraise(e)
}

func TestMediaTypes(t *testing.T) {
	b := newBench(t)
	for mediaType, want := range map[string]bool{
		eat.MediaType:       true,
		eat.BundleMediaType: true,
		"":                  true,
		"application/eat+cwt; eat_profile=urn:ietf:rfc:rfcXXXX":  true,
		`APPLICATION/EAT+CWT;eat_profile="urn:ietf:rfc:rfcXXXX"`: true,
		"application/eat+cwt": false,
		`application/eat+cwt; eat_profile="urn:ietf:rfc:rfc9999"`:          false,
		`application/eat+cwt; eat_profile="urn:ietf:rfc:rfcXXXX"; x=1`:     false,
		`application/eat+cwt; eat_profile="urn:ietf:rfc:rfcXXXX2"`:         false,
		"application/eat+cwt; eat_profile=urn:ietf:rfc:rfcXXXX2":           false,
		`application/eat+jwt; eat_profile="urn:ietf:rfc:rfcXXXX"`:          false,
		`application/eat+cwt; eat_profile="tag:ietf.org,2026:rats/ear#03"`: false,
		"application/psa-attestation-token":                                false,
		"eat":                                                              false,
		";":                                                                false,
	} {
		if got := b.verifier.Accepts(mediaType); got != want {
			t.Errorf("Accepts(%q) = %v", mediaType, got)
		}
	}
	if _, err := b.attester.Attest(context.Background(), "text/plain", attest.Request{AgentKey: b.agentKey.Public()}); !errors.Is(err, attest.ErrUnknownType) {
		t.Error(err)
	}
}
