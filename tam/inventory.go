package tam

import (
	"bytes"
	"fmt"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/suit"
)

// propertyClaims is an element of tc-list, as far as the TAM uses it (SUIT Report §4).
//
//	system-property-claims = {
//	  system-component-id => SUIT_Component_Identifier,
//	  + $$SUIT_Parameters,
//	}
type propertyClaims struct {
	ID suit.ComponentID `cbor:"0,keyasint"`
	// Digest is suit-parameter-image-digest: a SUIT_Digest in a byte string.
	Digest []byte `cbor:"3,keyasint,omitempty"`
}

// readTrustedComponents decodes tc-list.
func readTrustedComponents(list []teep.RawMessage) ([]VersionComponent, error) {
	components := make([]VersionComponent, 0, len(list))
	for i, raw := range list {
		var claims propertyClaims
		if err := cbor.Unmarshal(raw, &claims); err != nil {
			return nil, fmt.Errorf("tc-list[%d]: %w", i, err)
		}
		c := VersionComponent{ID: claims.ID}
		if claims.Digest != nil {
			var d suit.Digest
			if err := d.UnmarshalCBOR(claims.Digest); err != nil {
				return nil, fmt.Errorf("tc-list[%d]: image digest: %w", i, err)
			}
			c.Digest = d.Bytes
		}
		components = append(components, c)
	}
	return components, nil
}

// inventory tells which manifests a device has installed, from the components that it reports
// (tc-list), what its attestation says of them, and what the TAM knows to have installed before.
//
// Components are what a device lists; sequence numbers belong to manifests. The attested digest of a
// manifest names its version exactly; the digest of a payload names the newest version with that
// payload; what neither names is there in an unknown version, sequence number 0.
func (c *catalogue) inventory(before []Installed, reported []VersionComponent, attested []attest.Component) []Installed {
	var list []Installed
	known := make(map[string]bool)
	add := func(i Installed) {
		if key := i.Manifest.Key(); !known[key] {
			known[key] = true
			list = append(list, i)
		}
	}
	for _, a := range attested {
		if v := c.byDigest[string(a.ManifestDigest)]; v != nil {
			add(v.installed())
		}
	}
	for _, r := range reported {
		for _, m := range c.byComponent[r.ID.Key()] {
			add(m.match(r, before, attested))
		}
	}
	return list
}

// match finds the version of m that a reported component belongs to.
func (m *manifest) match(r VersionComponent, before []Installed, attested []attest.Component) Installed {
	for _, a := range attested {
		if a.SequenceNumber != 0 && (suit.ComponentID(a.ID).Equal(m.id) || suit.ComponentID(a.ID).Equal(r.ID)) {
			return Installed{Manifest: m.id, Sequence: a.SequenceNumber, Digest: a.ManifestDigest}
		}
	}
	var found *Version
	for _, b := range before {
		if !b.Manifest.Equal(m.id) {
			continue
		}
		// The TAM's own record holds as long as the payload does not contradict it.
		if v := m.version(b.Sequence); v != nil && v.has(r) {
			return b
		}
	}
	for i := range m.versions {
		if v := &m.versions[i]; r.Digest != nil && v.has(r) {
			found = v
		}
	}
	if found == nil {
		return Installed{Manifest: m.id}
	}
	return found.installed()
}

func (m *manifest) version(sequence uint64) *Version {
	for i := range m.versions {
		if m.versions[i].Sequence == sequence {
			return &m.versions[i]
		}
	}
	return nil
}

// has tells whether the version installs that component with that payload; a payload without a
// digest on either side is taken for the same.
func (v *Version) has(r VersionComponent) bool {
	for _, c := range v.Components {
		if c.ID.Equal(r.ID) {
			return c.Digest == nil || r.Digest == nil || bytes.Equal(c.Digest, r.Digest)
		}
	}
	return v.Manifest.Equal(r.ID)
}

func (v *Version) installed() Installed {
	return Installed{Manifest: v.Manifest, Sequence: v.Sequence, Digest: v.Digest}
}
