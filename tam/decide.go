package tam

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/suit"
)

// decision is what a device is to change.
type decision struct {
	// install lists versions in the order of their dependencies: what others need comes first.
	install []step
	// unlink lists manifests, those that need others before what they need.
	unlink []suit.ComponentID
	// notes say, for the log, what was asked for and not done, and why.
	notes []string
}

// step is one version to install.
type step struct {
	version *Version
	// haveBinary says that the device has the payload: the manifest alone will do
	// (requested-tc-info, TEEP §4.3).
	haveBinary bool
	// delivery is what comes around it, or nil.
	delivery *delivery
	// rollout is what brings the version; nil when every device may have it.
	rollout *rollout
}

func (d *decision) empty() bool { return len(d.install) == 0 && len(d.unlink) == 0 }

func (d *decision) note(format string, args ...any) {
	d.notes = append(d.notes, fmt.Sprintf(format, args...))
}

// wishes is what a QueryResponse asks for.
type wishes struct {
	requested []teep.RequestedComponent
	unneeded  []teep.ComponentID
}

// decide compares what a device has with what it should have. It has no side effects.
func decide(c *catalogue, d *Device, w wishes, now time.Time) decision {
	return decideFor(&standing{catalogue: c, device: d, now: now}, w)
}

func decideFor(at *standing, w wishes) decision { return planFor(at, w).decision }

// planFor is decideFor, with what led to the decision.
func planFor(at *standing, w wishes) *planner {
	p := &planner{standing: at, wanted: make(map[string]bool), asked: make(map[string]bool)}
	d := at.device
	for _, r := range w.requested {
		for _, m := range at.catalogue.byComponent[suit.ComponentID(r.ID).Key()] {
			p.asked[m.id.Key()] = true
		}
	}
	for _, r := range w.requested {
		p.request(r)
	}
	for _, m := range at.catalogue.order {
		switch p.mode(m) {
		case ModeRequired:
			p.want(m, false)
		case ModeForbidden:
			if _, has := d.installed(m.id); has {
				p.unlink(m.id)
			}
		}
	}
	p.expel()
	for _, u := range w.unneeded {
		p.unneeded(suit.ComponentID(u))
	}
	for _, i := range d.Inventory {
		if m := at.catalogue.manifests[i.Manifest.Key()]; m != nil && !p.leaves(m.id) {
			p.want(m, false) // what is there is kept up to date
		}
	}
	for n := -1; n < len(p.decision.unlink); { // what was to take the place of something may have been dropped
		n = len(p.decision.unlink)
		p.dropConflicts()
		p.expel()
	}
	p.keepDependencies()
	// What only something that was dropped needed need not come.
	p.install = slices.DeleteFunc(p.install, func(s step) bool { return p.leaves(s.version.Manifest) })
	p.orderInstalls()
	p.orderUnlinks()
	return p
}

// planner is the state of one decision.
type planner struct {
	decision
	*standing
	wanted  map[string]bool // manifests that were looked at already
	asked   map[string]bool // manifests that may serve a request
	domains map[*domain]bool
}

// request handles one entry of requested-tc-list.
func (p *planner) request(r teep.RequestedComponent) {
	id := suit.ComponentID(r.ID)
	var found *manifest
	var offered *Version
	for _, m := range p.catalogue.byComponent[id.Key()] {
		if v, _ := p.choose(m); v != nil && p.mode(m) != ModeForbidden {
			found, offered = m, v
			break
		}
	}
	if found == nil {
		p.note("requested %v: nothing is published and allowed under that identifier", id)
		return
	}
	if r.MinSequence != nil && offered.Sequence < *r.MinSequence {
		p.note("requested %v from sequence number %d on: the newest offered is %d", id, *r.MinSequence, offered.Sequence)
		return
	}
	haveBinary := r.HaveBinary != nil && *r.HaveBinary && r.MinSequence != nil && *r.MinSequence == offered.Sequence
	p.want(found, haveBinary)
}

