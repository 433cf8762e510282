package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/agent/trust"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/link"
)

// received is an authentic message of a trusted TAM, and the session that it came in.
type received struct {
	session uint64
	uri     string // where the answer goes
	raw     []byte
	opened  *teep.Opened
	tam     *trust.TAM
	expires time.Time // of the key that signed; zero for a raw key
	// signer protects the answer: in the selected suite, which is the agent's (TEEP §8.1).
	signer cose.Signer
}

// ProcessTeepMessage implements link.Agent (TEEP §7.2). Session 0 is a message that came by
// itself, from a TAM that connects to the device.
func (a *Agent) ProcessTeepMessage(ctx context.Context, session uint64, message []byte) (link.Ask, error) {
	if err := ctx.Err(); err != nil {
		return link.Ask{}, err
	}
	a.mu.Lock()
	s, err := a.sessionOfLocked(session)
	set, crls := a.anchors, a.crls
	a.mu.Unlock()
	if err != nil {
		return link.Ask{}, err
	}
	if len(message) == 0 {
		a.endSession(session)
		return link.Ask{}, nil
	}
	keys := set.TAMKeys(a.now(), crls)
	opened, err := teep.Open(message, keys, a.openOptions())
	if shown := keys.Shown(); len(shown) > 0 {
		a.noteIssuers(shown)
	}
	if err != nil {
		return a.refuse(s, message, keys, err)
	}
	m, err := a.identify(s, keys, opened)
	if err != nil {
		return link.Ask{}, err
	}
	m.raw = message
	return a.dispatch(ctx, m)
}

// sessionOfLocked returns nil for session 0.
func (a *Agent) sessionOfLocked(id uint64) (*session, error) {
	switch {
	case a.closed:
		return nil, ErrClosed
	case id == 0:
		return nil, nil
	}
	return a.useSessionLocked(id)
}

// identify finds the TAM that sent an authentic message, and the session for the answer.
func (a *Agent) identify(s *session, keys *trust.TAMKeys, opened *teep.Opened) (*received, error) {
	tam, expires, ok := keys.Sender(opened.Key)
	if !ok {
		return nil, ErrUntrusted
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if s == nil {
		var err error
		if s, err = a.inboundLocked(tam.Name, tam.URIs[0]); err != nil {
			return nil, err
		}
	}
	// The answer goes to where the session is with. A broker that mixes up sessions gets an
	// error; the TAM did nothing wrong and hears nothing.
	if s.tam != tam.Name {
		a.log.Warn("message of one TAM in the session of another", "session with", s.tam, "message of", tam.Name)
		return nil, ErrWrongTAM
	}
	return &received{
		session: s.id, uri: s.uri, opened: opened, tam: tam, expires: expires, signer: a.signerFor(opened.Algorithm),
	}, nil
}

// dispatch does what the message says. Every error that has a place in the protocol becomes an
// Error message with the token of the message it answers.
func (a *Agent) dispatch(ctx context.Context, m *received) (link.Ask, error) {
	log := a.log.With("tam", m.tam.Name, "type", m.opened.Message.Type().String())
	var reply teep.Message
	var ask *link.Ask
	var err error
	switch msg := m.opened.Message.(type) {
	case *teep.QueryRequest:
		log.Info("message received", "data-items", uint64(msg.DataItems))
		if ask, reply, err = a.answerQuery(ctx, m, msg); ask != nil {
			return *ask, nil
		}
	case *teep.Update:
		log.Info("message received", "manifests", len(msg.Manifests), "unneeded", len(msg.UnneededManifests), "err-code", uint64(msg.ErrorCode))
		if ask, reply, err = a.acceptUpdate(ctx, m, msg); ask != nil {
			return *ask, nil
		}
	case *teep.Error:
		// An Error is not answered with an Error: that could go on for ever.
		log.Warn("a TAM sent an Error, which is an agent's message", "code", msg.Code.String())
		a.endSession(m.session)
		return link.Ask{}, nil
	default:
		err = teep.NewProtocolError(teep.ErrPermanentError, fmt.Sprintf("a TAM does not send a %v", msg.Type()), nil)
	}
	if err != nil {
		if done := giveUp(ctx, err); done != nil {
			return link.Ask{}, done
		}
		log.Warn("message refused", "error", err)
		reply = errorFor(err, teep.TokenOf(m.opened.Message))
	}
	a.sayKey(m, reply)
	return a.send(m.session, m.uri, reply, m.signer)
}

func errorFor(err error, token []byte) *teep.Error {
	e := teep.AsErrorMessage(err)
	e.Token = token
	return e
}

// olderSigner signs with the agent's key under the name that its algorithm had in earlier drafts.
// The signature is the same; what is not is that the name leaves the curve open.
type olderSigner struct {
	cose.Signer
	alg cose.Algorithm
}

func (s olderSigner) Algorithm() cose.Algorithm { return s.alg }

// olderName is the name of the agent's algorithm in earlier drafts, 0 if it had none.
func (a *Agent) olderName() cose.Algorithm {
	switch alg := a.message.Algorithm(); {
	case !a.cfg.InsecureOlderPeers:
	case alg == cose.AlgESP256:
		return cose.AlgES256
	case alg == cose.AlgEd25519:
		return cose.AlgEdDSA
	}
	return 0
}

// signerFor returns the signer for answers to a message of that algorithm.
func (a *Agent) signerFor(alg cose.Algorithm) cose.Signer {
	if older := a.olderName(); older != 0 && alg == older {
		return olderSigner{a.message, older}
	}
	return a.message
}

// suites are the cipher suites that the agent supports, preferred first.
func (a *Agent) suites() []teep.CipherSuite {
	if older := a.olderName(); older != 0 {
		return []teep.CipherSuite{a.suite, teep.CipherSuiteSign1(older)}
	}
	return []teep.CipherSuite{a.suite}
}

// giveUp tells whether an error is the caller's: the call was given up, or the agent is closed.
func giveUp(ctx context.Context, err error) error {
	if errors.Is(err, ErrClosed) || ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return err
	}
	return nil
}

