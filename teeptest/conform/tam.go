package conform

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
)

// TAM is the TAM to check, and what the suite may use for it.
type TAM struct {
	// URI is the TAM URI. Required.
	URI string
	// Keys are the public keys that the TAM signs with: one for ESP256, one for Ed25519. Required.
	Keys []*cose.Key
	// Encryption is the public key that Evidence is encrypted to; nil skips those checks.
	Encryption *cose.Key
	// Device is the device that the suite plays. Required. Where the TAM's verifier does not know
	// it, what comes after attestation is not checked.
	Device *Device
	// Component is the identifier of a component that the TAM offers to the device when it asks
	// for it; nil skips what needs an Update.
	Component teep.ComponentID
	// Client is the HTTP client; nil means one that follows no redirects and keeps no cookies.
	Client *http.Client
	// Now is the clock of the Evidence; nil means the real one.
	Now func() time.Time
	// Observe, if not nil, sees each result as it comes.
	Observe func(Result)
}

// CheckTAM checks a TAM. An error says that the suite could not begin; what the TAM does wrong is in
// the results.
func CheckTAM(ctx context.Context, t TAM) ([]Result, error) {
	r, err := newTAMRun(t)
	if err != nil {
		return nil, err
	}
	defer r.client.CloseIdleConnections()
	checks := slices.Concat(httpChecks, queryRequestChecks, tamMessageChecks(), tamExchangeChecks, tamErrorChecks)
	return runAll(ctx, r, checks, t.Observe), nil
}

// tamRun is one run of the suite.
type tamRun struct {
	TAM
	client   *http.Client
	keys     cose.KeySet
	attester *eat.Attester
	signer   cose.Signer

	control     sync.Once
	controlFail error
	demand      demand
}

