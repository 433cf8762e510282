package conform

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/cmw"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
)

var tamErrorChecks = []check[*tamRun]{
	{"error-attestation-required", "§7.1.2", Must, "ERR_ATTESTATION_REQUIRED is answered with a QueryRequest that has an attestation-payload", func(ctx context.Context, r *tamRun) error {
		q, _, err := r.attested(ctx)
		if err == nil && q.AttestationPayload == nil {
			err = errors.New("the QueryRequest has no attestation-payload")
		}
		return err
	}},
	{"error-attestation-nonce", "§4.6", Must, "the TAM's EAT carries the challenge as eat_nonce, and the key of the message in cnf", func(ctx context.Context, r *tamRun) error {
		q, o, err := r.attested(ctx)
		if err != nil {
			return err
		}
		sent := attest.Evidence{MediaType: q.AttestationFormat, Payload: q.AttestationPayload}
		if strings.HasPrefix(sent.MediaType, cmw.MediaType) {
			if sent, err = cmw.Unwrap(sent.Payload); err != nil {
				return err
			}
		}
		if sent.Payload == nil || !teep.IsEATFormat(sent.MediaType) {
			return skip("the TAM sends no EAT")
		}
		payload, err := cose.UnverifiedPayload(sent.Payload)
		if err != nil {
			return skip("the EAT cannot be read: %v", err)
		}
		claims, err := eat.ParseClaims(payload)
		if err != nil {
			return err
		}
		if !bytes.Equal(claims.Nonce, r.demand.challenge) {
			return errors.New("eat_nonce is not the challenge")
		}
		return claims.Confirmation.Names(o.Key)
	}},
	{"error-cipher-suites", "§4.6", Must, "ERR_UNSUPPORTED_CIPHER_SUITES is answered with nothing or another QueryRequest", retry(teep.Error{
		Code: teep.ErrUnsupportedCipherSuites, CipherSuites: []teep.CipherSuite{teep.CipherSuiteSign1ESP384()},
	})},
	{"error-freshness", "§4.6", Must, "ERR_UNSUPPORTED_FRESHNESS_MECHANISMS is answered with nothing or another QueryRequest", retry(teep.Error{
		Code: teep.ErrUnsupportedFreshnessMechanisms, FreshnessMechanisms: []teep.FreshnessMechanism{teep.FreshnessTimestamp},
	})},
	{"error-version", "§4.6", Must, "ERR_UNSUPPORTED_MSG_VERSION is answered with nothing or another QueryRequest", retry(teep.Error{
		Code: teep.ErrUnsupportedMsgVersion, Versions: []teep.Version{7},
	})},
	{"error-suit-report", "§4.6", Must, "ERR_UNSUPPORTED_SUIT_REPORT is answered with nothing or another QueryRequest", retry(teep.Error{
		Code: teep.ErrUnsupportedSUITReport, SUITProfiles: teep.MandatorySUITProfiles()[:1],
	})},
	{"error-extension", "§4.6", Must, "ERR_UNSUPPORTED_EXTENSION is answered with nothing or another QueryRequest", retry(teep.Error{Code: teep.ErrUnsupportedExtension})},
	{"error-certificate", "§4.6", Must, "ERR_BAD_CERTIFICATE and ERR_CERTIFICATE_EXPIRED are survived", func(ctx context.Context, r *tamRun) error {
		return errors.Join(
			retry(teep.Error{Code: teep.ErrBadCertificate})(ctx, r),
			retry(teep.Error{Code: teep.ErrCertificateExpired})(ctx, r))
	}},
	{"error-temporary", "§4.6", Must, "ERR_TEMPORARY_ERROR and ERR_PERMANENT_ERROR are survived", func(ctx context.Context, r *tamRun) error {
		return errors.Join(
			retry(teep.Error{Code: teep.ErrTemporaryError})(ctx, r),
			retry(teep.Error{Code: teep.ErrPermanentError})(ctx, r))
	}},
	{"error-unknown-code", "§4.6", Should, "an err-code above 23 is handled gracefully", retry(teep.Error{Code: 4711, Message: "unheard of"})},
	{"error-code-0", "§4.6", Must, "err-code 0 is rejected", func(ctx context.Context, r *tamRun) error {
		payload, err := teep.EncodeUnchecked(&teep.Error{})
		if err != nil {
			return err
		}
		msg, err := honest(payload, r.signer).sign(r.signer)
		if err != nil {
			return err
		}
		return r.rejected(ctx, msg, true)
	}},
	{"error-manifest", "§4.6", Must, "an Error that answers an Update is taken without answer, once and again", func(ctx context.Context, r *tamRun) error {
		u, _, err := r.offer(ctx)
		if err != nil {
			return err
		}
		m := &teep.Error{Token: u.Token, Code: teep.ErrTemporaryError, Message: "conformance test"}
		return errors.Join(r.silent(ctx, m), r.silent(ctx, m))
	}},
	{"alive", "§7.1", Must, "after all that, the TAM still answers", func(ctx context.Context, r *tamRun) error {
		_, _, err := r.connect(ctx)
		return err
	}},
}

// demand is what came of demanding attestation of the TAM, once: a TAM may be slow to repeat itself.
type demand struct {
	once      sync.Once
	challenge []byte
	request   *teep.QueryRequest
	opened    *teep.Opened
	err       error
}

func (r *tamRun) attested(ctx context.Context) (*teep.QueryRequest, *teep.Opened, error) {
	d := &r.demand
	d.once.Do(func() {
		d.challenge = make([]byte, 32)
		rand.Read(d.challenge) //nolint:errcheck // never fails
		var p *reply
		p, d.err = r.sendMessage(ctx, &teep.Error{
			Code: teep.ErrAttestationRequired, Challenge: d.challenge,
			FreshnessMechanisms: []teep.FreshnessMechanism{teep.FreshnessNonce},
		}, r.signer)
		if d.err != nil {
			return
		}
		var ok bool
		if d.request, ok = p.message.(*teep.QueryRequest); !ok {
			d.err = fmt.Errorf("HTTP status %d without a QueryRequest", p.status)
			return
		}
		d.opened = p.opened
	})
	return d.request, d.opened, d.err
}

// retry sends an Error in answer to a fresh QueryRequest. Whether the TAM tries again is its own
// choice; what it sends then has to be a QueryRequest, which send has checked.
func retry(m teep.Error) func(context.Context, *tamRun) error {
	return func(ctx context.Context, r *tamRun) error {
		q, _, err := r.connect(ctx)
		if err != nil {
			return err
		}
		m.Token = q.Token
		p, err := r.sendMessage(ctx, &m, r.signer)
		if err != nil {
			return err
		}
		if _, again := p.message.(*teep.QueryRequest); p.status/100 != 2 || p.message != nil && !again {
			return fmt.Errorf("HTTP status %d, answered with %v", p.status, p.message)
		}
		return nil
	}
}
