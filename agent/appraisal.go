package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/agent/state"
	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/link"
)

// appraisal is an answer that waits for a verifier's Attestation Result (passport model, RFC 9334 §5.1).
// The session remembers it, so that it ends with the session, and a session has one at most: a later
// question takes the place of an earlier one. Agent.mu guards it.
//
// The broker takes the Evidence to the verifier and is not trusted with that: who relies on the result
// checks its signature. What the agent checks is that it is about its own key and for its own nonce, so
// that a broker's or a verifier's mistake makes it go on without instead of showing what must fail.
//
// What Evidence and result say of the device is nothing for the broker where the agent knows a key of the
// verifier: Evidence is encrypted to it, and the verifier encrypts the result to the key that the Evidence
// names.
type appraisal struct {
	session uint64
	uri     string
	tam     string // the name of its anchor
	question
	signer cose.Signer
	// unsolicited says that the TAM waits for nothing: without an answer it is connected to.
	unsolicited bool

	id    uint64
	nonce []byte
	since time.Time
	// lost says that the broker that was asked is gone.
	lost bool
}

// wantsResults tells whether verifiers' results are presented to a TAM: not for a while after it refused
// one, because Evidence may satisfy it.
func (a *Agent) wantsResults(tam string) bool {
	if !a.cfg.Policy.Passports {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	at, refused := a.unsatisfied[tam]
	now := a.now()
	return !refused || now.Before(at) || now.Sub(at) > a.cfg.Policy.RetryMax
}

// wantsResult tells whether a question can be answered with a verifier's result: one under a token, or
// one that asks for attestation without a challenge. A challenge is for Evidence (TEEP §4.2).
func (a *Agent) wantsResult(record *state.Record, tam string, q question) bool {
	switch {
	case !a.wantsResults(tam):
		return false
	case q.items.Has(teep.DataAttestation):
		return q.challenge == nil && !a.presentable(record.TAMs[tam].Passport)
	}
	return q.token != nil
}

// askForResult returns the Ask for a result, or nil if the question is to be answered without.
func (a *Agent) askForResult(ctx context.Context, w *appraisal) *link.Ask {
	record := a.snapshot()
	if !a.wantsResult(record, w.tam, w.question) {
		return nil
	}
	w.asked = true
	// What is fresh by its timestamp needs a nonce too: verifiers take Evidence for nothing else.
	if w.nonce = bytes.Clone(w.token); w.nonce == nil {
		w.nonce = make([]byte, challengeSize)
		if _, err := io.ReadFull(a.cfg.Rand, w.nonce); err != nil {
			a.log.Error("no Attestation Result", "tam", w.tam, "error", err)
			return nil
		}
	}
	evidence, err := a.cfg.Attester.Attest(ctx, "", attest.Request{
		Nonce: w.nonce, AgentKey: a.message.Public(), Components: attestedComponents(record, w.tam),
		EncryptionKey: a.encryptionKey(),
	})
	if err == nil && a.cfg.VerifierKey != nil {
		evidence.Payload, err = eat.Encrypt(a.cfg.Rand, evidence.Payload, a.cfg.VerifierKey, cose.AlgA128GCM)
	}
	if err == nil && len(evidence.Payload) > link.MaxEvidence {
		err = fmt.Errorf("%w: Evidence of %d bytes", ErrLimit, len(evidence.Payload))
	}
	if err != nil {
		a.log.Warn("no Attestation Result", "tam", w.tam, "error", err)
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s, ok := a.sessions[w.session]
	if !ok {
		return nil
	}
	a.appraisals++
	w.id, w.since = a.appraisals, a.now()
	s.appraisal = w
	return &link.Ask{Session: w.session, Appraisal: &link.Appraisal{
		ID: w.id, MediaType: evidence.MediaType, Evidence: evidence.Payload, Nonce: bytes.Clone(w.nonce),
	}}
}

// Appraised implements link.Agent.
func (a *Agent) Appraised(ctx context.Context, r link.Appraised) (link.Ask, error) {
	a.mu.Lock()
	s, err := a.useSessionLocked(r.Session)
	var w *appraisal
	if err == nil {
		if w = s.appraisal; w == nil || w.id != r.AppraisalID {
			err = ErrAppraisal
		} else {
			s.appraisal = nil
		}
	}
	a.mu.Unlock()
	if err != nil {
		return link.Ask{}, err
	}
	if result, err := a.readResult(w, r); err != nil {
		a.log.Warn("no Attestation Result from the verifier", "tam", w.tam, "error", err)
	} else {
		w.result = &attest.Evidence{MediaType: r.MediaType, Payload: result}
	}
	return a.conclude(ctx, w)
}

// readResult decrypts a result that is encrypted, and refuses what is not worth presenting. The signature
// is for the TAM to check, and formats other than the TEEP profile are for it to read.
func (a *Agent) readResult(w *appraisal, r link.Appraised) ([]byte, error) {
	switch {
	case r.Err != "":
		return nil, fmt.Errorf("the broker says: %s", brief(r.Err))
	case len(r.Result) == 0 || len(r.Result) > link.MaxResult || len(r.MediaType) > link.MaxMediaType:
		return nil, fmt.Errorf("%w: a result of %d bytes", ErrLimit, len(r.Result))
	case a.overdue(w):
		return nil, errors.New("it came too late")
	}
	result, err := a.openPayload(r.Result)
	if err != nil {
		return nil, err
	}
	if a.cfg.VerifierKey != nil && !eat.IsEncrypted(r.Result) {
		a.log.Warn("the verifier's result passed the broker in the clear: let the verifier encrypt it", "tam", w.tam)
	}
	if !teep.IsEATFormat(r.MediaType) {
		return result, nil
	}
	return result, eat.Concerns(result, a.message.Public(), w.nonce)
}

func (a *Agent) overdue(w *appraisal) bool {
	since := a.now().Sub(w.since)
	return w.lost || since > a.cfg.Limits.AppraisalWait || since < 0
}

// giveUpAppraisal goes on with an answer whose result did not come. ok is false if there is none.
func (a *Agent) giveUpAppraisal(ctx context.Context) (ask link.Ask, ok bool, err error) {
	a.mu.Lock()
	var w *appraisal
	for _, s := range a.sessions {
		if s.appraisal != nil && a.overdue(s.appraisal) && (w == nil || s.appraisal.id < w.id) {
			w = s.appraisal
		}
	}
	if w != nil {
		s := a.sessions[w.session]
		s.appraisal, s.used = nil, a.now()
	}
	a.mu.Unlock()
	if w == nil {
		return link.Ask{}, false, nil
	}
	a.log.Warn("no Attestation Result from the verifier", "tam", w.tam, "error", "the broker did not bring one in time")
	if ask, err = a.conclude(ctx, w); errors.Is(err, ErrUntrusted) {
		return link.Ask{}, false, nil // nobody waits for the answer any longer
	}
	return ask, err == nil, err
}

// conclude answers the question, with the result if there is one.
func (a *Agent) conclude(ctx context.Context, w *appraisal) (link.Ask, error) {
	tam, ok := a.trust().TAM(w.tam)
	if !ok {
		return link.Ask{}, ErrUntrusted // since it asked
	}
	a.mu.Lock()
	if s, ok := a.sessions[w.session]; ok {
		s.presented = w.result != nil
	}
	a.mu.Unlock()
	if w.unsolicited {
		return a.respondUnsolicited(ctx, link.Ask{Session: w.session, TAMURI: w.uri}, tam, w.question)
	}
	r, err := a.response(ctx, tam, w.question)
	if err != nil {
		if done := giveUp(ctx, err); done != nil {
			return link.Ask{}, done
		}
		a.log.Warn("message refused", "tam", w.tam, "error", err)
		return a.send(w.session, w.uri, errorFor(err, w.token), w.signer)
	}
	return a.send(w.session, w.uri, r, w.signer)
}

// resultRefused notes that attestation failed in a session in which a verifier's result was presented.
func (a *Agent) resultRefused(session uint64, tam string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s, ok := a.sessions[session]; ok && s.presented {
		a.log.Warn("the TAM does not rely on the verifier: it gets Evidence for a while", "tam", tam)
		a.unsatisfied[tam] = a.now()
	}
}
