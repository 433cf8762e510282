package tam

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/cose/revocation"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam/audit"
)

// ErrRevocationLists says that revocation lists are not taken.
var ErrRevocationLists = errors.New("tam: revocation lists are not taken")

// Revocations are the X.509 certificate revocation lists (RFC 5280 §5) that the certificates of a publisher's
// signers are held against.
type Revocations struct {
	// Lists are those in force, in DER, and Issuers the certificates of those below the publisher's anchors that
	// signed some of them.
	Lists   [][]byte `json:"lists"`
	Issuers [][]byte `json:"issuers,omitempty"`
	// Remove takes what a revoked certificate vouched for off devices, unless something newer replaces it.
	Remove bool `json:"remove,omitempty"`
	// Renewed is when anything of this changed.
	Renewed time.Time `json:"renewed"`
	// Chains are those of versions of older releases, which do not say theirs, by the SHA-256 of the envelope in
	// hexadecimal.
	Chains map[string][][]byte `json:"chains,omitempty"`
}

// publisherRevocations is the record of them.
type publisherRevocations struct {
	Publisher string `json:"publisher"`
	Revocations
}

// RevokedVersion is a version that is not offered any more, because devices refuse it.
type RevokedVersion struct {
	*Version
	Reason string
}

// RenewRevocationLists puts certificate revocation lists, in DER, in force for the signers below a publisher's
// anchors. A list that is left out stays in force, and none may be older than the list of its issuer that it
// replaces. From then on envelopes by a revoked certificate are refused, and those that it signed before are not
// offered any more; with remove they are taken off devices, too. remove nil leaves that as it was.
//
// Like an agent, a TAM takes a list that was not renewed in time for a certificate that might be revoked: nothing is
// taken of the issuer's signers, and nothing of theirs offered, until a newer list comes.
func (t *TAM) RenewRevocationLists(ctx context.Context, publisher string, lists [][]byte, remove *bool) error {
	_, err := t.save(ctx, KindRevocations, publisher, ExpectAny, string(audit.ActionRevocationLists), func(o *offer) (any, string, error) {
		n := slices.IndexFunc(o.publishers, func(p Publisher) bool { return p.Name == publisher })
		if n < 0 {
			return nil, "", ErrNotFound
		}
		next := publisherRevocations{Publisher: publisher, Revocations: o.revocationsOf(publisher)}
		if remove != nil {
			next.Remove = *remove
		}
		next.Renewed = t.clock().UTC()
		var err error
		if next.Chains, err = t.unknownChains(ctx, o, publisher, next.Chains); err != nil {
			return nil, "", err
		}
		if err := next.renew(lists, &o.publishers[n], o.versions); err != nil {
			return nil, "", err
		}
		return next, next.describe(lists), nil
	})
	return err
}

// revocationsOf are those of a publisher; the zero value where there are none.
func (o *offer) revocationsOf(publisher string) Revocations {
	for _, r := range o.revocations {
		if r.Publisher == publisher {
			return r.Revocations
		}
	}
	return Revocations{}
}

// renew puts lists in the place of those in force.
func (r *publisherRevocations) renew(lists [][]byte, p *Publisher, versions []Version) error {
	if len(p.Anchors) == 0 && len(lists) > 0 {
		return fmt.Errorf("%w: publisher %s has no anchors: its keys are withdrawn one by one", ErrRevocationLists, p.Name)
	}
	anchors, err := parseAll(p.Anchors)
	if err != nil {
		return err
	}
	issuers, err := parseAll(r.Issuers)
	if err != nil {
		return err
	}
	for i := range versions {
		if v := &versions[i]; v.Publisher == p.Name {
			for _, c := range revocation.Issuers(anchors, r.chainOf(v)) {
				if !slices.ContainsFunc(issuers, c.Equal) {
					issuers = append(issuers, c)
				}
			}
		}
	}
	inForce, err := revocation.Renew(r.Lists, lists, anchors, issuers)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRevocationLists, err)
	}
	size := 0
	for _, list := range inForce.InForce {
		size += len(list)
	}
	if size > revocation.MaxSize {
		return fmt.Errorf("%w: %d bytes together, at most %d can be kept", ErrRevocationLists, size, revocation.MaxSize)
	}
	r.Lists, r.Issuers = inForce.InForce, inForce.Issuers
	return nil
}

