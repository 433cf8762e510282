package tam

import (
	"bytes"
	"slices"

	"github.com/go-teep/teep/suit"
)

// Pin is a dependency that a manifest names by digest: no other version of it will do.
type Pin struct {
	Manifest suit.ComponentID `json:"manifest"`
	// Digest is that of the dependency's manifest.
	Digest []byte `json:"digest"`
}

// pin is the digest that a version needs of a dependency; nil for any.
func (v *Version) pin(dependency suit.ComponentID) []byte {
	for _, p := range v.Pins {
		if p.Manifest.Equal(dependency) {
			return p.Digest
		}
	}
	return nil
}

// maxPinDepth bounds how far it is followed who needs what by digest.
const maxPinDepth = 8

// choose is the version of a manifest that the device is to have: the offered one, unless something that it
// has, or is to get, needs another one by digest. Of a version that is not offered to anybody any longer,
// or that rollouts keep from the device, there is none. chain is what led here.
func (p *planner) choose(m *manifest, chain ...*manifest) (*Version, *rollout) {
	v, r := p.offered(m)
	if len(p.catalogue.pinners[m.id.Key()]) == 0 || len(chain) > maxPinDepth {
		return v, r
	}
	digest := p.pinned(m, chain)
	if digest == nil || v != nil && bytes.Equal(v.Digest, digest) {
		return v, r
	}
	for _, c := range m.candidates {
		if !bytes.Equal(c.Digest, digest) || p.removed(m, max(c.Sequence, 1)) != nil {
			continue
		}
		has, _ := p.device.installed(m.id)
		if may, r := p.may(m, c); may || has.Sequence == c.Sequence {
			return c, r
		}
	}
	return nil, nil
}

// pinned is the digest that dependents on the device need of a manifest; nil for any. What is there goes
// before what is to come.
func (p *planner) pinned(m *manifest, chain []*manifest) []byte {
	var coming []byte
	for _, dependent := range p.catalogue.pinners[m.id.Key()] {
		has, installed := p.device.installed(dependent.id)
		switch {
		case slices.Contains(chain, dependent), p.leaves(dependent.id), p.mode(dependent) == ModeForbidden,
			!installed && !p.isComing(dependent):
			continue
		}
		v, _ := p.choose(dependent, append(slices.Clone(chain), m)...)
		if installed && (v == nil || v.Sequence <= has.Sequence || p.device.heldBack(dependent.id, v.Sequence, p.now)) {
			v = dependent.version(has.Sequence) // it stays as it is
		}
		if v == nil {
			continue
		}
		if digest := v.pin(m.id); digest != nil && installed {
			return digest
		} else if coming == nil {
			coming = digest
		}
	}
	return coming
}

func (p *planner) isComing(m *manifest) bool {
	return p.wanted[m.id.Key()] || p.asked[m.id.Key()] || p.mode(m) == ModeRequired
}

// unmet says why the version of a dependency that another needs by digest cannot be on the device; empty if
// it can, or if it is not published here: then the agent may find it elsewhere.
func (p *planner) unmet(v *Version, dependency *manifest) string {
	digest := v.pin(dependency.id)
	if digest == nil {
		return ""
	}
	n := slices.IndexFunc(dependency.versions, func(o Version) bool { return bytes.Equal(o.Digest, digest) })
	if n < 0 {
		return ""
	}
	needed := &dependency.versions[n]
	if has, ok := p.device.installed(dependency.id); ok && has.Sequence > needed.Sequence {
		return "is there in a newer version, which does not go for an older one"
	}
	if chosen, _ := p.choose(dependency); chosen != nil && chosen != needed && !bytes.Equal(chosen.Digest, digest) {
		return "is needed here by something else in another version"
	}
	return ""
}

// dropConflicts takes out of the plan what needs another version of something by digest than the plan brings,
// and what needs what was taken out. Which version is chosen depends on what else is coming, and that grows
// while the plan is made: in cycles, and where several need the same thing, choices contradict each other.
func (p *planner) dropConflicts() {
	dropped := make(map[string]bool)
	for {
		n := slices.IndexFunc(p.install, func(s step) bool { return p.conflict(s.version, dropped) })
		if n < 0 {
			return
		}
		v := p.install[n].version
		p.note("%v sequence number %d waits: what it needs cannot come with it", v.Manifest, v.Sequence)
		dropped[v.Manifest.Key()] = true
		p.install = slices.Delete(p.install, n, n+1)
	}
}

// missing tells whether what v depends on, and this TAM has for other devices, is neither here nor on its way:
// rollouts, a removal or earlier failures keep it away. What is offered to nobody the agent may find elsewhere.
func (p *planner) missing(v *Version, id suit.ComponentID, dropped map[string]bool) bool {
	has, installed := p.device.installed(id)
	installed = installed && !(p.leaves(id) && p.mustLeave(has) != "")
	digest := v.pin(id)
	needed := func(c *Version) bool { return digest == nil || bytes.Equal(c.Digest, digest) }
	if installed && digest == nil {
		return false
	}
	m := p.catalogue.manifests[id.Key()]
	if m == nil || !slices.ContainsFunc(m.candidates, needed) {
		return !installed && dropped[id.Key()]
	}
	return !slices.ContainsFunc(m.candidates, func(c *Version) bool { return installed && needed(c) && c.Sequence == has.Sequence }) &&
		!slices.ContainsFunc(p.install, func(s step) bool { return s.version.Manifest.Equal(id) && needed(s.version) })
}

func (p *planner) conflict(v *Version, dropped map[string]bool) bool {
	if d := p.catalogue.manifests[v.Manifest.Key()].domain; d != nil &&
		slices.ContainsFunc(d.members, func(m *manifest) bool { return dropped[m.id.Key()] }) {
		return true // a domain comes whole or not at all
	}
	for _, id := range v.Dependencies {
		if p.missing(v, id, dropped) {
			return true
		}
		digest := v.pin(id)
		if digest == nil || p.catalogue.byDigest[string(digest)] == nil {
			continue
		}
		if slices.ContainsFunc(p.install, func(s step) bool {
			return s.version.Manifest.Equal(id) && !bytes.Equal(s.version.Digest, digest)
		}) {
			return true
		}
	}
	return false
}
