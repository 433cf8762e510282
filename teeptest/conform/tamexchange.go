package conform

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
)

var tamExchangeChecks = []check[*tamRun]{
	{"response-incomplete", "§7.1.1", Must, "a QueryResponse without what was requested is answered with an Update with err-code", func(ctx context.Context, r *tamRun) error {
		_, err := r.probe(ctx, r.Device.Agent, nil)
		return err
	}},
	{"suite-ed25519", "§8.1", Must, "an agent that uses Ed25519 is answered in Ed25519", func(ctx context.Context, r *tamRun) error {
		return r.sameSuite(ctx, cose.AlgEd25519)
	}},
	{"suite-esp256", "§8.1", Must, "an agent that uses ESP256 is answered in ESP256", func(ctx context.Context, r *tamRun) error {
		return r.sameSuite(ctx, cose.AlgESP256)
	}},
	{"err-msg", "§4.4", Must, "err-msg is Net-Unicode of 1 to 128 bytes, and err-code not 0", func(ctx context.Context, r *tamRun) error {
		u, err := r.probe(ctx, r.Device.Agent, nil)
		if err != nil {
			return err
		}
		if u.ErrorMessage == "" {
			return skip("the TAM sends no err-msg")
		}
		return netUnicode(u.ErrorMessage)
	}},
	{"encrypted-a128ctr", "§8.2", Must, "Evidence encrypted with A128CTR is understood", encrypted(cose.AlgA128CTR)},
	{"encrypted-a128gcm", "§8.2", Must, "Evidence encrypted with A128GCM is understood", encrypted(cose.AlgA128GCM)},
	{"encrypted-chacha20", "§8.2", Must, "Evidence encrypted with ChaCha20-Poly1305 is understood", encrypted(cose.AlgChaCha20Poly1305)},
	{"challenge-replayed", "§4.2", Must, "a QueryResponse that comes again is ignored", func(ctx context.Context, r *tamRun) error {
		if _, _, err := r.offer(ctx); err != nil {
			return err
		}
		m, err := r.question(ctx)
		if err != nil {
			return err
		}
		msg, err := teep.Protect(rand.Reader, m, r.signer)
		if err != nil {
			return err
		}
		if p, err := r.send(ctx, msg); err != nil || !p.offers() {
			return errors.Join(err, errors.New("not even the first one was answered"))
		}
		return r.rejected(ctx, msg, false)
	}},
	{"challenge-foreign", "§9", Must, "Evidence for a challenge that the TAM never sent is not accepted", stale(func(_ *teep.QueryRequest, nonce []byte) []byte {
		return bytes.Repeat([]byte{0x5a}, len(nonce))
	})},
	{"challenge-bit", "§9", Must, "Evidence for a challenge with one bit turned is not accepted", stale(func(_ *teep.QueryRequest, nonce []byte) []byte {
		nonce = bytes.Clone(nonce)
		nonce[len(nonce)-1] ^= 1
		return nonce
	})},
	{"cnf-other-key", "§7.1.1.1", Must, "Evidence of another agent key than the one that signed is not accepted", func(ctx context.Context, r *tamRun) error {
		if _, _, err := r.offer(ctx); err != nil {
			return err
		}
		q, _, err := r.connect(ctx)
		if err != nil {
			return err
		}
		if !q.DataItems.Has(teep.DataAttestation) {
			return skip("the TAM does not ask for attestation")
		}
		other, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
		if err != nil {
			return err
		}
		m, err := r.response(ctx, q, other)
		if err != nil {
			return err
		}
		return r.notServed(ctx, m, r.signer)
	}},
	{"evidence-tampered", "§7.1.1.1", Must, "Evidence with one bit turned is not accepted", func(ctx context.Context, r *tamRun) error {
		if _, _, err := r.offer(ctx); err != nil {
			return err
		}
		m, err := r.question(ctx)
		if err != nil {
			return err
		}
		if m.AttestationPayload == nil {
			return skip("the TAM does not ask for attestation")
		}
		m.AttestationPayload[len(m.AttestationPayload)-1] ^= 1
		return r.notServed(ctx, m, r.signer)
	}},
	{"token-unexpected", "§4.3", Must, "a token that was not in the QueryRequest is not accepted", func(ctx context.Context, r *tamRun) error {
		if _, _, err := r.offer(ctx); err != nil {
			return err
		}
		m, err := r.question(ctx)
		if err != nil {
			return err
		}
		m.Token = bytes.Repeat([]byte{7}, 32)
		return r.notServed(ctx, m, r.signer)
	}},
	{"update-valid", "§4.4", Must, "an Update is valid, in the agent's suite, and its manifests are SUIT envelopes", func(ctx context.Context, r *tamRun) error {
		u, p, err := r.offer(ctx)
		if err != nil {
			return err
		}
		if p.opened.Multiple || p.opened.Algorithm != r.signer.Algorithm() {
			return fmt.Errorf("it is protected with %v", p.opened.Suite)
		}
		for i, m := range u.Manifests {
			if _, err := suit.ParseEnvelope(m); err != nil {
				return fmt.Errorf("manifest %d: %w", i, err)
			}
		}
		return nil
	}},
	{"update-token-fresh", "§4.1.1", Must, "tokens of Updates differ", func(ctx context.Context, r *tamRun) error {
		first, _, err := r.offer(ctx)
		if err != nil {
			return err
		}
		second, _, err := r.offer(ctx)
		if err == nil && first.Token != nil && bytes.Equal(first.Token, second.Token) {
			err = fmt.Errorf("%x came twice", first.Token)
		}
		return err
	}},
	{"success-foreign-token", "§4.5", Must, "a Success with a token that the TAM never sent is ignored", func(ctx context.Context, r *tamRun) error {
		return r.silent(ctx, &teep.Success{Token: bytes.Repeat([]byte{9}, 44)})
	}},
	{"success-before-update", "§4.5", Must, "a Success in the place of a QueryResponse, with the token or challenge of the QueryRequest, is ignored", func(ctx context.Context, r *tamRun) error {
		q, _, err := r.connect(ctx)
		if err != nil {
			return err
		}
		token := q.Token
		if token == nil {
			token = q.Challenge[:min(len(q.Challenge), teep.MaxToken)]
		}
		return r.silent(ctx, &teep.Success{Token: token})
	}},
	{"success-report-nonce", "§7.1.2", Must, "a Success with a SUIT Report of another nonce is dropped", func(ctx context.Context, r *tamRun) error {
		u, _, err := r.offer(ctx)
		if err != nil {
			return err
		}
		report, err := reportOf(u, []byte("another nonce"))
		if err != nil {
			return err
		}
		return r.silent(ctx, &teep.Success{Token: u.Token, SUITReports: [][]byte{report}})
	}},
	{"success-replayed", "§7.1", Must, "a Success that comes again is ignored", func(ctx context.Context, r *tamRun) error {
		u, _, err := r.offer(ctx)
		if err != nil {
			return err
		}
		report, err := reportOf(u, u.Token)
		if err != nil {
			return err
		}
		m := &teep.Success{Token: u.Token, SUITReports: [][]byte{report}}
		return errors.Join(r.silent(ctx, m), r.silent(ctx, m))
	}},
}

