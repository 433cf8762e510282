package tam_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/tam"
)

// tamAttester makes Evidence of the TAM that shows what it was asked for.
type tamAttester struct{ requests []attest.Request }

func (a *tamAttester) MediaTypes() []string { return []string{"application/x-tam"} }

func (a *tamAttester) Attest(_ context.Context, _ string, r attest.Request) (attest.Evidence, error) {
	a.requests = append(a.requests, r)
	return attest.Evidence{MediaType: "application/x-tam", Payload: []byte("evidence of the TAM")}, nil
}

// TestErrorsForQueryRequests goes through the codes that ask for another QueryRequest (TEEP §4.6),
// from an agent that the TAM knows and from one that it does not.
func TestErrorsForQueryRequests(t *testing.T) {
	nothing := func(t *testing.T, q *teep.QueryRequest) {
		if q != nil {
			t.Fatalf("answered with %+v", q)
		}
	}
	covered := make(map[teep.ErrorCode]bool)
	defer func() { coversAssigned(t, covered, teep.ErrManifestProcessingFailed) }() // which answers an Update only
	for _, test := range []struct {
		name  string
		alg   cose.Algorithm
		err   teep.Error
		check func(t *testing.T, q *teep.QueryRequest)
	}{
		{"another suite that the TAM has", cose.AlgESP384, teep.Error{
			Code: teep.ErrUnsupportedCipherSuites, CipherSuites: []teep.CipherSuite{teep.CipherSuiteSign1ESP384()},
		}, func(t *testing.T, q *teep.QueryRequest) {
			if q == nil || len(q.CipherSuites) != 1 || !q.CipherSuites[0].Equal(teep.CipherSuiteSign1ESP384()) {
				t.Fatalf("answered with %+v", q)
			}
		}},
		{"a suite that was offered before", cose.AlgESP256, teep.Error{
			Code: teep.ErrUnsupportedCipherSuites, CipherSuites: teep.MandatoryCipherSuites(),
		}, nothing},
		{"a suite that the TAM lacks", cose.AlgESP256, teep.Error{
			Code: teep.ErrUnsupportedCipherSuites, CipherSuites: []teep.CipherSuite{teep.CipherSuiteSign1(cose.AlgMLDSA65)},
		}, nothing},
		{"timestamps", cose.AlgESP256, teep.Error{
			Code:                teep.ErrUnsupportedFreshnessMechanisms,
			FreshnessMechanisms: []teep.FreshnessMechanism{teep.FreshnessTimestamp},
		}, func(t *testing.T, q *teep.QueryRequest) {
			if q == nil || len(q.FreshnessMechanisms) != 2 {
				t.Fatalf("answered with %+v", q)
			}
		}},
		{"another freshness mechanism", cose.AlgESP256, teep.Error{
			Code: teep.ErrUnsupportedFreshnessMechanisms, FreshnessMechanisms: []teep.FreshnessMechanism{7},
		}, nothing},
		{"one of the profiles", cose.AlgESP256, teep.Error{
			Code: teep.ErrUnsupportedSUITReport, SUITProfiles: []teep.SUITProfile{teep.SUITProfileESP256A128GCM(), teep.SUITProfileHMACA128CTR()},
		}, func(t *testing.T, q *teep.QueryRequest) {
			if q == nil || len(q.SUITProfiles) != 1 || q.SUITProfiles[0] != teep.SUITProfileESP256A128GCM() {
				t.Fatalf("answered with %+v", q)
			}
		}},
		{"no profile in common", cose.AlgESP256, teep.Error{
			Code: teep.ErrUnsupportedSUITReport, SUITProfiles: []teep.SUITProfile{teep.SUITProfileHMACA128CTR()},
		}, nothing},
		{"another version", cose.AlgESP256, teep.Error{Code: teep.ErrUnsupportedMsgVersion, Versions: []teep.Version{1}}, nothing},
		{"extension", cose.AlgESP256, teep.Error{Code: teep.ErrUnsupportedExtension}, nothing},
		{"permanent", cose.AlgESP256, teep.Error{Code: teep.ErrPermanentError}, nothing},
		{"temporary", cose.AlgESP256, teep.Error{Code: teep.ErrTemporaryError}, nothing},
		{"bad certificate", cose.AlgESP256, teep.Error{Code: teep.ErrBadCertificate}, nothing},
		{"expired certificate", cose.AlgESP256, teep.Error{Code: teep.ErrCertificateExpired}, nothing},
		{"unknown code", cose.AlgESP256, teep.Error{Code: 23}, nothing},
		{"the TAM must attest itself", cose.AlgEd25519, teep.Error{
			Code: teep.ErrAttestationRequired, Challenge: []byte("12345678"),
		}, func(t *testing.T, q *teep.QueryRequest) {
			if q == nil || string(q.AttestationPayload) != "evidence of the TAM" || q.AttestationFormat != "application/x-tam" {
				t.Fatalf("answered with %+v", q)
			}
		}},
	} {
		covered[test.err.Code] = true
		for _, known := range []bool{true, false} {
			name := test.name + ", unknown agent"
			if known {
				name = test.name + ", known agent"
			}
			t.Run(name, func(t *testing.T) {
				attester := &tamAttester{}
				w := newWorld(t, func(c *tam.Config) { c.Attester, c.Policy.AcceptTimestamps = attester, true })
				a := w.agent(test.alg)
				if known {
					becomeKnown(t, a)
				}
				w.changes() // sweeps what the first session consumed
				before := w.changes()
				m := test.err
				m.Message, m.Language = "warum", "de-CH"
				q, _ := a.send(&m).(*teep.QueryRequest)
				for _, part := range []string{m.Code.String(), "warum", "de-CH"} {
					if !strings.Contains(w.log.String(), part) {
						t.Errorf("the log has no %q for people (TEEP §4.6)", part)
					}
				}
				test.check(t, q)
				for n := 0; q != nil && a.send(&m) != nil; n++ {
					if n == 10 {
						t.Fatal("asked again and again: an agent that is never content keeps the TAM busy")
					}
				}
				if known {
					w.clock.advance(time.Minute)
				}
				if w.changes() != before {
					t.Error("negotiation changed the store")
				}
				if len(attester.requests) > 0 {
					r := attester.requests[0]
					if string(r.Nonce) != "12345678" || r.AgentKey.Alg() != test.alg {
						t.Errorf("attested %+v", r)
					}
				}
			})
		}
	}
}

