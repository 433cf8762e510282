package tam_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	teepagent "github.com/go-teep/teep/agent"
	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tee"
	"github.com/go-teep/teep/teeptest"
)

// counted counts what a verifier accepted.
type counted struct {
	attest.Verifier
	n *atomic.Int32
}

func (c counted) Appraise(ctx context.Context, e attest.Evidence, x attest.Expectation) (*attest.Result, error) {
	r, err := c.Verifier.Appraise(ctx, e, x)
	if err == nil {
		c.n.Add(1)
	}
	return r, err
}

// models is a world in which real agents meet a real TAM, and counts which model of RFC 9334 §5
// attestation went by.
type models struct {
	background, passport atomic.Int32
	verifier             attest.Verifier
}

func (m *models) options(o teeptest.Options) teeptest.Options {
	tamConfig := o.TAMConfig
	o.TAMConfig = func(c *tam.Config) {
		m.verifier = c.Verifier
		c.Verifier, c.Results = counted{c.Verifier, &m.background}, counted{c.Results, &m.passport}
		if tamConfig != nil {
			tamConfig(c)
		}
	}
	return o
}

func (m *models) expect(t *testing.T, background, passport int32) {
	t.Helper()
	if b, p := m.background.Load(), m.passport.Load(); b != background || p != passport {
		t.Fatalf("%d appraisals of Evidence and %d Attestation Results, expected %d and %d", b, p, background, passport)
	}
}

