package tpm

import (
	"fmt"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
)

// maxEnrolmentBytes bounds what is read of an enrolment.
const maxEnrolmentBytes = 64 << 10

// Encode writes the request for its way to the owner.
//
//	enrolment-request = { 1: [ + bstr ], 2: bstr } ; certificates of the EK, TPMT_PUBLIC of the AK
func (r *EnrolmentRequest) Encode() ([]byte, error) {
	return cbor.Marshal(&wireRequest{r.EKChain, r.AKPublic})
}

type wireRequest struct {
	EKChain  [][]byte `cbor:"1,keyasint"`
	AKPublic []byte   `cbor:"2,keyasint"`
}

// ParseEnrolmentRequest reads a request. Nothing in it is verified; [NewChallenge] does.
func ParseEnrolmentRequest(data []byte) (*EnrolmentRequest, error) {
	var w wireRequest
	if err := parseEnrolment(data, &w, "enrolment request"); err != nil {
		return nil, err
	}
	return &EnrolmentRequest{EKChain: w.EKChain, AKPublic: w.AKPublic}, nil
}

// Encode writes the credential for its way to the device. It is no secret: one TPM can open it.
//
//	credential = { 1: bstr, 2: bstr }
func (c *Credential) Encode() ([]byte, error) {
	return cbor.Marshal(&wireCredential{c.IDObject, c.EncryptedSecret})
}

type wireCredential struct {
	IDObject        []byte `cbor:"1,keyasint"`
	EncryptedSecret []byte `cbor:"2,keyasint"`
}

// ParseCredential reads a credential.
func ParseCredential(data []byte) (*Credential, error) {
	var w wireCredential
	if err := parseEnrolment(data, &w, "credential"); err != nil {
		return nil, err
	}
	return &Credential{IDObject: w.IDObject, EncryptedSecret: w.EncryptedSecret}, nil
}

// EncodeSecret writes what the owner must keep until the device answers, for a program that ends in
// between. It holds the secret that the answer is compared with, and is used once.
//
//	challenge = { 1: bstr, 2: bstr, 3: COSE_Key } ; UEID, secret, attestation key
func (c *Challenge) EncodeSecret() ([]byte, error) {
	key, err := c.key.MarshalCBOR()
	if err != nil {
		return nil, fmt.Errorf("tpm: %w", err)
	}
	return cbor.Marshal(&wireChallenge{c.UEID, c.secret, key})
}

type wireChallenge struct {
	UEID   []byte          `cbor:"1,keyasint"`
	Secret []byte          `cbor:"2,keyasint"`
	Key    cbor.RawMessage `cbor:"3,keyasint"`
}

// ParseChallenge reads what EncodeSecret wrote. The credential is not in it.
func ParseChallenge(data []byte) (*Challenge, error) {
	var w wireChallenge
	if err := parseEnrolment(data, &w, "challenge"); err != nil {
		return nil, err
	}
	key, err := cose.ParseKey(w.Key)
	if err != nil {
		return nil, fmt.Errorf("%w: challenge of an enrolment: %w", attest.ErrFormat, err)
	}
	return &Challenge{UEID: w.UEID, secret: w.Secret, key: key}, nil
}

func parseEnrolment(data []byte, into any, what string) error {
	if len(data) > maxEnrolmentBytes {
		return fmt.Errorf("%w: %s of %d bytes, at most %d are read", attest.ErrFormat, what, len(data), maxEnrolmentBytes)
	}
	if err := cbor.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%w: this is no %s: %w", attest.ErrFormat, what, err)
	}
	return nil
}