func newTAMRun(t TAM) (*tamRun, error) {
	switch {
	case t.URI == "":
		return nil, errors.New("conform: TAM.URI is missing")
	case len(t.Keys) == 0:
		return nil, errors.New("conform: TAM.Keys is missing: without its public keys nothing of the TAM can be verified")
	case t.Device == nil:
		return nil, errors.New("conform: TAM.Device is missing")
	}
	r := &tamRun{TAM: t, client: t.Client}
	if r.Now == nil {
		r.Now = time.Now
	}
	if r.client == nil {
		r.client = &http.Client{
			Transport: http.DefaultTransport.(*http.Transport).Clone(), Timeout: time.Minute,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	var err error
	if r.keys, err = cose.NewKeySet(t.Keys...); err != nil {
		return nil, fmt.Errorf("conform: keys of the TAM: %w", err)
	}
	if r.attester, err = t.Device.attester(r.Now); err != nil {
		return nil, err
	}
	r.signer, err = t.Device.Agent.Signer()
	return r, err
}

// answer is an HTTP response.
type answer struct {
	status int
	header http.Header
	body   []byte
}

const maxAnswer = 64 << 20

// post sends a body as an agent's broker does; change adjusts the request. A TAM that asks to be
// given time is given it.
func (r *tamRun) post(ctx context.Context, body []byte, change ...func(*http.Request)) (*answer, error) {
	for attempt := 0; ; attempt++ {
		a, err := r.postOnce(ctx, body, change)
		if err != nil || attempt == 8 || a.status != http.StatusTooManyRequests && a.status != http.StatusServiceUnavailable {
			return a, err
		}
		seconds, _ := strconv.Atoi(a.header.Get("Retry-After")) //nolint:errcheck // without one, the least
		pause := time.NewTimer(time.Duration(min(max(seconds, 1), 10)) * time.Second)
		select {
		case <-ctx.Done():
			pause.Stop()
			return nil, ctx.Err()
		case <-pause.C:
		}
	}
}

func (r *tamRun) postOnce(ctx context.Context, body []byte, change []func(*http.Request)) (*answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URI, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", teep.MediaType)
	request.Header.Set("User-Agent", "teep-conform")
	if len(body) > 0 {
		request.Header.Set("Content-Type", teep.MediaType)
	}
	for _, f := range change {
		f(request)
	}
	response, err := r.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	return &answer{response.StatusCode, response.Header, data}, err
}

// connect gets a QueryRequest.
func (r *tamRun) connect(ctx context.Context) (*teep.QueryRequest, *teep.Opened, error) {
	a, err := r.post(ctx, nil)
	if err != nil {
		return nil, nil, err
	}
	return r.queryRequest(a)
}

func (r *tamRun) queryRequest(a *answer) (*teep.QueryRequest, *teep.Opened, error) {
	if a.status/100 != 2 || len(a.body) == 0 {
		return nil, nil, fmt.Errorf("no message: HTTP status %d with %d bytes", a.status, len(a.body))
	}
	o, err := teep.Open(a.body, r.keys, teep.OpenOptions{})
	if err != nil {
		return nil, nil, err
	}
	q, ok := o.Message.(*teep.QueryRequest)
	if !ok {
		return nil, nil, fmt.Errorf("a %v in place of a query-request", o.Message.Type())
	}
	return q, o, nil
}

// evidence makes Evidence for a nonce and an agent key.
func (r *tamRun) evidence(ctx context.Context, nonce []byte, key *cose.Key) (attest.Evidence, error) {
	if len(nonce) > 64 {
		return attest.Evidence{}, skip("the challenge of %d bytes does not fit into an eat_nonce", len(nonce))
	}
	return r.attester.Attest(ctx, "", attest.Request{Nonce: nonce, AgentKey: key.Public()})
}

// response makes the honest answer to a QueryRequest.
func (r *tamRun) response(ctx context.Context, q *teep.QueryRequest, key *cose.Key) (*teep.QueryResponse, error) {
	m := &teep.QueryResponse{Token: q.Token}
	if q.DataItems.Has(teep.DataAttestation) {
		e, err := r.evidence(ctx, q.Challenge, key)
		if err != nil {
			return nil, err
		}
		m.AttestationFormat, m.AttestationPayload = e.MediaType, e.Payload
	}
	if q.DataItems.Has(teep.DataTrustedComponents) {
		m.TrustedComponents = []teep.RawMessage{}
	}
	if q.DataItems.Has(teep.DataExtensions) {
		m.ExtensionList = []teep.ExtensionInfo{}
	}
	if r.Component != nil {
		m.RequestedComponents = []teep.RequestedComponent{{ID: r.Component}}
	}
	return m, nil
}

// reply is what a message is answered with.
type reply struct {
	*answer
	message teep.Message // nil if the body is empty
	opened  *teep.Opened
}

// update is the Update in a reply, nil if there is none.
func (p *reply) update() *teep.Update {
	u, _ := p.message.(*teep.Update)
	return u
}

// offers tells whether the reply tells the device to change something.
func (p *reply) offers() bool {
	u := p.update()
	return u != nil && len(u.Manifests)+len(u.UnneededManifests) > 0
}

// send sends a message and opens the answer, which has to be valid.
func (r *tamRun) send(ctx context.Context, msg []byte) (*reply, error) {
	a, err := r.post(ctx, msg)
	if err != nil {
		return nil, err
	}
	p := &reply{answer: a}
	if a.status/100 != 2 || len(a.body) == 0 {
		return p, nil
	}
	if p.opened, err = teep.Open(a.body, r.keys, teep.OpenOptions{}); err != nil {
		return nil, fmt.Errorf("the answer is not valid: %w", err)
	}
	p.message = p.opened.Message
	return p, nil
}

func (r *tamRun) sendMessage(ctx context.Context, m teep.Message, s cose.Signer) (*reply, error) {
	msg, err := teep.Protect(rand.Reader, m, s)
	if err != nil {
		return nil, err
	}
	return r.send(ctx, msg)
}

// introduce makes the device known to a TAM that asks for attestation only once in a while: it goes on
// answering until the TAM asks no more. What comes of it shows in the checks.
func (r *tamRun) introduce(ctx context.Context) error {
	const rounds = 3
	q, _, err := r.connect(ctx)
	for range rounds {
		if err != nil {
			return err
		}
		m, err := r.response(ctx, q, r.Device.Agent)
		if err != nil {
			return err
		}
		p, err := r.sendMessage(ctx, m, r.signer)
		if err != nil {
			return err
		}
		again, ok := p.message.(*teep.QueryRequest)
		if !ok {
			return nil
		}
		q = again
	}
	return nil
}

// question is a fresh QueryResponse that a TAM answers with an Update: the honest one where the TAM
// offers a component, else one that lacks what was asked for, which has to be answered too
// (TEEP §7.1.1).
func (r *tamRun) question(ctx context.Context) (*teep.QueryResponse, error) {
	q, _, err := r.connect(ctx)
	if err != nil {
		return nil, err
	}
	m, err := r.response(ctx, q, r.Device.Agent)
	if err != nil || r.Component != nil {
		return m, err
	}
	return m, incomplete(q, m)
}

func incomplete(q *teep.QueryRequest, m *teep.QueryResponse) error {
	switch {
	case q.DataItems.Has(teep.DataTrustedComponents):
		m.TrustedComponents = nil
	case q.DataItems.Has(teep.DataExtensions):
		m.ExtensionList = nil
	default:
		return skip("the TAM asks for nothing that could be left out; name a component that it offers")
	}
	return nil
}

// answers makes sure, once, that the question is answered with an Update when it is honest: else a
// damaged one without answer would prove nothing.
func (r *tamRun) answers(ctx context.Context) error {
	r.control.Do(func() {
		err := r.introduce(ctx)
		var m *teep.QueryResponse
		if err == nil {
			m, err = r.question(ctx)
		}
		if err == nil {
			var p *reply
			if p, err = r.sendMessage(ctx, m, r.signer); err == nil && p.update() == nil {
				err = skip("the same message undamaged is not answered with an Update, so that silence proves nothing: is the device endorsed?")
			}
		}
		r.controlFail = err
	})
	return r.controlFail
}

// offer gets an Update with something to install.
func (r *tamRun) offer(ctx context.Context) (*teep.Update, *reply, error) {
	if r.Component == nil {
		return nil, nil, skip("name a component that the TAM offers to this device")
	}
	m, err := r.question(ctx)
	if err != nil {
		return nil, nil, err
	}
	p, err := r.sendMessage(ctx, m, r.signer)
	if err != nil {
		return nil, nil, err
	}
	if !p.offers() {
		if u := p.update(); u != nil {
			return nil, nil, skip("the TAM offers nothing: %v %s", u.ErrorCode, u.ErrorMessage)
		}
		return nil, nil, skip("the TAM offers nothing: is the device endorsed, and the component published?")
	}
	return p.update(), p, nil
}
