package tam

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam/policy"
)

// Version is one published version of a Trusted Component: one SUIT envelope.
type Version struct {
	// Manifest is the SUIT Manifest Component ID (trust domains §5.1), or, for a manifest
	// that has none, the identifier of its one component.
	Manifest suit.ComponentID `json:"manifest"`
	Sequence uint64           `json:"sequence"`
	// Digest is the digest of the manifest, which Evidence and reports name it by.
	Digest []byte `json:"digest"`
	// Components are what it installs.
	Components []VersionComponent `json:"components,omitempty"`
	// Dependencies are the Manifest Component IDs that it depends on.
	Dependencies []suit.ComponentID `json:"dependencies,omitempty"`
	// Pins are those of the dependencies that it names by the digest of their manifest, too. Versions of
	// older releases have none.
	Pins []Pin `json:"pins,omitempty"`
	// Envelope is the SHA-256 of the envelope as uploaded, which is where [Blobs] has it.
	Envelope [32]byte `json:"envelope"`
	// Size is the size of the envelope in bytes.
	Size int64 `json:"size"`
	// Publisher is the name of the publisher that signed it.
	Publisher string `json:"publisher"`
	// Signer is the SHA-256 thumbprint of the key that signed it, and Anchor the SHA-256 of the
	// certificate that the key was trusted by, where it was one. Versions of older releases have
	// neither.
	Signer []byte `json:"signer,omitempty"`
	Anchor []byte `json:"anchor,omitempty"`
	// Chain is the certificate chain that it was signed with, in DER, end entity first, which revocation lists are
	// held against. Versions of older releases have none.
	Chain [][]byte `json:"chain,omitempty"`
	// Expires is when the first certificate of the signer's chain ends: devices refuse to install it from
	// then on, so it is not offered any more. Zero for a key that is trusted as such.
	Expires  time.Time `json:"expires,omitzero"`
	Uploaded time.Time `json:"uploaded"`
	// Withdrawn is when the version was withdrawn; zero while it is offered.
	Withdrawn       time.Time `json:"withdrawn,omitzero"`
	WithdrawnReason string    `json:"withdrawnReason,omitempty"`
}

// VersionComponent is one component that a version installs.
type VersionComponent struct {
	ID suit.ComponentID `json:"id"`
	// Digest is the digest of its payload (SHA-256), where the manifest gives one.
	Digest []byte `json:"digest,omitempty"`
	Size   uint64 `json:"size,omitempty"`
}

// VersionCursor is a position in the list of versions; the zero value is its beginning.
type VersionCursor struct {
	Manifest suit.ComponentID
	Sequence uint64
	// First is the position before the first version of Manifest, whatever its number.
	First bool
}

// Before tells whether a version comes after the position.
func (c VersionCursor) Before(manifest suit.ComponentID, sequence uint64) bool {
	if c.Manifest == nil {
		return true
	}
	if order := strings.Compare(manifest.Key(), c.Manifest.Key()); order != 0 {
		return order > 0
	}
	return c.First || sequence > c.Sequence
}

// Mode says what devices should have of a manifest.
type Mode = policy.Mode

// The modes of an assignment.
const (
	ModeAvailable = policy.ModeAvailable
	ModeRequired  = policy.ModeRequired
	ModeForbidden = policy.ModeForbidden
)

// Assignment is the desired state of one manifest.
type Assignment struct {
	Manifest suit.ComponentID `json:"manifest"`
	Mode     Mode             `json:"mode"`
	// Devices limits the assignment to some devices, by ID; empty means all. For the others
	// it is as if there were no assignment.
	Devices []string `json:"devices,omitempty"`
	// Staged says that versions with a sequence number above StagedFrom reach devices by a rollout
	// only.
	Staged     bool   `json:"staged,omitempty"`
	StagedFrom uint64 `json:"stagedFrom,omitempty"`
}

// APIToken is a bearer token of the operator API. The token itself is not stored.
type APIToken struct {
	ID     string
	Name   string
	Hash   [32]byte // SHA-256 of the token
	Scopes []string
	// Publisher limits a token of scope publisher to one publisher's uploads; empty: to none
	// in particular.
	Publisher string
	// Owner names the person whose token it is, so that two of their tokens are not taken for two people;
	// empty where nobody said it.
	Owner   string `json:",omitempty"`
	Created time.Time
	Expires time.Time
	Revoked time.Time
}

