package tam

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/cose"
)

// ProcessConnect answers a broker that connected without a message: with a QueryRequest, signed
// once for every cipher suite that it offers, since the agent is not known yet (TEEP §7.1, §8.1).
// Nothing is stored.
func (t *TAM) ProcessConnect(ctx context.Context) ([]byte, error) {
	q := query{signers: t.offered, attested: t.policy.Query == QueryAttested}
	return t.queryRequest(ctx, q)
}

// query describes a QueryRequest.
type query struct {
	// signers are those of the offered suites.
	signers []cose.Signer
	// attested sets the attestation bit.
	attested bool
	// timestamps offers freshness by timestamp, beside the nonce.
	timestamps bool
	// profiles are offered for SUIT Reports; nil means all four.
	profiles []teep.SUITProfile
	// evidence attests the TAM.
	evidence *attest.Evidence
}

func (t *TAM) queryRequest(ctx context.Context, q query) ([]byte, error) {
	items := teep.DataTrustedComponents
	m := &teep.QueryRequest{SUITProfiles: q.profiles}
	if m.SUITProfiles == nil {
		m.SUITProfiles = teep.MandatorySUITProfiles()
	}
	for _, s := range q.signers {
		m.CipherSuites = append(m.CipherSuites, teep.CipherSuiteSign1(s.Algorithm()))
	}
	p := purposeQuery
	if q.attested {
		items |= teep.DataAttestation
		p = purposeChallenge
	}
	b, _, err := t.tokens.issue(ctx, p, byte(items), nil)
	if err != nil {
		return nil, err
	}
	// Token if and only if the attestation bit is clear; challenge only if it is set
	// (TEEP §4.2).
	if q.attested {
		m.Challenge = b
		if q.timestamps {
			m.FreshnessMechanisms = []teep.FreshnessMechanism{teep.FreshnessNonce, teep.FreshnessTimestamp}
		}
	} else {
		m.Token = b
	}
	m.DataItems = items
	if q.evidence != nil {
		m.AttestationFormat, m.AttestationPayload = q.evidence.MediaType, q.evidence.Payload
	}
	data, err := teep.Protect(t.rand, m, q.signers...)
	if err != nil {
		return nil, fmt.Errorf("tam: protecting a QueryRequest: %w", err)
	}
	return data, nil
}

// retryLimit bounds how often one agent makes the TAM repeat a QueryRequest in another form. An
// Error that answers a QueryRequest with a challenge carries nothing that says which attempt it
// belongs to, so without a limit an agent that is never content would keep its broker and this
// TAM busy for ever. It is kept in memory, per replica, and bounded.
type retryLimit struct {
	clock func() time.Time
	mu    sync.Mutex
	last  map[string]time.Time
}

const (
	retryPause   = 10 * time.Second
	retryEntries = 4096
)

func newRetryLimit(clock func() time.Time) *retryLimit {
	return &retryLimit{clock: clock, last: make(map[string]time.Time)}
}

// allow tells whether the sender with that key ID, asking for that, may have another attempt now.
func (r *retryLimit) allow(keyID []byte, code teep.ErrorCode) bool {
	now := r.clock()
	key := fmt.Sprintf("%d %x", code, keyID)
	r.mu.Lock()
	defer r.mu.Unlock()
	if at, ok := r.last[key]; ok && now.Sub(at) < retryPause {
		return false
	}
	if len(r.last) >= retryEntries {
		for k, at := range r.last {
			if now.Sub(at) >= retryPause {
				delete(r.last, k)
			}
		}
	}
	if len(r.last) >= retryEntries {
		return false
	}
	r.last[key] = now
	return true
}
