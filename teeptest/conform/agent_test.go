package conform_test

import (
	"context"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/link"
	"github.com/go-teep/teep/teeptest"
	"github.com/go-teep/teep/teeptest/conform"
)

func agentTarget(w *teeptest.World) conform.Agent {
	return conform.Agent{
		Link: w.Device.Link, Keys: []*cose.Key{w.ESP256, w.Ed25519}, Decryption: w.Encryption,
		Manifests: [][]byte{w.Component("suite", 1, "one"), w.Component("suite", 2, "two")},
	}
}

// TestThisAgent runs the suite against this project's agent. Nothing may fail, and nothing be
// skipped but what is named here.
func TestThisAgent(t *testing.T) {
	for _, alg := range []cose.Algorithm{cose.AlgESP256, cose.AlgEd25519} {
		t.Run(alg.String(), func(t *testing.T) { testThisAgent(t, alg) })
	}
}

func testThisAgent(t *testing.T, alg cose.Algorithm) {
	w := teeptest.New(t, teeptest.Options{AgentAlgorithm: alg})
	results, err := conform.CheckAgent(t.Context(), agentTarget(w))
	if err != nil {
		t.Fatal(err)
	}
	show(t, results)
	mayBe := map[string]conform.Outcome{
		"attestation-demand": conform.Skip, "attestation-forged": conform.Skip, // see TestAgentThatDemandsAttestation
	}
	for _, r := range results {
		if want, listed := mayBe[r.ID]; r.Outcome != conform.Pass && (!listed || r.Outcome != want) {
			t.Errorf("%s: %s: %s (%s)", r.ID, r.Outcome, r.Requirement, r.Detail)
		}
	}
}

func TestAgentThatDemandsAttestation(t *testing.T) {
	w := teeptest.New(t, teeptest.Options{MustAttest: true})
	results, err := conform.CheckAgent(t.Context(), agentTarget(w))
	if err != nil {
		t.Fatal(err)
	}
	all := byID(results)
	for _, id := range []string{"attestation-demand", "attestation-forged", "untrusted-tam", "alive"} {
		if all[id].Outcome != conform.Pass {
			t.Errorf("%+v", all[id])
		}
	}
	if conform.Failed(results) {
		show(t, results)
		t.Error("an agent that demands attestation fails")
	}
}

// badAgent answers every message with the first answer that it gave.
type badAgent struct {
	link.Agent
	first *link.Ask
}

func (b *badAgent) ProcessTeepMessage(ctx context.Context, session uint64, message []byte) (link.Ask, error) {
	if b.first != nil {
		return link.Ask{Session: session, TAMURI: b.first.TAMURI, Message: b.first.Message}, nil
	}
	ask, err := b.Agent.ProcessTeepMessage(ctx, session, message)
	if err == nil && ask.Message != nil {
		b.first = &ask
	}
	return ask, err
}

func TestSuiteFindsFaultsOfAgents(t *testing.T) {
	w := teeptest.New(t, teeptest.Options{})
	to := agentTarget(w)
	to.Link = &badAgent{Agent: w.Device.Link}
	results, err := conform.CheckAgent(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	all := byID(results)
	for _, id := range []string{
		"response-token", "response-ext-list", "evidence-nonce", "evidence-fresh", "unsupported-version", "unsupported-suites",
		"unsupported-freshness", "message-crit", "message-other-key", "message-truncated", "untrusted-tam", "update-empty",
		"manifest-install", "session-unknown", "invalid-answered", "error-token",
	} {
		if all[id].Outcome != conform.Fail {
			t.Errorf("%s did not notice: %+v", id, all[id])
		}
	}
}

func TestAgentOfStrangers(t *testing.T) {
	w := teeptest.New(t, teeptest.Options{})
	other := teeptest.New(t, teeptest.Options{})
	to := agentTarget(w)
	to.Keys = []*cose.Key{other.ESP256, other.Ed25519}
	results, err := conform.CheckAgent(t.Context(), to)
	if err != nil {
		return // not answered at all: that is said at once
	}
	if all := byID(results); all["response-token"].Outcome == conform.Pass {
		t.Error("an agent answered a TAM that it does not trust")
	}
	if _, err := conform.CheckAgent(t.Context(), conform.Agent{}); err == nil {
		t.Error("no error without link and keys")
	}
}