// probe sends a QueryResponse that lacks what was asked for, of an agent key, and returns the Update
// that has to answer it. A TAM may first ask again, with a challenge, whom it does not know. change
// adjusts the last message.
func (r *tamRun) probe(ctx context.Context, key *cose.Key, change func(*teep.QueryRequest, *teep.QueryResponse) error) (*teep.Update, error) {
	signer, err := key.Signer()
	if err != nil {
		return nil, err
	}
	q, _, err := r.connect(ctx)
	if err != nil {
		return nil, err
	}
	p, err := r.respondIncompletely(ctx, q, key, signer, change)
	if err != nil {
		return nil, err
	}
	if again, ok := p.message.(*teep.QueryRequest); ok {
		if p, err = r.respondIncompletely(ctx, again, key, signer, change); err != nil {
			return nil, err
		}
	}
	u := p.update()
	switch {
	case u == nil:
		return nil, fmt.Errorf("HTTP status %d without an Update", p.status)
	case u.ErrorCode == 0:
		return nil, errors.New("the Update has no err-code")
	case p.opened.Multiple || p.opened.Algorithm != signer.Algorithm():
		return nil, fmt.Errorf("the Update is protected with %v, the agent uses %v", p.opened.Suite, signer.Algorithm())
	}
	return u, nil
}

