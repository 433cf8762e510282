package rehearse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
	"github.com/go-teep/teep/suit/processor/memory"
)

// platform is the device in memory with answers that speak of the description.
type platform struct {
	*memory.Platform
	d      *Device
	served map[string]bool
}

var (
	_ processor.Platform    = (*platform)(nil)
	_ processor.Environment = (*platform)(nil)
	_ processor.Slots       = (*platform)(nil)
)

func newPlatform(d *Device, r *Run) *platform {
	p := &platform{Platform: memory.New(d.Identity), d: d, served: map[string]bool{}}
	p.DecryptKeys = append(slices.Clone(d.DecryptKeys), r.DecryptKeys...)
	now := d.Clock
	if now.IsZero() {
		now = r.Now
	}
	p.Clock = func() time.Time { return now }
	p.OnInvoke = func(context.Context, suit.ComponentID, []byte) error { return nil }
	p.Identities, p.SlotOf, p.VersionOf = map[string]processor.Identity{}, map[string]uint64{}, map[string][]int64{}
	for _, c := range d.Installed {
		key := c.ID.Key()
		if c.Identity != nil {
			p.Identities[key] = *c.Identity
		}
		if c.Slot != nil {
			p.SlotOf[key] = *c.Slot
		}
		if c.Version != nil {
			p.VersionOf[key] = c.Version
		}
		if c.Content != nil {
			p.Put(c.ID, c.Content)
		}
	}
	for _, payloads := range []map[string][]byte{d.Payloads, r.Payloads} {
		for uri, content := range payloads {
			p.Serve(uri, content)
			p.served[uri] = true
		}
	}
	return p
}

// Fetch implements processor.Platform.
func (p *platform) Fetch(ctx context.Context, uri string, args []byte, offset int64) (io.ReadCloser, error) {
	body, err := p.Platform.Fetch(ctx, uri, args, offset)
	if err != nil && !p.served[uri] {
		return nil, fmt.Errorf("nothing is described behind %q: add it to the payloads", uri)
	}
	return body, err
}

// Battery implements processor.Environment.
func (p *platform) Battery() (uint64, error) {
	if p.d.Battery == nil {
		return 0, errors.New("the device is described without a battery")
	}
	return *p.d.Battery, nil
}

// Authorized implements processor.Environment. Smaller numbers are more urgent.
func (p *platform) Authorized(_ context.Context, priority int64) (bool, error) {
	if p.d.AuthorizesPriority == nil {
		return false, errors.New("the device is described without anybody who authorizes updates")
	}
	return priority <= *p.d.AuthorizesPriority, nil
}

// Wait implements processor.Environment.
func (p *platform) Wait(_ context.Context, event suit.WaitEvent) error {
	for _, name := range awaited(event) {
		if !slices.Contains(p.d.Events, name) {
			return fmt.Errorf("the device would wait for the event %q, which is not among the events that are described", name)
		}
	}
	return nil
}

// Version implements processor.Environment.
func (p *platform) Version(id suit.ComponentID) ([]int64, error) {
	for _, record := range p.State().Manifests {
		if !slices.ContainsFunc(record.Components, id.Equal) {
			continue
		}
		e, err := suit.ParseEnvelope(record.Envelope)
		if err != nil {
			continue // a manifest that is known by its number alone
		}
		if m, err := e.UnverifiedManifest(); err == nil && m.SetVersion != nil {
			return m.SetVersion, nil
		}
	}
	if v, ok := p.VersionOf[id.Key()]; ok {
		return v, nil
	}
	return nil, fmt.Errorf("no version of %v is described", id)
}

// Slot implements processor.Slots.
func (p *platform) Slot(id suit.ComponentID) (uint64, error) {
	slot, ok := p.SlotOf[id.Key()]
	if !ok {
		return 0, fmt.Errorf("no slot of %v is described", id)
	}
	return slot, nil
}