// expel removes what has to go for the version that it has, unless a newer one takes its place. Emergency
// removals do not wait for an earlier failure to be over, nor longer than one Update for what is to take the place.
func (p *planner) expel() {
	for _, i := range p.device.Inventory {
		why := p.mustLeave(i)
		if why == "" {
			continue
		}
		m := p.catalogue.manifests[i.Manifest.Key()]
		emergency := strings.HasPrefix(why, "removal ")
		if p.mode(m) != ModeForbidden {
			p.want(m, false)
			if slices.ContainsFunc(p.install, func(s step) bool {
				return s.version.Manifest.Equal(i.Manifest) && !(emergency && p.device.unanswered(s.version))
			}) {
				continue
			}
		}
		if emergency && !p.leaves(i.Manifest) {
			p.decision.unlink = append(p.decision.unlink, i.Manifest)
			continue
		}
		p.unlink(i.Manifest)
	}
}

// want plans the newest version of a manifest where the device lacks it, after what it depends on. With
// a manifest of a security domain comes the whole domain, or none of it.
func (p *planner) want(m *manifest, haveBinary bool) {
	if m.domain == nil || p.domains[m.domain] {
		p.wantOne(m, haveBinary)
		return
	}
	if p.domains == nil {
		p.domains = make(map[*domain]bool)
	}
	p.domains[m.domain] = true
	for _, member := range m.domain.members {
		if why := p.lacking(member); why != "" {
			for _, other := range m.domain.members {
				p.wanted[other.id.Key()] = true // none of it
			}
			p.note("domain %s waits: %v %s", m.domain.Name, member.id, why)
			return
		}
	}
	for _, member := range m.domain.members {
		p.wantOne(member, haveBinary && member == m)
	}
}

// lacking says why the device cannot have a member of a domain; empty if it can or does.
func (p *planner) lacking(m *manifest) string {
	v, _ := p.choose(m)
	has, installed := p.device.installed(m.id)
	var delivery *delivery
	if v != nil {
		delivery = p.device.owed(v)
	}
	switch {
	case p.mode(m) == ModeForbidden:
		return "must not be here"
	case v == nil && !installed:
		return "is not offered here"
	case v != nil && has.Sequence < v.Sequence && delivery != nil && delivery.withheld != "":
		return "waits: " + delivery.withheld
	case v != nil && has.Sequence < v.Sequence && p.device.heldBack(m.id, v.Sequence, p.now) && !delivery.renewed():
		return "failed here before and is held back"
	}
	return ""
}

func (p *planner) wantOne(m *manifest, haveBinary bool) {
	if p.wanted[m.id.Key()] {
		return
	}
	p.wanted[m.id.Key()] = true // also ends cycles among dependencies
	v, r := p.choose(m)
	if v == nil {
		return
	}
	delivery := p.device.owed(v)
	if has, ok := p.device.installed(m.id); ok && (has.Sequence > v.Sequence || has.Sequence == v.Sequence && !delivery.owes()) {
		return // what it owes comes with what is there, never with something older
	}
	if delivery != nil && delivery.withheld != "" {
		p.note("%v sequence number %d waits: %s", m.id, v.Sequence, delivery.withheld)
		return
	}
	if p.device.heldBack(m.id, v.Sequence, p.now) && !delivery.renewed() {
		p.note("%v sequence number %d failed here before and is held back", m.id, v.Sequence)
		return
	}
	for _, id := range v.Dependencies {
		// A dependency that this TAM does not publish is the agent's to resolve.
		dependency := p.catalogue.manifests[id.Key()]
		if dependency == nil {
			continue
		}
		if p.mode(dependency) == ModeForbidden {
			p.note("%v needs %v, which this device must not have", m.id, id)
			return
		}
		p.want(dependency, false)
		if why := p.unmet(v, dependency); why != "" {
			p.note("%v needs %v by digest, and it %s", m.id, id, why)
			return
		}
		if p.device.heldBack(id, p.offeredSequence(dependency), p.now) {
			p.note("%v waits for %v", m.id, id)
			return
		}
	}
	p.install = append(p.install, step{version: v, haveBinary: haveBinary, delivery: delivery, rollout: r})
}

