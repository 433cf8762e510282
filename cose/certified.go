package cose

import (
	"crypto/x509"
	"fmt"
	"slices"
)

// Certified is a Signer whose messages carry the certificates of its key, as x5chain (RFC 9360).
// [Sign1] and [SignMulti] put them beside the signature, in the unprotected bucket: a chain is
// authenticated by its own signatures.
type Certified struct {
	Signer
	chain [][]byte
}

// NewCertified adds a chain of DER certificates, end entity first, to a signer whose key the end
// entity certifies. The chain need not hold the root.
func NewCertified(s Signer, chain [][]byte) (*Certified, error) {
	if s == nil || len(chain) == 0 || len(chain) > MaxCertificates {
		return nil, fmt.Errorf("%w: a signer and 1 to %d certificates are needed, got %d", ErrBadCertificate, MaxCertificates, len(chain))
	}
	for i, der := range chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("%w: certificate %d of the chain: %w", ErrBadCertificate, i, err)
		}
		if i > 0 {
			continue
		}
		key, err := NewPublicKey(cert.PublicKey)
		if err != nil || !key.Equal(s.Public()) {
			return nil, fmt.Errorf("%w: the first certificate is for another key than the signer's: put the end entity first", ErrBadCertificate)
		}
	}
	return &Certified{Signer: s, chain: slices.Clone(chain)}, nil
}

// chainOf returns the chain of a certified signer.
func chainOf(s Signer) [][]byte {
	if c, ok := s.(*Certified); ok {
		return c.chain
	}
	return nil
}