// becomeKnown runs a session in the agent's suite, whatever the TAM offers first.
func becomeKnown(t *testing.T, a *agent) {
	t.Helper()
	alg, k := a.key.Alg(), a.key
	a.key = key(t, cose.AlgESP256) // reads the offer
	q := a.connect()
	a.key = k
	a.send(a.response(q))
	if a.device() == nil {
		t.Fatalf("an agent with %v did not become known; log:\n%s", alg, a.w.log)
	}
}

func TestAttestationOfTheTAMWithoutAttester(t *testing.T) {
	w := newWorld(t)
	a := w.agent(cose.AlgESP256)
	if reply := a.send(&teep.Error{Code: teep.ErrAttestationRequired}); reply != nil {
		t.Fatalf("answered with %v", reply.Type())
	}
}

// shortNonces is an attester as that of EATs: a nonce has 64 bytes at most.
type shortNonces struct{ tamAttester }

func (a *shortNonces) Attest(ctx context.Context, format string, r attest.Request) (attest.Evidence, error) {
	if len(r.Nonce) > 64 {
		return attest.Evidence{}, errors.New("eat: nonce too long")
	}
	return a.tamAttester.Attest(ctx, format, r)
}

// TestAttestationUnderALongChallenge: a challenge that the text allows and an EAT cannot hold is no failure of
// the TAM, which anybody could cause then.
func TestAttestationUnderALongChallenge(t *testing.T) {
	w := newWorld(t, func(c *tam.Config) { c.Attester = &shortNonces{} })
	a := w.agent(cose.AlgESP256)
	for size, answered := range map[int]bool{64: true, 65: false, 512: false} {
		reply := a.send(&teep.Error{Code: teep.ErrAttestationRequired, Challenge: make([]byte, size)})
		if (reply != nil) != answered {
			t.Errorf("%d bytes: answered with %+v", size, reply)
		}
	}
}

// TestOneSuiteInBothDirections: after the offer, the agent's suite is the TAM's (TEEP §8.1). That
// agent.open accepts no other algorithm is what checks it.
func TestOneSuiteInBothDirections(t *testing.T) {
	for _, alg := range []cose.Algorithm{cose.AlgESP256, cose.AlgEd25519, cose.AlgESP384} {
		w := newWorld(t)
		w.publish(release{name: "app", sequence: 1, payload: "one"})
		a := w.agent(alg)
		becomeKnown(t, a)
		a.requests(componentID("app"))
		k := a.key
		a.key = key(t, cose.AlgEd25519)
		q := a.connect()
		a.key = k
		u, ok := a.send(a.response(q)).(*teep.Update)
		if !ok {
			t.Fatalf("%v: no Update", alg)
		}
		a.succeed(u)
		a.expect(tam.Installed{Manifest: manifestID("app"), Sequence: 1})
	}
}

// TestRequestWithoutExtension: an agent that stumbles over the TAM's extension is asked without it
// (TEEP §4.6), and only an Error that can be about a request with the extension has that effect.
func TestRequestWithoutExtension(t *testing.T) {
	for name, query := range map[string]tam.Query{"attestation": tam.QueryAttested, "token": tam.QueryToken, "timestamp": tam.QueryTimestamp} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(c *tam.Config) {
				c.EvidenceFormats = []string{evidenceType}
				c.Policy.Query, c.Policy.AcceptTimestamps = query, true
			})
			a := w.agent(cose.AlgESP256)
			asked := a.connect()
			refusal := &teep.Error{Token: asked.Token, Code: teep.ErrUnsupportedExtension, Message: "option 70101"}
			if query == tam.QueryToken {
				if reply := a.send(refusal); reply != nil || asked.Extensions != nil {
					t.Fatalf("the request had %v; the Error about it is answered with %+v", asked.Extensions, reply)
				}
				asked = a.send(a.response(a.connect())).(*teep.QueryRequest)
				refusal.Token = nil
			}
			if asked.Extensions == nil {
				t.Fatal("the TAM uses no extension")
			}
			again, ok := a.send(refusal).(*teep.QueryRequest)
			if !ok || again.Extensions != nil || !again.DataItems.Has(teep.DataAttestation) {
				t.Fatalf("answered with %+v", again)
			}
		})
	}
}
