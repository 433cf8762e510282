package conform

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/link"
)

var negotiationChecks = []check[*agentRun]{
	{"unsupported-version", "§4.6", Must, "ERR_UNSUPPORTED_MSG_VERSION with the versions that are supported", func(ctx context.Context, r *agentRun) error {
		q := r.query(teep.DataTrustedComponents)
		q.Versions = []teep.Version{4711}
		e, _, err := r.refuse(ctx, q, teep.ErrUnsupportedMsgVersion)
		if err == nil && e.Versions == nil {
			err = errors.New("versions is missing")
		}
		return err
	}},
	{"unsupported-freshness", "§4.6", Must, "ERR_UNSUPPORTED_FRESHNESS_MECHANISMS with the mechanisms that are supported, nonces among them", func(ctx context.Context, r *agentRun) error {
		q := r.query(teep.DataAttestation)
		q.FreshnessMechanisms = []teep.FreshnessMechanism{200}
		if r.refused != nil {
			return r.refused
		}
		e, _, err := r.refuse(ctx, q, teep.ErrUnsupportedFreshnessMechanisms)
		if err == nil && !bytes.Contains([]byte(fmt.Sprint(e.FreshnessMechanisms)), []byte("FRESHNESS_NONCE")) {
			err = fmt.Errorf("supported are %v", e.FreshnessMechanisms)
		}
		return err
	}},
	{"unsupported-suites", "§4.6, §8.1", Must, "ERR_UNSUPPORTED_CIPHER_SUITES with the suites that are supported, in a mandatory suite", func(ctx context.Context, r *agentRun) error {
		q := r.query(teep.DataTrustedComponents)
		q.CipherSuites = []teep.CipherSuite{{{COSEType: 18, Algorithm: -70001}}}
		e, p, err := r.refuse(ctx, q, teep.ErrUnsupportedCipherSuites)
		if err != nil {
			return err
		}
		if e.CipherSuites == nil {
			return errors.New("supported-teep-cipher-suites is missing")
		}
		if p.opened != nil && p.opened.Algorithm != cose.AlgESP256 && p.opened.Algorithm != cose.AlgEd25519 {
			return fmt.Errorf("it is protected with %v", p.opened.Suite)
		}
		return nil
	}},
	{"unsupported-profiles", "§4.6", Must, "ERR_UNSUPPORTED_SUIT_REPORT, if it is sent, comes with the profiles that are supported", func(ctx context.Context, r *agentRun) error {
		q := r.query(teep.DataTrustedComponents)
		q.SUITProfiles = []teep.SUITProfile{{Digest: -70001, Auth: -70001, KeyExchange: -70001, Encryption: -70001}}
		e, _, err := r.refuse(ctx, q, teep.ErrUnsupportedSUITReport)
		if err != nil {
			return skip("the agent does not mind: %v", err)
		}
		if e.SUITProfiles == nil {
			return errors.New("supported-suit-cose-profiles is missing")
		}
		return nil
	}},
	{"report-profile", "§7.2.1", Must, "a SUIT Report of the TAM in a profile that is not supported is answered with ERR_UNSUPPORTED_SUIT_REPORT", func(ctx context.Context, r *agentRun) error {
		if r.refused != nil {
			return r.refused
		}
		q := r.query(teep.DataTrustedComponents)
		// A COSE_Sign1 under an algorithm of private use.
		p := parts{tag: 18, protected: must(cbor.Marshal(map[int64]any{1: int64(-70001)})), unprotected: []byte{0xa0}, payload: []byte{0xa0}}
		q.SUITReports = [][]byte{p.with(make([]byte, 64))}
		e, _, err := r.refuse(ctx, q, teep.ErrUnsupportedSUITReport)
		if err == nil && e.SUITProfiles == nil {
			err = errors.New("supported-suit-cose-profiles is missing")
		}
		return err
	}},
	{"error-token", "§4.6", Must, "an Error carries the token of the message that it answers, and none if that had none", func(ctx context.Context, r *agentRun) error {
		q := r.query(teep.DataTrustedComponents)
		q.Versions = []teep.Version{4711}
		e, _, err := r.refuse(ctx, q)
		if err != nil {
			return err
		}
		if !bytes.Equal(e.Token, q.Token) {
			return fmt.Errorf("%x in place of %x", e.Token, q.Token)
		}
		q = r.query(teep.DataAttestation)
		q.Versions = []teep.Version{4711}
		if e, _, err = r.refuse(ctx, q); err == nil && e.Token != nil {
			err = fmt.Errorf("%x where there was none", e.Token)
		}
		return err
	}},
	{"attestation-demand", "§7.2.1", Must, "ERR_ATTESTATION_REQUIRED carries a challenge or other freshness", func(ctx context.Context, r *agentRun) error {
		e, _, err := r.refuse(ctx, r.query(teep.DataTrustedComponents), teep.ErrAttestationRequired)
		if err != nil {
			return skip("the agent does not demand attestation of this TAM")
		}
		if e.Challenge == nil && e.FreshnessMechanisms == nil {
			return errors.New("it has neither challenge nor supported-freshness-mechanisms")
		}
		return nil
	}},
	{"attestation-forged", "§7.2.1.1", Must, "an agent that demands attestation does not take a forged Attestation Result", func(ctx context.Context, r *agentRun) error {
		if _, _, err := r.refuse(ctx, r.query(teep.DataTrustedComponents), teep.ErrAttestationRequired); err != nil {
			return skip("the agent does not demand attestation of this TAM")
		}
		q := r.query(teep.DataTrustedComponents)
		q.AttestationPayload = []byte{0xd2, 0x84, 0x43, 0xa1, 0x01, 0x28, 0xa0, 0x41, 0xa0, 0x41, 0x00}
		_, _, err := r.refuse(ctx, q)
		return err
	}},
}

