package tam

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
)

// NewPublisher describes a publisher: at least one of keys and anchors, and prefixes.
type NewPublisher struct {
	Name string
	// Keys are the public keys that it signs with.
	Keys []*cose.Key
	// Anchors are certificates of authorities: whoever they certify to sign code signs for the publisher,
	// with the chain in the envelope (x5chain, RFC 9360).
	Anchors []*x509.Certificate
	// Prefixes are the component identifiers that it may sign for.
	Prefixes []suit.ComponentID
}

// AddPublisher adds a Trusted Component Signer with keys: see [TAM.TrustPublisher].
func (t *TAM) AddPublisher(ctx context.Context, name string, keys []*cose.Key, prefixes []suit.ComponentID) (*Publisher, error) {
	return t.TrustPublisher(ctx, NewPublisher{Name: name, Keys: keys, Prefixes: prefixes})
}

// TrustPublisher adds a Trusted Component Signer.
func (t *TAM) TrustPublisher(ctx context.Context, n NewPublisher) (*Publisher, error) {
	switch {
	case n.Name == "" || len(n.Name) > 64:
		return nil, fmt.Errorf("%w: give it a name of 1 to 64 bytes", ErrPublisher)
	case len(n.Keys) == 0 && len(n.Anchors) == 0:
		return nil, fmt.Errorf("%w: give at least one public key or certificate", ErrPublisher)
	case len(n.Prefixes) == 0:
		return nil, fmt.Errorf("%w: give the component identifiers that it may sign for", ErrPublisher)
	}
	c, err := t.publisherChange(n.Keys, n.Anchors)
	if err != nil {
		return nil, err
	}
	p := Publisher{Name: n.Name, Prefixes: n.Prefixes, Created: t.clock().UTC(), Keys: c.AddKeys, Anchors: c.AddAnchors}
	if err := t.store.AddPublisher(ctx, p); err != nil {
		return nil, err
	}
	t.log.InfoContext(ctx, "publisher added", "name", n.Name)
	return &p, nil
}

// AddPublisherKeys adds keys and anchors to a publisher.
func (t *TAM) AddPublisherKeys(ctx context.Context, name string, keys []*cose.Key, anchors []*x509.Certificate) (*Publisher, error) {
	c, err := t.publisherChange(keys, anchors)
	if err != nil {
		return nil, err
	}
	if len(c.AddKeys)+len(c.AddAnchors) == 0 {
		return nil, fmt.Errorf("%w: give at least one public key or certificate", ErrPublisher)
	}
	if err := t.store.ChangePublisher(ctx, name, c); err != nil {
		return nil, err
	}
	return t.store.Publisher(ctx, name)
}

// WithdrawPublisherKey trusts a key or anchor of a publisher, or a signer below one of its anchors, no
// longer, for good: what it signed is not offered any more. With remove, it is also taken off devices,
// unless a newer version of another key takes its place; that may be ordered later too, by withdrawing it once more.
func (t *TAM) WithdrawPublisherKey(ctx context.Context, name string, thumbprint []byte, reason string, remove bool) error {
	if len(thumbprint) != sha256.Size {
		return fmt.Errorf("%w: a thumbprint has %d bytes, not %d", ErrPublisher, sha256.Size, len(thumbprint))
	}
	return t.store.ChangePublisher(ctx, name, PublisherChange{Withdraw: &WithdrawnKey{
		Thumbprint: thumbprint, At: t.clock().UTC(), Reason: reason, Remove: remove,
	}})
}

// publisherChange checks keys and anchors.
func (t *TAM) publisherChange(keys []*cose.Key, anchors []*x509.Certificate) (c PublisherChange, err error) {
	for i, k := range keys {
		if k == nil || k.Public() == nil {
			return c, fmt.Errorf("%w: key %d is not a public key", ErrPublisher, i)
		}
		if _, err := k.Verifier(); err != nil {
			return c, fmt.Errorf("%w: key %d cannot verify signatures: %w", ErrPublisher, i, err)
		}
		data, err := k.Public().MarshalCBOR()
		if err != nil {
			return c, fmt.Errorf("%w: key %d: %w", ErrPublisher, i, err)
		}
		c.AddKeys = append(c.AddKeys, data)
	}
	now := t.clock()
	for i, a := range anchors {
		switch {
		case a == nil || !a.BasicConstraintsValid || !a.IsCA:
			return c, fmt.Errorf("%w: certificate %d is not that of an authority: give the CA's, or the public key of the signer", ErrPublisher, i)
		case now.After(a.NotAfter):
			return c, fmt.Errorf("%w: certificate %d expired at %s", ErrPublisher, i, a.NotAfter.UTC().Format(time.RFC3339))
		}
		c.AddAnchors = append(c.AddAnchors, a.Raw)
	}
	return c, nil
}

