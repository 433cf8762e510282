package tam_test

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/tam"
)

// TestEveryFirstAnswerUsesItsTokenUp: whatever the TAM says to the first answer of a device that it knows,
// the same token or challenge counts for nothing afterwards, on no replica (TEEP §7.1).
func TestEveryFirstAnswerUsesItsTokenUp(t *testing.T) {
	tokens := func(c *tam.Config) { c.Policy.Query = tam.QueryToken }
	for _, test := range []struct {
		name   string
		change func(*tam.Config)
		// answer makes the first answer and a second one with the same token or challenge.
		answer func(a *agent, q *teep.QueryRequest) (first, second teep.Message)
		says   teep.MessageType
	}{
		{"refused because something is missing", nil, func(a *agent, q *teep.QueryRequest) (first, second teep.Message) {
			less := a.response(q)
			less.TrustedComponents = nil
			return less, a.response(q)
		}, teep.TypeUpdate},
		{"refused because of what a component says", nil, func(a *agent, q *teep.QueryRequest) (first, second teep.Message) {
			wrong := a.response(q)
			wrong.TrustedComponents = []teep.RawMessage{{0xa1, 0x00, 0x07}} // no component identifier
			return wrong, a.response(q)
		}, teep.TypeUpdate},
		{"asked again because the attestation is old", tokens, func(a *agent, q *teep.QueryRequest) (first, second teep.Message) {
			return a.response(q), a.response(q)
		}, teep.TypeQueryRequest},
		{"of stale Evidence", tokens, func(a *agent, q *teep.QueryRequest) (first, second teep.Message) {
			stale := a.response(q)
			stale.AttestationFormat, stale.AttestationPayload = a.mediaType, a.evidence([]byte("another nonce"))
			return stale, a.response(q)
		}, teep.TypeUpdate},
		{"an Error that another QueryRequest answers", tokens, func(a *agent, q *teep.QueryRequest) (first, second teep.Message) {
			return &teep.Error{
				Token: q.Token, Code: teep.ErrUnsupportedSUITReport,
				SUITProfiles: []teep.SUITProfile{teep.SUITProfileESP256A128GCM()},
			}, a.response(q)
		}, teep.TypeQueryRequest},
		{"an Error, and again", tokens, func(a *agent, q *teep.QueryRequest) (first, second teep.Message) {
			e := &teep.Error{
				Token: q.Token, Code: teep.ErrUnsupportedSUITReport,
				SUITProfiles: []teep.SUITProfile{teep.SUITProfileESP256A128GCM()},
			}
			return e, e
		}, teep.TypeQueryRequest},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			w.publish(release{name: "app", sequence: 1, payload: "one"})
			a := w.agent(cose.AlgESP256).requests(componentID("app"))
			a.update() // the device is known
			if test.change != nil {
				test.change(&w.config)
			}
			w.tam, w.store = w.replica()
			w.clock.advance(25 * time.Hour)
			first, second := test.answer(a, a.connect())
			reply := a.send(first)
			if u, ok := reply.(*teep.Update); reply == nil || reply.Type() != test.says || ok && u.ErrorCode == 0 {
				t.Fatalf("the first answer is answered with %+v", reply)
			}
			a.ignored(a.protect(second), "replayed")
			w.tam, w.store = w.replica()
			a.ignored(a.protect(second), "replayed")
		})
	}
}

// TestSeveralSignaturesOfAnAgent: an agent uses the suite that it selected, and a COSE_Sign is of none
// that is offered (TEEP §8.1).
func TestSeveralSignaturesOfAnAgent(t *testing.T) {
	w := newWorld(t)
	w.publish(release{name: "app", sequence: 1, payload: "one"})
	a := w.agent(cose.AlgESP256).requests(componentID("app"))
	for _, known := range []string{"unknown", "known"} {
		payload, err := teep.Encode(a.response(a.connect()))
		must(t, err)
		data, err := cose.SignMulti(rand.Reader, payload, []cose.Signer{signer(t, a.key)}, cose.SignOptions{})
		must(t, err)
		a.ignored(data, "COSE_Sign")
		if known == "unknown" {
			a.update()
		}
	}
}

// TestUsedUpIsRememberedLongEnough: as long as anything would take a token or a payload for good, it is not
// forgotten that it was used up.
func TestUsedUpIsRememberedLongEnough(t *testing.T) {
	t.Run("timestamped Evidence at a verifier that allows for clocks", func(t *testing.T) {
		w := newWorld(t, func(c *tam.Config) {
			c.Policy.AcceptTimestamps, c.Policy.MaxEvidenceAge = true, 30*time.Second
			c.Verifier.(*verifier).skew = time.Minute
		})
		w.publish(release{name: "app", sequence: 1, payload: "one"})
		a := w.agent(cose.AlgESP256).requests(componentID("app"))
		data := a.protect(&teep.QueryResponse{
			AttestationFormat: a.mediaType, AttestationPayload: a.evidence(nil), TrustedComponents: a.components, RequestedComponents: a.requested,
		})
		if _, ok := a.sendRaw(data).(*teep.Update); !ok {
			t.Fatalf("no Update; log:\n%s", w.log)
		}
		w.clock.advance(80 * time.Second)
		must(t, w.tam.Sweep(ctx(), 24*time.Hour))
		a.ignored(data, "replayed")
	})
	t.Run("a challenge, and a replica whose clock is fast", func(t *testing.T) {
		w := newWorld(t)
		w.publish(release{name: "app", sequence: 1, payload: "one"})
		a := w.agent(cose.AlgESP256).requests(componentID("app"))
		data := a.protect(a.response(a.connect()))
		if _, ok := a.sendRaw(data).(*teep.Update); !ok {
			t.Fatalf("no Update; log:\n%s", w.log)
		}
		w.config.Clock = func() time.Time { return w.clock.read().Add(5 * time.Minute) }
		fast, _ := w.replica()
		w.clock.advance(12*time.Hour - time.Minute)
		must(t, fast.Sweep(ctx(), 24*time.Hour))
		a.ignored(data, "replayed")
	})
}