// agentMessageChecks damages a QueryRequest.
func agentMessageChecks() []check[*agentRun] {
	var checks []check[*agentRun]
	for _, d := range damages {
		checks = append(checks, check[*agentRun]{"message-" + d.id, d.section, Must, d.text, func(ctx context.Context, r *agentRun) error {
			msg, err := r.damaged(d)
			if err != nil {
				return err
			}
			return r.rejected(ctx, msg)
		}})
	}
	return append(checks, agentHostileChecks...)
}

func (r *agentRun) damaged(d damage) ([]byte, error) {
	payload, err := teep.Encode(r.query(teep.DataTrustedComponents))
	if err != nil {
		return nil, err
	}
	return d.make(payload, r.signer)
}

// rejected expects nothing, an error of the call, or an Error message.
func (r *agentRun) rejected(ctx context.Context, msg []byte) error {
	p, err := r.send(ctx, msg)
	if err != nil {
		return err
	}
	if _, ok := p.message.(*teep.Error); !ok && p.message != nil {
		return fmt.Errorf("answered with %s", describe(p.message))
	}
	return nil
}

// raw sends a message whatever the rules of sending say.
func (r *agentRun) raw(m teep.Message) ([]byte, error) {
	payload, err := teep.EncodeUnchecked(m)
	if err != nil {
		return nil, err
	}
	return honest(payload, r.signer).sign(r.signer)
}