func parseAll(certificates [][]byte) ([]*x509.Certificate, error) {
	all := make([]*x509.Certificate, len(certificates))
	for i, der := range certificates {
		var err error
		if all[i], err = x509.ParseCertificate(der); err != nil {
			return nil, fmt.Errorf("tam: stored certificate: %w", err)
		}
	}
	return all, nil
}

// describe says what came, for the audit log.
func (r *publisherRevocations) describe(lists [][]byte) string {
	var said []string
	for _, der := range lists {
		if l, err := x509.ParseRevocationList(der); err == nil {
			said = append(said, fmt.Sprintf("number %v of %s, %d certificates", l.Number, l.Issuer, len(l.RevokedCertificateEntries)))
		}
	}
	if said == nil {
		said = []string{"no new list"}
	}
	if r.Remove {
		said = append(said, "what a revoked certificate signed is removed from devices")
	}
	return strings.Join(said, "; ")
}

// chainOf is the certificate chain that a version was signed with, end entity first; nil where it is not known.
func (r *Revocations) chainOf(v *Version) [][]byte {
	if v.Chain != nil {
		return v.Chain
	}
	return r.Chains[hex.EncodeToString(v.Envelope[:])]
}

// unknownChains reads the chains of a publisher's versions that neither their record nor known has.
func (t *TAM) unknownChains(ctx context.Context, o *offer, publisher string, known map[string][][]byte) (map[string][][]byte, error) {
	r := Revocations{Chains: make(map[string][][]byte)}
	for name, chain := range known {
		r.Chains[name] = chain
	}
	for i := range o.versions {
		v := &o.versions[i]
		if v.Publisher != publisher || v.Anchor == nil || r.chainOf(v) != nil {
			continue
		}
		data, err := t.blobs.Get(ctx, v.Envelope)
		if errors.Is(err, ErrNotFound) {
			continue // nobody can offer it either
		}
		if err != nil {
			return nil, fmt.Errorf("tam: reading the envelope of %v sequence number %d: %w", v.Manifest, v.Sequence, err)
		}
		if chain := chainIn(data, v.Signer); chain != nil {
			r.Chains[hex.EncodeToString(v.Envelope[:])] = chain
		}
	}
	return r.Chains, nil
}

// chainIn finds the chain of a signer in an envelope that was verified when it came.
func chainIn(envelope, signer []byte) [][]byte {
	e, err := suit.ParseEnvelope(envelope)
	if err != nil {
		return nil
	}
	for _, block := range e.AuthBlocks {
		body, signatures, err := cose.UnverifiedHeaders(block)
		if err != nil {
			continue
		}
		for _, h := range append(signatures, body) {
			if chain, err := h.X5Chain(); err == nil && len(chain) > 0 && certifies(chain[0], signer) {
				return chain
			}
		}
	}
	return nil
}

// certifies tells whether a certificate is for the key of a thumbprint.
func certifies(certificate, thumbprint []byte) bool {
	c, err := x509.ParseCertificate(certificate)
	if err != nil {
		return false
	}
	key, err := cose.NewPublicKey(c.PublicKey)
	return err == nil && bytes.Equal(key.Thumbprint(), thumbprint)
}

// codeSigners are the signers below an anchor under revocation lists.
func codeSigners(anchor []byte, lists [][]byte, now func() time.Time) (*cose.CertificateKeys, error) {
	cert, err := x509.ParseCertificate(anchor)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return cose.NewCertificateKeys(cose.CertificateOptions{
		Roots: roots, Now: now, RevocationLists: lists, ExtKeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	})
}

