package eat_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
)

func keySet(t testing.TB, keys ...*cose.Key) cose.KeySet {
	t.Helper()
	set, err := cose.NewKeySet(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func (b *bench) relying() eat.ResultExpectation {
	return eat.ResultExpectation{Verifiers: keySet(b, b.verifierKey.Public()), Key: b.agentKey.Public(), Nonce: b.nonce, Now: b.now}
}

func TestCheckResult(t *testing.T) {
	b := newBench(t, func(b *bench) { b.identity.Weaknesses = []string{"weak"} })
	want := b.mustAppraise(b.evidence())
	got, err := eat.CheckResult(want.Token, b.relying())
	if err != nil {
		t.Fatal(err)
	}
	if got.Status != attest.StatusWarning || got.Status != want.Status || len(got.Reasons) != len(want.Reasons) ||
		len(got.Components) != 2 || !bytes.Equal(got.UEID, want.UEID) || !bytes.Equal(got.Measurement, want.Measurement) ||
		!got.IssuedAt.Equal(want.IssuedAt) || !got.Expires.Equal(want.Expires) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

// TestResultClaims looks at the token as another relying party would: EAR beside TEEP.
func TestResultClaims(t *testing.T) {
	b := newBench(t)
	c := claimsOf(t, b.mustAppraise(b.evidence()).Token)
	if err := c.CheckProfile(); err != nil {
		t.Error(err)
	}
	sub := c.Submods[eat.AppraisalLabel].Claims
	if !c.Appraised || c.VerifierID == nil || c.VerifierID.Developer != "tester" || sub == nil || !sub.Appraised {
		t.Fatalf("%+v", c)
	}
	if sub.Vector[appraisal.Executables] != appraisal.Affirmed || sub.Vector[appraisal.InstanceIdentity] != appraisal.Affirmed || !bytes.Equal(sub.Nonce, b.nonce) {
		t.Errorf("%+v", sub)
	}
	if !bytes.Equal(c.Confirmation.KeyID, b.agentKey.Thumbprint()) {
		t.Errorf("cnf %x", c.Confirmation.KeyID)
	}
}

// resignResult signs changed claims of a result with the verifier's key.
func (b *bench) resignResult(change func(*eat.Claims)) []byte {
	b.Helper()
	c := claimsOf(b, b.mustAppraise(b.evidence()).Token)
	change(c)
	payload, err := c.Encode()
	if err != nil {
		b.Fatal(err)
	}
	token, err := cose.Sign1(rand.Reader, payload, newSigner(b, b.verifierKey), cose.SignOptions{})
	if err != nil {
		b.Fatal(err)
	}
	return token
}

func TestCheckResultRefuses(t *testing.T) {
	b := newBench(t)
	good := b.mustAppraise(b.evidence()).Token
	stranger := newKey(t, cose.AlgESP256)
	for name, c := range map[string]struct {
		token  []byte
		expect func(*eat.ResultExpectation)
		want   error
	}{
		"unknown verifier":           {good, func(x *eat.ResultExpectation) { x.Verifiers = keySet(t, stranger.Public()) }, attest.ErrUntrusted},
		"signed by the agent itself": {good, func(x *eat.ResultExpectation) { x.Key = b.verifierKey.Public() }, attest.ErrUntrusted},
		"other key":                  {good, func(x *eat.ResultExpectation) { x.Key = stranger.Public() }, attest.ErrKeyBinding},
		"other hash only":            {good, func(x *eat.ResultExpectation) { x.Hashes = []cose.Algorithm{cose.AlgSHA384} }, attest.ErrKeyBinding},
		"other nonce":                {good, func(x *eat.ResultExpectation) { x.Nonce = []byte("another nonce") }, attest.ErrNotFresh},
		"expired":                    {good, func(x *eat.ResultExpectation) { x.Now = x.Now.Add(2 * time.Hour) }, attest.ErrNotFresh},
		"from the future":            {good, func(x *eat.ResultExpectation) { x.Now = x.Now.Add(-time.Hour) }, attest.ErrNotFresh},
		"too old":                    {good, func(x *eat.ResultExpectation) { x.Nonce, x.MaxAge, x.Now = nil, time.Minute, x.Now.Add(5*time.Minute) }, attest.ErrNotFresh},
		"never expires":              {b.resignResult(func(c *eat.Claims) { c.Expires = time.Time{} }), func(x *eat.ResultExpectation) { x.Nonce = nil }, attest.ErrNotFresh},
		"no iat":                     {b.resignResult(func(c *eat.Claims) { c.IssuedAt = time.Time{} }), func(x *eat.ResultExpectation) { x.Nonce, x.MaxAge = nil, time.Hour }, attest.ErrNotFresh},
		"no cnf":                     {b.resignResult(func(c *eat.Claims) { c.Confirmation = nil }), nil, attest.ErrKeyBinding},
		"no ueid":                    {b.resignResult(func(c *eat.Claims) { c.UEID = nil }), nil, attest.ErrFormat},
		"no manifests":               {b.resignResult(func(c *eat.Claims) { c.Manifests = nil }), nil, attest.ErrFormat},
		"component without version": {b.resignResult(func(c *eat.Claims) {
			for _, s := range c.Submods[eat.AppraisalLabel].Claims.Submods {
				s.Claims.SWVersion = nil
			}
		}), nil, attest.ErrFormat},
		"component with a bad version": {b.resignResult(func(c *eat.Claims) {
			for _, s := range c.Submods[eat.AppraisalLabel].Claims.Submods {
				s.Claims.SWVersion = &eat.Version{Text: "-1"}
			}
		}), nil, attest.ErrFormat},
		"evidence for a result": {b.evidence().Payload, nil, attest.ErrUntrusted},
		"truncated":             {good[:len(good)-1], nil, attest.ErrFormat},
		"empty":                 {nil, nil, attest.ErrFormat},
	} {
		t.Run(name, func(t *testing.T) {
			x := b.relying()
			if c.expect != nil {
				c.expect(&x)
			}
			if r, err := eat.CheckResult(c.token, x); r != nil || !errors.Is(err, c.want) {
				t.Errorf("%v, %v; want %v", r, err, c.want)
			}
		})
	}
	for name, drop := range map[string]func(*eat.ResultExpectation){
		"verifiers": func(x *eat.ResultExpectation) { x.Verifiers = nil },
		"key":       func(x *eat.ResultExpectation) { x.Key = nil },
		"time":      func(x *eat.ResultExpectation) { x.Now = time.Time{} },
	} {
		x := b.relying()
		drop(&x)
		if r, err := eat.CheckResult(good, x); r != nil || err == nil {
			t.Errorf("without %s: %v, %v", name, r, err)
		}
	}
}

// TestSilentVerifier: a result that says nothing about trust affirms nothing, and a part that is
// worse than the whole counts.
func TestSilentVerifier(t *testing.T) {
	b := newBench(t)
	silent := b.resignResult(func(c *eat.Claims) { c.Appraised, c.Status, c.Submods = false, attest.StatusNone, nil })
	if r, err := eat.CheckResult(silent, b.relying()); err != nil || r.Status != attest.StatusNone {
		t.Errorf("%+v, %v", r, err)
	}
	rosy := b.resignResult(func(c *eat.Claims) {
		c.Submods[eat.AppraisalLabel].Claims.Vector[appraisal.Hardware] = appraisal.HardwareUnrecognized
	})
	if r, err := eat.CheckResult(rosy, b.relying()); err != nil || r.Status != attest.StatusContraindicated {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestResultBitFlips(t *testing.T) {
	b := newBench(t)
	token := b.mustAppraise(b.evidence()).Token
	for i := range token {
		for bit := range 8 {
			flipped := bytes.Clone(token)
			flipped[i] ^= 1 << bit
			if r, err := eat.CheckResult(flipped, b.relying()); err == nil {
				t.Fatalf("bit %d of byte %d changed: %v", bit, i, r.Status)
			}
		}
		if r, err := eat.CheckResult(token[:i], b.relying()); err == nil {
			t.Fatalf("cut at %d: %v", i, r.Status)
		}
	}
}

// TestPassport: the agent fetches a result and brings it; without a nonce it must be fresh by time.
func TestPassport(t *testing.T) {
	b := newBench(t)
	token := b.mustAppraise(b.evidence()).Token
	x := b.relying()
	x.Nonce = nil
	if _, err := eat.CheckResult(token, x); err != nil {
		t.Error(err)
	}
	x.MaxAge, x.Now = time.Minute, x.Now.Add(time.Minute)
	if _, err := eat.CheckResult(token, x); err != nil {
		t.Error(err)
	}
}

// TestOtherHash: cnf may name the key by SHA-384 where a SUIT profile in use has it.
func TestOtherHash(t *testing.T) {
	b := newBench(t)
	kid, err := b.agentKey.ThumbprintWith(cose.AlgSHA384)
	if err != nil {
		t.Fatal(err)
	}
	token := b.resignResult(func(c *eat.Claims) { c.Confirmation.KeyID = kid })
	x := b.relying()
	if _, err := eat.CheckResult(token, x); !errors.Is(err, attest.ErrKeyBinding) {
		t.Error(err)
	}
	x.Hashes = []cose.Algorithm{cose.AlgSHA256, cose.AlgSHA384}
	if _, err := eat.CheckResult(token, x); err != nil {
		t.Error(err)
	}
}

func TestConfirmationByKeyAndThumbprint(t *testing.T) {
	b := newBench(t)
	for name, cnf := range map[string]*eat.Confirmation{
		"COSE_Key": {Key: b.agentKey.Public()},
		"ckt":      {Thumbprint: b.agentKey.Thumbprint()},
		"all":      {Key: b.agentKey.Public(), Thumbprint: b.agentKey.Thumbprint(), KeyID: b.agentKey.Thumbprint()},
	} {
		if _, err := b.appraise(b.resign(func(c *eat.Claims) { c.Confirmation = cnf })); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := &eat.Claims{Confirmation: &eat.Confirmation{Key: b.agentKey}}
	if _, err := c.Encode(); err == nil {
		t.Error("a private key was encoded into cnf")
	}
	if err := (&eat.Confirmation{}).Names(b.agentKey); !errors.Is(err, attest.ErrKeyBinding) {
		t.Errorf("an empty cnf names a key: %v", err)
	}
}

func TestEncrypt(t *testing.T) {
	b := newBench(t)
	recipient, stranger := newKey(t, cose.AlgECDHESA128KW), newKey(t, cose.AlgECDHESA128KW)
	token := b.evidence().Payload
	for _, alg := range []cose.Algorithm{0, cose.AlgA128GCM, cose.AlgChaCha20Poly1305, cose.AlgA128CTR} {
		msg, err := eat.Encrypt(rand.Reader, token, recipient.Public(), alg)
		if err != nil {
			t.Fatal(err)
		}
		if !eat.IsEncrypted(msg) || eat.IsEncrypted(token) || bytes.Contains(msg, b.identity.UEID) {
			t.Errorf("%v: the message is not encrypted, or not recognised", alg)
		}
		if !eat.IsEncrypted(msg[2:]) {
			t.Errorf("%v: not recognised without its tag", alg)
		}
		got, err := eat.Decrypt(msg, cose.DecryptKeys{stranger, recipient})
		if alg == cose.AlgA128CTR {
			if err == nil {
				t.Error("unauthenticated encryption was accepted without asking for it")
			}
			got, err = eat.Decrypt(msg, cose.DecryptKeys{recipient}, cose.AlgA128CTR)
		}
		if err != nil || !bytes.Equal(got, token) {
			t.Errorf("%v: %v", alg, err)
		}
		if _, err := eat.Decrypt(msg, cose.DecryptKeys{stranger}, alg); !errors.Is(err, attest.ErrFormat) {
			t.Errorf("%v: a stranger: %v", alg, err)
		}
		if _, err := b.appraise(attest.Evidence{MediaType: eat.MediaType, Payload: msg}); !errors.Is(err, attest.ErrFormat) {
			t.Errorf("%v: encrypted Evidence was appraised: %v", alg, err)
		}
	}
	// The KDF context keeps an encrypted SUIT report from passing as an EAT (TEEP §8.2).
	report, _, err := cose.Encrypt(rand.Reader, token, cose.AlgA128GCM, []cose.Recipient{cose.ECDHESRecipient(recipient.Public(), "SUIT Report Encryption")}, cose.EncryptOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := eat.Decrypt(report, cose.DecryptKeys{recipient}); !errors.Is(err, attest.ErrFormat) {
		t.Errorf("another KDF context: %v", err)
	}
	if _, err := eat.Encrypt(rand.Reader, token, recipient, 0); err == nil {
		t.Error("a private key was taken as recipient")
	}
	if _, err := eat.Decrypt(make([]byte, 1<<20), cose.DecryptKeys{recipient}); !errors.Is(err, attest.ErrFormat) {
		t.Errorf("oversize: %v", err)
	}
}

type brokenStore struct{ appraisal.Store }

var errBroken = errors.New("the database is gone")

func (*brokenStore) EndorsementFor([]byte) (*appraisal.Endorsement, error) { return nil, errBroken }
func (*brokenStore) ReferencesFor(appraisal.Class) ([]appraisal.Reference, error) {
	return nil, errBroken
}

// TestBrokenStore: a store that fails is not a verdict about the device.
func TestBrokenStore(t *testing.T) {
	b := newBench(t)
	for name, change := range map[string]func(*eat.VerifierConfig){
		"endorsements": func(c *eat.VerifierConfig) { c.Endorsements = &brokenStore{} },
		"references":   func(c *eat.VerifierConfig) { c.References = &brokenStore{} },
	} {
		c := b.verifierConfig()
		change(&c)
		v, err := eat.NewVerifier(c)
		if err != nil {
			t.Fatal(err)
		}
		_, err = v.Appraise(context.Background(), b.evidence(), b.expectation())
		if !errors.Is(err, errBroken) || errors.Is(err, attest.ErrUntrusted) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConfigurationErrors(t *testing.T) {
	b := newBench(t)
	for name, change := range map[string]func(*eat.VerifierConfig){
		"signer":       func(c *eat.VerifierConfig) { c.Signer = nil },
		"clock":        func(c *eat.VerifierConfig) { c.Now = nil },
		"randomness":   func(c *eat.VerifierConfig) { c.Rand = nil },
		"endorsements": func(c *eat.VerifierConfig) { c.Endorsements = nil },
		"references":   func(c *eat.VerifierConfig) { c.References = nil },
		"developer":    func(c *eat.VerifierConfig) { c.Developer = "" },
		"skew":         func(c *eat.VerifierConfig) { c.MaxSkew = -1 },
	} {
		c := b.verifierConfig()
		change(&c)
		if _, err := eat.NewVerifier(c); err == nil {
			t.Errorf("a verifier without %s", name)
		}
	}
	for name, change := range map[string]func(*eat.AttesterConfig){
		"signer":      func(c *eat.AttesterConfig) { c.Signer = nil },
		"clock":       func(c *eat.AttesterConfig) { c.Now = nil },
		"ueid":        func(c *eat.AttesterConfig) { c.Identity.UEID = nil },
		"short ueid":  func(c *eat.AttesterConfig) { c.Identity.UEID = []byte{1} },
		"oemid":       func(c *eat.AttesterConfig) { c.Identity.OEMID = nil },
		"hwmodel":     func(c *eat.AttesterConfig) { c.Identity.HWModel = nil },
		"hwversion":   func(c *eat.AttesterConfig) { c.Identity.HWVersion = "" },
		"name":        func(c *eat.AttesterConfig) { c.Identity.AgentName = "" },
		"measurement": func(c *eat.AttesterConfig) { c.Identity.Measurement = []byte{1} },
	} {
		c := eat.AttesterConfig{Identity: b.identity, Signer: newSigner(t, b.attestKey), Now: b.clock, Rand: rand.Reader}
		change(&c)
		if _, err := eat.NewAttester(c); err == nil {
			t.Errorf("an attester without %s", name)
		}
	}
	for name, r := range map[string]attest.Request{
		"no key":            {Nonce: b.nonce},
		"short nonce":       {Nonce: []byte{1}, AgentKey: b.agentKey},
		"long nonce":        {Nonce: make([]byte, 65), AgentKey: b.agentKey},
		"unnamed component": {Nonce: b.nonce, AgentKey: b.agentKey, Components: []attest.Component{{ManifestDigest: make([]byte, 32)}}},
		"component twice":   {Nonce: b.nonce, AgentKey: b.agentKey, Components: []attest.Component{components[0], components[0]}},
		"component digest":  {Nonce: b.nonce, AgentKey: b.agentKey, Components: []attest.Component{{ID: [][]byte{{1}}}}},
	} {
		if _, err := b.attester.Attest(context.Background(), "", r); err == nil {
			t.Errorf("%s was attested", name)
		}
	}
	done, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := b.attester.Attest(done, "", attest.Request{Nonce: b.nonce, AgentKey: b.agentKey}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := b.verifier.Appraise(done, b.evidence(), b.expectation()); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// bundled moves what the verifier says of one component out of a result, which then holds its digest.
func (b *bench) bundled(change func(*eat.Bundle)) []byte {
	b.Helper()
	bundle := eat.Bundle{Detached: map[string][]byte{}}
	bundle.Token = b.resignResult(func(c *eat.Claims) {
		set, err := c.Submods[eat.AppraisalLabel].Claims.Encode()
		if err != nil {
			b.Fatal(err)
		}
		sum := sha256.Sum256(set)
		bundle.Detached[eat.AppraisalLabel] = set
		c.Submods[eat.AppraisalLabel] = eat.Submodule{Detached: &appraisal.Digest{Algorithm: cose.AlgSHA256, Value: sum[:]}}
	})
	if change != nil {
		change(&bundle)
	}
	data, err := bundle.Encode()
	if err != nil {
		b.Fatal(err)
	}
	return data
}

// TestCheckResultInABundle: the TEEP profile permits detached EAT bundles (TEEP §5).
func TestCheckResultInABundle(t *testing.T) {
	b := newBench(t)
	whole, err := eat.CheckResult(b.mustAppraise(b.evidence()).Token, b.relying())
	if err != nil {
		t.Fatal(err)
	}
	r, err := eat.CheckResult(b.bundled(nil), b.relying())
	if err != nil {
		t.Fatal(err)
	}
	if r.Status != whole.Status || len(r.Components) != len(whole.Components) || len(r.Reasons) != len(whole.Reasons) || r.MediaType != eat.BundleMediaType {
		t.Errorf("got %+v, want %+v", r, whole)
	}
	for name, spoiled := range map[string]func(*eat.Bundle){
		"changed": func(d *eat.Bundle) { d.Detached[eat.AppraisalLabel] = bytes.Clone(d.Detached[eat.AppraisalLabel][:10]) },
		"added":   func(d *eat.Bundle) { d.Detached["more"] = []byte{0xa0} },
	} {
		if r, err := eat.CheckResult(b.bundled(spoiled), b.relying()); err == nil {
			t.Errorf("claims sets %s: accepted as %+v", name, r)
		}
	}
	stranger := b.relying()
	stranger.Verifiers = keySet(t, b.agentKey.Public())
	if _, err := eat.CheckResult(b.bundled(nil), stranger); !errors.Is(err, attest.ErrUntrusted) {
		t.Errorf("bundle of an unknown verifier: %v", err)
	}
	for format, is := range map[string]bool{
		"": true, eat.MediaType: true, eat.BundleMediaType: true, "application/eat-bun+cbor": false, "application/eat+cwt": false,
	} {
		if eat.IsResultFormat(format) != is {
			t.Errorf("%q: %v", format, !is)
		}
	}
}
