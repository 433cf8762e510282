package tam

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
)

// attestationPayload is what a QueryResponse carries as Evidence or Attestation Result, decrypted
// and looked into as far as it takes to find out which key and challenge it is about. None of it is
// verified.
type attestationPayload struct {
	format   string // media type; never empty when there is a payload
	data     []byte
	nonce    []byte
	agentKey *cose.Key
}

// Peeker is implemented by a Verifier whose Evidence is not a signed CWT, to tell the challenge and
// the agent key that Evidence speaks of, before it is appraised.
type Peeker interface {
	Peek(e attest.Evidence) (nonce []byte, agentKey *cose.Key, err error)
}

// eatClaims are the claims of an EAT (RFC 9711) that say what it is about.
//
//	cnf = 8 => { 1 => COSE_Key, ? 3 => kid }   (RFC 8747 §3.1)
//	eat_nonce = 10 => bstr                      (a single one, TEEP §5)
type eatClaims struct {
	Confirmation struct {
		Key cbor.RawMessage `cbor:"1,keyasint,omitempty"`
	} `cbor:"8,keyasint,omitempty"`
	Nonce cbor.RawMessage `cbor:"10,keyasint,omitempty"`
}

// tagCWT may precede the tag of the COSE structure (RFC 8392 §6).
const tagCWT = 61

// openAttestationPayload decrypts what is encrypted (TEEP §8.2).
func (t *TAM) openAttestationPayload(format string, data []byte) (attestationPayload, error) {
	if format == "" {
		format = teep.EATMediaType
	}
	if eat.IsEncrypted(data) {
		var err error
		if data, err = t.decryptEAT(data); err != nil {
			return attestationPayload{}, fmt.Errorf("encrypted attestation payload: %w", err)
		}
	}
	return attestationPayload{format: format, data: data}, nil
}

// peek looks for the nonce and the agent's key.
func (t *TAM) peek(p *attestationPayload) (err error) {
	if peeker, ok := t.verifier.(Peeker); ok && t.verifier.Accepts(p.format) {
		p.nonce, p.agentKey, err = peeker.Peek(attest.Evidence{MediaType: p.format, Payload: p.data})
		return err
	}
	p.nonce, p.agentKey, err = peekEAT(p.data)
	return err
}

func peekEAT(data []byte) (nonce []byte, agentKey *cose.Key, err error) {
	if b, err := eat.ParseBundle(data); err == nil {
		data = b.Token
	}
	data = bytes.TrimPrefix(data, []byte{0xd8, tagCWT})
	payload, err := cose.UnverifiedPayload(data)
	if err != nil {
		return nil, nil, err
	}
	var claims eatClaims
	if err := cbor.Unmarshal(payload, &claims); err != nil {
		return nil, nil, err
	}
	if claims.Nonce != nil {
		if err := cbor.Unmarshal(claims.Nonce, &nonce); err != nil {
			return nil, nil, fmt.Errorf("eat_nonce is not a single byte string (TEEP §5): %w", err)
		}
	}
	if claims.Confirmation.Key == nil {
		return nonce, nil, nil // a thumbprint alone: the agent must be known already
	}
	agentKey, err = cose.ParseKey(claims.Confirmation.Key)
	if err != nil {
		return nonce, nil, fmt.Errorf("cnf: %w", err)
	}
	if agentKey.IsPrivate() {
		return nonce, nil, errors.New("cnf holds a private key")
	}
	return nonce, agentKey, nil
}

// errNoVerifier says that nobody here can appraise a media type.
var errNoVerifier = errors.New("tam: no verifier is configured for this attestation payload")

