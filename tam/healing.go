package tam

import (
	"context"
)

// healing collects what a device gets that failed attestation: the updates that policy gives to such, and the emergency
// removals of what is known to be on it, which may be why it failed. What such a
// device says about itself is not looked at; its agent refuses what it has already. Keys are encrypted to
// the key that was attested while all was well: a stranger, or a device whose Evidence is stale, which
// comes as nil, gets what needs none.
func (t *TAM) healing(ctx context.Context, device *Device) (decision, error) {
	if len(t.policy.Healing) == 0 && (device == nil || len(device.Inventory) == 0) {
		return decision{}, nil
	}
	c, err := t.currentCatalogue(ctx)
	if err != nil {
		return decision{}, err
	}
	stranger := device == nil
	if stranger {
		device = &Device{}
	}
	p := &planner{standing: &standing{catalogue: c, device: device, now: t.clock()}}
	if device.Status == DeviceAccepted {
		p.emergencies()
	}
	if len(t.policy.Healing) == 0 {
		return p.decision, nil
	}
	deliveries, err := t.deliveries(ctx, c, device)
	if err != nil {
		return decision{}, err
	}
	for _, id := range t.policy.Healing {
		m := c.manifests[id.Key()]
		if m == nil || m.offered == nil {
			continue
		}
		delivery := deliveries.of(m.offered).healing()
		switch {
		case p.barred(m, stranger):
			p.note("healing by %v sequence number %d is not for this device: it must not have that", id, m.offered.Sequence)
		case delivery != nil && delivery.withheld != "":
			p.note("healing by %v sequence number %d waits: %s", id, m.offered.Sequence, delivery.withheld)
		default:
			p.install = append(p.install, step{version: m.offered, delivery: delivery})
		}
	}
	return p.decision, nil
}

// emergencies plans what emergency removals take off the device, by the TAM's own record of it.
func (p *planner) emergencies() {
	for _, i := range p.device.Inventory {
		m := p.catalogue.manifests[i.Manifest.Key()]
		if m != nil && p.removed(m, max(i.Sequence, 1)) != nil && !p.leaves(i.Manifest) {
			p.decision.unlink = append(p.decision.unlink, i.Manifest)
		}
	}
	p.orderUnlinks()
}

// barred tells whether the device must not have what would be given to heal it. Whether a removal is about a stranger, of
// whom nothing is known, nobody can tell: then it is.
func (s *standing) barred(m *manifest, stranger bool) bool {
	if s.mode(m) == ModeForbidden || s.removed(m, max(m.offered.Sequence, 1)) != nil {
		return true
	}
	for _, r := range m.removals {
		if stranger && (r.Sequence == 0 || m.offered.Sequence <= r.Sequence) {
			return true
		}
	}
	return false
}
