package agent_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/agent"
	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/link"
	"github.com/go-teep/teep/suit"
)

func TestQueryResponse(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.mustInstall(w.one, w.hello(7, "app"))
	w.mustInstall(w.two, w.simple("two", 1, "app two", "integrated: true"))
	if _, err := w.agent.RequestTA(t.Context(), link.Request{Component: id("shared"), MinSequence: 3}); err != nil {
		t.Fatal(err)
	}
	w.wantRun("app")
	if _, err := w.agent.UnrequestTA(t.Context(), id("hello")); err != nil {
		t.Fatal(err)
	}
	all := teep.DataTrustedComponents | teep.DataExtensions | teep.DataSUITReports

	t.Run("without attestation", func(t *testing.T) {
		q := query(t, all)
		q.Versions = []teep.Version{0, 5}
		r, ok := w.exchange(w.one, q).(*teep.QueryResponse)
		if !ok || teep.CheckQueryResponse(q, r) != nil {
			t.Fatalf("got %#v: %v", r, teep.CheckQueryResponse(q, r))
		}
		if r.AttestationPayload != nil || r.ExtensionList == nil {
			t.Errorf("got %#v", r)
		}
		if len(r.TrustedComponents) != 1 || !bytes.Contains(r.TrustedComponents[0], []byte("hello")) {
			t.Errorf("tc-list %x", r.TrustedComponents)
		}
		if c := r.RequestedComponents; len(c) != 1 || *c[0].MinSequence != 3 || !suit.ComponentID(c[0].ID).Equal(suit.NewComponentID("shared")) {
			t.Errorf("requested-tc-list %+v", c)
		}
		if u := r.UnneededManifests; len(u) != 1 || !suit.ComponentID(u[0]).Equal(suit.NewComponentID("hello", "manifest")) {
			t.Errorf("unneeded-manifest-list %v", u)
		}
		if reports := w.reports(w.one, r.SUITReports); len(reports) != 1 || !bytes.Equal(reports[0].Nonce, q.Token) {
			t.Errorf("suit-reports %+v", reports)
		}
	})
	t.Run("with attestation", func(t *testing.T) {
		q := query(t, all|teep.DataAttestation)
		r, ok := w.exchange(w.one, q).(*teep.QueryResponse)
		if !ok || r.Token != nil || !eat.IsEncrypted(r.AttestationPayload) {
			t.Fatalf("got %#v", r)
		}
		if _, err := eat.Decrypt(r.AttestationPayload, cose.DecryptKeys{w.two.encryption}); err == nil {
			t.Error("another TAM can read the Evidence")
		}
		text, err := eat.Decrypt(r.AttestationPayload, cose.DecryptKeys{w.one.encryption})
		if err != nil || !strings.Contains(string(text), "hello") || strings.Contains(string(text), "two") {
			t.Errorf("evidence %q, %v", text, err)
		}
	})
	t.Run("claims of a component", func(t *testing.T) {
		var claims map[int64]cbor.RawMessage
		if err := cbor.Unmarshal(w.inventory(w.one)[0], &claims); err != nil {
			t.Fatal(err)
		}
		var d suit.Digest
		var wrapped []byte
		if err := cbor.Unmarshal(claims[int64(suit.ParamImageDigest)], &wrapped); err != nil || d.UnmarshalCBOR(wrapped) != nil || !d.Matches([]byte("app")) {
			t.Errorf("digest %x: %v", claims[3], err)
		}
	})
}