func request(t *testing.T, d *teeptest.Device, name string) {
	t.Helper()
	if err := d.Request(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if d.Sequence(name) == 0 {
		t.Fatalf("%s is not installed", name)
	}
}

// TestPassportUnderAToken: the passport model with a nonce. The TAM has no verifier at all; the
// agent brings the result of one that the TAM trusts, with the token in it.
func TestPassportUnderAToken(t *testing.T) {
	var m models
	w := teeptest.New(t, m.options(teeptest.Options{
		TAMPolicy:   tam.Policy{Query: tam.QueryToken},
		TAMConfig:   func(c *tam.Config) { c.Verifier = nil },
		AgentPolicy: teepagent.Policy{Passports: true},
		Appraiser:   appraiser(func() attest.Verifier { return m.verifier }),
	}))
	w.Publish(w.Component("hello", 1, "one"))
	request(t, w.Device, "hello")
	m.expect(t, 0, 1)
	// A result by a verifier that the TAM does not know is worth nothing.
	stranger, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	must(t, err)
	m.verifier = resigned{m.verifier, signer(t, stranger)}
	other := w.AddDevice("other")
	if err := other.Request(t.Context(), "hello"); err == nil || other.Sequence("hello") != 0 || other.Believed() != nil {
		t.Fatalf("installed by the word of a stranger: %v", err)
	}
	m.expect(t, 0, 1)
}

// appraiser is a verifier as a broker reaches it: it knows the agent's key from the Evidence alone.
type appraiser func() attest.Verifier

func (v appraiser) Appraise(ctx context.Context, mediaType string, evidence, nonce []byte) (string, []byte, error) {
	e := attest.Evidence{MediaType: mediaType, Payload: evidence}
	_, key, err := (&eat.Verifier{}).Peek(e)
	if err != nil {
		return "", nil, err
	}
	r, err := v().Appraise(ctx, e, attest.Expectation{Nonce: nonce, AgentKey: key})
	if err != nil {
		return "", nil, err
	}
	return r.MediaType, r.Token, nil
}

// TestPassportOrElseEvidence: a broker whose verifier is away, or answers another question, leaves an
// agent that attests itself by Evidence.
func TestPassportOrElseEvidence(t *testing.T) {
	var m models
	lies := false
	honest := appraiser(func() attest.Verifier { return m.verifier })
	var earlier []byte
	w := teeptest.New(t, m.options(teeptest.Options{
		TAMPolicy:   tam.Policy{Query: tam.QueryToken, ReattestAfter: time.Nanosecond},
		AgentPolicy: teepagent.Policy{Passports: true},
		Appraiser: appraise(func(ctx context.Context, mediaType string, evidence, nonce []byte) (string, []byte, error) {
			if !lies {
				_, result, err := honest.Appraise(ctx, mediaType, evidence, nonce)
				earlier = result
				return "", nil, errors.Join(err, errors.New("the verifier is away"))
			}
			return "", earlier, nil
		}),
	}))
	for i, name := range []string{"one", "two"} {
		lies = i == 1
		w.Clock.Advance(time.Minute)
		w.Publish(w.Component(name, 1, name))
		request(t, w.Device, name)
		m.expect(t, int32(i+1), 0)
	}
}

type appraise func(ctx context.Context, mediaType string, evidence, nonce []byte) (string, []byte, error)

func (f appraise) Appraise(ctx context.Context, mediaType string, evidence, nonce []byte) (string, []byte, error) {
	return f(ctx, mediaType, evidence, nonce)
}

// resigned is a verifier whose results another key signs.
type resigned struct {
	attest.Verifier
	key cose.Signer
}

func (v resigned) Appraise(ctx context.Context, e attest.Evidence, x attest.Expectation) (*attest.Result, error) {
	r, err := v.Verifier.Appraise(ctx, e, x)
	if err != nil {
		return nil, err
	}
	payload, err := cose.UnverifiedPayload(r.Token)
	if err == nil {
		r.Token, err = cose.Sign1(rand.Reader, payload, v.key, cose.SignOptions{Untagged: true})
	}
	return r, err
}

// TestPassportPassedBack: the TAM passes its verifier's result back in an Update (TEEP §4.4), and the
// agent presents that instead of new Evidence, unsolicited when its three conditions hold.
func TestPassportPassedBack(t *testing.T) {
	var m models
	w := teeptest.New(t, m.options(teeptest.Options{
		TAMPolicy:   tam.Policy{Query: tam.QueryTimestamp, AcceptTimestamps: true, PassResults: true},
		AgentPolicy: teepagent.Policy{Timestamps: true, PassportAge: 30 * time.Minute},
	}))
	for _, name := range []string{"one", "two", "three", "four"} {
		w.Publish(w.Component(name, 1, name))
	}
	request(t, w.Device, "one")
	m.expect(t, 1, 0)
	request(t, w.Device, "two")
	m.expect(t, 1, 1)
	w.Clock.Advance(20 * time.Minute)
	request(t, w.Device, "three")
	m.expect(t, 1, 2)
	w.Clock.Advance(20 * time.Minute)
	request(t, w.Device, "four") // the passport is too old by the agent's policy
	m.expect(t, 2, 2)
}

// TestPassportAfterAChallenge: the result holds the challenge, which was used up with the Evidence.
func TestPassportAfterAChallenge(t *testing.T) {
	var m models
	policy := tam.Policy{AcceptTimestamps: true, PassResults: true}
	w := teeptest.New(t, m.options(teeptest.Options{
		AgentPolicy: teepagent.Policy{PassportAge: 2 * time.Hour},
		TAMConfig:   func(c *tam.Config) { c.Policy = policy },
	}))
	for _, name := range []string{"one", "two", "three"} {
		w.Publish(w.Component(name, 1, name))
	}
	request(t, w.Device, "one")
	m.expect(t, 1, 0)
	policy.Query = tam.QueryTimestamp
	w.RestartTAM()
	request(t, w.Device, "two")
	m.expect(t, 1, 2) // under the challenge, which turned out to be used up, and by its timestamp
	// What has grown too old for the TAM is answered with ERR_ATTESTATION_REQUIRED; the agent
	// drops it and, since it knows nonces only, is asked with a challenge the next time.
	w.Clock.Advance(90 * time.Minute)
	if err := w.Device.Request(t.Context(), "three"); err == nil {
		t.Fatal("an expired Attestation Result was accepted")
	}
	w.Clock.Advance(10 * time.Minute)
	request(t, w.Device, "three")
	m.expect(t, 2, 2)
}

// TestTimestampsRefused: an agent that knows nonces only says so, and is asked with a challenge.
func TestTimestampsRefused(t *testing.T) {
	var m models
	w := teeptest.New(t, m.options(teeptest.Options{
		TAMPolicy: tam.Policy{Query: tam.QueryTimestamp, AcceptTimestamps: true},
	}))
	w.Publish(w.Component("hello", 1, "one"))
	request(t, w.Device, "hello")
	m.expect(t, 1, 0)
}

// TestTAMAttestsItself: the agent demands attestation of the TAM first (TEEP §7.2.1), on both sides
// with real tokens.
func TestTAMAttestsItself(t *testing.T) {
	for _, query := range []tam.Query{tam.QueryAttested, tam.QueryToken, tam.QueryTimestamp} {
		w := teeptest.New(t, teeptest.Options{MustAttest: true, TAMPolicy: tam.Policy{Query: query, AcceptTimestamps: true}})
		for _, name := range []string{"one", "two", "three"} {
			w.Publish(w.Component(name, 1, name))
			request(t, w.Device, name) // in quick succession
		}
	}
}

// TestAttestationOfTheTAMIsEncrypted where the agent's key is known, and for nobody else (TEEP §13).
func TestAttestationOfTheTAMIsEncrypted(t *testing.T) {
	ofAgent, ofOther := key(t, cose.AlgECDHESA128KW), key(t, cose.AlgECDHESA128KW)
	for name, test := range map[string]struct {
		to       *cose.Key
		installs bool
	}{"to the agent": {ofAgent, true}, "to another": {ofOther, false}} {
		var asked [][]byte
		w := teeptest.New(t, teeptest.Options{
			MustAttest: true,
			TAMConfig: func(c *tam.Config) {
				c.AgentEncryption = func(agent []byte) *cose.Key {
					asked = append(asked, agent)
					return test.to.Public()
				}
			},
			AgentConfig: func(c *teepagent.Config) { c.TEE = decrypting{c.TEE, ofAgent} },
		})
		w.Publish(w.Component("one", 1, "one"))
		err := w.Device.Request(t.Context(), "one")
		if (err == nil) != test.installs || len(asked) == 0 || len(asked[0]) != 32 {
			t.Errorf("%s: %v; asked for the key of %x", name, err, asked)
		}
	}
}

// decrypting is a TEE with another key for what is encrypted to it.
type decrypting struct {
	tee.TEE
	key *cose.Key
}

func (d decrypting) Keys() tee.Keys { return decryptingKeys{d.TEE.Keys(), d.key} }

type decryptingKeys struct {
	tee.Keys
	key *cose.Key
}

func (d decryptingKeys) Decryption() (*cose.Key, error) { return d.key, nil }

// TestTAMThatCannotAttestItself gets nothing told and nothing installed.
func TestTAMThatCannotAttestItself(t *testing.T) {
	w := teeptest.New(t, teeptest.Options{MustAttest: true, TAMConfig: func(c *tam.Config) { c.Attester = nil }})
	w.Publish(w.Component("one", 1, "one"))
	if err := w.Device.Request(t.Context(), "one"); err == nil || len(w.Device.Installed()) != 0 || w.Device.Believed() != nil {
		t.Fatalf("%v, installed %v", err, w.Device.Installed())
	}
}

// bundler turns Evidence into a Detached EAT Bundle (RFC 9711 §5) whose token holds the digest of one
// claims set.
type bundler struct {
	t     *testing.T
	key   cose.Signer
	inner attest.Attester
	spoil bool
}

func (b bundler) MediaTypes() []string { return []string{eat.BundleMediaType} }

func (b bundler) Attest(ctx context.Context, _ string, r attest.Request) (attest.Evidence, error) {
	e, err := b.inner.Attest(ctx, "", r)
	must(b.t, err)
	payload, err := cose.UnverifiedPayload(e.Payload)
	must(b.t, err)
	claims, err := eat.ParseClaims(payload)
	must(b.t, err)
	set, err := cbor.Marshal(map[int]any{263: 1}) // dbgstat: disabled
	must(b.t, err)
	sum := sha256.Sum256(set)
	claims.Submods = map[string]eat.Submodule{"modem": {Detached: &appraisal.Digest{Algorithm: cose.AlgSHA256, Value: sum[:]}}}
	payload, err = claims.Encode()
	must(b.t, err)
	token, err := cose.Sign1(rand.Reader, payload, b.key, cose.SignOptions{})
	must(b.t, err)
	if b.spoil {
		set[len(set)-1] = 0 // dbgstat: enabled
	}
	bundle := eat.Bundle{Token: token, Detached: map[string][]byte{"modem": set}}
	data, err := bundle.Encode()
	must(b.t, err)
	return attest.Evidence{MediaType: eat.BundleMediaType, Payload: data}, nil
}

func TestDetachedBundles(t *testing.T) {
	for name, spoil := range map[string]bool{"whole": false, "with a changed claims set": true} {
		t.Run(name, func(t *testing.T) {
			w := teeptest.New(t, teeptest.Options{AgentConfig: func(c *teepagent.Config) {
				key, err := c.TEE.Keys().Signer(tee.KeyAttestation)
				must(t, err)
				c.Attester = bundler{t, key, c.Attester, spoil}
			}})
			w.Publish(w.Component("hello", 1, "one"))
			if !spoil {
				request(t, w.Device, "hello")
			} else if err := w.Device.Request(t.Context(), "hello"); err == nil || w.Device.Believed() != nil {
				t.Fatalf("accepted: %v", err)
			}
		})
	}
}

// TestPassportsInBundles: an Attestation Result may come in a detached EAT bundle too, and whether one is a
// result or Evidence, which this TAM takes in bundles as well, its signer tells.
func TestPassportsInBundles(t *testing.T) {
	var own *cose.Key
	w := teeptest.New(t, teeptest.Options{
		TAMConfig: func(c *tam.Config) {
			own = key(t, cose.AlgESP256)
			trusted, err := cose.NewKeySet(own.Public())
			must(t, err)
			c.Results = tam.PassportVerifier(trusted, c.Clock)
		},
		AgentConfig: func(c *teepagent.Config) {
			signer, err := c.TEE.Keys().Signer(tee.KeyAttestation)
			must(t, err)
			c.Attester = bundler{t, signer, c.Attester, false}
		},
	})
	w.Publish(w.Component("hello", 1, "one"))
	request(t, w.Device, "hello")
	if v := tam.PassportVerifier(cose.KeySet{}, nil); !v.Accepts(eat.BundleMediaType) || !v.Accepts("") || v.Accepts("application/eat-bun+cbor") {
		t.Error("a passport verifier takes tokens and bundles of the TEEP profile")
	}
}
