package conform

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
)

// asked makes a check of one QueryRequest.
func asked(look func(r *tamRun, q *teep.QueryRequest, o *teep.Opened) error) func(context.Context, *tamRun) error {
	return func(ctx context.Context, r *tamRun) error {
		q, o, err := r.connect(ctx)
		if err != nil {
			return err
		}
		return look(r, q, o)
	}
}

var queryRequestChecks = []check[*tamRun]{
	{"query-suites", "§8.1", Must, "both mandatory cipher suites are supported", asked(func(_ *tamRun, q *teep.QueryRequest, _ *teep.Opened) error {
		for _, want := range teep.MandatoryCipherSuites() {
			if !slices.ContainsFunc(q.CipherSuites, want.Equal) {
				return fmt.Errorf("%v is not offered", want)
			}
		}
		return nil
	})},
	{"query-signatures", "§8.1", Must, "the first QueryRequest has a signature for each algorithm of the suites that it lists", func(ctx context.Context, r *tamRun) error {
		a, err := r.post(ctx, nil)
		if err != nil {
			return err
		}
		q, o, err := r.queryRequest(a)
		if err != nil {
			return err
		}
		if !o.Multiple {
			return errors.New("it is a COSE_Sign1, as if the TAM knew the agent's suite")
		}
		for _, suite := range q.CipherSuites {
			for _, op := range suite {
				_, err := teep.Open(a.body, r.keys, teep.OpenOptions{Algorithms: []cose.Algorithm{op.Algorithm}})
				if err != nil {
					return fmt.Errorf("signature for %v: %w", op.Algorithm, err)
				}
			}
		}
		return nil
	}},
	{"query-profiles", "§8.2", Must, "all SUIT COSE profiles that are mandatory for a TAM are supported", asked(func(_ *tamRun, q *teep.QueryRequest, _ *teep.Opened) error {
		for _, want := range teep.MandatorySUITProfiles() {
			if !slices.Contains(q.SUITProfiles, want) {
				return fmt.Errorf("profile %v is not offered", want)
			}
		}
		return nil
	})},
	{"query-token", "§4.2", Must, "the token is there if and only if attestation is not requested", asked(func(_ *tamRun, q *teep.QueryRequest, _ *teep.Opened) error {
		if (q.Token != nil) == q.DataItems.Has(teep.DataAttestation) {
			return fmt.Errorf("data-item-requested is %v, and the token has %d bytes", q.DataItems, len(q.Token))
		}
		return nil
	})},
	{"query-challenge", "§4.2", Must, "challenge and freshness mechanisms are absent if attestation is not requested", asked(func(_ *tamRun, q *teep.QueryRequest, _ *teep.Opened) error {
		if !q.DataItems.Has(teep.DataAttestation) && (q.Challenge != nil || q.FreshnessMechanisms != nil) {
			return errors.New("one of them is there")
		}
		return nil
	})},
	{"query-nonce", "§9", Must, "the nonce mechanism is supported", asked(func(_ *tamRun, q *teep.QueryRequest, _ *teep.Opened) error {
		if q.FreshnessMechanisms != nil && !slices.Contains(q.FreshnessMechanisms, teep.FreshnessNonce) {
			return fmt.Errorf("supported are %v", q.FreshnessMechanisms)
		}
		return nil
	})},
	{"query-fresh", "§4.1.1", Must, "tokens and challenges differ from message to message", func(ctx context.Context, r *tamRun) error {
		seen := map[string]bool{}
		for range 8 {
			q, _, err := r.connect(ctx)
			if err != nil {
				return err
			}
			for _, v := range [][]byte{q.Token, q.Challenge} {
				if v == nil {
					continue
				}
				if seen[string(v)] {
					return fmt.Errorf("%x came twice", v)
				}
				seen[string(v)] = true
			}
		}
		if len(seen) == 0 {
			return skip("the TAM sends neither")
		}
		return nil
	}},
	{"query-random", "§4.1.1", Must, "tokens and challenges are not to be guessed", func(ctx context.Context, r *tamRun) error {
		first, _, err := r.connect(ctx)
		if err != nil {
			return err
		}
		second, _, err := r.connect(ctx)
		if err != nil {
			return err
		}
		a, b := slices.Concat(first.Token, first.Challenge), slices.Concat(second.Token, second.Challenge)
		if len(a) == 0 {
			return skip("the TAM sends neither")
		}
		if n := differing(a, b); n < 40 {
			return fmt.Errorf("two in a row differ in %d bits only", n)
		}
		return nil
	}},
	{"query-report-key", "§4.2", Must, "SUIT Reports are protected with another key than the message", asked(func(r *tamRun, q *teep.QueryRequest, _ *teep.Opened) error {
		if q.SUITReports == nil {
			return skip("the TAM sends no SUIT Reports")
		}
		for _, report := range q.SUITReports {
			if _, err := cose.Verify(report, r.keys, cose.VerifyOptions{}); err == nil {
				return errors.New("a report is signed with a key that signs messages")
			}
		}
		return nil
	})},
}

// differing counts the bits in which two strings differ.
func differing(a, b []byte) int {
	n := 8 * max(len(a)-len(b), len(b)-len(a))
	for i := range min(len(a), len(b)) {
		for x := a[i] ^ b[i]; x != 0; x &= x - 1 {
			n++
		}
	}
	return n
}

