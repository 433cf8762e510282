package trust

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/cose/revocation"
	"github.com/go-teep/teep/suit"
)

// Reasons why a certificate chain was not accepted (TEEP §4.6: ERR_BAD_CERTIFICATE and
// ERR_CERTIFICATE_EXPIRED).
var (
	ErrBadCertificate     = errors.New("trust: certificate chain is not acceptable")
	ErrCertificateExpired = errors.New("trust: certificate is expired or not yet valid")
)

// TAMKeys finds the keys that may have signed one TEEP message, and afterwards which TAM it was.
// It is a cose.KeySource for one message; one goroutine uses it.
type TAMKeys struct {
	set      *Set
	now      time.Time
	crls     [][]byte
	chained  []chained
	shown    []*x509.Certificate
	chainErr error
}

// ChainError says which chain was not accepted, and wraps why.
type ChainError struct {
	// Serial and Subject are those of its first certificate; empty if it cannot be read.
	Serial, Subject string
	err             error
}

func (e *ChainError) Error() string { return e.err.Error() }
func (e *ChainError) Unwrap() error { return e.err }

func newChainError(chain [][]byte, err error) error {
	e := &ChainError{err: err}
	if leaf, perr := x509.ParseCertificate(chain[0]); perr == nil {
		e.Serial, e.Subject = leaf.SerialNumber.Text(16), leaf.Subject.String()
	}
	return e
}

type chained struct {
	key     *cose.Key
	tam     *TAM
	expires time.Time
}

// TAMKeys returns the key source for one message that is received at now. crls are X.509 revocation
// lists in DER, see [ParseRevocationLists].
func (s *Set) TAMKeys(now time.Time, crls [][]byte) *TAMKeys {
	return &TAMKeys{set: s, now: now, crls: crls}
}

// VerifiersFor implements cose.KeySource: raw keys by kid or algorithm, and the key of a
// certificate whose chain leads to a TAM's authority.
func (k *TAMKeys) VerifiersFor(alg cose.Algorithm, h cose.Headers) []cose.Verifier {
	var raw []*cose.Key
	for _, t := range k.set.TAMs {
		raw = append(raw, t.Keys...)
	}
	found := verifiers(raw, alg, h)
	if key := k.fromChain(h); key != nil {
		if v, err := key.VerifierFor(alg); err == nil {
			found = append(found, v)
		}
	}
	return found
}

// Sender tells which TAM has the key that verified the message, and until when the key may be
// used: the zero time if it has no end.
func (k *TAMKeys) Sender(key *cose.Key) (t *TAM, expires time.Time, ok bool) {
	for i := range k.set.TAMs {
		for _, own := range k.set.TAMs[i].Keys {
			if own.Equal(key) {
				return &k.set.TAMs[i], time.Time{}, true
			}
		}
	}
	for _, c := range k.chained {
		if c.key.Equal(key) {
			return c.tam, c.expires, true
		}
	}
	return nil, time.Time{}, false
}

// Shown are the issuers below authorities that the message showed, for [revocation.Renew]: those of a
// chain that leads to an authority, even if it is revoked.
func (k *TAMKeys) Shown() []*x509.Certificate { return k.shown }

// ChainError is why a certificate chain in the message was not accepted; nil if there was none,
// or it was.
func (k *TAMKeys) ChainError() error { return k.chainErr }

func (k *TAMKeys) fromChain(h cose.Headers) *cose.Key {
	raw, err := h.X5Chain()
	if err == nil && len(raw) == 0 {
		return nil
	}
	if err != nil {
		k.chainErr = fmt.Errorf("%w: %w", ErrBadCertificate, err)
		return nil
	}
	c, err := k.verifyChain(raw)
	if err != nil {
		k.chainErr = newChainError(raw, err)
		return nil
	}
	k.chained = append(k.chained, c)
	return c.key
}