// signerSet are the keys and anchors of all publishers that are trusted. It serves one envelope.
type signerSet struct {
	keys    cose.KeySet
	anchors []anchor
	owner   map[string]*Publisher // by thumbprint
	chained map[string]chained    // of signers that a certificate named, by thumbprint
	now     time.Time
}

// chained is how a signer is trusted that a certificate named.
type chained struct {
	anchor []byte    // SHA-256 of the anchor's certificate
	chain  [][]byte  // in DER, end entity first
	until  time.Time // when the first certificate of its chain ends
}

// anchor is an authority whose signers count for a publisher.
type anchor struct {
	publisher   *Publisher
	certificate []byte
	fingerprint []byte
	keys        *cose.CertificateKeys
}

var _ cose.ReasonedKeySource = (*signerSet)(nil)

// VerifiersFor implements [cose.KeySource].
func (s *signerSet) VerifiersFor(alg cose.Algorithm, h cose.Headers) []cose.Verifier {
	found, _ := s.VerifiersOrReason(alg, h)
	return found
}

// VerifiersOrReason implements [cose.ReasonedKeySource].
func (s *signerSet) VerifiersOrReason(alg cose.Algorithm, h cose.Headers) (found []cose.Verifier, reason error) {
	found = s.keys.VerifiersFor(alg, h)
	chain, err := h.X5Chain()
	if err != nil || len(chain) == 0 {
		return found, err
	}
	for _, a := range s.anchors {
		certified, err := a.keys.VerifiersOrReason(alg, h)
		if err != nil {
			reason = errors.Join(reason, err)
			continue
		}
		for _, v := range certified {
			thumbprint := v.Key().Thumbprint()
			owner := s.owner[string(thumbprint)]
			if a.publisher.withdrawn(thumbprint) != nil || owner != nil && owner != a.publisher {
				continue
			}
			if owner == nil {
				s.owner[string(thumbprint)] = a.publisher
				s.chained[string(thumbprint)] = chained{a.fingerprint, chain, firstEnd(append(slices.Clone(chain), a.certificate), s.now)}
			}
			found = append(found, v)
		}
	}
	return found, reason
}

// firstEnd is when the first of the certificates ends that have not ended yet: the chain was valid without those.
func firstEnd(certificates [][]byte, now time.Time) (end time.Time) {
	for _, der := range certificates {
		if c, err := x509.ParseCertificate(der); err == nil && c.NotAfter.After(now) && (end.IsZero() || c.NotAfter.Before(end)) {
			end = c.NotAfter
		}
	}
	return end
}

// origin tells whose signer a key is, and by which certificate, if one says so.
func (s *signerSet) origin(thumbprint []byte) (*Publisher, chained) {
	return s.owner[string(thumbprint)], s.chained[string(thumbprint)]
}

func (t *TAM) publisherKeys(ctx context.Context) (*signerSet, error) {
	records, err := allRecords[publisherRevocations](ctx, t.store, KindRevocations)
	if err != nil {
		return nil, fmt.Errorf("tam: reading the publishers' revocation lists: %w", err)
	}
	lists := make(map[string][][]byte)
	for _, r := range records {
		lists[r.Publisher] = r.Lists
	}
	set := &signerSet{owner: make(map[string]*Publisher), chained: make(map[string]chained), now: t.clock()}
	for after := ""; ; {
		page, err := t.store.ListPublishers(ctx, after, cataloguePage)
		if err != nil {
			return nil, fmt.Errorf("tam: reading the publishers: %w", err)
		}
		for i := range page {
			p := &page[i]
			after = p.Name
			if !p.Revoked.IsZero() {
				continue
			}
			if err := set.add(p, lists); err != nil {
				return nil, fmt.Errorf("tam: publisher %q: %w", p.Name, err)
			}
		}
		if len(page) < cataloguePage {
			return set, nil
		}
	}
}

func (s *signerSet) add(p *Publisher, lists map[string][][]byte) error {
	for _, data := range p.Keys {
		key, err := cose.ParseKey(data)
		if err != nil {
			return err
		}
		if p.withdrawn(key.Thumbprint()) != nil {
			continue
		}
		v, err := key.Verifier()
		if err != nil {
			return err
		}
		s.keys = append(s.keys, v)
		s.owner[string(key.Thumbprint())] = p
	}
	for _, der := range p.Anchors {
		fingerprint := sha256.Sum256(der)
		if p.withdrawn(fingerprint[:]) != nil {
			continue
		}
		keys, err := codeSigners(der, lists[p.Name], func() time.Time { return s.now })
		if err != nil {
			return err
		}
		s.anchors = append(s.anchors, anchor{p, der, fingerprint[:], keys})
	}
	return nil
}
