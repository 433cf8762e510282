package teeptest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"sync"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/tee"
)

// newTAMAttester makes what attests the TAM to agents that demand it: Evidence of a machine of its
// own, which the verifier turns into the Attestation Result that agents understand.
func (w *World) newTAMAttester(verifier *eat.Verifier) *tamAttester {
	return &tamAttester{w: w, verifier: verifier}
}

type tamAttester struct {
	w        *World
	verifier *eat.Verifier

	once     sync.Once
	attester *eat.Attester
	err      error
}

func (a *tamAttester) prepare() {
	var key *cose.Key
	if key, a.err = cose.GenerateKey(rand.Reader, cose.AlgESP256); a.err != nil {
		return
	}
	var signer cose.Signer
	if signer, a.err = key.Signer(); a.err != nil {
		return
	}
	sum := sha256.Sum256([]byte("the TAM of teeptest"))
	id := tee.Identity{
		UEID: append([]byte{1}, sum[:16]...), OEMID: []byte{0x43, 0x89, 0x48, 0x23}, HWModel: []byte("teeptest TAM"),
		HWVersion: "1", Measurement: sum[:], AgentName: "tam", AgentVersion: "1.0",
	}
	a.w.endorseClass(id, key.Public())
	a.attester, a.err = newAttester(id, signer, a.w.Clock.Now)
}

// MediaTypes implements attest.Attester.
func (a *tamAttester) MediaTypes() []string { return []string{eat.MediaType} }

// Attest implements attest.Attester.
func (a *tamAttester) Attest(ctx context.Context, mediaType string, r attest.Request) (attest.Evidence, error) {
	if a.once.Do(a.prepare); a.err != nil {
		return attest.Evidence{}, a.err
	}
	evidence, err := a.attester.Attest(ctx, "", r)
	if err != nil {
		return attest.Evidence{}, err
	}
	result, err := a.verifier.Appraise(ctx, evidence, attest.Expectation{Nonce: r.Nonce, AgentKey: r.AgentKey})
	if err != nil {
		return attest.Evidence{}, err
	}
	return attest.Evidence{MediaType: result.MediaType, Payload: result.Token}, nil
}
