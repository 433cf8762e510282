package agent

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/agent/state"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/link"
)

// challengeSize is that of the challenges that the agent makes for TAMs, in bytes: what an
// eat_nonce can hold (RFC 9711 §4.1).
const challengeSize = 32

// answerQuery handles a QueryRequest (TEEP §7.2.1). The answer may have to wait for an Attestation Result:
// then there is the Ask for that instead.
func (a *Agent) answerQuery(ctx context.Context, m *received, q *teep.QueryRequest) (*link.Ask, teep.Message, error) {
	asked, err := a.understand(ctx, m, q)
	if err != nil {
		return nil, nil, err
	}
	if ask := a.askForResult(ctx, &appraisal{session: m.session, uri: m.uri, tam: m.tam.Name, question: asked, signer: m.signer}); ask != nil {
		return ask, nil, nil
	}
	r, err := a.response(ctx, m.tam, asked)
	if err != nil {
		return nil, nil, err
	}
	return nil, r, nil
}

// understand chooses what a QueryRequest leaves to choose, and has the TAM prove what it has to.
func (a *Agent) understand(ctx context.Context, m *received, q *teep.QueryRequest) (question, error) {
	var none question
	version, err := teep.ChooseVersion(q.Versions, []teep.Version{teep.Version0})
	if err != nil {
		return none, err
	}
	suite, err := teep.ChooseCipherSuite(q.CipherSuites, a.suites())
	if err != nil {
		return none, err
	}
	if alg, ok := suite.Sign1Algorithm(); ok {
		m.signer = a.signerFor(alg)
	}
	// Before anything is told of the device, the TAM proves what it has to prove.
	if err := a.checkTAM(ctx, m, q); err != nil {
		return none, err
	}
	if err := a.checkReports(q); err != nil {
		return none, err
	}
	profile, err := teep.ChooseSUITProfile(q.SUITProfiles, a.suitProfiles())
	if err != nil {
		return none, err
	}
	freshness := teep.FreshnessNonce
	if q.DataItems.Has(teep.DataAttestation) {
		if freshness, err = a.chooseFreshness(m.tam.Name, q); err != nil {
			return none, err
		}
	}
	known := state.Query{
		DataItems: uint64(q.DataItems), Profile: profileNumbers(profile), Key: m.opened.Key.Thumbprint(),
		Anonymous: q.Token == nil && q.Challenge == nil, KeyExpires: m.expires,
		Timestamps: freshness == teep.FreshnessTimestamp, Formats: a.wantedFormats(q),
	}
	if err := a.heardFrom(m.tam.Name, known); err != nil {
		return none, err
	}
	asked := question{
		items: q.DataItems, token: q.Token, challenge: q.Challenge, profile: profile, freshness: freshness,
		formats: known.Formats,
	}
	if q.Versions != nil {
		asked.version = &version
	}
	return asked, nil
}

// supportedFreshness are the agent's mechanisms, preferred first. The timestamp of an Attestation
// Result is its verifier's, and asks nothing of the TEE's clock.
func (a *Agent) supportedFreshness(tam string) []teep.FreshnessMechanism {
	supported := []teep.FreshnessMechanism{teep.FreshnessNonce}
	if a.cfg.Policy.Timestamps || a.wantsResults(tam) || a.presentable(a.snapshot().TAMs[tam].Passport) {
		supported = append(supported, teep.FreshnessTimestamp)
	}
	return supported
}

// chooseFreshness chooses a mechanism that the request has what it needs for: a nonce needs a
// challenge, unless an Attestation Result is going to be presented (TEEP §9).
func (a *Agent) chooseFreshness(tam string, q *teep.QueryRequest) (teep.FreshnessMechanism, error) {
	supported := a.supportedFreshness(tam)
	chosen, err := teep.ChooseFreshness(q.FreshnessMechanisms, supported)
	if err != nil || chosen != teep.FreshnessNonce || q.Challenge != nil {
		return chosen, err
	}
	if timestamp, err := teep.ChooseFreshness(q.FreshnessMechanisms, supported[1:]); err == nil {
		return timestamp, nil
	}
	return chosen, nil
}

