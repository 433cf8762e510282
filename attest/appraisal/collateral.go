// Package appraisal holds what a verifier must know before it can judge Evidence: endorsements,
// which say whose attestation keys are genuine, and reference values, which say what software is
// expected on a class of devices (RFC 9334 §8.3, §8.4). It says nothing about what the relying
// party then does: policy is the relying party's.
//
// Both come as [Collateral]: files in YAML, or the same content as CBOR signed by its owner.
// A [Store] answers a verifier's questions from any number of them and can be replaced while
// verifiers use it:
//
//	c, err := appraisal.ParseYAML(data)
//	store, err := appraisal.NewStore(c)
//
// A verifier for one evidence format (attest/eat, for one) asks through [Endorsements] and
// [References], so that a database can stand in for the Store.
package appraisal

import (
	"crypto/x509"
	"errors"
	"slices"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/cose"
)

// ErrCollateral says that a collateral file is not usable; the text says where and why.
var ErrCollateral = errors.New("appraisal: collateral")

// Class is a product: hwmodel is unique within an oemid (RFC 9711 §4.2.4).
type Class struct {
	// OEMID is the encoded claim in the form of [attest.CanonicalOEMID].
	OEMID []byte
	// HWModel is the hwmodel claim, 1 to 32 bytes.
	HWModel []byte
}

func (c Class) key() string { return string(c.OEMID) + "\x00" + string(c.HWModel) }

// Endorsement says that a device's attestation key is genuine and which device it is.
type Endorsement struct {
	// Owner is who vouches.
	Owner string
	// UEID is the device whose Evidence this key may sign.
	UEID []byte
	// Key is the public attestation key.
	Key *cose.Key
	// Class, if not zero, is the only class that the device may claim.
	Class Class
	// Expires is when the owner no longer vouches; zero means that no end was given.
	Expires time.Time
	// Revoked says why the key is no longer genuine; empty means that it is.
	Revoked string
}

// Manufacturer certifies attestation keys with X.509 certificates instead of naming each key.
type Manufacturer struct {
	Owner string
	// OEMID limits whose devices the roots can certify, in canonical encoding.
	OEMID []byte
	// Roots are the trust anchors for x5chain.
	Roots []*x509.Certificate
	// CRLs are the revocation lists of the roots and the certificates below them. A certificate
	// whose issuer has a list here is refused when listed, and when the list is out of date.
	CRLs    []*x509.RevocationList
	Expires time.Time
}

// Reference says what one measured component of a class may be.
type Reference struct {
	Owner string
	Class Class
	// Name and Version are the component as its maker calls it.
	Name, Version string
	// Algorithm and Digest are the expected measurement.
	Algorithm cose.Algorithm
	Digest    []byte
	// Status is what a component with this measurement is worth: a version with a known
	// vulnerability may be a warning or contraindicated. Why says so in words.
	Status attest.Status
	Why    string
	// AcceptedWeaknesses are those that the owner knows of this component and accepts: a whole
	// text of the Evidence, or the part of it before the first colon. Others are a warning.
	AcceptedWeaknesses []string
	// RequireDebugDisabled asks that the Evidence says so; otherwise silence is accepted.
	RequireDebugDisabled bool
	Expires              time.Time
}

// Endorsements finds who vouches for an attestation key. Implementations are safe for concurrent
// use. They return entries whether or not those are expired or revoked: the verifier decides.
type Endorsements interface {
	// EndorsementFor returns the endorsement of the key with that thumbprint (RFC 9679,
	// SHA-256), or nil when nobody vouches for it.
	EndorsementFor(thumbprint []byte) (*Endorsement, error)
	// Manufacturers returns all whose certificates are accepted.
	Manufacturers() ([]Manufacturer, error)
}

// DeviceEndorsements finds endorsements for Evidence that names its device but not its key.
type DeviceEndorsements interface {
	// EndorsementsOf returns all attestation keys that are endorsed for a device.
	EndorsementsOf(ueid []byte) ([]*Endorsement, error)
}

// References finds what is expected of a class. Implementations are safe for concurrent use.
type References interface {
	// ReferencesFor returns all references of the class, expired ones included.
	ReferencesFor(class Class) ([]Reference, error)
}

// Collateral is the content of one file.
type Collateral struct {
	// Owner is who says all this, whatever the entries name.
	Owner string
	// Expires bounds every entry. Zero, which no file has, leaves each entry its own end.
	Expires       time.Time
	Endorsements  []Endorsement
	Manufacturers []Manufacturer
	References    []Reference
	// TCBLevels are in the order in which they are tried.
	TCBLevels []TCBLevel
}

// settled returns a copy in which every entry has the collateral's owner and ends with it at the
// latest.
func (c *Collateral) settled() *Collateral {
	own := func(owner *string, end *time.Time) {
		if c.Owner != "" {
			*owner = c.Owner
		}
		if !c.Expires.IsZero() && (end.IsZero() || c.Expires.Before(*end)) {
			*end = c.Expires
		}
	}
	s := &Collateral{Owner: c.Owner, Expires: c.Expires, Endorsements: slices.Clone(c.Endorsements),
		Manufacturers: slices.Clone(c.Manufacturers), References: slices.Clone(c.References),
		TCBLevels: slices.Clone(c.TCBLevels)}
	for i := range s.Endorsements {
		own(&s.Endorsements[i].Owner, &s.Endorsements[i].Expires)
	}
	for i := range s.Manufacturers {
		own(&s.Manufacturers[i].Owner, &s.Manufacturers[i].Expires)
	}
	for i := range s.References {
		own(&s.References[i].Owner, &s.References[i].Expires)
	}
	for i := range s.TCBLevels {
		own(&s.TCBLevels[i].Owner, &s.TCBLevels[i].Expires)
	}
	return s
}
