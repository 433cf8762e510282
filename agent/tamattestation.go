package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
)

// appraiseTAM decides whether a TAM proved its state: by an Attestation Result of a verifier that
// the trust anchors name, bound to the key that signed the message (TEEP §7.2.1.1), or by Evidence
// if the agent was given a verifier. Either has to answer the challenge, and affirm.
func (a *Agent) appraiseTAM(ctx context.Context, m *received, q *teep.QueryRequest, challenge []byte) error {
	var result *attest.Result
	payload, err := a.openPayload(q.AttestationPayload)
	if err != nil {
		return err
	}
	format := q.AttestationFormat
	err = fmt.Errorf("%w: %q", attest.ErrUnknownType, format)
	if teep.IsEATFormat(format) || eat.IsResultFormat(format) {
		result, err = eat.CheckResult(payload, eat.ResultExpectation{
			Verifiers: a.trust().VerifierKeys(), Key: m.opened.Key, Nonce: challenge, Now: a.now(),
		})
	}
	// The format of a token means a result (TEEP §7.2.1); with that of a bundle, it is the signer who tells.
	evidence := a.cfg.EvidenceVerifier
	notResult := errors.Is(err, attest.ErrUnknownType) || errors.Is(err, attest.ErrUntrusted)
	if notResult && !teep.IsEATFormat(format) && evidence != nil && evidence.Accepts(format) {
		result, err = evidence.Appraise(ctx,
			attest.Evidence{MediaType: format, Payload: payload},
			attest.Expectation{Nonce: challenge, AgentKey: m.opened.Key})
	}
	if err != nil {
		return err
	}
	if result.Status != attest.StatusAffirming {
		return fmt.Errorf("agent: the verifier's word on the TAM is %v, not %v", result.Status, attest.StatusAffirming)
	}
	return nil
}

// openPayload decrypts what a TAM, or a verifier, encrypted to this agent (TEEP §8.2, §13). A128CTR, which
// authenticates nothing, is read too: what is inside is signed.
func (a *Agent) openPayload(payload []byte) ([]byte, error) {
	if !eat.IsEncrypted(payload) {
		return payload, nil
	}
	key, err := a.cfg.TEE.Keys().Decryption()
	if err != nil {
		return nil, fmt.Errorf("agent: key to decrypt an attestation payload with: %w", err)
	}
	return eat.Decrypt(payload, cose.DecryptKeys{key},
		cose.AlgA128GCM, cose.AlgA256GCM, cose.AlgChaCha20Poly1305, cose.AlgA128CTR)
}