// heardFrom notes what the TAM's QueryRequest said and that it is well.
func (a *Agent) heardFrom(name string, q state.Query) error {
	return a.change(func(next *state.Record) error {
		t := next.TAMs[name]
		t.Name, t.LastContact, t.Query = name, a.now(), &q
		t.Failed, t.Failures, t.NotBefore = false, 0, time.Time{}
		next.TAMs[name] = t
		return nil
	})
}

// checkTAM demands and checks the TAM's own attestation where its trust anchor says so
// (TEEP §7.2.1).
func (a *Agent) checkTAM(ctx context.Context, m *received, q *teep.QueryRequest) error {
	if !m.tam.MustAttest {
		return nil
	}
	challenge := a.takeChallenge(m.session)
	if q.AttestationPayload == nil {
		return a.demandAttestation(m.session, "the TAM has to attest itself")
	}
	if challenge == nil {
		// It may have been fresh once; nobody here knows.
		return a.demandAttestation(m.session, "attestation answers no challenge of this session")
	}
	if err := a.appraiseTAM(ctx, m, q, challenge); err != nil {
		a.log.Warn("attestation of the TAM refused", "tam", m.tam.Name, "error", err)
		return a.demandAttestation(m.session, "attestation of the TAM is not acceptable")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if s, ok := a.sessions[m.session]; ok {
		s.attested = m.opened.Key.Thumbprint()
	}
	return nil
}

// checkAttested refuses an Update of a TAM that has to attest itself and did not in this session:
// a TAM whose state is in doubt could otherwise leave the QueryRequest out.
func (a *Agent) checkAttested(m *received) error {
	if !m.tam.MustAttest {
		return nil
	}
	a.mu.Lock()
	s, ok := a.sessions[m.session]
	attested := ok && bytes.Equal(s.attested, m.opened.Key.Thumbprint())
	a.mu.Unlock()
	if attested {
		return nil
	}
	return a.demandAttestation(m.session, "the TAM has to attest itself before it sends an Update")
}

// demandAttestation makes ERR_ATTESTATION_REQUIRED, and the challenge that the next QueryRequest
// of the session has to answer.
func (a *Agent) demandAttestation(session uint64, text string) error {
	challenge := make([]byte, challengeSize)
	if _, err := io.ReadFull(a.cfg.Rand, challenge); err != nil {
		return fmt.Errorf("agent: randomness: %w", err)
	}
	a.mu.Lock()
	s, ok := a.sessions[session]
	if ok {
		s.challenge = challenge
	}
	a.mu.Unlock()
	if !ok {
		return ErrSession
	}
	e := teep.NewProtocolError(teep.ErrAttestationRequired, text, nil)
	e.Challenge = bytes.Clone(challenge)
	e.FreshnessMechanisms = []teep.FreshnessMechanism{teep.FreshnessNonce}
	return e
}

// takeChallenge returns the session's challenge, which is good for one answer.
func (a *Agent) takeChallenge(session uint64) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	s, ok := a.sessions[session]
	if !ok {
		return nil
	}
	challenge := s.challenge
	s.challenge = nil
	return challenge
}

func profileNumbers(p teep.SUITProfile) [4]int64 {
	return [4]int64{int64(p.Digest), int64(p.Auth), int64(p.KeyExchange), int64(p.Encryption)}
}

func profileOf(n [4]int64) teep.SUITProfile {
	return teep.SUITProfile{
		Digest: cose.Algorithm(n[0]), Auth: cose.Algorithm(n[1]),
		KeyExchange: cose.Algorithm(n[2]), Encryption: cose.Algorithm(n[3]),
	}
}