// manifest is everything published under one Manifest Component ID, and what is said about it.
type manifest struct {
	id suit.ComponentID
	// versions are in ascending order of sequence number, withdrawn ones included: devices may
	// have them.
	versions []Version
	// candidates are those that are not withdrawn and whose signer is trusted and not expired, in the same order.
	candidates []*Version
	// offered is the newest candidate that every device may have, or nil.
	offered    *Version
	assignment Assignment
	// rules are what groups say, in the order in which they count.
	rules []policy.Rule
	// rollouts are those of each version, by sequence number.
	rollouts map[uint64][]*rollout
	removals []*removal
	domain   *domain
	// uniform says that offered is what is offered to every device.
	uniform bool
}

// catalogue is one revision of the Catalogue, indexed. It is immutable once built.
type catalogue struct {
	revision int64
	// until is when a version stops being offered by itself; zero for never.
	until     time.Time
	order     []*manifest // by Manifest Component ID
	manifests map[string]*manifest
	// byComponent finds the manifests that install a component, and each manifest by its own ID.
	byComponent map[string][]*manifest
	// byDigest finds a version by the digest of its manifest.
	byDigest map[string]*Version
	// pinners finds the manifests that name another one by digest, by the other's identifier.
	pinners    map[string][]*manifest
	publishers map[string]*Publisher
	// revoked are the versions that devices refuse for a revocation list, by their envelope.
	revoked    map[[32]byte]*WithdrawnKey
	groups     []group
	domains    []*domain
	rollouts   []*rollout
	admissions []admission
}

// currentCatalogue returns the newest revision, reading it again only when it changed.
func (t *TAM) currentCatalogue(ctx context.Context) (*catalogue, error) {
	revision, err := t.revision.read(ctx)
	if err != nil {
		return nil, fmt.Errorf("tam: reading the catalogue's revision: %w", err)
	}
	t.catalogueMu.Lock()
	defer t.catalogueMu.Unlock()
	if c := t.catalogue; c != nil && c.revision == revision && (c.until.IsZero() || t.clock().Before(c.until)) {
		return t.catalogue, nil
	}
	// What is read now may be newer than revision; then it is read once more next time.
	o, err := readOffer(ctx, t.store)
	if err != nil {
		return nil, fmt.Errorf("tam: reading the catalogue: %w", err)
	}
	c, err := o.build(t.compiler, t.clock())
	if err != nil {
		return nil, fmt.Errorf("tam: reading the catalogue: %w", err)
	}
	c.revision = revision
	t.catalogue = c
	return c, nil
}

const cataloguePage = 500

// offer is everything that a catalogue is made of, as it is stored.
type offer struct {
	versions    []Version
	assignments []Assignment
	publishers  []Publisher
	groups      []policy.Group
	domains     []policy.Domain
	removals    []policy.Removal
	admissions  []policy.Admission
	rollouts    []policy.Rollout
	revocations []publisherRevocations
}

func readOffer(ctx context.Context, s Store) (*offer, error) {
	o := &offer{}
	for after := (VersionCursor{}); ; {
		page, err := s.ListVersions(ctx, after, cataloguePage)
		if err != nil {
			return nil, err
		}
		o.versions = append(o.versions, page...)
		if len(page) < cataloguePage {
			break
		}
		last := page[len(page)-1]
		after = VersionCursor{Manifest: last.Manifest, Sequence: last.Sequence}
	}
	for after := ""; ; {
		page, err := s.ListPublishers(ctx, after, cataloguePage)
		if err != nil {
			return nil, err
		}
		o.publishers = append(o.publishers, page...)
		if len(page) < cataloguePage {
			break
		}
		after = page[len(page)-1].Name
	}
	var errs [7]error
	o.assignments, errs[0] = s.Assignments(ctx)
	o.groups, errs[1] = allRecords[policy.Group](ctx, s, KindGroup)
	o.domains, errs[2] = allRecords[policy.Domain](ctx, s, KindDomain)
	o.removals, errs[3] = allRecords[policy.Removal](ctx, s, KindRemoval)
	o.admissions, errs[4] = allRecords[policy.Admission](ctx, s, KindAdmission)
	o.rollouts, errs[5] = allRecords[policy.Rollout](ctx, s, KindRollout)
	o.revocations, errs[6] = allRecords[publisherRevocations](ctx, s, KindRevocations)
	return o, errors.Join(errs[:]...)
}

