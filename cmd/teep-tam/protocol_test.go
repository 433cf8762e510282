package main

import (
	"bytes"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/cmw"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/tam"
)

func TestProtocolOptionsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"policy:\n  query: sometimes":                                                         "write attestation",
		"policy:\n  reattest-after: -1h":                                                      "reattest-after is negative",
		"policy:\n  healing: [\"h'zz'\"]":                                                     "policy.healing",
		"policy:\n  heal: []":                                                                 "unknown key",
		"agents: {revocation-lists: [ca.crl]}\npolicy:":                                       "agents.authorities",
		"agents: {encryption-keys: [{agent: a.pem}]}\npolicy:":                                "both agent and encryption",
		"self-attestation: {collateral: [x]}\npolicy:":                                        "self-attestation.key is missing",
		"self-attestation: {key: k.pem}\npolicy:":                                             "self-attestation.oemid is missing",
		"self-attestation: {key: k.pem, oemid: \"pen:1\", hwmodel: m, hwversion: v}\npolicy:": "verifier-key is missing",
		"self-attestation: {key: k.pem, oemid: \"pen:1\", hwmodel: m, hwversion: v, evidence: true, verifier-key: k}\npolicy:": "remove verifier-key",
		"self-attestation: {evidence: true}\npolicy:":             "self-attestation.key is missing",
		"connect: {agents: [\"ftp://device/\"]}\npolicy:":         "no URI of an agent",
		"connect: {agents: [], interval: -1s}\npolicy:":           "negative",
		"passports: {verifier: [x.pem]}\npolicy:":                 "unknown key",
		"insecure-older-peers: true\npolicy:":                     "unknown key",
		"certificates: chain.pem\npolicy:":                        "not a list",
		"connect: {agents: [\"https://a/\"], every: 1s}\npolicy:": "unknown key",
	} {
		if _, err := load(silent(t, "policy:", text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error with %q", text, err, want)
		}
	}
	for text, want := range map[string]string{
		"rate: -1": "negative", "burst: 3": "burst needs a rate", "trusted-proxies: [everybody]": "trusted-proxies",
		"rate: 5, insecure-no-rate-limit: true": "exclude each other", "rates: 5": "unknown key",
	} {
		if _, err := load(made(t, "teep:", "teep:\n  limits: {"+text+"}")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("limits %s: got %v, want an error with %q", text, err, want)
		}
	}
}

