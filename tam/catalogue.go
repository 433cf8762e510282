package tam

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/go-teep/teep/suit"
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
	// Envelope is the SHA-256 of the envelope as uploaded, which is where [Blobs] has it.
	Envelope [32]byte `json:"envelope"`
	// Size is the size of the envelope in bytes.
	Size int64 `json:"size"`
	// Publisher is the name of the publisher that signed it.
	Publisher string    `json:"publisher"`
	Uploaded  time.Time `json:"uploaded"`
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
}

// Mode says what devices should have of a manifest.
type Mode string

// The modes of an assignment.
const (
	// ModeAvailable: devices get it when they ask for it, keep it updated, and lose it when
	// they no longer need it. It is the mode of every manifest without an assignment.
	ModeAvailable Mode = "available"
	// ModeRequired: devices get it without asking.
	ModeRequired Mode = "required"
	// ModeForbidden: devices do not get it, and lose it when they have it.
	ModeForbidden Mode = "forbidden"
)

// Valid tells whether m is one of the modes.
func (m Mode) Valid() bool {
	return m == ModeAvailable || m == ModeRequired || m == ModeForbidden
}

// Assignment is the desired state of one manifest.
type Assignment struct {
	Manifest suit.ComponentID `json:"manifest"`
	Mode     Mode             `json:"mode"`
	// Devices limits the assignment to some devices, by ID; empty means all. For the others
	// the manifest is available.
	Devices []string `json:"devices,omitempty"`
}

// Publisher is a Trusted Component Signer whose manifests the TAM relays.
type Publisher struct {
	Name string
	// Keys are its public COSE_Keys, encoded.
	Keys [][]byte
	// Prefixes are the component identifiers that it may sign, each with everything below.
	// A publisher without prefixes may sign nothing.
	Prefixes []suit.ComponentID
	Created  time.Time
	// Revoked is when it was revoked; zero while it is trusted.
	Revoked time.Time
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
	Created   time.Time
	Expires   time.Time
	Revoked   time.Time
}

// manifest is everything published under one Manifest Component ID.
type manifest struct {
	id suit.ComponentID
	// versions are in ascending order of sequence number, withdrawn ones included: devices may
	// have them.
	versions []Version
	// offered is the newest version that is not withdrawn and whose publisher is trusted, or nil.
	offered    *Version
	assignment Assignment
}

// mode is what one device should have of the manifest.
func (m *manifest) mode(device string) Mode {
	a := m.assignment
	if a.Mode == "" || len(a.Devices) > 0 && !slices.Contains(a.Devices, device) {
		return ModeAvailable
	}
	return a.Mode
}

// catalogue is one revision of the Catalogue, indexed. It is immutable once built.
type catalogue struct {
	revision  int64
	order     []*manifest // by Manifest Component ID
	manifests map[string]*manifest
	// byComponent finds the manifests that install a component, and each manifest by its own ID.
	byComponent map[string][]*manifest
	// byDigest finds a version by the digest of its manifest.
	byDigest map[string]*Version
}

// currentCatalogue returns the newest revision, reading it again only when it changed.
func (t *TAM) currentCatalogue(ctx context.Context) (*catalogue, error) {
	revision, err := t.revision.read(ctx)
	if err != nil {
		return nil, fmt.Errorf("tam: reading the catalogue's revision: %w", err)
	}
	t.catalogueMu.Lock()
	defer t.catalogueMu.Unlock()
	if t.catalogue != nil && t.catalogue.revision == revision {
		return t.catalogue, nil
	}
	// What is read now may be newer than revision; then it is read once more next time.
	c, err := readCatalogue(ctx, t.store)
	if err != nil {
		return nil, fmt.Errorf("tam: reading the catalogue: %w", err)
	}
	c.revision = revision
	t.catalogue = c
	return c, nil
}

const cataloguePage = 500

func readCatalogue(ctx context.Context, s Store) (*catalogue, error) {
	c := &catalogue{
		manifests: make(map[string]*manifest), byComponent: make(map[string][]*manifest),
		byDigest: make(map[string]*Version),
	}
	trusted, err := trustedPublishers(ctx, s)
	if err != nil {
		return nil, err
	}
	for after := (VersionCursor{}); ; {
		page, err := s.ListVersions(ctx, after, cataloguePage)
		if err != nil {
			return nil, err
		}
		for _, v := range page {
			c.add(v)
			after = VersionCursor{Manifest: v.Manifest, Sequence: v.Sequence}
		}
		if len(page) < cataloguePage {
			break
		}
	}
	assignments, err := s.Assignments(ctx)
	if err != nil {
		return nil, err
	}
	for _, a := range assignments {
		c.manifest(a.Manifest).assignment = a
	}
	c.index(trusted)
	return c, nil
}

func trustedPublishers(ctx context.Context, s Store) (map[string]bool, error) {
	trusted := make(map[string]bool)
	for after := ""; ; {
		page, err := s.ListPublishers(ctx, after, cataloguePage)
		if err != nil {
			return nil, err
		}
		for _, p := range page {
			trusted[p.Name] = p.Revoked.IsZero()
			after = p.Name
		}
		if len(page) < cataloguePage {
			return trusted, nil
		}
	}
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

// index fills what is derived, once all versions are in.
func (c *catalogue) index(trusted map[string]bool) {
	for _, m := range c.order {
		c.byComponent[m.id.Key()] = append(c.byComponent[m.id.Key()], m)
		for i := range m.versions {
			v := &m.versions[i]
			if v.Withdrawn.IsZero() && trusted[v.Publisher] {
				m.offered = v
			}
			c.byDigest[string(v.Digest)] = v
			for _, component := range v.Components {
				if key := component.ID.Key(); !slices.Contains(c.byComponent[key], m) {
					c.byComponent[key] = append(c.byComponent[key], m)
				}
			}
		}
	}
}