// send protects a reply with the agent's key, whose suite is the selected one (TEEP §8.1).
func (a *Agent) send(session uint64, uri string, reply teep.Message, signer cose.Signer) (link.Ask, error) {
	data, err := teep.Protect(a.cfg.Rand, reply, signer)
	if err != nil {
		return link.Ask{}, fmt.Errorf("agent: %v: %w", reply.Type(), err)
	}
	return link.Ask{Session: session, TAMURI: uri, Message: data}, nil
}

// refuse answers a message that failed validation. §7.2 wants an Error message. Where nothing is
// known of the sender, it goes only to the TAM that the agent itself chose to talk to in this
// session, and says which step failed and nothing else: no token, since nothing of an
// unauthenticated payload is parsed, and nothing of the device. Without a session there is
// nobody to whom an answer would not tell too much.
func (a *Agent) refuse(s *session, message []byte, keys *trust.TAMKeys, cause error) (link.Ask, error) {
	var invalid *teep.ValidationError
	if !errors.As(cause, &invalid) {
		return link.Ask{}, cause
	}
	a.log.Warn("invalid TEEP message", "step", invalid.Step, "bytes", len(message), "error", cause, "certificate", keys.ChainError())
	if s == nil {
		return link.Ask{}, fmt.Errorf("%w: %w", ErrUntrusted, cause)
	}
	a.mu.Lock()
	s.bad++
	over := s.bad > a.cfg.Limits.BadMessages
	id, uri := s.id, s.uri
	if over {
		delete(a.sessions, id)
	}
	a.mu.Unlock()
	if over {
		return link.Ask{}, fmt.Errorf("%w: more than %d invalid messages in one session", ErrLimit, a.cfg.Limits.BadMessages)
	}
	return a.send(id, uri, teep.AsErrorMessage(a.refusal(invalid, keys.ChainError())), a.message)
}

// refusal chooses the error code for a message that failed validation.
func (a *Agent) refusal(invalid *teep.ValidationError, chain error) error {
	var protocol *teep.ProtocolError
	switch {
	case invalid.Step == teep.StepMessage && errors.As(invalid.Err, &protocol):
		return protocol
	case errors.Is(chain, trust.ErrCertificateExpired):
		return teep.NewProtocolError(teep.ErrCertificateExpired, chainFault(chain), chain)
	case chain != nil:
		return teep.NewProtocolError(teep.ErrBadCertificate, chainFault(chain), chain)
	}
	if errors.Is(invalid.Err, cose.ErrAlgorithm) {
		return a.wrongSuite("no signature of a supported cipher suite")
	}
	text := "message is not valid"
	switch {
	case errors.Is(invalid.Err, cose.ErrUnknownSigner):
		text = "no trust anchor for the signer"
	case errors.Is(invalid.Err, cose.ErrSignature):
		text = "signature does not verify"
	}
	return teep.NewProtocolError(teep.ErrPermanentError, fmt.Sprintf("%s (validation step %d)", text, invalid.Step), invalid)
}

// chainFault says what is wrong with a certificate chain, and which certificate it begins with, in
// words about the TAM's own certificates (TEEP §4.6).
func chainFault(err error) string {
	what := "leads to no trust anchor"
	switch {
	case errors.Is(err, trust.ErrCertificateExpired):
		what = "is expired or not yet valid"
	case errors.Is(err, cose.ErrCertificateRevoked):
		what = "is revoked"
	case errors.Is(err, cose.ErrRevocationList):
		what = "cannot be held against its revocation list"
	}
	var chain *trust.ChainError
	if !errors.As(err, &chain) || chain.Subject == "" {
		return "the certificate chain of the message " + what
	}
	return fmt.Sprintf("certificate chain %s: serial %s of %s", what, chain.Serial, chain.Subject)
}

// openOptions are what the agent accepts of messages.
func (a *Agent) openOptions() teep.OpenOptions {
	return teep.OpenOptions{MaxSize: a.cfg.Limits.Message, InsecureOlderPeers: a.cfg.InsecureOlderPeers}
}

// wrongSuite is ERR_UNSUPPORTED_CIPHER_SUITES with what it must carry (TEEP §4.6).
func (a *Agent) wrongSuite(text string) error {
	e := teep.NewProtocolError(teep.ErrUnsupportedCipherSuites, text, nil)
	e.CipherSuites = a.suites()
	return e
}

func (a *Agent) endSession(id uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s, ok := a.sessions[id]; ok && !a.busyLocked(s) {
		delete(a.sessions, id)
	}
}