func (p *planner) offeredSequence(m *manifest) uint64 {
	v, _ := p.choose(m)
	if v == nil {
		return 0
	}
	return v.Sequence
}

// unneeded handles one entry of unneeded-manifest-list: what the device no longer needs goes,
// unless something else wants it.
func (p *planner) unneeded(id suit.ComponentID) {
	m := p.catalogue.manifests[id.Key()]
	switch {
	case m != nil && p.mode(m) == ModeRequired:
		p.note("%v is unneeded, but required here", id)
	case p.wanted[id.Key()]:
		p.note("%v is unneeded, but wanted too", id)
	default:
		p.unlink(id)
	}
}

func (p *planner) unlink(id suit.ComponentID) {
	switch {
	case p.leaves(id):
	case p.device.heldBack(id, 0, p.now):
		p.note("removing %v failed here before and is held back", id)
	default:
		p.decision.unlink = append(p.decision.unlink, id)
	}
}

// leaves tells whether a manifest is going to be unlinked.
func (p *planner) leaves(id suit.ComponentID) bool {
	return slices.ContainsFunc(p.decision.unlink, id.Equal)
}

// dependencies returns what a manifest needs, in the version that the device will have.
func (p *planner) dependencies(id suit.ComponentID) []suit.ComponentID {
	for _, s := range p.install {
		if s.version.Manifest.Equal(id) {
			return s.version.Dependencies
		}
	}
	m := p.catalogue.manifests[id.Key()]
	has, ok := p.device.installed(id)
	if m == nil || !ok {
		return nil
	}
	if v := m.version(has.Sequence); v != nil {
		return v.Dependencies
	}
	return nil
}

// keepDependencies takes back the removal of what remaining manifests depend on. Forbidden
// manifests go nevertheless.
func (p *planner) keepDependencies() {
	for changed := true; changed; {
		changed = false
		var stay []suit.ComponentID
		for _, i := range p.device.Inventory {
			if !p.leaves(i.Manifest) {
				stay = append(stay, i.Manifest)
			}
		}
		for _, s := range p.install {
			stay = append(stay, s.version.Manifest)
		}
		for _, id := range stay {
			for _, needed := range p.dependencies(id) {
				n := slices.IndexFunc(p.decision.unlink, needed.Equal)
				has, _ := p.device.installed(needed)
				if n < 0 || p.mustLeave(has) != "" {
					continue
				}
				p.note("%v is unneeded, but %v depends on it", needed, id)
				p.decision.unlink = slices.Delete(p.decision.unlink, n, n+1)
				changed = true
			}
		}
	}
}

// orderInstalls puts what others need before them, by the versions that were chosen in the end; in a cycle
// something has to be first.
func (p *planner) orderInstalls() {
	ordered := make([]step, 0, len(p.install))
	visited := make(map[string]bool)
	var visit func(s step)
	visit = func(s step) {
		if key := s.version.Manifest.Key(); !visited[key] {
			visited[key] = true
			for _, needed := range s.version.Dependencies {
				if n := slices.IndexFunc(p.install, func(o step) bool { return o.version.Manifest.Equal(needed) }); n >= 0 {
					visit(p.install[n])
				}
			}
			ordered = append(ordered, s)
		}
	}
	for _, s := range p.install {
		visit(s)
	}
	p.install = ordered
}

// orderUnlinks puts what needs something before what it needs.
func (p *planner) orderUnlinks() {
	var ordered []suit.ComponentID
	visited := make(map[string]bool)
	var visit func(id suit.ComponentID)
	visit = func(id suit.ComponentID) {
		if visited[id.Key()] {
			return
		}
		visited[id.Key()] = true
		for _, needed := range p.dependencies(id) {
			if p.leaves(needed) {
				visit(needed)
			}
		}
		ordered = append(ordered, id)
	}
	for _, id := range p.decision.unlink {
		visit(id)
	}
	slices.Reverse(ordered)
	p.decision.unlink = ordered
}
