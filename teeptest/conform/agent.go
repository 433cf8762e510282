package conform

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/link"
)

// Agent is the agent to check, and what the suite may use for it.
type Agent struct {
	// Link is the agent, usually a *link.Redialer to its socket. Required.
	Link link.Agent
	// Keys are the private message keys of a TAM that the agent trusts: one for ESP256, one for
	// Ed25519. Required: an agent answers nobody else.
	Keys []*cose.Key
	// Decryption is the private key that the agent encrypts Evidence to; nil skips what needs a
	// look into encrypted Evidence.
	Decryption *cose.Key
	// AgentKey is the agent's public key; nil: the one that its Evidence names.
	AgentKey *cose.Key
	// TAMURI is the URI of that TAM in the agent's configuration, for agents that trust several.
	TAMURI string
	// Component is an identifier that the agent may request of that TAM and has not installed; nil
	// means 'teep-conform'.
	Component link.ComponentID
	// Manifests are two signed envelopes of one component that the agent accepts, with integrated
	// payloads, the second of a higher sequence number. They are installed, the lower one is
	// tried again, and the component is removed. Empty skips those checks.
	Manifests [][]byte
	// Observe, if not nil, sees each result as it comes.
	Observe func(Result)
}

// CheckAgent checks an agent. An error says that the suite could not begin; what the agent does
// wrong is in the results.
func CheckAgent(ctx context.Context, a Agent) ([]Result, error) {
	r, err := newAgentRun(a)
	if err != nil {
		return nil, err
	}
	if err := r.learn(ctx); err != nil {
		return nil, err
	}
	checks := slices.Concat(agentQueryChecks, evidenceChecks, negotiationChecks, agentMessageChecks(), updateChecks, linkChecks)
	results := runAll(ctx, r, checks, a.Observe)
	r.Link.UnrequestTA(ctx, r.Component) //nolint:errcheck // tidying up, as far as it can be
	return results, nil
}

// agentRun is one run of the suite.
type agentRun struct {
	Agent
	signers []cose.Signer
	// keys verify the agent's messages; nil while its key is not known.
	keys cose.KeySet
	// signer is that of the TAM's signers whose suite the agent uses.
	signer cose.Signer
	// refused is how the agent answers an honest QueryRequest, if not with a QueryResponse.
	refused error
}

func newAgentRun(a Agent) (*agentRun, error) {
	r := &agentRun{Agent: a}
	if a.Link == nil || len(a.Keys) == 0 {
		return nil, errors.New("conform: Agent.Link and Agent.Keys are required: an agent answers only TAMs that it trusts")
	}
	for _, k := range a.Keys {
		s, err := k.Signer()
		if err != nil {
			return nil, fmt.Errorf("conform: key of the TAM: %w", err)
		}
		r.signers = append(r.signers, s)
	}
	if r.Component == nil {
		r.Component = link.ComponentID{[]byte("teep-conform")}
	}
	return r, nil
}

// learn finds out the agent's suite and key from an honest exchange.
func (r *agentRun) learn(ctx context.Context) error {
	p, err := r.exchange(ctx, r.query(teep.DataAttestation|teep.DataTrustedComponents))
	if err != nil {
		return fmt.Errorf("conform: an honest QueryRequest is not answered: %w", err)
	}
	body, _, err := cose.UnverifiedHeaders(p.raw)
	if err != nil {
		return fmt.Errorf("conform: the answer to an honest QueryRequest: %w", err)
	}
	alg := body.Protected.Algorithm()
	i := slices.IndexFunc(r.signers, func(s cose.Signer) bool { return s.Algorithm() == alg })
	if i < 0 {
		return fmt.Errorf("conform: the agent signs with %v; give the TAM's private key for that too", alg)
	}
	r.signer = r.signers[i]
	m, ok := p.message.(*teep.QueryResponse)
	if !ok {
		r.refused = skip("an honest QueryRequest is answered with %s", describe(p.message))
	}
	key := r.AgentKey
	if key == nil && ok {
		if claims, err := r.claims(m); err == nil && claims.Confirmation != nil {
			key = claims.Confirmation.Key
		}
	}
	if key != nil {
		if r.keys, err = cose.NewKeySet(key); err != nil {
			return fmt.Errorf("conform: key of the agent: %w", err)
		}
	}
	return nil
}

func describe(m teep.Message) string {
	switch m := m.(type) {
	case nil:
		return "nothing"
	case *teep.Error:
		return fmt.Sprintf("%v %q", m.Code, m.Message)
	default:
		return "a " + m.Type().String()
	}
}

// query is an honest QueryRequest that offers all that is mandatory.
func (r *agentRun) query(items teep.DataItem) *teep.QueryRequest {
	q := &teep.QueryRequest{CipherSuites: r.suites(), SUITProfiles: teep.MandatorySUITProfiles(), DataItems: items}
	if items.Has(teep.DataAttestation) {
		q.Challenge = random(32)
	} else {
		q.Token = random(16)
	}
	return q
}

func (r *agentRun) suites() []teep.CipherSuite {
	var suites []teep.CipherSuite
	for _, s := range r.signers {
		suites = append(suites, teep.CipherSuiteSign1(s.Algorithm()))
	}
	return suites
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) //nolint:errcheck // never fails
	return b
}

// said is what an agent answers.
type said struct {
	ask     link.Ask
	raw     []byte       // nil if it answers nothing
	message teep.Message // opened if the agent's key is known, else decoded only
	opened  *teep.Opened
	// refused is the error of the call, where the agent answers with that.
	refused error
}