// judge holds the versions of the catalogue against the revocation lists of their publishers, and notes those that
// devices refuse.
func (c *catalogue) judge(o *offer, now time.Time) error {
	c.revoked = make(map[[32]byte]*WithdrawnKey)
	for i := range o.revocations {
		r := &o.revocations[i]
		p := c.publishers[r.Publisher]
		if p == nil || len(r.Lists) == 0 {
			continue
		}
		j := judge{Revocations: &r.Revocations, now: now, anchors: make(map[string]*cose.CertificateKeys), known: make(map[string]*WithdrawnKey)}
		for _, der := range p.Anchors {
			keys, err := codeSigners(der, r.Lists, func() time.Time { return j.at })
			if err != nil {
				return fmt.Errorf("publisher %s: %w", p.Name, err)
			}
			fingerprint := sha256.Sum256(der)
			j.anchors[string(fingerprint[:])] = keys
		}
		for i := range o.versions {
			if v := &o.versions[i]; v.Publisher == p.Name && v.Anchor != nil {
				if w := j.verdict(v); w != nil {
					c.revoked[v.Envelope] = w
				}
			}
		}
		if err := c.expectRenewal(r.Lists, now); err != nil {
			return err
		}
	}
	return nil
}

// expectRenewal has the catalogue built again when a list is due for renewal.
func (c *catalogue) expectRenewal(lists [][]byte, now time.Time) error {
	for _, der := range lists {
		l, err := x509.ParseRevocationList(der)
		if err != nil {
			return fmt.Errorf("tam: stored revocation list: %w", err)
		}
		if !l.NextUpdate.IsZero() && !now.After(l.NextUpdate) {
			c.expire(l.NextUpdate.Add(time.Nanosecond)) // at that time itself it still counts
		}
	}
	return nil
}

// judge decides about the versions of one publisher.
type judge struct {
	*Revocations
	anchors map[string]*cose.CertificateKeys
	// at is the time for which anchors validate, now that of the catalogue.
	at, now time.Time
	known   map[string]*WithdrawnKey // by anchor and chain
}

// verdict says why devices refuse a version; nil if they do not. What was revoked counts as withdrawn, also if the
// certificate ended meanwhile; it was valid when the version came.
func (j *judge) verdict(v *Version) *WithdrawnKey {
	chain := j.chainOf(v)
	if chain == nil {
		return &WithdrawnKey{Thumbprint: v.Signer, At: j.Renewed, Reason: "its certificate is not known: bring the revocation lists once more"}
	}
	key := string(v.Anchor) + string(bytes.Join(chain, nil))
	w, known := j.known[key]
	if !known {
		w = j.hold(v, chain)
		j.known[key] = w
	}
	return w
}

func (j *judge) hold(v *Version, chain [][]byte) *WithdrawnKey {
	anchor := j.anchors[string(v.Anchor)]
	if anchor == nil {
		return nil
	}
	j.at = v.Uploaded
	if _, err := anchor.Validate(chain); errors.Is(err, cose.ErrCertificateRevoked) {
		return &WithdrawnKey{Thumbprint: v.Signer, At: j.Renewed, Reason: err.Error(), Remove: j.Remove}
	}
	j.at = j.now
	if _, err := anchor.Validate(chain); errors.Is(err, cose.ErrRevocationList) {
		return &WithdrawnKey{Thumbprint: v.Signer, At: j.Renewed, Reason: err.Error()}
	}
	return nil
}

// RevocationsOf returns the revocation lists of a publisher and the versions of it that are not offered for them.
func (t *TAM) RevocationsOf(ctx context.Context, publisher string) (*Revocations, []RevokedVersion, error) {
	o, err := readOffer(ctx, t.store)
	if err != nil {
		return nil, nil, fmt.Errorf("tam: reading the catalogue: %w", err)
	}
	c, err := o.build(t.compiler, t.clock())
	if err != nil {
		return nil, nil, fmt.Errorf("tam: reading the catalogue: %w", err)
	}
	if c.publishers[publisher] == nil {
		return nil, nil, ErrNotFound
	}
	var gone []RevokedVersion
	for i := range o.versions {
		v := &o.versions[i]
		if w := c.revoked[v.Envelope]; w != nil && v.Publisher == publisher {
			gone = append(gone, RevokedVersion{v, w.Reason})
		}
	}
	r := o.revocationsOf(publisher)
	return &r, gone, nil
}

// Known tells whether a list in force is by an anchor of the publisher, or by an authority below one that an upload
// has shown. One that is not is of no use yet.
func (r *Revocations) Known(list *x509.RevocationList, p *Publisher) (bool, error) {
	issuers, err := parseAll(slices.Concat(p.Anchors, r.Issuers))
	return revocation.IsSigned(list, issuers), err
}