// tamMessageChecks damages a message that is answered when it is whole.
func tamMessageChecks() []check[*tamRun] {
	var checks []check[*tamRun]
	for _, d := range damages {
		checks = append(checks, check[*tamRun]{"message-" + d.id, d.section, Must, d.text, func(ctx context.Context, r *tamRun) error {
			if err := r.answers(ctx); err != nil {
				return err
			}
			m, err := r.question(ctx)
			if err != nil {
				return err
			}
			payload, err := teep.EncodeUnchecked(m)
			if err != nil {
				return err
			}
			msg, err := d.make(payload, r.signer)
			if err != nil {
				return err
			}
			return r.rejected(ctx, msg, d.authentic)
		}})
	}
	return append(checks,
		check[*tamRun]{"message-not-for-tam", "§4", Must, "messages that only a TAM sends are not accepted from an agent", func(ctx context.Context, r *tamRun) error {
			for _, m := range []teep.Message{
				&teep.Update{Token: bytes.Repeat([]byte{1}, 16)},
				&teep.QueryRequest{Token: bytes.Repeat([]byte{1}, 16), CipherSuites: teep.MandatoryCipherSuites(), SUITProfiles: teep.MandatorySUITProfiles()},
			} {
				msg, err := teep.Protect(nil, m, r.signer)
				if err != nil {
					return err
				}
				if err := r.rejected(ctx, msg, true); err != nil {
					return err
				}
			}
			return nil
		}},
		check[*tamRun]{"message-multiple", "§8.1", Must, "a QueryResponse that is no COSE_Sign1 of the selected suite is not accepted", func(ctx context.Context, r *tamRun) error {
			if err := r.answers(ctx); err != nil {
				return err
			}
			m, err := r.question(ctx)
			if err != nil {
				return err
			}
			payload, err := teep.EncodeUnchecked(m)
			if err != nil {
				return err
			}
			msg, err := cose.SignMulti(rand.Reader, payload, []cose.Signer{r.signer}, cose.SignOptions{})
			if err != nil {
				return err
			}
			return r.rejected(ctx, msg, true)
		}},
		check[*tamRun]{"message-indefinite", "§4", Must, "options of indefinite length are taken or refused, and the TAM does not fail", func(ctx context.Context, r *tamRun) error {
			m, err := r.question(ctx)
			if err != nil {
				return err
			}
			msg, err := indefinite(m, r.signer)
			if err != nil {
				return err
			}
			p, err := r.send(ctx, msg)
			if err == nil && p.status/100 == 5 {
				err = fmt.Errorf("HTTP status %d", p.status)
			}
			return err
		}},
		check[*tamRun]{"message-untagged", "§4.1.2", Should, "a COSE_Sign1 without tag is accepted", func(ctx context.Context, r *tamRun) error {
			return r.accepted(ctx, func(p *parts) { p.tag = 0 })
		}},
		check[*tamRun]{"message-kid-protected", "§4.1.2 step 3", Should, "a kid in the protected bucket is accepted", func(ctx context.Context, r *tamRun) error {
			return r.accepted(ctx, func(p *parts) {
				p.protected = must(cbor.Marshal(map[int64]any{1: algorithmOf(p.protected), 4: r.signer.KeyID()}))
				p.unprotected = []byte{0xa0}
			})
		}},
		check[*tamRun]{"message-unknown-header", "§4.1.2 step 3", Should, "a header parameter that nobody knows and that is not critical is ignored", func(ctx context.Context, r *tamRun) error {
			return r.accepted(ctx, unknownHeaders)
		}},
		check[*tamRun]{"message-unknown-option", "§6", Should, "an option that nobody knows is tolerated", func(ctx context.Context, r *tamRun) error {
			return r.accepted(ctx, func(p *parts) {
				m, err := takeApart(p.payload)
				if err != nil {
					panic(err)
				}
				m.set(labelExtension, "extension")
				p.payload = m.encode()
			})
		}},
	)
}

// rejected expects that a message has no effect that can be seen: no Update, or for one that is
// authentic at most an Update that says what is wrong.
func (r *tamRun) rejected(ctx context.Context, msg []byte, authentic bool) error {
	p, err := r.send(ctx, msg)
	if err != nil {
		return err
	}
	switch u := p.update(); {
	case p.status/100 == 5:
		return fmt.Errorf("HTTP status %d: the TAM failed", p.status)
	case u == nil:
		return nil
	case !authentic, u.ErrorCode == 0:
		return errors.New("it is answered with an Update")
	}
	return nil
}

// accepted expects that a message in another form is answered as the usual form is.
func (r *tamRun) accepted(ctx context.Context, change func(*parts)) error {
	if err := r.answers(ctx); err != nil {
		return err
	}
	m, err := r.question(ctx)
	if err != nil {
		return err
	}
	payload, err := teep.EncodeUnchecked(m)
	if err != nil {
		return err
	}
	msg, err := signed(change)(payload, r.signer)
	if err != nil {
		return err
	}
	p, err := r.send(ctx, msg)
	if err == nil && p.update() == nil {
		err = fmt.Errorf("HTTP status %d without an Update", p.status)
	}
	return err
}