var agentHostileChecks = []check[*agentRun]{
	{"invalid-answered", "§7.2", Must, "an authentic message that is not valid is answered with an Error", func(ctx context.Context, r *agentRun) error {
		q := r.query(teep.DataTrustedComponents)
		q.Challenge = random(32) // MUST be absent without the attestation bit (§4.2)
		msg, err := r.raw(q)
		if err != nil {
			return err
		}
		p, err := r.send(ctx, msg)
		if err != nil {
			return err
		}
		if _, ok := p.message.(*teep.Error); !ok {
			return fmt.Errorf("answered with %s, %v", describe(p.message), p.refused)
		}
		return nil
	}},
	{"message-indefinite", "§4", Must, "options of indefinite length are taken or refused, and the agent does not fail", func(ctx context.Context, r *agentRun) error {
		msg, err := indefinite(r.query(teep.DataTrustedComponents), r.signer)
		if err == nil {
			_, err = r.send(ctx, msg)
		}
		return err
	}},
	{"oversize", "§11", Should, "a message as large as the link carries is refused, and the agent goes on", func(ctx context.Context, r *agentRun) error {
		const around = 4096 // of the frame
		p, err := r.send(ctx, make([]byte, link.MaxFrame-around))
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil && p.message != nil && p.message.Type() != teep.TypeError:
			return fmt.Errorf("answered with %s", describe(p.message))
		}
		// An agent that has seen enough may have closed the connection.
		_, err = r.exchange(ctx, r.query(teep.DataTrustedComponents))
		return err
	}},
	{"challenge-sizes", "§4.2", Must, "challenges of 7 and of 513 bytes are rejected", func(ctx context.Context, r *agentRun) error {
		for _, n := range []int{7, 513} {
			q := r.query(teep.DataAttestation)
			q.Challenge = random(n)
			msg, err := r.raw(q)
			if err != nil {
				return err
			}
			if err := r.rejected(ctx, msg); err != nil {
				return fmt.Errorf("%d bytes: %w", n, err)
			}
		}
		return nil
	}},
	{"untrusted-tam", "§13", Must, "a TAM that is not trusted gets no Evidence and no inventory", func(ctx context.Context, r *agentRun) error {
		for _, alg := range []cose.Algorithm{cose.AlgESP256, cose.AlgEd25519} {
			key, err := cose.GenerateKey(rand.Reader, alg)
			if err != nil {
				return err
			}
			s, err := key.Signer()
			if err != nil {
				return err
			}
			msg, err := teep.Protect(rand.Reader, &teep.QueryRequest{
				CipherSuites: teep.MandatoryCipherSuites(), SUITProfiles: teep.MandatorySUITProfiles(),
				DataItems: teep.DataAttestation | teep.DataTrustedComponents, Challenge: random(32),
			}, s)
			if err != nil {
				return err
			}
			if err := r.rejected(ctx, msg); err != nil {
				return err
			}
		}
		return nil
	}},
	{"not-for-agent", "§4", Must, "messages that only an agent sends are not accepted from a TAM", func(ctx context.Context, r *agentRun) error {
		for _, m := range []teep.Message{&teep.QueryResponse{}, &teep.Success{}, &teep.Error{Code: teep.ErrPermanentError}} {
			msg, err := r.raw(m)
			if err != nil {
				return err
			}
			if err := r.rejected(ctx, msg); err != nil {
				return fmt.Errorf("%v: %w", m.Type(), err)
			}
		}
		return nil
	}},
	{"suites-empty", "§4.2", Must, "a QueryRequest without cipher suites or profiles is rejected", func(ctx context.Context, r *agentRun) error {
		for _, change := range []func(*teep.QueryRequest){
			func(q *teep.QueryRequest) { q.CipherSuites = []teep.CipherSuite{} },
			func(q *teep.QueryRequest) { q.SUITProfiles = []teep.SUITProfile{} },
		} {
			q := r.query(teep.DataTrustedComponents)
			change(q)
			msg, err := r.raw(q)
			if err != nil {
				return err
			}
			if err := r.rejected(ctx, msg); err != nil {
				return err
			}
		}
		return nil
	}},
}

var linkChecks = []check[*agentRun]{
	{"session-unknown", "RFC 9397 §6.2.1", Must, "a message for a session that does not exist is not answered", func(ctx context.Context, r *agentRun) error {
		msg, err := r.raw(r.query(teep.DataTrustedComponents))
		if err != nil {
			return err
		}
		p, err := r.pass(ctx, 0xdeadbeef, msg)
		if err == nil && p.refused == nil {
			err = fmt.Errorf("answered with %s", describe(p.message))
		}
		return err
	}},
	{"chunk-unasked", "RFC 9397 §6.2.1", Must, "a payload that nobody asked for is refused", func(ctx context.Context, r *agentRun) error {
		ask, err := r.open(ctx)
		if err != nil {
			return err
		}
		_, err = r.Link.Deliver(ctx, link.Chunk{Session: ask.Session, FetchID: 1, Data: []byte("gift"), Last: true})
		if err == nil || errors.Is(err, link.ErrClosed) {
			return fmt.Errorf("not refused: %v", err)
		}
		return nil
	}},
	{"process-error", "§7.2", Must, "ProcessError ends the session, and the agent goes on", func(ctx context.Context, r *agentRun) error {
		ask, err := r.open(ctx)
		if err != nil {
			return err
		}
		if err := r.Link.ProcessError(ctx, ask.Session, ask.TAMURI, "conformance test"); err != nil {
			return err
		}
		_, err = r.open(ctx)
		return err
	}},
	{"alive", "§7.2", Must, "after all that, the agent still answers", func(ctx context.Context, r *agentRun) error {
		_, err := r.exchange(ctx, r.query(teep.DataTrustedComponents))
		return err
	}},
}
