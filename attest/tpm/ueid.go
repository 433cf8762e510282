package tpm

import (
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// ReadUEID returns the [UEID] of a TPM: from its endorsement key's certificate, or, where it holds
// none, from the key, which takes long to derive.
func ReadUEID(chip transport.TPM) ([]byte, error) {
	cert, certErr := readNV(chip, nvRSAEKCertificate)
	if certErr == nil {
		var parsed *x509.Certificate
		if parsed, certErr = x509.ParseCertificate(cert); certErr == nil {
			var ek *tpm2.TPMTPublic
			if ek, certErr = ekTemplate(parsed); certErr == nil {
				return ueidOf(ek)
			}
		}
	}
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(tpm2.RSAEKTemplate)}.Execute(chip)
	if err != nil {
		return nil, fmt.Errorf("tpm: the endorsement key has no certificate (%w) and cannot be derived: %w", certErr, err)
	}
	_, flushErr := tpm2.FlushContext{FlushHandle: made.ObjectHandle}.Execute(chip)
	public, err := made.OutPublic.Contents()
	if err = errors.Join(err, flushErr); err != nil {
		return nil, fmt.Errorf("tpm: endorsement key: %w", err)
	}
	return ueidOf(public)
}

func ueidOf(ek *tpm2.TPMTPublic) ([]byte, error) {
	name, err := tpm2.ObjectName(ek)
	if err != nil {
		return nil, fmt.Errorf("tpm: name of the endorsement key: %w", err)
	}
	return UEID(name.Buffer), nil
}