// build indexes an offer as of now.
func (o *offer) build(compiler *policy.Compiler, now time.Time) (*catalogue, error) {
	c := &catalogue{
		manifests: make(map[string]*manifest), byComponent: make(map[string][]*manifest),
		byDigest: make(map[string]*Version), publishers: make(map[string]*Publisher),
	}
	for i := range o.publishers {
		c.publishers[o.publishers[i].Name] = &o.publishers[i]
	}
	for _, v := range o.versions {
		c.add(v)
	}
	for _, a := range o.assignments {
		c.manifest(a.Manifest).assignment = a
	}
	if err := c.addPolicy(o, compiler); err != nil {
		return nil, err
	}
	if err := c.judge(o, now); err != nil {
		return nil, err
	}
	c.index(now)
	return c, nil
}

func (c *catalogue) manifest(id suit.ComponentID) *manifest {
	m := c.manifests[id.Key()]
	if m == nil {
		m = &manifest{id: id}
		c.manifests[id.Key()] = m
		c.order = append(c.order, m)
	}
	return m
}

func (c *catalogue) add(v Version) {
	m := c.manifest(v.Manifest)
	m.versions = append(m.versions, v)
}

// expire has the catalogue built again at a time, if nothing has it built before.
func (c *catalogue) expire(at time.Time) {
	if c.until.IsZero() || at.Before(c.until) {
		c.until = at
	}
}

// distrusted returns why the key that signed a version, or its certificate, no longer counts, or nil.
func (c *catalogue) distrusted(v *Version) *WithdrawnKey {
	if p := c.publishers[v.Publisher]; p != nil {
		return strictest(p.distrusts(v), c.revoked[v.Envelope])
	}
	return nil
}

// whyNot says why a version is offered to no device; empty if it may be.
func (c *catalogue) whyNot(v *Version, now time.Time) string {
	p := c.publishers[v.Publisher]
	switch {
	case !v.Withdrawn.IsZero():
		return "withdrawn: " + v.WithdrawnReason
	case p == nil || !p.Revoked.IsZero():
		return "its publisher is revoked"
	case p.distrusts(v) != nil:
		return "the key that signed it is withdrawn: " + p.distrusts(v).Reason
	case c.revoked[v.Envelope] != nil:
		return "the certificate that it was signed with does not count: " + c.revoked[v.Envelope].Reason
	case !v.Expires.IsZero() && !now.Before(v.Expires):
		return "a certificate that it was signed with ended"
	}
	return ""
}

// NotOffered returns a function that says why a version is offered to no device, as of now; it returns "" of one
// that may be offered.
func (t *TAM) NotOffered(ctx context.Context) (func(*Version) string, error) {
	c, err := t.currentCatalogue(ctx)
	if err != nil {
		return nil, err
	}
	now := t.clock()
	return func(v *Version) string { return c.whyNot(v, now) }, nil
}

// index fills what is derived, once everything is in.
func (c *catalogue) index(now time.Time) {
	c.pinners = make(map[string][]*manifest)
	for _, m := range c.order {
		c.byComponent[m.id.Key()] = append(c.byComponent[m.id.Key()], m)
		m.candidates, m.offered = nil, nil
		m.uniform = len(m.rules) == 0 && len(m.rollouts) == 0 && len(m.removals) == 0 && !m.assignment.Staged
		for i := range m.versions {
			v := &m.versions[i]
			if v.Expires.After(now) {
				c.expire(v.Expires)
			}
			if c.whyNot(v, now) == "" {
				m.candidates = append(m.candidates, v)
				if m.released(v) {
					m.offered = v
				}
			}
			c.byDigest[string(v.Digest)] = v
			for _, pin := range v.Pins {
				if key := pin.Manifest.Key(); !slices.Contains(c.pinners[key], m) {
					c.pinners[key] = append(c.pinners[key], m)
				}
			}
			for _, component := range v.Components {
				if key := component.ID.Key(); !slices.Contains(c.byComponent[key], m) {
					c.byComponent[key] = append(c.byComponent[key], m)
				}
			}
		}
	}
}

// released tells whether no rollout decides about a version.
func (m *manifest) released(v *Version) bool {
	return len(m.rollouts[v.Sequence]) == 0 && !(m.assignment.Staged && v.Sequence > m.assignment.StagedFrom)
}