func TestQueryRefused(t *testing.T) {
	nonce := teep.FreshnessNonce
	tests := map[string]struct {
		edit func(q *teep.QueryRequest)
		code teep.ErrorCode
		with func(e *teep.Error) bool
	}{
		"version": {func(q *teep.QueryRequest) { q.Versions = []teep.Version{1, 2} }, teep.ErrUnsupportedMsgVersion,
			func(e *teep.Error) bool { return slices.Equal(e.Versions, []teep.Version{0}) }},
		"cipher suite": {func(q *teep.QueryRequest) { q.CipherSuites = []teep.CipherSuite{teep.CipherSuiteSign1Ed25519()} }, teep.ErrUnsupportedCipherSuites,
			func(e *teep.Error) bool { return len(e.CipherSuites) == 1 }},
		"SUIT profile": {func(q *teep.QueryRequest) { q.SUITProfiles = []teep.SUITProfile{teep.SUITProfileEd25519A128CTR()} }, teep.ErrUnsupportedSUITReport,
			func(e *teep.Error) bool { return len(e.SUITProfiles) == 2 }},
		"freshness": {func(q *teep.QueryRequest) { q.FreshnessMechanisms = []teep.FreshnessMechanism{teep.FreshnessTimestamp} }, teep.ErrUnsupportedFreshnessMechanisms,
			func(e *teep.Error) bool { return slices.Contains(e.FreshnessMechanisms, nonce) }},
		"challenge too long": {func(q *teep.QueryRequest) { q.Challenge = make([]byte, 65) }, teep.ErrPermanentError,
			func(e *teep.Error) bool { return strings.Contains(e.Message, "eat_nonce") }},
		"no challenge": {func(q *teep.QueryRequest) { q.Challenge = nil }, teep.ErrPermanentError,
			func(*teep.Error) bool { return true }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.start()
			q := query(t, teep.DataAttestation)
			tt.edit(q)
			signers := []*cose.Key{w.one.p256, w.one.ed}
			if len(q.CipherSuites) == 1 {
				signers = signers[1:]
			}
			ask, err := w.agent.ProcessTeepMessage(t.Context(), w.connect(w.one).Session, w.protectWith(q, signers...))
			if err != nil {
				t.Fatal(err)
			}
			e, ok := w.decode(ask).(*teep.Error)
			if !ok || e.Code != tt.code || !tt.with(e) || e.Message == "" {
				t.Fatalf("got %#v", e)
			}
		})
	}
}

func TestInvalidMessages(t *testing.T) {
	w := newWorld(t)
	w.start()
	q := query(t, teep.DataTrustedComponents)
	good := w.protect(w.one, q)
	tampered := bytes.Clone(good)
	tampered[bytes.Index(tampered, q.Token)] ^= 1
	tests := map[string][]byte{
		"unknown TAM": w.protect(w.stranger, q),
		"tampered":    tampered,
		"truncated":   good[:len(good)-1],
		"not COSE":    {0xa0},
		"not CBOR":    {0xff, 0x00},
	}
	for name, raw := range tests {
		t.Run(name, func(t *testing.T) {
			ask := w.connect(w.one)
			ask, err := w.agent.ProcessTeepMessage(t.Context(), ask.Session, raw)
			if err != nil {
				t.Fatal(err)
			}
			// §7.2: an Error message; it goes to the TAM of the session and tells nothing.
			e, ok := w.decode(ask).(*teep.Error)
			if !ok || e.Code != teep.ErrPermanentError || e.Token != nil || !strings.HasPrefix(ask.TAMURI, w.one.uri) {
				t.Fatalf("got %#v to %s", e, ask.TAMURI)
			}
			if _, err := w.agent.ProcessTeepMessage(t.Context(), 0, raw); !errors.Is(err, agent.ErrUntrusted) {
				t.Errorf("a stranger without a session is answered: %v", err)
			}
		})
	}
	t.Run("agent's messages from a TAM", func(t *testing.T) {
		m := w.exchange(w.one, &teep.Success{})
		if e, ok := m.(*teep.Error); !ok || e.Code != teep.ErrPermanentError {
			t.Fatalf("got %#v", m)
		}
	})
	t.Run("an Error is not answered", func(t *testing.T) {
		ask, err := w.agent.ProcessTeepMessage(t.Context(), w.connect(w.one).Session, w.protect(w.one, &teep.Error{Code: teep.ErrTemporaryError}))
		if err != nil || ask.Message != nil {
			t.Fatalf("got %+v, %v", ask, err)
		}
	})
	t.Run("message of another TAM", func(t *testing.T) {
		_, err := w.agent.ProcessTeepMessage(t.Context(), w.connect(w.one).Session, w.protect(w.two, q))
		if !errors.Is(err, agent.ErrWrongTAM) {
			t.Fatal(err)
		}
	})
	t.Run("too many in one session", func(t *testing.T) {
		s := w.connect(w.one).Session
		var err error
		for range 10 {
			if _, err = w.agent.ProcessTeepMessage(t.Context(), s, tampered); err != nil {
				break
			}
		}
		if !errors.Is(err, agent.ErrLimit) {
			t.Fatal(err)
		}
		if _, err = w.agent.ProcessTeepMessage(t.Context(), s, good); !errors.Is(err, agent.ErrSession) {
			t.Fatal(err)
		}
	})
	t.Run("too large", func(t *testing.T) {
		w.cfg.Limits.Message = len(good) - 1
		w.start()
		ask, err := w.agent.ProcessTeepMessage(t.Context(), w.connect(w.one).Session, good)
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := w.decode(ask).(*teep.Error); !ok {
			t.Fatalf("got %#v", e)
		}
	})
}

