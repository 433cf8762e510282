package agent_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/agent"
	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/link"
	"github.com/go-teep/teep/tee"
)

// presenter is a world whose agent presents verifiers' results.
func presenter(t *testing.T) *world {
	w := newWorld(t)
	w.cfg.Policy.Passports = true
	w.start()
	return w
}

// asksForResult passes a QueryRequest in and returns the Ask for a result.
func (w *world) asksForResult(q *teep.QueryRequest) link.Ask {
	w.t.Helper()
	ask, err := w.agent.ProcessTeepMessage(w.t.Context(), w.connect(w.one).Session, w.protect(w.one, q))
	if err != nil {
		w.t.Fatal(err)
	}
	if ask.Appraisal == nil || ask.TAMURI != "" || ask.Message != nil {
		w.t.Fatalf("got %+v", ask)
	}
	return ask
}

// goodResult is what an honest verifier makes of the Evidence in an Ask.
func (w *world) goodResult(ask link.Ask) link.Appraised {
	return link.Appraised{Session: ask.Session, AppraisalID: ask.Appraisal.ID, Result: attestationResult(w.t, w.verifier,
		w.device.keys[tee.KeyAgent], ask.Appraisal.Nonce, attest.StatusAffirming, w.device.now)}
}

func (w *world) appraised(r link.Appraised) teep.Message {
	w.t.Helper()
	ask, err := w.agent.Appraised(w.t.Context(), r)
	if err != nil {
		w.t.Fatal(err)
	}
	if ask.Session != r.Session || !strings.HasPrefix(ask.TAMURI, w.one.uri) {
		w.t.Fatalf("got %+v", ask)
	}
	return w.decode(ask)
}

// presented is the payload of a QueryResponse in the clear.
func (w *world) presented(m teep.Message) []byte {
	w.t.Helper()
	r, ok := m.(*teep.QueryResponse)
	if !ok {
		w.t.Fatalf("got %#v", m)
	}
	if r.AttestationPayload == nil {
		return nil
	}
	payload, err := eat.Decrypt(r.AttestationPayload, cose.DecryptKeys{w.one.encryption})
	if err != nil {
		w.t.Fatal(err)
	}
	return payload
}

// TestResultUnderAToken: the token of a request that does not ask for attestation is the nonce of the
// result that is presented (TEEP §9).
func TestResultUnderAToken(t *testing.T) {
	w := presenter(t)
	q := query(t, teep.DataTrustedComponents)
	q.Versions = []teep.Version{teep.Version0}
	ask := w.asksForResult(q)
	if p := ask.Appraisal; !bytes.Equal(p.Nonce, q.Token) || !strings.HasPrefix(string(p.Evidence), fmt.Sprintf("nonce=%x ", q.Token)) || p.MediaType != "application/x-test-evidence" {
		t.Fatalf("got %+v", p)
	}
	result := w.goodResult(ask)
	m := w.appraised(result)
	if !bytes.Equal(w.presented(m), result.Result) {
		t.Error("not the result")
	}
	if r := m.(*teep.QueryResponse); !bytes.Equal(r.Token, q.Token) || r.SelectedVersion == nil || r.TrustedComponents == nil || r.AttestationFormat != "" {
		t.Errorf("got %#v", r)
	}
	// Of another format, the agent cannot tell what it says.
	ask = w.asksForResult(query(t, teep.DataTrustedComponents))
	m = w.appraised(link.Appraised{Session: ask.Session, AppraisalID: ask.Appraisal.ID, MediaType: "application/eat+jwt", Result: []byte("a.b.c")})
	if string(w.presented(m)) != "a.b.c" || m.(*teep.QueryResponse).AttestationFormat != "application/eat+jwt" {
		t.Errorf("got %#v", m)
	}
}

