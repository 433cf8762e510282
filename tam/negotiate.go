package tam

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
)

// negotiate handles an Error that answers a QueryRequest: it repeats the request in another form
// where that may help (TEEP §4.6). What it does depends on the message alone and leaves no trace
// in the store; it gives a sender no more than an empty message does.
//
// s is the sender; of a stranger it has the algorithm that the message says it is signed with, and nothing else.
func (t *TAM) negotiate(ctx context.Context, s *sender, keyID []byte, m *teep.Error) ([]byte, error) {
	t.noteKey(s, m.Extensions)
	q, err := t.alternative(ctx, s, keyID, m)
	if err != nil || q == nil {
		return nil, err
	}
	if !t.retries.allow(keyID, m.Code) {
		t.log.WarnContext(ctx, "no further QueryRequest for now", "code", m.Code.String())
		return nil, nil
	}
	return t.queryRequest(ctx, *q)
}

// alternative finds the QueryRequest to try next, or none.
func (t *TAM) alternative(ctx context.Context, s *sender, keyID []byte, m *teep.Error) (*query, error) {
	first := t.firstQuery()
	q := &first
	switch m.Code {
	case teep.ErrUnsupportedCipherSuites:
		// Suites beyond those that a first request offers.
		keys := t.keys.Load()
		q.signers = nil
		for _, suite := range m.CipherSuites {
			a, ok := suite.Sign1Algorithm()
			if further := keys.signers[a]; ok && len(further) > 0 && !slices.Contains(keys.offered, further[0]) {
				q.signers = further
				return q, nil
			}
		}
		return nil, nil
	case teep.ErrUnsupportedFreshnessMechanisms:
		switch {
		case q.timestamped && slices.Contains(m.FreshnessMechanisms, teep.FreshnessNonce):
			q.timestamped = false // a challenge then
		case !q.timestamped && t.policy.AcceptTimestamps && slices.Contains(m.FreshnessMechanisms, teep.FreshnessTimestamp):
			q.attested, q.timestamps = true, true
		default:
			return nil, nil
		}
		return q, nil
	case teep.ErrUnsupportedSUITReport:
		common := intersect(m.SUITProfiles, teep.MandatorySUITProfiles())
		if len(common) == 0 {
			return nil, nil
		}
		q.profiles = common
		return q, nil
	case teep.ErrUnsupportedExtension:
		// The only one is in requests for attestation, and so is not what an Error with a token answers.
		if len(t.wanted) == 0 || m.Token != nil {
			return nil, nil
		}
		q.attested, q.plain = true, true
		return q, nil
	case teep.ErrUnsupportedMsgVersion:
		// Version 0 is the only one there is, and it was offered.
		return nil, nil
	case teep.ErrAttestationRequired:
		// All in one request, in a form that every agent can answer: were there another one, the
		// agent would demand the TAM's attestation again.
		if t.verifier != nil {
			q.attested, q.timestamped, q.timestamps = true, false, t.policy.AcceptTimestamps
		}
		return t.attestedQuery(ctx, q, s, keyID, m.Challenge)
	}
	// ERR_BAD_CERTIFICATE, ERR_CERTIFICATE_EXPIRED: an operator renews. Others: the agent comes again by
	// itself.
	return nil, nil
}

func intersect(theirs, ours []teep.SUITProfile) []teep.SUITProfile {
	var common []teep.SUITProfile
	for _, p := range ours {
		if slices.Contains(theirs, p) {
			common = append(common, p)
		}
	}
	return common
}

// attestedQuery answers the demand that the TAM attest itself (TEEP §7.1.2). The Evidence names the
// key that signs the request, so that there is one suite, that of the agent's message, and one key. It is encrypted
// to the agent where its key is known (TEEP §13).
func (t *TAM) attestedQuery(ctx context.Context, q *query, s *sender, keyID, challenge []byte) (*query, error) {
	if t.attester == nil {
		t.log.ErrorContext(ctx, "an agent demands attestation of the TAM, which has no attester (Config.Attester)")
		return nil, nil
	}
	signer, err := t.signerFor(s)
	if err != nil {
		return nil, nil // an algorithm that this TAM has no key for
	}
	e, err := t.attester.Attest(ctx, "", attest.Request{Nonce: challenge, AgentKey: signer.Public()})
	if err != nil && len(challenge) > eat.MaxNonceBytes {
		// Other formats may take as many as a challenge can have (TEEP §4.6). Nothing failed here.
		t.log.WarnContext(ctx, "an agent demands attestation under a challenge that is too long for it", "bytes", len(challenge), "err", err)
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("tam: attesting the TAM: %w", err)
	}
	if teep.IsEATFormat(e.MediaType) {
		e.MediaType = "" // absent is the default
	}
	if t.hideFor != nil {
		if to := t.hideFor(keyID); to != nil {
			if e.Payload, err = eat.Encrypt(t.rand, e.Payload, to, 0); err != nil {
				return nil, fmt.Errorf("tam: attesting the TAM: %w", err)
			}
		}
	}
	q.signers, q.evidence = []cose.Signer{signer}, &e
	return q, nil
}

// strangersMessage handles a message whose signer is not known. It cannot be verified and counts for
// nothing, with one exception: an agent that never showed Evidence may be unable to, because it
// cannot read the QueryRequest, or demands that the TAM attests itself first, or was asked without
// attestation. What it gets is what an empty message gets: a QueryRequest.
func (t *TAM) strangersMessage(ctx context.Context, msg, keyID []byte, cause error) ([]byte, error) {
	payload, err := cose.UnverifiedPayload(msg)
	if err != nil {
		return t.drop(ctx, nil, "invalid", err)
	}
	m, err := teep.Decode(payload)
	if err != nil {
		return t.drop(ctx, nil, "invalid", errors.Join(cause, err))
	}
	switch m := m.(type) {
	case *teep.Error:
		t.logAgentError(ctx, nil, m)
		if m.Token != nil {
			if _, err := t.tokens.check(ctx, m.Token, purposeQuery, nil); err != nil {
				return t.drop(ctx, nil, "Error of an unknown agent", err)
			}
		}
		return t.negotiate(ctx, &sender{alg: claimedAlgorithm(msg)}, keyID, m)
	case *teep.QueryResponse:
		if _, err := t.tokens.check(ctx, m.Token, purposeQuery, nil); err == nil && t.retries.allow(keyID, 0) {
			return t.queryRequest(ctx, query{signers: t.keys.Load().offered, attested: true})
		}
	}
	return t.drop(ctx, nil, "unknown agent", cause)
}

// claimedAlgorithm is the algorithm that a message says it is signed with.
func claimedAlgorithm(msg []byte) cose.Algorithm {
	body, signatures, err := cose.UnverifiedHeaders(msg)
	if err != nil {
		return 0
	}
	if alg := body.Protected.Algorithm(); alg != 0 {
		return alg
	}
	for _, h := range signatures {
		if alg := h.Protected.Algorithm(); alg != 0 {
			return alg
		}
	}
	return 0
}
