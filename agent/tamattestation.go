package agent

import (
	"context"
	"fmt"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/eat"
)

// appraiseTAM decides whether a TAM proved its state: by an Attestation Result of a verifier that
// the trust anchors name, bound to the key that signed the message (TEEP §7.2.1.1), or by Evidence
// if the agent was given a verifier. Either has to answer the challenge, and affirm.
func (a *Agent) appraiseTAM(ctx context.Context, m *received, q *teep.QueryRequest, challenge []byte) error {
	var result *attest.Result
	var err error
	switch evidence := a.cfg.EvidenceVerifier; {
	case teep.IsEATFormat(q.AttestationFormat):
		result, err = eat.CheckResult(q.AttestationPayload, eat.ResultExpectation{
			Verifiers: a.trust().VerifierKeys(), Key: m.opened.Key, Nonce: challenge, Now: a.now(),
		})
	case evidence != nil && evidence.Accepts(q.AttestationFormat):
		result, err = evidence.Appraise(ctx,
			attest.Evidence{MediaType: q.AttestationFormat, Payload: q.AttestationPayload},
			attest.Expectation{Nonce: challenge, AgentKey: m.opened.Key})
	default:
		err = fmt.Errorf("%w: %q", attest.ErrUnknownType, q.AttestationFormat)
	}
	if err != nil {
		return err
	}
	if result.Status != attest.StatusAffirming {
		return fmt.Errorf("agent: the verifier's word on the TAM is %v, not %v", result.Status, attest.StatusAffirming)
	}
	return nil
}