// TestEvidenceIsHiddenFromTheBroker: where the agent knows the verifier's key, the broker sees neither the
// Evidence nor the result, and nobody else can put a result in its place.
func TestEvidenceIsHiddenFromTheBroker(t *testing.T) {
	w, verifier := newWorld(t), newKey(t, cose.AlgECDHESA128KW)
	w.cfg.Policy.Passports, w.cfg.VerifierKey = true, verifier.Public()
	w.start()
	hidden := func(payload []byte, to *cose.Key) []byte {
		t.Helper()
		data, err := eat.Encrypt(rand.Reader, payload, to, 0)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	ask := w.asksForResult(query(t, teep.DataTrustedComponents))
	if p := ask.Appraisal; !eat.IsEncrypted(p.Evidence) || bytes.Contains(p.Evidence, []byte("nonce=")) {
		t.Fatalf("the broker gets %q", p.Evidence)
	}
	evidence, err := eat.Decrypt(ask.Appraisal.Evidence, cose.DecryptKeys{verifier})
	if err != nil || !strings.HasPrefix(string(evidence), fmt.Sprintf("nonce=%x ", ask.Appraisal.Nonce)) {
		t.Fatalf("%q, %v", evidence, err)
	}
	clear := w.goodResult(ask)
	encrypted := clear
	encrypted.Result = hidden(clear.Result, w.device.keys[tee.KeyEncryption].Public())
	if !bytes.Equal(w.presented(w.appraised(encrypted)), clear.Result) {
		t.Error("not the result")
	}
	for name, spoil := range map[string]func(link.Appraised) []byte{
		"for somebody else": func(r link.Appraised) []byte { return hidden(r.Result, verifier.Public()) },
		"of another nonce": func(link.Appraised) []byte {
			return hidden(clear.Result, w.device.keys[tee.KeyEncryption].Public())
		},
		"one bit turned": func(r link.Appraised) []byte {
			data := hidden(r.Result, w.device.keys[tee.KeyEncryption].Public())
			data[len(data)-1] ^= 1
			return data
		},
		"nothing inside": func(link.Appraised) []byte { return hidden([]byte{0}, w.device.keys[tee.KeyEncryption].Public()) },
	} {
		r := w.goodResult(w.asksForResult(query(t, teep.DataTrustedComponents)))
		r.Result = spoil(r)
		if m := w.appraised(r); w.presented(m) != nil {
			t.Errorf("%s: %#v", name, m)
		}
	}
	// A verifier that does not encrypt is no worse off than without the key.
	r := w.goodResult(w.asksForResult(query(t, teep.DataTrustedComponents)))
	if !bytes.Equal(w.presented(w.appraised(r)), r.Result) {
		t.Error("not the result")
	}
	for name, key := range map[string]*cose.Key{"private": verifier, "for signatures": newKey(t, cose.AlgEd25519).Public()} {
		cfg := agent.Config{TEE: w.device, Attester: w.device, VerifierKey: key}
		if _, err := agent.New(cfg); err == nil || !strings.Contains(err.Error(), "VerifierKey") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNoResult: without a usable result the answer comes all the same, and says nothing of attestation.
func TestNoResult(t *testing.T) {
	w := presenter(t)
	other := newKey(t, cose.AlgESP256)
	for name, spoil := range map[string]func(*link.Appraised, []byte){
		"the verifier is down": func(r *link.Appraised, _ []byte) { r.Result, r.Err = nil, "connection refused\x00" },
		"for another nonce": func(r *link.Appraised, _ []byte) {
			r.Result = attestationResult(t, w.verifier, w.device.keys[tee.KeyAgent], token(t), attest.StatusAffirming, w.device.now)
		},
		"about another key": func(r *link.Appraised, nonce []byte) {
			r.Result = attestationResult(t, w.verifier, other, nonce, attest.StatusAffirming, w.device.now)
		},
		"cut":       func(r *link.Appraised, _ []byte) { r.Result = r.Result[:len(r.Result)-1] },
		"garbage":   func(r *link.Appraised, _ []byte) { r.Result = []byte{0xa0} },
		"nothing":   func(r *link.Appraised, _ []byte) { r.Result = nil },
		"oversize":  func(r *link.Appraised, _ []byte) { r.MediaType, r.Result = "x/y", make([]byte, link.MaxResult+1) },
		"long type": func(r *link.Appraised, _ []byte) { r.MediaType = strings.Repeat("x", link.MaxMediaType+1) },
		"too late":  func(*link.Appraised, []byte) { w.device.now = w.device.now.Add(2 * time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			q := query(t, teep.DataTrustedComponents)
			ask := w.asksForResult(q)
			r := w.goodResult(ask)
			spoil(&r, ask.Appraisal.Nonce)
			m := w.appraised(r)
			if w.presented(m) != nil || !bytes.Equal(m.(*teep.QueryResponse).Token, q.Token) {
				t.Errorf("got %#v", m)
			}
		})
	}
}

// TestResultsThatWereNotAskedFor: a broker's mistakes and tricks change nothing.
func TestResultsThatWereNotAskedFor(t *testing.T) {
	w := presenter(t)
	ask := w.asksForResult(query(t, teep.DataTrustedComponents))
	good := w.goodResult(ask)
	refused := func(name string, r link.Appraised, want error) {
		t.Helper()
		if got, err := w.agent.Appraised(t.Context(), r); !errors.Is(err, want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	r := good
	r.AppraisalID++
	refused("another appraisal", r, agent.ErrAppraisal)
	r = good
	r.Session++
	refused("another session", r, agent.ErrSession)
	// The question is open still, and a later one takes its place.
	again, err := w.agent.ProcessTeepMessage(t.Context(), ask.Session, w.protect(w.one, query(t, teep.DataTrustedComponents)))
	if err != nil || again.Appraisal == nil || again.Appraisal.ID == ask.Appraisal.ID {
		t.Fatalf("got %+v, %v", again, err)
	}
	refused("the earlier question", good, agent.ErrAppraisal)
	good = w.goodResult(again)
	w.appraised(good)
	refused("twice", good, agent.ErrAppraisal)
	w.agent.Close()
	refused("closed", good, agent.ErrClosed)
}

// TestSlowBroker: a broker that does not bring the result is not waited for.
func TestSlowBroker(t *testing.T) {
	for name, away := range map[string]func(*world) time.Duration{
		"silent": func(*world) time.Duration { return 61 * time.Second },
		"gone": func(w *world) time.Duration {
			w.agent.Connected()()
			return 0
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := presenter(t)
			q := query(t, teep.DataTrustedComponents)
			ask := w.asksForResult(q)
			if early, err := w.agent.RequestPolicyCheck(t.Context()); err != nil || early.Message != nil {
				t.Fatalf("%+v, %v", early, err)
			}
			w.device.now = w.device.now.Add(away(w))
			late, err := w.agent.RequestPolicyCheck(t.Context())
			if err != nil || late.Session != ask.Session {
				t.Fatalf("%+v, %v", late, err)
			}
			if m := w.decode(late); w.presented(m) != nil || !bytes.Equal(m.(*teep.QueryResponse).Token, q.Token) {
				t.Errorf("got %#v", m)
			}
			if got, err := w.agent.Appraised(t.Context(), w.goodResult(ask)); !errors.Is(err, agent.ErrAppraisal) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

// TestNextFreshnessMechanism: where attestation was asked for, and no result can be had, what the TAM
// accepts beside it is next.
func TestNextFreshnessMechanism(t *testing.T) {
	both := []teep.FreshnessMechanism{teep.FreshnessNonce, teep.FreshnessTimestamp}
	for name, c := range map[string]struct {
		offers     []teep.FreshnessMechanism
		timestamps bool
		code       teep.ErrorCode // 0: Evidence
	}{
		"a challenge is asked for":       {both[1:], false, teep.ErrUnsupportedFreshnessMechanisms},
		"where nonces are taken too":     {both, false, teep.ErrUnsupportedFreshnessMechanisms},
		"Evidence by its timestamp":      {both, true, 0},
		"there is nothing but to repeat": {both[:1], false, teep.ErrTemporaryError},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.cfg.Policy.Passports, w.cfg.Policy.Timestamps = true, c.timestamps
			w.start()
			q := query(t, teep.DataAttestation|teep.DataTrustedComponents)
			q.Challenge, q.FreshnessMechanisms = nil, c.offers
			ask := w.asksForResult(q)
			if len(ask.Appraisal.Nonce) != 32 {
				t.Errorf("nonce %x", ask.Appraisal.Nonce)
			}
			result := w.goodResult(ask)
			if m := w.appraised(result); !bytes.Equal(w.presented(m), result.Result) {
				t.Errorf("got %#v", m)
			}
			ask = w.asksForResult(q)
			m := w.appraised(link.Appraised{Session: ask.Session, AppraisalID: ask.Appraisal.ID, Err: "down"})
			if e, refused := m.(*teep.Error); c.code != 0 {
				if !refused || e.Code != c.code || c.code == teep.ErrUnsupportedFreshnessMechanisms && (len(e.FreshnessMechanisms) != 1 || e.FreshnessMechanisms[0] != teep.FreshnessNonce) {
					t.Fatalf("got %#v", m)
				}
				// With a challenge, Evidence is what is wanted, and no verifier is asked.
				if m := w.exchange(w.one, query(t, teep.DataAttestation)); !strings.HasPrefix(string(w.presented(m)), "nonce=") {
					t.Errorf("got %#v", m)
				}
				return
			}
			if !strings.HasPrefix(string(w.presented(m)), "nonce= ") {
				t.Errorf("got %#v", m)
			}
		})
	}
}

// TestTAMThatRefusesResults: who does not rely on the verifier gets Evidence the next times.
func TestTAMThatRefusesResults(t *testing.T) {
	w := presenter(t)
	ask := w.asksForResult(query(t, teep.DataTrustedComponents))
	w.appraised(w.goodResult(ask))
	no := w.protect(w.one, &teep.Update{ErrorCode: teep.ErrAttestationRequired})
	if _, err := w.agent.ProcessTeepMessage(t.Context(), ask.Session, no); err != nil {
		t.Fatal(err)
	}
	w.device.now = w.device.now.Add(5 * time.Minute)
	if m := w.exchange(w.one, query(t, teep.DataTrustedComponents)); w.presented(m) != nil {
		t.Errorf("got %#v", m)
	}
	w.device.now = w.device.now.Add(7 * time.Hour)
	w.asksForResult(query(t, teep.DataTrustedComponents))
}

// TestUnsolicitedResult: a QueryResponse that nobody asked for waits for its result too, and is left out
// without one.
func TestUnsolicitedResult(t *testing.T) {
	w := presenter(t)
	q := query(t, teep.DataAttestation)
	q.Challenge, q.FreshnessMechanisms = nil, []teep.FreshnessMechanism{teep.FreshnessTimestamp}
	w.appraised(w.goodResult(w.asksForResult(q)))
	request := func() link.Ask {
		t.Helper()
		ask, err := w.agent.RequestTA(t.Context(), link.Request{Component: id("hello"), TAMURI: w.one.uri})
		if err != nil || ask.Appraisal == nil {
			t.Fatalf("%+v, %v", ask, err)
		}
		return ask
	}
	result := w.goodResult(request())
	m := w.appraised(result)
	if r, ok := m.(*teep.QueryResponse); !ok || len(r.RequestedComponents) != 1 || !bytes.Equal(w.presented(m), result.Result) {
		t.Errorf("got %#v", m)
	}
	ask := request()
	ask, err := w.agent.Appraised(t.Context(), link.Appraised{Session: ask.Session, AppraisalID: ask.Appraisal.ID, Err: "down"})
	if err != nil || ask.Message != nil || ask.TAMURI != w.one.uri {
		t.Errorf("%+v, %v", ask, err)
	}
}

// TestResultsAreNotAskedForUnasked: an agent that was not told to asks no verifier.
func TestResultsAreNotAskedForUnasked(t *testing.T) {
	w := newWorld(t)
	w.start()
	if m := w.exchange(w.one, query(t, teep.DataTrustedComponents)); w.presented(m) != nil {
		t.Errorf("got %#v", m)
	}
}
