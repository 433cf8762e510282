package cose

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Why a certificate chain in a message is of no use. [Verify] reports them together with
// ErrUnknownSigner.
var (
	// ErrBadCertificate says that a chain is missing, malformed, or does not lead to a trusted root.
	ErrBadCertificate = errors.New("cose: bad certificate")
	// ErrCertificateExpired says that a certificate of the chain is not valid now.
	ErrCertificateExpired = errors.New("cose: certificate expired or not yet valid")
	// ErrCertificateRevoked says that a certificate of the chain is on a revocation list.
	ErrCertificateRevoked = errors.New("cose: certificate revoked")
	// ErrRevocationList says that a revocation list is malformed, outdated, or not signed by its issuer.
	ErrRevocationList = errors.New("cose: revocation list")
)

// CertificateKeys is a KeySource that takes the signer's key from the x5chain of the message
// (RFC 9360), after the chain was validated to a root. It is safe for concurrent use.
type CertificateKeys struct {
	roots *x509.CertPool
	now   func() time.Time
	lists []*x509.RevocationList
	usage []x509.ExtKeyUsage
}

// CertificateOptions configure [NewCertificateKeys].
type CertificateOptions struct {
	// Roots are the trusted roots. Required.
	Roots *x509.CertPool
	// Now is the clock. Required.
	Now func() time.Time
	// RevocationLists are X.509 CRLs in DER. A list applies to certificates of its issuer; its
	// signature is checked against that issuer. A list that is past its next update makes the
	// certificates of its issuer unusable until a newer one is loaded.
	RevocationLists [][]byte
	// ExtKeyUsages are the accepted extended key usages. Empty means any.
	ExtKeyUsages []x509.ExtKeyUsage
}

// NewCertificateKeys checks the options and parses the revocation lists.
func NewCertificateKeys(o CertificateOptions) (*CertificateKeys, error) {
	if o.Roots == nil || o.Now == nil {
		return nil, fmt.Errorf("%w: roots and a clock are required", ErrBadCertificate)
	}
	c := &CertificateKeys{roots: o.Roots, now: o.Now, usage: slices.Clone(o.ExtKeyUsages)}
	if len(c.usage) == 0 {
		c.usage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	}
	for i, der := range o.RevocationLists {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, fmt.Errorf("%w %d is not an X.509 CRL in DER: %w", ErrRevocationList, i, err)
		}
		c.lists = append(c.lists, list)
	}
	return c, nil
}

// VerifiersFor implements KeySource.
func (c *CertificateKeys) VerifiersFor(alg Algorithm, h Headers) []Verifier {
	found, _ := c.VerifiersOrReason(alg, h)
	return found
}

// VerifiersOrReason implements ReasonedKeySource: the reason is ErrBadCertificate,
// ErrCertificateExpired, ErrCertificateRevoked or ErrRevocationList.
func (c *CertificateKeys) VerifiersOrReason(alg Algorithm, h Headers) ([]Verifier, error) {
	chain, err := h.X5Chain()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadCertificate, err)
	}
	if len(chain) == 0 {
		return nil, fmt.Errorf("%w: the message has no x5chain", ErrBadCertificate)
	}
	leaf, err := c.Validate(chain)
	if err != nil {
		return nil, err
	}
	v, err := NewVerifier(alg, leaf.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("%w: its key does not fit: %w", ErrBadCertificate, err)
	}
	return []Verifier{v}, nil
}

// Validate checks a chain of DER certificates, end entity first, and returns the end entity.
func (c *CertificateKeys) Validate(chain [][]byte) (*x509.Certificate, error) {
	if len(chain) == 0 || len(chain) > MaxCertificates {
		return nil, fmt.Errorf("%w: %d certificates, 1 to %d are possible", ErrBadCertificate, len(chain), MaxCertificates)
	}
	parsed := make([]*x509.Certificate, len(chain))
	intermediates := x509.NewCertPool()
	for i, der := range chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("%w: certificate %d of the chain: %w", ErrBadCertificate, i, err)
		}
		if parsed[i] = cert; i > 0 {
			intermediates.AddCert(cert)
		}
	}
	leaf := parsed[0]
	if err := mayByUsage(leaf); err != nil {
		return nil, err
	}
	now := c.now()
	paths, err := leaf.Verify(x509.VerifyOptions{
		Roots: c.roots, Intermediates: intermediates, CurrentTime: now, KeyUsages: c.usage,
	})
	if err != nil {
		return nil, classify(err)
	}
	// Any path that is free of revoked certificates will do.
	var refused error
	for _, path := range paths {
		if refused = c.checkRevocation(path, now); refused == nil {
			return leaf, nil
		}
	}
	return nil, refused
}

// mayByUsage wants an end entity whose key usage, when stated, includes signatures.
func mayByUsage(leaf *x509.Certificate) error {
	if leaf.IsCA {
		return fmt.Errorf("%w: the end entity is a certification authority", ErrBadCertificate)
	}
	if leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return fmt.Errorf("%w: its key usage does not include digital signatures", ErrBadCertificate)
	}
	return nil
}

func classify(err error) error {
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		return fmt.Errorf("%w: %w", ErrCertificateExpired, err)
	}
	return fmt.Errorf("%w: %w", ErrBadCertificate, err)
}

// checkRevocation looks up each certificate but the root in the lists of its issuer.
func (c *CertificateKeys) checkRevocation(path []*x509.Certificate, now time.Time) error {
	for i, cert := range path[:len(path)-1] {
		if err := c.checkRevoked(cert, path[i+1], now); err != nil {
			return err
		}
	}
	return nil
}

// checkRevoked wants every list in the name of the issuer to be the issuer's. One that says that it is by
// another key, as where an authority got a new one under its old name, does no harm beside the issuer's own;
// alone, it could be there in the place of that.
func (c *CertificateKeys) checkRevoked(cert, issuer *x509.Certificate, now time.Time) error {
	var foreign error
	own := false
	for _, list := range c.lists {
		if string(list.RawIssuer) != string(issuer.RawSubject) {
			continue
		}
		if err := list.CheckSignatureFrom(issuer); err != nil {
			foreign = fmt.Errorf("%w of %q is not signed by its issuer: %w", ErrRevocationList, issuer.Subject, err)
			if IsIssuer(issuer, list) {
				return foreign
			}
			continue
		}
		own = true
		for _, entry := range list.RevokedCertificateEntries {
			if entry.SerialNumber.Cmp(cert.SerialNumber) == 0 {
				return fmt.Errorf("%w: serial number %v of %q", ErrCertificateRevoked, cert.SerialNumber, issuer.Subject)
			}
		}
		if !list.NextUpdate.IsZero() && now.After(list.NextUpdate) {
			return fmt.Errorf("%w of %q was due for renewal on %v; load a newer one", ErrRevocationList, issuer.Subject, list.NextUpdate.UTC())
		}
	}
	if own {
		return nil
	}
	return foreign
}

// IsIssuer tells whether a revocation list is in the name of a certificate and its key, which does not say
// that it is signed by it. An authority that got a new key under its old name has lists of its own: they
// are told apart by key identifiers, where both have one (RFC 5280 §5.2.1).
func IsIssuer(issuer *x509.Certificate, list *x509.RevocationList) bool {
	if string(list.RawIssuer) != string(issuer.RawSubject) {
		return false
	}
	ours, theirs := issuer.SubjectKeyId, list.AuthorityKeyId
	return len(ours) == 0 || len(theirs) == 0 || string(ours) == string(theirs)
}
