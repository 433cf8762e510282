package eat

import (
	"errors"
	"fmt"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/cose"
)

// attesterKeys looks up the key of one piece of Evidence. It serves one verification.
type attesterKeys struct {
	endorsements appraisal.Endorsements
	now          time.Time
	found        map[string]*Authority // by thumbprint
	broken       error                 // the source failed, which says nothing about the device
}

// VerifiersFor implements cose.KeySource.
func (s *attesterKeys) VerifiersFor(alg cose.Algorithm, h cose.Headers) []cose.Verifier {
	found, _ := s.VerifiersOrReason(alg, h)
	return found
}

// VerifiersOrReason implements cose.ReasonedKeySource: by certificate chain where there is one,
// else by the kid, which is the thumbprint of the attestation key (TEEP §5).
func (s *attesterKeys) VerifiersOrReason(alg cose.Algorithm, h cose.Headers) ([]cose.Verifier, error) {
	a, err := s.lookup(h)
	if err != nil {
		return nil, err
	}
	v, err := a.Key.VerifierFor(alg)
	if err != nil {
		return nil, fmt.Errorf("%w: the attestation key of device %x does not fit: %w", attest.ErrUntrusted, a.UEID, err)
	}
	if s.found == nil {
		s.found = map[string]*Authority{}
	}
	s.found[string(a.Key.Thumbprint())] = a
	return []cose.Verifier{v}, nil
}

func (s *attesterKeys) lookup(h cose.Headers) (a *Authority, err error) {
	defer func() {
		if errors.Is(err, ErrLookup) {
			s.broken = err
		}
	}()
	chain, err := x5chain(h)
	if err != nil {
		return nil, err
	}
	if chain != nil {
		return CertifiedKey(s.endorsements, chain, s.now)
	}
	kid := h.Protected.KeyID()
	if kid == nil {
		kid = h.Unprotected.KeyID()
	}
	if kid == nil {
		return nil, fmt.Errorf("%w: the Evidence names no attestation key, by kid or x5chain", attest.ErrUntrusted)
	}
	return EndorsedKey(s.endorsements, kid, s.now)
}

func x5chain(h cose.Headers) ([][]byte, error) {
	for _, bucket := range []cose.Header{h.Protected, h.Unprotected} {
		chain, err := bucket.X5Chain()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", attest.ErrUntrusted, err)
		}
		if chain != nil {
			return chain, nil
		}
	}
	return nil, nil
}
