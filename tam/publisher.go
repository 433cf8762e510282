package tam

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
)

// Publisher is a Trusted Component Signer whose manifests the TAM relays.
type Publisher struct {
	Name string
	// Keys are its public COSE_Keys, encoded.
	Keys [][]byte
	// Anchors are certificates, in DER, of authorities that certify its signers.
	Anchors [][]byte `json:",omitempty"`
	// Prefixes are the component identifiers that it may sign, each with everything below.
	// A publisher without prefixes may sign nothing.
	Prefixes []suit.ComponentID
	Created  time.Time
	// Revoked is when it was revoked; zero while it is trusted.
	Revoked time.Time
	// Withdrawn are the keys and anchors that no longer count, and signers below anchors.
	Withdrawn []WithdrawnKey `json:",omitempty"`
}

// WithdrawnKey is a key that is no longer trusted.
type WithdrawnKey struct {
	// Thumbprint is the SHA-256 thumbprint (RFC 9679) of a key, or the SHA-256 of a certificate.
	Thumbprint []byte
	At         time.Time
	Reason     string
	// Remove takes what it signed off devices, unless something newer of another key replaces it.
	Remove bool `json:",omitempty"`
}

// PublisherChange adds keys and anchors to a publisher, or withdraws one.
type PublisherChange struct {
	AddKeys    [][]byte // public COSE_Keys, encoded
	AddAnchors [][]byte // certificates in DER
	Withdraw   *WithdrawnKey
}

// Apply makes the change to p. It returns what the audit log says of it.
func (p *Publisher) Apply(c PublisherChange) (detail string, err error) {
	p.Keys = append(slices.Clone(p.Keys), c.AddKeys...)
	p.Anchors = append(slices.Clone(p.Anchors), c.AddAnchors...)
	if c.Withdraw == nil {
		var names []string
		for _, k := range c.AddKeys {
			names = append(names, fmt.Sprintf("key %x", keyThumbprint(k)))
		}
		for _, a := range c.AddAnchors {
			names = append(names, fmt.Sprintf("certificate %x", sha256.Sum256(a)))
		}
		return strings.Join(names, ", "), nil
	}
	before := slices.IndexFunc(p.Withdrawn, func(w WithdrawnKey) bool { return bytes.Equal(w.Thumbprint, c.Withdraw.Thumbprint) })
	if before >= 0 && (p.Withdrawn[before].Remove || !c.Withdraw.Remove) {
		return "", ErrExists
	}
	// Without anchors, a key that was never the publisher's is a mistake.
	if !p.owns(c.Withdraw.Thumbprint) && len(p.Anchors) == 0 {
		return "", fmt.Errorf("%w: the publisher has no key with that thumbprint", ErrNotFound)
	}
	p.Withdrawn = slices.Clone(p.Withdrawn)
	if before >= 0 { // that it is removed may come later
		p.Withdrawn = slices.Delete(p.Withdrawn, before, before+1)
	}
	p.Withdrawn = append(p.Withdrawn, *c.Withdraw)
	detail = fmt.Sprintf("%x: %s", c.Withdraw.Thumbprint, c.Withdraw.Reason)
	if c.Withdraw.Remove {
		detail += "; what it signed is removed from devices"
	}
	return detail, nil
}

func keyThumbprint(encoded []byte) []byte {
	k, err := cose.ParseKey(encoded)
	if err != nil {
		return nil
	}
	return k.Thumbprint()
}

// owns tells whether a thumbprint is that of one of the publisher's keys or anchors.
func (p *Publisher) owns(thumbprint []byte) bool {
	return slices.ContainsFunc(p.Keys, func(k []byte) bool { return bytes.Equal(keyThumbprint(k), thumbprint) }) ||
		slices.ContainsFunc(p.Anchors, func(a []byte) bool {
			sum := sha256.Sum256(a)
			return bytes.Equal(sum[:], thumbprint)
		})
}

// withdrawn returns the withdrawal of a key or anchor, or nil.
func (p *Publisher) withdrawn(thumbprint []byte) *WithdrawnKey {
	for i := range p.Withdrawn {
		if bytes.Equal(p.Withdrawn[i].Thumbprint, thumbprint) {
			return &p.Withdrawn[i]
		}
	}
	return nil
}

// distrusts returns the withdrawal that concerns a version, or nil. Of a version of an older release
// nobody knows which key signed it: any withdrawal concerns it.
func (p *Publisher) distrusts(v *Version) *WithdrawnKey {
	if len(p.Withdrawn) == 0 {
		return nil
	}
	if v.Signer == nil {
		return &p.Withdrawn[0]
	}
	if v.Anchor == nil {
		return p.withdrawn(v.Signer)
	}
	return strictest(p.withdrawn(v.Signer), p.withdrawn(v.Anchor))
}

// strictest is the first of several reasons against a version, or the first that takes it off devices.
func strictest(all ...*WithdrawnKey) (w *WithdrawnKey) {
	for _, one := range all {
		if one != nil && (w == nil || one.Remove && !w.Remove) {
			w = one
		}
	}
	return w
}