func TestProtocolPolicy(t *testing.T) {
	c, err := load(made(t, "policy:", `policy:
  query: timestamp
  reattest-after: 2h
  max-evidence-age: 3m
  max-result-age: 30m
  token-key-rotation: 12h
  offer-all-suites: true
  ask-extensions: true
  ask-suit-reports: true
  healing: [hello/manifest]`))
	must(t, err)
	p, err := c.policy()
	must(t, err)
	if p.Query != tam.QueryTimestamp || !p.AcceptTimestamps || p.ReattestAfter != 2*time.Hour || p.MaxEvidenceAge != 3*time.Minute ||
		p.MaxResultAge != 30*time.Minute || p.TokenKeyRotation != 12*time.Hour || !p.OfferAll || !p.AskExtensions || !p.AskSUITReports ||
		len(p.Healing) != 1 {
		t.Errorf("%+v", p)
	}
	c, err = load(made(t, "policy:", "policy:\n  query: token"))
	must(t, err)
	if p, err := c.policy(); err != nil || p.Query != tam.QueryToken || p.AcceptTimestamps {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestClientBehindProxies: what a trusted proxy saw counts, and nothing that a client wrote itself.
func TestClientBehindProxies(t *testing.T) {
	l := httpLimits{TrustedProxies: []string{"10.0.0.0/8", "192.0.2.1"}}
	o, err := l.handlerOptions(slog.New(slog.DiscardHandler))
	must(t, err)
	for _, c := range []struct{ peer, forwarded, want string }{
		{"198.51.100.7:1", "203.0.113.9", "198.51.100.7"}, // not a proxy: it may write what it likes
		{"10.1.2.3:1", "203.0.113.9", "203.0.113.9"},
		{"10.1.2.3:1", "1.1.1.1, 203.0.113.9, 192.0.2.1", "203.0.113.9"},
		{"10.1.2.3:1", "", "10.1.2.3"},
		{"10.1.2.3:1", "nonsense", "10.1.2.3"},
		{"[::ffff:10.1.2.3]:1", "2001:db8::1", "2001:db8::1"},
	} {
		r := &http.Request{RemoteAddr: c.peer, Header: http.Header{}}
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-For", c.forwarded)
		}
		if got := o.ClientAddress(r); got != netip.MustParseAddr(c.want) {
			t.Errorf("%s with %q: %v, want %s", c.peer, c.forwarded, got, c.want)
		}
	}
	if o, err := (&httpLimits{Rate: 3}).handlerOptions(slog.New(slog.DiscardHandler)); err != nil || o.Burst != 6 || o.ClientAddress != nil {
		t.Errorf("%+v, %v", o, err)
	}
}

// TestOlderPeers: an agent of an earlier draft, which knows ES256 and nothing else, is ignored by a TAM as it
// is, and served by one with the flag.
func TestOlderPeers(t *testing.T) {
	for _, insecure := range []bool{false, true} {
		path := made(t, "policy:", "policy:")
		c, err := load(path)
		must(t, err)
		c.olderPeers = insecure
		var text bytes.Buffer
		log := slog.New(slog.NewTextHandler(&text, nil))
		store, err := openStore(t.Context(), c)
		must(t, err)
		t.Cleanup(func() { _ = store.Close() })
		known, err := openCollateral(&verifierConfig{}, log)
		must(t, err)
		blobs, err := openBlobs(c)
		must(t, err)
		core, err := newTAM(t.Context(), c, store, blobs, known, nil, log)
		must(t, err)
		if insecure != strings.Contains(text.String(), "insecure") {
			t.Errorf("insecure %v: the log says\n%s", insecure, text.String())
		}
		offer, err := core.ProcessConnect(t.Context())
		must(t, err)
		key, err := c.privateKey(c.SignKeys[0])
		must(t, err)
		older, err := key.VerifierFor(cose.AlgES256)
		must(t, err)
		_, err = teep.Open(offer, cose.KeySet{older}, teep.OpenOptions{Algorithms: []cose.Algorithm{cose.AlgES256}})
		if (err == nil) != insecure {
			t.Errorf("insecure %v: the offer in ES256: %v", insecure, err)
		}
		// What it sends: an Error that asks for another suite is answered in that suite, or not at all.
		agent, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
		must(t, err)
		own, err := agent.SignerFor(cose.AlgES256)
		must(t, err)
		msg, err := teep.Protect(rand.Reader, &teep.Error{
			Code: teep.ErrUnsupportedFreshnessMechanisms, FreshnessMechanisms: []teep.FreshnessMechanism{teep.FreshnessNonce},
		}, own)
		must(t, err)
		if _, err := core.ProcessTeepMessage(t.Context(), msg); err != nil {
			t.Error(err)
		}
	}
}

// selfAttested is a TAM that attests itself, with its configuration.
func selfAttested(t *testing.T) *configuration {
	t.Helper()
	path := silent(t, "policy:", `self-attestation:
  key: keys/self.pem
  oemid: "pen:32473"
  hwmodel: server
  hwversion: "1"
  verifier-key: keys/self-verifier.pem
  collateral: [self.yaml]
policy:`)
	for _, name := range []string{"self.pem", "self-verifier.pem"} {
		key, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
		must(t, err)
		data, err := key.MarshalPEM()
		must(t, err)
		must(t, os.WriteFile(filepath.Join(filepath.Dir(path), "keys", name), data, 0o600))
	}
	c, err := load(path)
	must(t, err)
	return c
}

// TestNewTAMAttestsItself: what init makes sends Evidence, which is good by the collateral that the TAM prints and by
// nothing less.
func TestNewTAMAttestsItself(t *testing.T) {
	c, err := load(made(t, "policy:", "policy:"))
	must(t, err)
	other, err := load(made(t, "policy:", "policy:"))
	must(t, err)
	a, err := c.SelfAttestation.attester(c)
	must(t, err)
	key, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	must(t, err)
	nonce := []byte("a challenge")
	e, err := a.Attest(t.Context(), "", attest.Request{Nonce: nonce, AgentKey: key.Public()})
	must(t, err)
	if e.MediaType != cmw.MediaType {
		t.Errorf("Evidence goes under %s, which agents take for an Attestation Result", e.MediaType)
	}
	for name, test := range map[string]struct {
		of     *configuration
		accept bool
		want   attest.Status
		err    error
	}{
		"accepted":         {of: c, accept: true, want: attest.StatusAffirming},
		"outside of a TEE": {of: c, want: attest.StatusWarning},
		"another TAM":      {of: other, accept: true, err: attest.ErrUntrusted},
	} {
		text, err := test.of.SelfAttestation.printedCollateral(test.of, "me", time.Now().Add(time.Hour), test.accept)
		must(t, err)
		collateral, err := appraisal.ParseYAML(text)
		must(t, err)
		store, err := appraisal.NewStore(collateral)
		must(t, err)
		signer, err := key.Signer()
		must(t, err)
		v, err := eat.NewVerifier(eat.VerifierConfig{
			Signer: signer, Developer: "test", Build: "test", Endorsements: store, References: store, Now: time.Now, Rand: rand.Reader,
		})
		must(t, err)
		result, err := cmw.NewVerifier(v).Appraise(t.Context(), e, attest.Expectation{Nonce: nonce, AgentKey: key.Public()})
		if !errors.Is(err, test.err) || err == nil && result.Status != test.want {
			t.Errorf("%s: %v, %v", name, result, err)
		}
	}
	for _, k := range c.keyFiles() {
		info, err := os.Stat(k)
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has the mode %v", k, info.Mode())
		}
	}
}