// appraise has the sender's attestation payload appraised. wasEvidence tells that it was Evidence,
// so that the result is news to the agent.
//
// The TEEP profile's media type marks an Attestation Result and any other Evidence (TEEP §7.1.1).
// Agents in the field send Evidence under it all the same; whether a trusted verifier signed tells
// the two apart without trusting the sender.
func (t *TAM) appraise(ctx context.Context, s *sender, a answered) (result *attest.Result, wasEvidence bool, err error) {
	e := attest.Evidence{MediaType: s.payload.format, Payload: s.payload.data}
	x := attest.Expectation{Nonce: a.nonce, AgentKey: s.key, MaxAge: t.policy.MaxEvidenceAge}
	if t.results != nil && t.results.Accepts(e.MediaType) {
		shown := x
		shown.MaxAge = t.policy.MaxResultAge
		result, err = t.results.Appraise(ctx, e, shown)
		mayBeEvidence := !a.resultOnly && t.verifier != nil && t.verifier.Accepts(e.MediaType) &&
			(errors.Is(err, attest.ErrUntrusted) || errors.Is(err, attest.ErrUnknownType))
		if !mayBeEvidence {
			return t.judge(result, false, err)
		}
	}
	if t.verifier == nil || !t.verifier.Accepts(e.MediaType) {
		return nil, true, errNoVerifier
	}
	result, err = t.verifier.Appraise(ctx, e, x)
	return t.judge(result, true, err)
}

func (t *TAM) judge(result *attest.Result, wasEvidence bool, err error) (*attest.Result, bool, error) {
	switch {
	case err != nil:
		return nil, wasEvidence, err
	case result == nil:
		return nil, wasEvidence, errors.New("tam: the verifier returned neither result nor error")
	case !result.Expires.IsZero() && !t.clock().Before(result.Expires):
		return nil, wasEvidence, fmt.Errorf("%w: the Attestation Result expired", attest.ErrNotFresh)
	}
	return result, wasEvidence, nil
}

// good tells whether policy is content with an appraisal.
func (t *TAM) good(s attest.Status) bool {
	return s == attest.StatusAffirming || s == attest.StatusWarning && t.policy.AcceptWarning
}

// attestationFault turns a failed appraisal into one sentence that may leave the TAM. What a
// verifier says beyond its sentinels stays in the log.
func attestationFault(err error) string {
	for _, known := range []struct {
		err  error
		text string
	}{
		{attest.ErrFormat, "attestation payload is malformed"},
		{attest.ErrUnknownType, "attestation payload format is not supported"},
		{errNoVerifier, "attestation payload format is not supported"},
		{attest.ErrSignature, "signature of the attestation payload does not verify"},
		{attest.ErrUntrusted, "attester or verifier is not known"},
		{attest.ErrNotFresh, "attestation payload is not fresh"},
		{attest.ErrKeyBinding, "attestation payload names another agent key (cnf)"},
		{attest.ErrMeasurement, "measurement is not among the reference values"},
		{errIdentityChanged, "attested identity differs from the one known for this agent key"},
	} {
		if errors.Is(err, known.err) {
			return known.text
		}
	}
	return "attestation could not be appraised"
}

// errIdentityChanged says that a known agent key now comes with another device's identity.
var errIdentityChanged = errors.New("tam: the UEID is not the one that this agent key was first attested with")

// attested enters an appraisal into the device's record, making a new record for a new agent.
func (t *TAM) attested(s *sender, r *attest.Result, now time.Time) (*Device, error) {
	d := s.device
	if d == nil {
		thumbprint := s.key.Thumbprint()
		key, err := s.key.Public().MarshalCBOR()
		if err != nil {
			return nil, fmt.Errorf("tam: encoding an agent key: %w", err)
		}
		d = &Device{
			ID: DeviceID(thumbprint), KeyThumbprint: thumbprint, AgentKey: key,
			Status: DevicePending, DecidedBy: undecided, FirstSeen: now, UEID: r.UEID,
		}
	}
	if !bytes.Equal(d.UEID, r.UEID) {
		return nil, errIdentityChanged
	}
	if t.good(d.Attestation.Status) && !t.good(r.Status) {
		d.dropRollouts(now)
	}
	d.LastSeen = now
	d.OEMID, d.HWModel, d.HWVersion = r.OEMID, r.HWModel, r.HWVersion
	// What an agent in a bad state names may be anybody's key: what is encrypted to it could be read.
	if t.good(r.Status) {
		d.EncryptionKey = nil
		if r.EncryptionKey != nil {
			var err error
			if d.EncryptionKey, err = r.EncryptionKey.MarshalCBOR(); err != nil {
				return nil, fmt.Errorf("tam: encoding an encryption key: %w", err)
			}
		}
	}
	d.Attestation = Attestation{
		Status: r.Status, Measurement: r.Measurement, Reasons: slices.Clone(r.Reasons), At: now,
	}
	return d, nil
}