func (r *tamRun) respondIncompletely(ctx context.Context, q *teep.QueryRequest, key *cose.Key, s cose.Signer, change func(*teep.QueryRequest, *teep.QueryResponse) error) (*reply, error) {
	m, err := r.response(ctx, q, key)
	if err == nil {
		err = incomplete(q, m)
	}
	if err == nil && change != nil {
		err = change(q, m)
	}
	if err != nil {
		return nil, err
	}
	return r.sendMessage(ctx, m, s)
}

// sameSuite lets an agent of another key come; probe compares the suites.
func (r *tamRun) sameSuite(ctx context.Context, alg cose.Algorithm) error {
	key, err := cose.GenerateKey(rand.Reader, alg)
	if err != nil {
		return err
	}
	_, err = r.probe(ctx, key, nil)
	return err
}

// encrypted lets a new agent come whose key the TAM only finds inside encrypted Evidence.
func encrypted(alg cose.Algorithm) func(context.Context, *tamRun) error {
	return func(ctx context.Context, r *tamRun) error {
		if r.Encryption == nil {
			return skip("give the TAM's encryption key")
		}
		key, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
		if err != nil {
			return err
		}
		done := false
		_, err = r.probe(ctx, key, func(_ *teep.QueryRequest, m *teep.QueryResponse) error {
			if m.AttestationPayload == nil {
				return nil // the TAM asks again
			}
			done = true
			m.AttestationPayload, err = eat.Encrypt(rand.Reader, m.AttestationPayload, r.Encryption, alg)
			return err
		})
		if !done && err == nil {
			return skip("the TAM does not ask for attestation")
		}
		return err
	}
}

// stale answers with Evidence for another nonce.
func stale(other func(q *teep.QueryRequest, nonce []byte) []byte) func(context.Context, *tamRun) error {
	return func(ctx context.Context, r *tamRun) error {
		if _, _, err := r.offer(ctx); err != nil {
			return err
		}
		q, _, err := r.connect(ctx)
		if err != nil {
			return err
		}
		if q.Challenge == nil {
			return skip("the TAM sends no challenge")
		}
		m, err := r.response(ctx, q, r.Device.Agent)
		if err != nil {
			return err
		}
		e, err := r.evidence(ctx, other(q, q.Challenge), r.Device.Agent)
		if err != nil {
			return err
		}
		m.AttestationPayload = e.Payload
		return r.notServed(ctx, m, r.signer)
	}
}

// notServed expects that a message gets the device nothing.
func (r *tamRun) notServed(ctx context.Context, m teep.Message, s cose.Signer) error {
	p, err := r.sendMessage(ctx, m, s)
	if err != nil {
		return err
	}
	if u := p.update(); u != nil && (u.ErrorCode == 0 || len(u.Manifests) > 0) {
		return errors.New("it is answered with an Update")
	}
	return nil
}

// silent expects no answer, and that the TAM did not fail.
func (r *tamRun) silent(ctx context.Context, m teep.Message) error {
	p, err := r.sendMessage(ctx, m, r.signer)
	if err != nil {
		return err
	}
	if p.status/100 != 2 || p.message != nil {
		return fmt.Errorf("HTTP status %d with %d bytes", p.status, len(p.body))
	}
	return nil
}

func reportOf(u *teep.Update, nonce []byte) ([]byte, error) {
	if len(u.Manifests) == 0 {
		return nil, skip("the Update installs nothing")
	}
	e, err := suit.ParseEnvelope(u.Manifests[0])
	if err != nil {
		return nil, err
	}
	r := suit.Report{Reference: suit.Reference{Digest: e.Digest}, Nonce: nonce}
	return r.Encode()
}

// netUnicode checks a text as RFC 5198 and the CDDL have it.
func netUnicode(s string) error {
	switch {
	case len(s) == 0 || len(s) > 128:
		return fmt.Errorf("it has %d bytes", len(s))
	case !utf8.ValidString(s):
		return errors.New("it is not UTF-8")
	case !norm.NFC.IsNormalString(s):
		return errors.New("it is not in normal form C")
	}
	for _, c := range s {
		if c < 0x20 && c != '\r' && c != '\n' || c >= 0x7f && c < 0xa0 || c == '\ufeff' {
			return fmt.Errorf("it has the control character %U", c)
		}
	}
	return nil
}
