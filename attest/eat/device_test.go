package eat_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
)

var testNow = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func newKey(t testing.TB, alg cose.Algorithm) *cose.Key {
	t.Helper()
	k, err := cose.GenerateKey(rand.Reader, alg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newSigner(t testing.TB, k *cose.Key) cose.Signer {
	t.Helper()
	s, err := k.Signer()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// bench is one device, one verifier that knows it, and the clock of both.
type bench struct {
	testing.TB
	now                              time.Time
	agentKey, attestKey, verifierKey *cose.Key
	identity                         eat.Identity
	collateral                       *appraisal.Collateral
	store                            *appraisal.Store
	attester                         *eat.Attester
	verifier                         *eat.Verifier
	nonce                            []byte
}

func newBench(t testing.TB, change ...func(*bench)) *bench {
	t.Helper()
	measurement := sha256.Sum256([]byte("agent"))
	oemid, err := attest.ParseOEMID("ieee:89-48-23")
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{
		TB: t, now: testNow, nonce: []byte("0123456789abcdef"),
		agentKey: newKey(t, cose.AlgESP256), attestKey: newKey(t, cose.AlgESP256), verifierKey: newKey(t, cose.AlgESP256),
		identity: eat.Identity{
			UEID: append([]byte{1}, bytes.Repeat([]byte{0xab}, 16)...), OEMID: oemid,
			HWModel: []byte{0x54, 0x9d}, HWVersion: "1.3.4", AgentName: "teep-agent", AgentVersion: "1.2.0",
			Measurement: measurement[:], Debug: eat.DebugDisabled,
		},
	}
	class := appraisal.Class{OEMID: oemid, HWModel: b.identity.HWModel}
	b.collateral = &appraisal.Collateral{
		Owner: "Maker", Expires: testNow.AddDate(1, 0, 0),
		Endorsements: []appraisal.Endorsement{{Owner: "Maker", UEID: b.identity.UEID, Key: b.attestKey.Public(), Class: class}},
		References: []appraisal.Reference{{Owner: "Maker", Class: class, Name: "teep-agent", Version: "1.2.0",
			Algorithm: cose.AlgSHA256, Digest: measurement[:], Status: attest.StatusAffirming}},
	}
	for _, f := range change {
		f(b)
	}
	if b.store, err = appraisal.NewStore(b.collateral); err != nil {
		t.Fatal(err)
	}
	b.attester, err = eat.NewAttester(eat.AttesterConfig{Identity: b.identity, Signer: newSigner(t, b.attestKey), Now: b.clock, Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	b.verifier, err = eat.NewVerifier(b.verifierConfig())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) clock() time.Time { return b.now }

func (b *bench) verifierConfig() eat.VerifierConfig {
	return eat.VerifierConfig{Signer: newSigner(b, b.verifierKey), Developer: "tester", Build: "1",
		Endorsements: b.store, References: b.store, Now: b.clock, Rand: rand.Reader}
}

var components = []attest.Component{
	{ID: [][]byte{[]byte("hello")}, ManifestURI: "https://example.com/hello.suit", ManifestDigest: bytes.Repeat([]byte{7}, 32), SequenceNumber: 3},
	{ID: [][]byte{[]byte("hello"), {1}}, ManifestDigest: bytes.Repeat([]byte{8}, 32), SequenceNumber: 1 << 40},
}

func (b *bench) evidence() attest.Evidence {
	b.Helper()
	e, err := b.attester.Attest(context.Background(), "", attest.Request{Nonce: b.nonce, AgentKey: b.agentKey.Public(), Components: components})
	if err != nil {
		b.Fatal(err)
	}
	return e
}

func (b *bench) expectation() attest.Expectation {
	return attest.Expectation{Nonce: b.nonce, AgentKey: b.agentKey.Public(), MaxAge: time.Minute}
}

func (b *bench) appraise(e attest.Evidence) (*attest.Result, error) {
	return b.verifier.Appraise(context.Background(), e, b.expectation())
}

func (b *bench) mustAppraise(e attest.Evidence) *attest.Result {
	b.Helper()
	r, err := b.appraise(e)
	if err != nil {
		b.Fatal(err)
	}
	return r
}

// claims reads the claims of Evidence that the bench's own attester made.
func claimsOf(t testing.TB, token []byte) *eat.Claims {
	t.Helper()
	payload, err := cose.UnverifiedPayload(token)
	if err != nil {
		t.Fatal(err)
	}
	c, err := eat.ParseClaims(payload)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// resign signs changed claims with the attestation key, as a device whose software lies would.
func (b *bench) resign(change func(*eat.Claims)) attest.Evidence {
	b.Helper()
	c := claimsOf(b, b.evidence().Payload)
	change(c)
	payload, err := c.Encode()
	if err != nil {
		b.Fatal(err)
	}
	return b.signRaw(payload)
}

func (b *bench) signRaw(payload []byte) attest.Evidence {
	b.Helper()
	token, err := cose.Sign1(rand.Reader, payload, newSigner(b, b.attestKey), cose.SignOptions{})
	if err != nil {
		b.Fatal(err)
	}
	return attest.Evidence{MediaType: eat.MediaType, Payload: token}
}