// verifyChain validates the whole path (RFC 5280 §6): every certificate up to the authority that
// a TAM's anchor names, none of them revoked, and the DNS name that the anchor asks for.
func (k *TAMKeys) verifyChain(raw [][]byte) (chained, error) {
	failure, said := fmt.Errorf("%w: no TAM is anchored by a certificate authority", ErrBadCertificate), -1
	for i := range k.set.TAMs {
		t := &k.set.TAMs[i]
		if t.Authority == nil {
			continue
		}
		leaf, err := k.validate(raw, t)
		if err == nil || errors.Is(err, cose.ErrCertificateRevoked) {
			k.shown = append(k.shown, revocation.Issuers([]*x509.Certificate{t.Authority}, raw)...)
		}
		if err != nil {
			if n := telling(err); n > said {
				failure, said = certificateError(err), n
			}
			continue
		}
		key, err := cose.NewPublicKey(leaf.PublicKey)
		if err != nil {
			return chained{}, fmt.Errorf("%w: %w", ErrBadCertificate, err)
		}
		return chained{key: key, tam: t, expires: earliestEnd(t.Authority, raw)}, nil
	}
	return chained{}, failure
}

func (k *TAMKeys) validate(chain [][]byte, t *TAM) (*x509.Certificate, error) {
	leaf, err := validate(chain, t.Authority, k.now, k.crls)
	if err != nil {
		return nil, err
	}
	return leaf, leaf.VerifyHostname(t.Subject)
}

// validate validates a chain to one authority. Usages, where some are given, are those that an end entity
// needs one of, if it says what it is for.
func validate(chain [][]byte, authority *x509.Certificate, now time.Time, crls [][]byte, usages ...x509.ExtKeyUsage) (*x509.Certificate, error) {
	roots := x509.NewCertPool()
	roots.AddCert(authority)
	keys, err := cose.NewCertificateKeys(cose.CertificateOptions{
		Roots: roots, Now: func() time.Time { return now }, RevocationLists: crls, ExtKeyUsages: usages,
	})
	if err != nil {
		return nil, err
	}
	return keys.Validate(chain)
}

// telling weighs why a chain was not accepted under one anchor: that it leads to another one says least.
func telling(err error) int {
	var stranger x509.UnknownAuthorityError
	switch {
	case errors.Is(err, cose.ErrCertificateExpired):
		return 3
	case errors.Is(err, cose.ErrCertificateRevoked), errors.Is(err, cose.ErrRevocationList):
		return 2
	case errors.As(err, &stranger):
		return 0
	}
	return 1
}

func certificateError(err error) error {
	if errors.Is(err, cose.ErrCertificateExpired) {
		return fmt.Errorf("%w: %w", ErrCertificateExpired, err)
	}
	return fmt.Errorf("%w: %w", ErrBadCertificate, err)
}

// earliestEnd is when the first of the certificates ends. One that the path did not need counts too:
// whoever sends it wants it looked at.
func earliestEnd(authority *x509.Certificate, chain [][]byte) time.Time {
	end := authority.NotAfter
	for _, der := range chain {
		if c, err := x509.ParseCertificate(der); err == nil && c.NotAfter.Before(end) {
			end = c.NotAfter
		}
	}
	return end
}

// VerifierKeys is the key source for Attestation Results about TAMs.
func (s *Set) VerifierKeys() cose.KeySource {
	var keys keyList
	for _, v := range s.Verifiers {
		keys = append(keys, v.Keys...)
	}
	return keys
}

// Signer returns the signer that has the key.
func (s *Set) Signer(key *cose.Key) (*Signer, bool) {
	for i := range s.Signers {
		for _, own := range s.Signers[i].Keys {
			if own.Equal(key) {
				return &s.Signers[i], true
			}
		}
	}
	return nil, false
}

// MaySign tells whether the signer may authorize the component (SUIT §9).
func (s *Signer) MaySign(id suit.ComponentID) bool {
	for _, prefix := range s.Components {
		if id.HasPrefix(prefix) {
			return true
		}
	}
	return false
}

type keyList []*cose.Key

func (l keyList) VerifiersFor(alg cose.Algorithm, h cose.Headers) []cose.Verifier {
	return verifiers(l, alg, h)
}

// verifiers returns those keys that fit the algorithm; if the message names a key, that one only.
// The kid is the thumbprint of RFC 9679 where a key declares no other (TEEP §5).
func verifiers(keys []*cose.Key, alg cose.Algorithm, h cose.Headers) []cose.Verifier {
	kid := h.KeyID()
	var found []cose.Verifier
	for _, k := range keys {
		if kid != nil && !bytes.Equal(kid, k.EffectiveKeyID()) && !bytes.Equal(kid, k.Thumbprint()) {
			continue
		}
		if v, err := k.VerifierFor(alg); err == nil {
			found = append(found, v)
		}
	}
	return found
}
