// Package memory is a device in memory for suit/processor: for tests, for dry runs and for the
// curious.
//
// It keeps the promises of [processor.Platform] honestly: a transaction works on a copy that
// nobody sees before Commit; finished content survives a crash by its digest; sequence numbers
// never go back. What a real device loses when the power fails, it loses too: see
// [Platform.CrashAt] and [Platform.Restart].
//
//	device := memory.New(processor.Identity{Vendor: vendor, Class: class})
//	device.Serve("https://example.org/app.wasm", app)
//	p, err := processor.New(processor.Config{Platform: device, Authority: authority, …})
package memory

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
)

// Errors that the device makes of itself.
var (
	// ErrCrashed is what everything returns between a crash and Restart.
	ErrCrashed = errors.New("memory: the device has crashed")
	// ErrNotConfigured says that the device was asked something it was not described for.
	ErrNotConfigured = errors.New("memory: not configured")
	// ErrDone says that a transaction or writer was used after its end.
	ErrDone = errors.New("memory: already committed or rolled back")
)

// Invocation is one call of suit-directive-invoke.
type Invocation struct {
	ID   suit.ComponentID
	Args []byte
}

// Platform is the device. Set its exported fields before use; its methods are safe for
// concurrent use. It implements [processor.Platform], [processor.Environment] and
// [processor.Slots].
type Platform struct {
	// Identities answers per component, by ComponentID.Key; Default answers for all others.
	Identities map[string]processor.Identity
	Default    processor.Identity
	// DecryptKeys unwrap content keys.
	DecryptKeys cose.DecryptKeys
	// Clock defaults to a fixed instant, so that runs repeat.
	Clock func() time.Time
	// OnInvoke runs a component; without it suit-directive-invoke fails.
	OnInvoke func(ctx context.Context, id suit.ComponentID, args []byte) error
	// SlotOf answers suit-condition-component-slot, by ComponentID.Key.
	SlotOf map[string]uint64
	// VersionOf answers suit-condition-version, by ComponentID.Key.
	VersionOf map[string][]int64
	// BatteryLevel is in mWh; nil means that the device cannot tell.
	BatteryLevel *uint64
	// Authorize and OnWait answer the conditions of the same names; nil means no.
	Authorize func(ctx context.Context, priority int64) (bool, error)
	OnWait    func(ctx context.Context, event suit.WaitEvent) error

	mu          sync.Mutex
	current     *generation
	blobs       map[string]*blob
	sources     map[string]*Source
	fetches     []Fetch
	invocations []Invocation
	faults      faults
}

// New makes an empty device that answers id for every component.
func New(id processor.Identity) *Platform {
	return &Platform{
		Default: id,
		current: newGeneration(),
		blobs:   map[string]*blob{},
		sources: map[string]*Source{},
	}
}

// Identity implements [processor.Platform].
func (p *Platform) Identity(id suit.ComponentID) processor.Identity {
	if i, ok := p.Identities[id.Key()]; ok {
		return i
	}
	return p.Default
}

// Keys implements [processor.Platform].
func (p *Platform) Keys() cose.DecryptKeys { return p.DecryptKeys }

// Now implements [processor.Platform].
func (p *Platform) Now() time.Time {
	if p.Clock == nil {
		return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return p.Clock()
}

// Invoke implements [processor.Platform].
func (p *Platform) Invoke(ctx context.Context, id suit.ComponentID, args []byte) error {
	if err := p.alive(); err != nil {
		return err
	}
	if p.OnInvoke == nil {
		return fmt.Errorf("%w: set OnInvoke to run components", ErrNotConfigured)
	}
	p.mu.Lock()
	p.invocations = append(p.invocations, Invocation{ID: id.Clone(), Args: append([]byte(nil), args...)})
	p.mu.Unlock()
	return p.OnInvoke(ctx, id, args)
}

// Invocations lists what was invoked, in order.
func (p *Platform) Invocations() []Invocation {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Invocation(nil), p.invocations...)
}

// Slot implements [processor.Slots].
func (p *Platform) Slot(id suit.ComponentID) (uint64, error) {
	slot, ok := p.SlotOf[id.Key()]
	if !ok {
		return 0, fmt.Errorf("%w: slot of %s", ErrNotConfigured, id)
	}
	return slot, nil
}

// Battery implements [processor.Environment].
func (p *Platform) Battery() (milliwattHours uint64, err error) {
	if p.BatteryLevel == nil {
		return 0, fmt.Errorf("%w: battery", ErrNotConfigured)
	}
	return *p.BatteryLevel, nil
}

// Authorized implements [processor.Environment].
func (p *Platform) Authorized(ctx context.Context, priority int64) (bool, error) {
	if p.Authorize == nil {
		return false, fmt.Errorf("%w: authorization", ErrNotConfigured)
	}
	return p.Authorize(ctx, priority)
}

// Wait implements [processor.Environment].
func (p *Platform) Wait(ctx context.Context, event suit.WaitEvent) error {
	if p.OnWait == nil {
		return fmt.Errorf("%w: wait events", ErrNotConfigured)
	}
	return p.OnWait(ctx, event)
}

// Version implements [processor.Environment].
func (p *Platform) Version(id suit.ComponentID) ([]int64, error) {
	v, ok := p.VersionOf[id.Key()]
	if !ok {
		return nil, fmt.Errorf("%w: version of %s", ErrNotConfigured, id)
	}
	return v, nil
}
