package appraisal

import (
	"crypto/x509"
	"fmt"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/cose"
)

// Validate checks a certificate chain, end entity first, up to a root of the manufacturer, at a
// time, against its revocation lists. The error is [attest.ErrUntrusted] and one of package
// cose's certificate errors.
func (m *Manufacturer) Validate(chain [][]byte, now time.Time) (*x509.Certificate, error) {
	if expired(m.Expires, now) {
		return nil, fmt.Errorf("%w: the roots of %s expired at %s; load newer ones", attest.ErrUntrusted, m.Owner, m.Expires.UTC().Format(time.RFC3339))
	}
	roots := x509.NewCertPool()
	for _, r := range m.Roots {
		roots.AddCert(r)
	}
	lists := make([][]byte, len(m.CRLs))
	for i, crl := range m.CRLs {
		lists[i] = crl.Raw
	}
	keys, err := cose.NewCertificateKeys(cose.CertificateOptions{
		Roots: roots, Now: func() time.Time { return now }, RevocationLists: lists,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", attest.ErrUntrusted, m.Owner, err)
	}
	leaf, err := keys.Validate(chain)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", attest.ErrUntrusted, err)
	}
	return leaf, nil
}