// open opens a session with the TAM that the suite plays.
func (r *agentRun) open(ctx context.Context) (link.Ask, error) {
	ask, err := r.Link.RequestTA(ctx, link.Request{Component: r.Component, TAMURI: r.TAMURI})
	switch {
	case err != nil:
		return ask, fmt.Errorf("RequestTA: %w", err)
	case ask.TAMURI == "":
		return ask, errors.New("RequestTA for a component that is not installed names no TAM")
	}
	return ask, nil
}

// exchange sends an honest message in a new session: a QueryRequest with all signatures, anything
// else in the agent's suite.
func (r *agentRun) exchange(ctx context.Context, m teep.Message) (*said, error) {
	payload, err := teep.EncodeUnchecked(m)
	if err != nil {
		return nil, err
	}
	var msg []byte
	if _, query := m.(*teep.QueryRequest); query && len(r.signers) > 1 {
		msg, err = cose.SignMulti(rand.Reader, payload, r.signers, cose.SignOptions{})
	} else {
		s := r.signer
		if s == nil {
			s = r.signers[0]
		}
		msg, err = cose.Sign1(rand.Reader, payload, s, cose.SignOptions{})
	}
	if err != nil {
		return nil, err
	}
	p, err := r.send(ctx, msg)
	if err == nil && p.refused != nil {
		err = p.refused
	}
	return p, err
}

// send passes a message in, in a new session. Only a lost connection is an error.
func (r *agentRun) send(ctx context.Context, msg []byte) (*said, error) {
	ask, err := r.open(ctx)
	if err != nil {
		return nil, err
	}
	return r.pass(ctx, ask.Session, msg)
}

func (r *agentRun) pass(ctx context.Context, session uint64, msg []byte) (*said, error) {
	ask, err := r.Link.ProcessTeepMessage(ctx, session, msg)
	for range 64 {
		if err == nil && ask.Appraisal != nil {
			ask, err = r.Link.Appraised(ctx, link.Appraised{
				Session: ask.Session, AppraisalID: ask.Appraisal.ID, Err: "the conformance suite is no verifier",
			})
			continue
		}
		if err != nil || ask.Fetch == nil {
			break
		}
		ask, err = r.Link.Deliver(ctx, link.Chunk{
			Session: ask.Session, FetchID: ask.Fetch.ID, Offset: ask.Fetch.Offset, Err: "the conformance suite serves no payloads",
		})
	}
	p := &said{ask: ask, raw: ask.Message, refused: err}
	switch {
	case errors.Is(err, link.ErrClosed), ctx.Err() != nil:
		return nil, err
	case err != nil || ask.Message == nil:
		return p, nil
	}
	return p, r.read(p)
}

// read opens an answer and checks what has to be so for every one.
func (r *agentRun) read(p *said) error {
	if r.keys == nil {
		payload, err := cose.UnverifiedPayload(p.raw)
		if err == nil {
			p.message, err = teep.Decode(payload)
		}
		return err
	}
	o, err := teep.Open(p.raw, r.keys, teep.OpenOptions{})
	if err != nil {
		return fmt.Errorf("the answer is not valid: %w", err)
	}
	p.opened, p.message = o, o.Message
	if e, ok := o.Message.(*teep.Error); ok && e.Message != "" {
		if err := netUnicode(e.Message); err != nil {
			return fmt.Errorf("err-msg: %w", err)
		}
	}
	return nil
}

// respond sends an honest QueryRequest and expects a QueryResponse.
func (r *agentRun) respond(ctx context.Context, q *teep.QueryRequest) (*teep.QueryResponse, *said, error) {
	if r.refused != nil {
		return nil, nil, r.refused
	}
	p, err := r.exchange(ctx, q)
	if err != nil {
		return nil, nil, err
	}
	m, ok := p.message.(*teep.QueryResponse)
	if !ok {
		return nil, p, fmt.Errorf("answered with %s", describe(p.message))
	}
	return m, p, nil
}

// refuse sends a message and expects an Error of one of the codes.
func (r *agentRun) refuse(ctx context.Context, m teep.Message, codes ...teep.ErrorCode) (*teep.Error, *said, error) {
	p, err := r.exchange(ctx, m)
	if err != nil {
		return nil, nil, err
	}
	e, ok := p.message.(*teep.Error)
	if !ok || len(codes) > 0 && !slices.Contains(codes, e.Code) {
		return nil, nil, fmt.Errorf("answered with %s", describe(p.message))
	}
	return e, p, nil
}

// claims looks into the attestation payload.
func (r *agentRun) claims(m *teep.QueryResponse) (*eat.Claims, error) {
	token, err := r.token(m)
	if err != nil {
		return nil, err
	}
	payload, err := cose.UnverifiedPayload(token)
	if err != nil {
		return nil, err
	}
	return eat.ParseClaims(payload)
}

// token is the EAT in the attestation payload, decrypted.
func (r *agentRun) token(m *teep.QueryResponse) ([]byte, error) {
	switch {
	case m.AttestationPayload == nil:
		return nil, errors.New("there is no attestation-payload")
	case !teep.IsEATFormat(m.AttestationFormat):
		return nil, skip("the attestation-payload is %q, not an EAT of the TEEP profile", m.AttestationFormat)
	case !eat.IsEncrypted(m.AttestationPayload):
		return m.AttestationPayload, nil
	case r.Decryption == nil:
		return nil, skip("the attestation-payload is encrypted; give the TAM's private decryption key")
	}
	return eat.Decrypt(m.AttestationPayload, []*cose.Key{r.Decryption}, cose.AlgA128GCM, cose.AlgChaCha20Poly1305, cose.AlgA128CTR)
}
