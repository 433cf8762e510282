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

// ErrLookup says that endorsements could not be asked for, which says nothing about the device.
var ErrLookup = errors.New("eat: look up endorsements")

// Authority is who vouches for an attestation key, and what that key is good for.
type Authority struct {
	// Key is the public attestation key; nil where it has no COSE form.
	Key *cose.Key
	// UEID is the one device that the key speaks for.
	UEID []byte
	// Class, if not zero, is the only class that the device may claim; OEMID, if not nil, the only
	// vendor.
	Class appraisal.Class
	OEMID []byte
	// Owner is the name of who vouches.
	Owner string
}

// checkDevice holds the Evidence to the device whose key signed it: without this, one genuine
// device could speak for another.
func (a *Authority) checkDevice(c *Claims) error {
	switch {
	case !bytes.Equal(a.UEID, c.UEID):
		return fmt.Errorf("%w: the Evidence names device %x, its attestation key belongs to device %x", attest.ErrUntrusted, c.UEID, a.UEID)
	case a.Class.OEMID != nil && !bytes.Equal(a.Class.OEMID, c.OEMID),
		a.Class.HWModel != nil && !bytes.Equal(a.Class.HWModel, c.HWModel):
		return fmt.Errorf("%w: device %x claims another class (oemid, hwmodel) than it is endorsed for by %s", attest.ErrUntrusted, c.UEID, a.Owner)
	case a.OEMID != nil && !bytes.Equal(a.OEMID, c.OEMID):
		return fmt.Errorf("%w: device %x claims another vendor (oemid) than %s, whose certificate it has", attest.ErrUntrusted, c.UEID, a.Owner)
	}
	return nil
}

// EndorsedKey finds who vouches for the attestation key with that thumbprint (RFC 9679, SHA-256),
// at a time. The error is [attest.ErrUntrusted], or [ErrLookup].
func EndorsedKey(endorsements appraisal.Endorsements, thumbprint []byte, now time.Time) (*Authority, error) {
	e, err := endorsements.EndorsementFor(thumbprint)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLookup, err)
	}
	if e == nil {
		return nil, fmt.Errorf("%w: no one endorses the attestation key %.66x; load an endorsement of the device", attest.ErrUntrusted, thumbprint)
	}
	if err := e.Check(now); err != nil {
		return nil, err
	}
	return &Authority{Key: e.Key, UEID: e.UEID, Class: e.Class, Owner: e.Owner}, nil
}

// CertifiedKey accepts a certificate chain in DER, end entity first, that leads to a root of a
// manufacturer and names the device by its UEID. A revoked endorsement of the end entity's key
// counts against it all the same. Errors are those of [EndorsedKey].
func CertifiedKey(endorsements appraisal.Endorsements, chain [][]byte, now time.Time) (*Authority, error) {
	leaf, maker, err := CertifiedBy(endorsements, chain, now)
	if err != nil {
		return nil, err
	}
	ueid, err := CertifiedUEID(leaf)
	if err != nil {
		return nil, err
	}
	key, err := cose.NewPublicKey(leaf.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("%w: the certified attestation key: %w", attest.ErrUntrusted, err)
	}
	return &Authority{Key: key, UEID: ueid, OEMID: maker.OEMID, Owner: maker.Owner}, nil
}

// CertifiedBy is [CertifiedKey] for certificates that do not name a UEID: it returns the end
// entity and the manufacturer whose root it leads to.
func CertifiedBy(endorsements appraisal.Endorsements, chain [][]byte, now time.Time) (*x509.Certificate, *appraisal.Manufacturer, error) {
	makers, err := endorsements.Manufacturers()
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrLookup, err)
	}
	refusal := errors.New("no manufacturer's roots are loaded")
	for i := range makers {
		leaf, err := makers[i].Validate(chain, now)
		if err != nil {
			refusal = err
			continue
		}
		if err := refuseRevoked(endorsements, leaf, now); err != nil {
			return nil, nil, err
		}
		return leaf, &makers[i], nil
	}
	return nil, nil, fmt.Errorf("%w: the certificate chain of the attestation key: %w", attest.ErrUntrusted, refusal)
}

// refuseRevoked looks whether an owner revoked the certified key itself. Keys without COSE form
// cannot be endorsed, and so not be revoked that way.
func refuseRevoked(endorsements appraisal.Endorsements, leaf *x509.Certificate, now time.Time) error {
	key, err := cose.NewPublicKey(leaf.PublicKey)
	if err != nil {
		return nil
	}
	e, err := endorsements.EndorsementFor(key.Thumbprint())
	if err != nil {
		return fmt.Errorf("%w: %w", ErrLookup, err)
	}
	if e != nil && e.Revoked != "" {
		return e.Check(now)
	}
	return nil
}

// ueidURN starts the URN of a UEID (RFC 9711 §10.3), which names the device in the subject
// alternative names of its attestation certificate.
const ueidURN = "urn:dev:ueid:"

// CertifiedUEID returns the device that a certificate speaks of: exactly one.
func CertifiedUEID(leaf *x509.Certificate) ([]byte, error) {
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
