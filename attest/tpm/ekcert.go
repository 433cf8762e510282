package tpm

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/cose"
)

// validateEK accepts the certificate of an endorsement key that leads to a root of a maker.
func validateEK(chain [][]byte, makers []appraisal.Manufacturer, now time.Time) (*tpm2.TPMTPublic, error) {
	if len(chain) == 0 || len(chain) > cose.MaxCertificates {
		return nil, fmt.Errorf("%w: %d certificates of the endorsement key, 1 to %d are possible", attest.ErrFormat, len(chain), cose.MaxCertificates)
	}
	certs := make([]*x509.Certificate, len(chain))
	for i, der := range chain {
		var err error
		if certs[i], err = x509.ParseCertificate(der); err != nil {
			return nil, fmt.Errorf("%w: certificate %d of the endorsement key: %w", attest.ErrFormat, i, err)
		}
	}
	refusal := errors.New("no maker of TPMs is known; load their roots")
	for i := range makers {
		if refusal = verifyEK(certs, &makers[i], now); refusal == nil {
			return ekTemplate(certs[0])
		}
	}
	return nil, fmt.Errorf("%w: endorsement key: %w", attest.ErrUntrusted, refusal)
}

// verifyEK does what cose.CertificateKeys does for signing keys. Certificates of endorsement keys
// differ in two ways: the key encrypts, and a critical subject alternative name holds a directory
// name with the TPM's model, which package x509 leaves to its caller.
func verifyEK(certs []*x509.Certificate, maker *appraisal.Manufacturer, now time.Time) error {
	if !maker.Expires.IsZero() && !now.Before(maker.Expires) {
		return fmt.Errorf("the roots of %s expired at %s; load newer ones", maker.Owner, maker.Expires.UTC().Format(time.RFC3339))
	}
	leaf := *certs[0]
	san := asn1.ObjectIdentifier{2, 5, 29, 17}
	leaf.UnhandledCriticalExtensions = slices.DeleteFunc(slices.Clone(leaf.UnhandledCriticalExtensions), san.Equal)
	if err := checkEKUsage(&leaf); err != nil {
		return err
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, r := range maker.Roots {
		roots.AddCert(r)
	}
	for _, c := range certs[1:] {
		between.AddCert(c)
	}
	paths, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return err
	}
	for _, path := range paths {
		if err = checkRevocation(path, maker.CRLs, now); err == nil {
			return nil
		}
	}
	return err
}

// checkEKUsage refuses certificates of the maker that are for something else, whose keys may lie outside
// of TPMs: what such a key opens proves nothing. Older certificates say nothing of their purpose (TCG EK
// Credential Profile §3.2).
func checkEKUsage(leaf *x509.Certificate) error {
	endorsement := asn1.ObjectIdentifier{2, 23, 133, 8, 1} // tcg-kp-EKCertificate
	purposes := len(leaf.ExtKeyUsage) + len(leaf.UnknownExtKeyUsage)
	switch {
	case leaf.IsCA:
		return fmt.Errorf("%s is a certification authority", leaf.Subject)
	case purposes > 0 && !slices.ContainsFunc(leaf.UnknownExtKeyUsage, endorsement.Equal):
		return fmt.Errorf("the certificate of %s is not for the endorsement key of a TPM (extended key usage)", leaf.Subject)
	case leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageKeyEncipherment == 0:
		return fmt.Errorf("the certificate of %s is not for a key that encrypts", leaf.Subject)
	}
	return nil
}

func checkRevocation(path []*x509.Certificate, lists []*x509.RevocationList, now time.Time) error {
	for i, cert := range path[:len(path)-1] {
		issuer := path[i+1]
		for _, list := range lists {
			if string(list.RawIssuer) != string(issuer.RawSubject) {
				continue
			}
			if err := list.CheckSignatureFrom(issuer); err != nil {
				return fmt.Errorf("%w of %q is not signed by its issuer: %w", cose.ErrRevocationList, issuer.Subject, err)
			}
			if !list.NextUpdate.IsZero() && now.After(list.NextUpdate) {
				return fmt.Errorf("%w of %q was due for renewal on %v; load a newer one", cose.ErrRevocationList, issuer.Subject, list.NextUpdate.UTC())
			}
			for _, entry := range list.RevokedCertificateEntries {
				if entry.SerialNumber.Cmp(cert.SerialNumber) == 0 {
					return fmt.Errorf("%w: serial number %v of %q", cose.ErrCertificateRevoked, cert.SerialNumber, issuer.Subject)
				}
			}
		}
	}
	return nil
}