func TestSelfAttestation(t *testing.T) {
	c := selfAttested(t)
	accepted, err := c.SelfAttestation.printedCollateral(c, "me", time.Now().Add(time.Hour), true)
	must(t, err)
	honest, err := c.SelfAttestation.printedCollateral(c, "me", time.Now().Add(time.Hour), false)
	must(t, err)
	key, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	must(t, err)
	verifier, err := c.privateKey(c.SelfAttestation.VerifierKey)
	must(t, err)
	trusted, err := cose.NewKeySet(verifier.Public())
	must(t, err)
	for name, test := range map[string]struct {
		collateral []byte
		status     attest.Status
	}{"accepted": {accepted, attest.StatusAffirming}, "outside of a TEE": {honest, attest.StatusWarning}} {
		must(t, os.WriteFile(c.SelfAttestation.Collateral[0], test.collateral, 0o600))
		a, err := c.SelfAttestation.attester(c)
		must(t, err)
		e, err := a.Attest(t.Context(), "", attest.Request{Nonce: []byte("a challenge"), AgentKey: key.Public()})
		must(t, err)
		result, err := eat.CheckResult(e.Payload, eat.ResultExpectation{Verifiers: trusted, Key: key.Public(), Nonce: []byte("a challenge"), Now: time.Now()})
		if err != nil || result.Status != test.status {
			t.Errorf("%s: %+v, %v", name, result, err)
		}
	}
	must(t, os.Remove(c.SelfAttestation.Collateral[0]))
	a, err := c.SelfAttestation.attester(c)
	must(t, err)
	if _, err := a.Attest(t.Context(), "", attest.Request{Nonce: []byte("a challenge"), AgentKey: key.Public()}); err == nil {
		t.Error("a result about a TAM of which the verifier knows nothing")
	}
	if text, err := anchors(c, anchorFlags{mustAttest: true}); err != nil || !strings.Contains(string(text), "verifiers:") || strings.Contains(string(text), "PRIVATE") {
		t.Errorf("%v\n%s", err, text)
	}
}

func TestMessageSigners(t *testing.T) {
	c, err := load(made(t, "policy:", "certificates: [chain.pem]\npolicy:"))
	must(t, err)
	plain, err := c.signers(c.SignKeys)
	must(t, err)
	for content, want := range map[string]string{
		"nothing": "holds no PEM block",
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("key")})):         "keep certificates alone",
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("certificate")})): "certificate 0",
	} {
		must(t, os.WriteFile(c.Certificates[0], []byte(content), 0o600))
		if _, err := c.messageSigners(plain); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: got %v, want %q", content, err, want)
		}
	}
	must(t, os.Remove(c.Certificates[0]))
	if _, err := c.messageSigners(plain); err == nil {
		t.Error("a file that is not there was read")
	}
}

func TestPassportKeys(t *testing.T) {
	c, err := load(made(t, "policy:", "passports: {verifiers: [keys/verifier.pem]}\npolicy:"))
	must(t, err)
	if _, err := c.passports(); err == nil || !strings.Contains(err.Error(), "private key") {
		t.Errorf("a private key among those of verifiers: %v", err)
	}
	c, err = load(made(t, "policy:", "passports: {own-verifier: true}\npolicy:"))
	must(t, err)
	if set, err := c.passports(); err != nil || set == nil || len(*set) != 1 {
		t.Errorf("%v, %v", set, err)
	}
	c, err = load(made(t, "policy:", "policy:"))
	must(t, err)
	if set, err := c.passports(); err != nil || set != nil {
		t.Errorf("passports count without being asked for: %v, %v", set, err)
	}
}
