package eat

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/cose"
)

// attester is who may have signed a piece of Evidence, and what its key is good for.
type attester struct {
	key   *cose.Key
	ueid  []byte
	class appraisal.Class // zero: not limited
	oemid []byte          // of the manufacturer whose certificate it is; nil: by endorsement
	owner string
}

// checkDevice holds the Evidence to the device whose key signed it: without this, one genuine
// device could speak for another.
func (a *attester) checkDevice(c *Claims) error {
	switch {
	case !bytes.Equal(a.ueid, c.UEID):
		return fmt.Errorf("%w: the Evidence names device %x, its attestation key belongs to device %x", attest.ErrUntrusted, c.UEID, a.ueid)
	case a.class.OEMID != nil && !bytes.Equal(a.class.OEMID, c.OEMID),
		a.class.HWModel != nil && !bytes.Equal(a.class.HWModel, c.HWModel):
		return fmt.Errorf("%w: device %x claims another class (oemid, hwmodel) than it is endorsed for by %s", attest.ErrUntrusted, c.UEID, a.owner)
	case a.oemid != nil && !bytes.Equal(a.oemid, c.OEMID):
		return fmt.Errorf("%w: device %x claims another vendor (oemid) than %s, whose certificate it has", attest.ErrUntrusted, c.UEID, a.owner)
	}
	return nil
}

// attesterKeys looks up the key of one piece of Evidence. It serves one verification.
type attesterKeys struct {
	endorsements appraisal.Endorsements
	now          time.Time
	found        map[string]*attester // by thumbprint
	broken       error                // the source failed, which says nothing about the device
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
	v, err := a.key.VerifierFor(alg)
	if err != nil {
		return nil, fmt.Errorf("%w: the attestation key of device %x does not fit: %w", attest.ErrUntrusted, a.ueid, err)
	}
	if s.found == nil {
		s.found = map[string]*attester{}
	}
	s.found[string(a.key.Thumbprint())] = a
	return []cose.Verifier{v}, nil
}

func (s *attesterKeys) lookup(h cose.Headers) (*attester, error) {
	chain, err := x5chain(h)
	if err != nil {
		return nil, err
	}
	if chain != nil {
		return s.byChain(chain)
	}
	kid := h.Protected.KeyID()
	if kid == nil {
		kid = h.Unprotected.KeyID()
	}
	if kid == nil {
		return nil, fmt.Errorf("%w: the Evidence names no attestation key, by kid or x5chain", attest.ErrUntrusted)
	}
	e, err := s.endorsements.EndorsementFor(kid)
	if err != nil {
		return nil, s.fail(err)
	}
	if e == nil {
		return nil, fmt.Errorf("%w: no one endorses the attestation key %.66x; load an endorsement of the device", attest.ErrUntrusted, kid)
	}
	if err := e.Check(s.now); err != nil {
		return nil, err
	}
	return &attester{key: e.Key, ueid: e.UEID, class: e.Class, owner: e.Owner}, nil
}

func (s *attesterKeys) fail(err error) error {
	s.broken = fmt.Errorf("eat: look up endorsements: %w", err)
	return s.broken
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

// byChain accepts a chain that leads to a root of a manufacturer. A revoked endorsement of the
// leaf's key counts against it all the same.
func (s *attesterKeys) byChain(chain [][]byte) (*attester, error) {
	makers, err := s.endorsements.Manufacturers()
	if err != nil {
		return nil, s.fail(err)
	}
	refusal := errors.New("no manufacturer's roots are loaded")
	for i := range makers {
		leaf, err := makers[i].Validate(chain, s.now)
		if err != nil {
			refusal = err
			continue
		}
		ueid, err := certifiedUEID(leaf)
		if err != nil {
			return nil, err
		}
		key, err := cose.NewPublicKey(leaf.PublicKey)
		if err != nil {
			return nil, fmt.Errorf("%w: the certified attestation key: %w", attest.ErrUntrusted, err)
		}
		e, err := s.endorsements.EndorsementFor(key.Thumbprint())
		if err != nil {
			return nil, s.fail(err)
		}
		if e != nil && e.Revoked != "" {
			return nil, e.Check(s.now)
		}
		return &attester{key: key, ueid: ueid, oemid: makers[i].OEMID, owner: makers[i].Owner}, nil
	}
	return nil, fmt.Errorf("%w: the certificate chain of the attestation key: %w", attest.ErrUntrusted, refusal)
}

// ueidURN starts the URN of a UEID (RFC 9711 §10.3), which names the device in the subject
// alternative names of its attestation certificate.
const ueidURN = "urn:dev:ueid:"

// certifiedUEID returns the device that a certificate speaks of: exactly one.
func certifiedUEID(leaf *x509.Certificate) ([]byte, error) {
	var ueid []byte
	for _, uri := range leaf.URIs {
		digits, ok := strings.CutPrefix(uri.String(), ueidURN)
		if !ok {
			continue
		}
		b, err := hex.DecodeString(digits)
		if err != nil || ueid != nil {
			return nil, fmt.Errorf("%w: the attestation certificate names no device, or more than one", attest.ErrUntrusted)
		}
		ueid = b
	}
	if ueid == nil {
		return nil, fmt.Errorf("%w: the attestation certificate names no device: its subject alternative names take a URI %s and the UEID in hexadecimal", attest.ErrUntrusted, ueidURN)
	}
	return ueid, nil
}
