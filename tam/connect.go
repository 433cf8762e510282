package tam

import (
	"context"
	"fmt"
	"slices"
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
	if t.observer == nil {
		return t.queryRequest(ctx, t.firstQuery())
	}
	return t.observed(ctx, func(ctx context.Context) ([]byte, error) { return t.queryRequest(ctx, t.firstQuery()) })
}

// firstQuery is what policy asks an agent of which nothing is known.
func (t *TAM) firstQuery() query {
	return query{signers: t.keys.Load().offered, attested: t.policy.Query != QueryToken, timestamped: t.policy.Query == QueryTimestamp}
}

// items are the data items that policy asks for, attestation aside.
func (p *Policy) items() teep.DataItem {
	items := teep.DataTrustedComponents
	if p.AskExtensions {
		items |= teep.DataExtensions
	}
	if p.AskSUITReports {
		items |= teep.DataSUITReports
	}
	return items
}

// query describes a QueryRequest.
type query struct {
	// signers are those of the offered suites.
	signers []cose.Signer
	// attested sets the attestation bit.
	attested bool
	// timestamps offers freshness by timestamp, beside the nonce; timestamped offers nothing else,
	// and has neither token nor challenge.
	timestamps, timestamped bool
	// profiles are offered for SUIT Reports; nil means all four.
	profiles []teep.SUITProfile
	// evidence attests the TAM.
	evidence *attest.Evidence
	// plain leaves extensions out.
	plain bool
}

func (t *TAM) queryRequest(ctx context.Context, q query) ([]byte, error) {
	items := t.policy.items()
	m := &teep.QueryRequest{SUITProfiles: q.profiles}
	if m.SUITProfiles == nil {
		m.SUITProfiles = teep.MandatorySUITProfiles()
	}
	for _, s := range q.signers {
		// Several keys may be of one suite.
		if suite := teep.CipherSuiteSign1(s.Algorithm()); !slices.ContainsFunc(m.CipherSuites, suite.Equal) {
			m.CipherSuites = append(m.CipherSuites, suite)
		}
	}
	p := purposeQuery
	if q.attested {
		items |= teep.DataAttestation
		p = purposeChallenge
	}
	// Token if and only if the attestation bit is clear; challenge only if it is set, and not where
	// the payload is to be fresh by its timestamp (TEEP §4.2, §9).
	if q.timestamped {
		m.FreshnessMechanisms = []teep.FreshnessMechanism{teep.FreshnessTimestamp}
	} else {
		b, _, err := t.tokens.issue(ctx, p, byte(items), nil)
		switch {
		case err != nil:
			return nil, err
		case q.attested:
			m.Challenge = b
		default:
			m.Token = b
		}
	}
	if q.timestamps {
		m.FreshnessMechanisms = []teep.FreshnessMechanism{teep.FreshnessNonce, teep.FreshnessTimestamp}
	}
	m.DataItems = items
	if q.attested && !q.plain {
		var err error
		if m.Extensions, err = teep.EvidenceFormatsOption(t.wanted); err != nil {
			return nil, err
		}
	}
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
// TAM busy for ever. Each session may take one attempt, and sessions may follow each other quickly:
// hence a few at once, and then one per pause. It is kept in memory, per replica, and bounded.
type retryLimit struct {
	clock func() time.Time
	mu    sync.Mutex
	// full is when all attempts of a sender are available again.
	full map[string]time.Time
}

const (
	retryBurst   = 4
	retryPause   = time.Second
	retryEntries = 4096
)

func newRetryLimit(clock func() time.Time) *retryLimit {
	return &retryLimit{clock: clock, full: make(map[string]time.Time)}
}

// allow tells whether the sender with that key ID, asking for that, may have another attempt now.
func (r *retryLimit) allow(keyID []byte, code teep.ErrorCode) bool {
	now := r.clock()
	key := fmt.Sprintf("%d %x", code, keyID)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.full) >= retryEntries {
		for k, at := range r.full {
			if !now.Before(at) {
				delete(r.full, k)
			}
		}
	}
	full, known := r.full[key]
	if !known && len(r.full) >= retryEntries {
		return false
	}
	if full.Before(now) {
		full = now
	}
	if full = full.Add(retryPause); full.Sub(now) > retryBurst*retryPause {
		return false
	}
	r.full[key] = full
	return true
}