// attestationResult makes an Attestation Result about a TAM, as a verifier would.
func attestationResult(t testing.TB, verifier, about *cose.Key, nonce []byte, status attest.Status, now time.Time) []byte {
	t.Helper()
	signer, err := verifier.Signer()
	if err != nil {
		t.Fatal(err)
	}
	attestationKey, err := newKey(t, cose.AlgESP256).Signer()
	if err != nil {
		t.Fatal(err)
	}
	attester, err := eat.NewAttester(eat.AttesterConfig{
		Identity: eat.Identity{UEID: append([]byte{1}, make([]byte, 16)...), OEMID: []byte{0x19, 0x30, 0x39}, HWModel: []byte("tam"), HWVersion: "1",
			Measurement: make([]byte, 32), AgentName: "tam", AgentVersion: "1"},
		Signer: attestationKey, Now: func() time.Time { return now }, Rand: rand.Reader,
	})
	if err != nil {
		t.Fatal(err)
	}
	evidence, err := attester.Attest(t.Context(), "", attest.Request{Nonce: nonce, AgentKey: about.Public()})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := cose.UnverifiedPayload(evidence.Payload)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := eat.ParseClaims(payload)
	if err != nil {
		t.Fatal(err)
	}
	claims.Appraised, claims.Status = true, status
	if payload, err = claims.Encode(); err != nil {
		t.Fatal(err)
	}
	token, err := cose.Sign1(rand.Reader, payload, signer, cose.SignOptions{Untagged: true})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// inBundle adds a claims set to a token, by its digest, and puts both into a detached EAT bundle.
func inBundle(t *testing.T, signed *cose.Key, token []byte) []byte {
	t.Helper()
	payload, err := cose.UnverifiedPayload(token)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := eat.ParseClaims(payload)
	if err != nil {
		t.Fatal(err)
	}
	set := []byte{0xa0}
	sum := sha256.Sum256(set)
	claims.Submods = map[string]eat.Submodule{"part": {Detached: &appraisal.Digest{Algorithm: cose.AlgSHA256, Value: sum[:]}}}
	if payload, err = claims.Encode(); err != nil {
		t.Fatal(err)
	}
	signer, err := signed.Signer()
	if err != nil {
		t.Fatal(err)
	}
	bundle := eat.Bundle{Detached: map[string][]byte{"part": set}}
	if bundle.Token, err = cose.Sign1(rand.Reader, payload, signer, cose.SignOptions{}); err != nil {
		t.Fatal(err)
	}
	data, err := bundle.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestUpdateOfSeveralSignatures: only the first QueryRequest may be signed for several suites (TEEP §8.1).
func TestUpdateOfSeveralSignatures(t *testing.T) {
	w := newWorld(t)
	w.start()
	for name, keys := range map[string][]*cose.Key{
		"both suites": {w.one.p256, w.one.ed}, "the agent's suite last": {w.one.ed, w.one.p256}, "one and a stranger": {w.one.p256, w.stranger.ed},
	} {
		payload, err := teep.Encode(install(t, w.hello(1, "app")))
		if err != nil {
			t.Fatal(err)
		}
		var signers []cose.Signer
		for _, k := range keys {
			s, err := k.Signer()
			if err != nil {
				t.Fatal(err)
			}
			signers = append(signers, s)
		}
		raw, err := cose.SignMulti(rand.Reader, payload, signers, cose.SignOptions{}) // not Protect, which refuses it
		if err != nil {
			t.Fatal(err)
		}
		ask, err := w.agent.ProcessTeepMessage(t.Context(), w.connect(w.one).Session, raw)
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := w.decode(ask).(*teep.Error); !ok || e.Code != teep.ErrUnsupportedCipherSuites || len(e.CipherSuites) == 0 {
			t.Errorf("%s: %#v", name, e)
		}
	}
}

// TestAttestedKeyIsTheOneThatSigns: a TAM that has two keys of one suite, as while they are rotated, may use the one
// that its attestation names, and not the other.
func TestAttestedKeyIsTheOneThatSigns(t *testing.T) {
	w := newWorld(t)
	w.one.mustAttest = true
	w.one.ed = newKey(t, cose.AlgESP256)
	w.start()
	session := w.connect(w.one).Session
	pass := func(m teep.Message, key *cose.Key) teep.Message {
		t.Helper()
		ask, err := w.agent.ProcessTeepMessage(t.Context(), session, w.protectWith(m, key))
		if err != nil {
			t.Fatal(err)
		}
		return w.decode(ask)
	}
	e, ok := pass(query(t, teep.DataTrustedComponents), w.one.p256).(*teep.Error)
	if !ok {
		t.Fatal("not asked to attest")
	}
	q := query(t, teep.DataTrustedComponents)
	q.AttestationPayload = attestationResult(t, w.verifier, w.one.p256, e.Challenge, attest.StatusAffirming, w.device.now)
	if m, ok := pass(q, w.one.p256).(*teep.QueryResponse); !ok {
		t.Fatalf("got %#v", m)
	}
	update := install(t, w.hello(1, "app"))
	if e, ok := pass(update, w.one.ed).(*teep.Error); !ok || e.Code != teep.ErrAttestationRequired {
		t.Errorf("by the key that nobody vouched for: %#v", e)
	}
	if m, ok := pass(update, w.one.p256).(*teep.Success); !ok {
		t.Errorf("by the one that was: %#v", m)
	}
}

func TestTAMAttestation(t *testing.T) {
	w := newWorld(t)
	w.one.mustAttest = true
	w.start()
	demand := func(session uint64, q *teep.QueryRequest) *teep.Error {
		t.Helper()
		ask, err := w.agent.ProcessTeepMessage(t.Context(), session, w.protectWith(q, w.one.p256))
		if err != nil {
			t.Fatal(err)
		}
		e, ok := w.decode(ask).(*teep.Error)
		if !ok || e.Code != teep.ErrAttestationRequired || len(e.Challenge) < teep.MinChallenge || len(e.FreshnessMechanisms) == 0 {
			t.Fatalf("got %#v", e)
		}
		return e
	}
	with := func(payload []byte) *teep.QueryRequest {
		q := query(t, teep.DataTrustedComponents)
		q.AttestationPayload = payload
		return q
	}
	result := func(verifier, about *cose.Key, nonce []byte, status attest.Status) []byte {
		return attestationResult(t, verifier, about, nonce, status, w.device.now)
	}
	session := w.connect(w.one).Session
	e := demand(session, with(nil))

	t.Run("answers the challenge", func(t *testing.T) {
		raw := w.protectWith(with(result(w.verifier, w.one.p256, e.Challenge, attest.StatusAffirming)), w.one.p256)
		ask, err := w.agent.ProcessTeepMessage(t.Context(), session, raw)
		if err != nil {
			t.Fatal(err)
		}
		if r, ok := w.decode(ask).(*teep.QueryResponse); !ok {
			t.Fatalf("got %#v", r)
		}
		// Having proved itself, it may send an Update in this session, and in no other.
		update := w.protect(w.one, install(t, w.hello(1, "app")))
		if ask, err = w.agent.ProcessTeepMessage(t.Context(), 0, update); err != nil {
			t.Fatal(err)
		}
		if e, ok := w.decode(ask).(*teep.Error); !ok || e.Code != teep.ErrAttestationRequired || e.Challenge == nil {
			t.Fatalf("got %#v", e)
		}
		if ask, err = w.agent.ProcessTeepMessage(t.Context(), session, update); err != nil {
			t.Fatal(err)
		}
		if s, ok := w.decode(ask).(*teep.Success); !ok {
			t.Fatalf("got %#v", s)
		}
		// The challenge is good for one answer.
		ask, err = w.agent.ProcessTeepMessage(t.Context(), session, raw)
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := w.decode(ask).(*teep.Error); !ok || e.Code != teep.ErrAttestationRequired {
			t.Fatalf("replayed: %#v", e)
		}
	})
	t.Run("answers the challenge in a bundle", func(t *testing.T) {
		for verifier, good := range map[*cose.Key]bool{w.verifier: true, w.admin: false} {
			session := w.connect(w.one).Session
			e := demand(session, with(nil))
			q := with(inBundle(t, verifier, result(verifier, w.one.p256, e.Challenge, attest.StatusAffirming)))
			q.AttestationFormat = eat.BundleMediaType
			if !good {
				demand(session, q)
				continue
			}
			ask, err := w.agent.ProcessTeepMessage(t.Context(), session, w.protectWith(q, w.one.p256))
			if err != nil {
				t.Fatal(err)
			}
			if r, ok := w.decode(ask).(*teep.QueryResponse); !ok {
				t.Fatalf("got %#v", r)
			}
		}
	})
	for name, make := range map[string]func(challenge []byte) []byte{
		"another nonce":            func([]byte) []byte { return result(w.verifier, w.one.p256, token(t), attest.StatusAffirming) },
		"another key":              func(c []byte) []byte { return result(w.verifier, w.two.p256, c, attest.StatusAffirming) },
		"another verifier":         func(c []byte) []byte { return result(w.admin, w.one.p256, c, attest.StatusAffirming) },
		"the TAM itself":           func(c []byte) []byte { return result(w.one.p256, w.one.p256, c, attest.StatusAffirming) },
		"contraindicated":          func(c []byte) []byte { return result(w.verifier, w.one.p256, c, attest.StatusContraindicated) },
		"no word on trust":         func(c []byte) []byte { return result(w.verifier, w.one.p256, c, attest.StatusNone) },
		"nothing that can be read": func([]byte) []byte { return []byte{0x40} },
	} {
		t.Run(name, func(t *testing.T) {
			session := w.connect(w.one).Session
			e := demand(session, with(nil))
			demand(session, with(make(e.Challenge)))
		})
	}
}

func TestEvidenceForATAMWithoutEncryptionKey(t *testing.T) {
	w := newWorld(t)
	w.one.noEncryption = true
	w.start()
	r, ok := w.exchange(w.one, query(t, teep.DataAttestation)).(*teep.QueryResponse)
	if !ok || !bytes.HasPrefix(r.AttestationPayload, []byte("nonce=")) {
		t.Fatalf("got %#v", r)
	}
}

func TestTimestampsAndPassport(t *testing.T) {
	w := newWorld(t)
	w.cfg.Policy = agent.Policy{Timestamps: true, PassportAge: time.Hour}
	w.start()
	q := query(t, teep.DataAttestation)
	q.Challenge, q.FreshnessMechanisms = nil, []teep.FreshnessMechanism{teep.FreshnessNonce, teep.FreshnessTimestamp}
	r, ok := w.exchange(w.one, q).(*teep.QueryResponse)
	if !ok {
		t.Fatalf("got %#v", r)
	}
	text, err := eat.Decrypt(r.AttestationPayload, cose.DecryptKeys{w.one.encryption})
	if err != nil || !strings.HasPrefix(string(text), "nonce= ") {
		t.Errorf("evidence %q, %v", text, err)
	}
	w.exchange(w.one, &teep.Update{AttestationPayload: []byte{0x43, 1, 2, 3}})
	ask, err := w.agent.ProcessTeepMessage(t.Context(), 0, w.protect(w.one, q))
	if err != nil {
		t.Fatal(err)
	}
	if r, ok = w.decode(ask).(*teep.QueryResponse); !ok {
		t.Fatalf("got %#v", r)
	}
	if passport, err := eat.Decrypt(r.AttestationPayload, cose.DecryptKeys{w.one.encryption}); err != nil || !bytes.Equal(passport, []byte{0x43, 1, 2, 3}) {
		t.Errorf("passport %x, %v", passport, err)
	}
	// All three conditions for an unsolicited QueryResponse hold now (TEEP §7.2).
	ask, err = w.agent.RequestTA(t.Context(), link.Request{Component: id("hello"), TAMURI: w.one.uri})
	if err != nil {
		t.Fatal(err)
	}
	if r, ok = w.decode(ask).(*teep.QueryResponse); !ok || len(r.RequestedComponents) != 1 || r.AttestationPayload == nil {
		t.Fatalf("got %#v", r)
	}
	if err := w.agent.ProcessError(t.Context(), ask.Session, ask.TAMURI, "timeout"); err != nil {
		t.Fatal(err)
	}
	if ask, err = w.agent.RequestTA(t.Context(), link.Request{Component: id("hello"), TAMURI: w.one.uri}); err != nil || ask.Message != nil {
		t.Fatalf("after ProcessError: %+v, %v", ask, err)
	}
}
