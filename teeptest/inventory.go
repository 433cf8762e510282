package teeptest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
)

// Installed is one manifest on a device.
type Installed struct {
	Manifest suit.ComponentID
	Sequence uint64
}

// Installed lists what the agent has installed, by its own sealed state, ordered by manifest.
func (d *Device) Installed() []Installed {
	d.world.t.Helper()
	return d.installed(func(string) bool { return true })
}

// InstalledBy lists what belongs to one TAM, as [Device.Installed] does.
func (d *Device) InstalledBy(t *World) []Installed {
	d.world.t.Helper()
	return d.installed(func(owner string) bool { return owner == t.name })
}

func (d *Device) installed(count func(owner string) bool) []Installed {
	d.world.t.Helper()
	var all []Installed
	for _, m := range d.record().Manifests {
		if count(m.Owner) {
			all = append(all, Installed{m.ID, m.Sequence})
		}
	}
	return sorted(all)
}

// Believed lists what the first TAM believes that the device has, ordered by manifest.
func (d *Device) Believed() []Installed {
	d.world.t.Helper()
	return d.BelievedBy(d.world)
}

// BelievedBy lists what a TAM believes that the device has, ordered by manifest.
func (d *Device) BelievedBy(t *World) []Installed {
	d.world.t.Helper()
	device, err := t.Store.DeviceByKey(context.Background(), d.AgentKey().Thumbprint())
	if errors.Is(err, tam.ErrNotFound) {
		return nil
	}
	d.world.must(err)
	var all []Installed
	for _, i := range device.Inventory {
		all = append(all, Installed{i.Manifest, i.Sequence})
	}
	for _, v := range device.Deliveries {
		if v.Done {
			all = append(all, Installed{DistributionPrefix().Join(v.Manifest), v.Sequence})
		}
	}
	return sorted(all)
}

func sorted(all []Installed) []Installed {
	slices.SortFunc(all, func(a, b Installed) int { return a.Manifest.Compare(b.Manifest) })
	return all
}

func same(a, b []Installed) bool {
	return slices.EqualFunc(a, b, func(x, y Installed) bool { return x.Sequence == y.Sequence && x.Manifest.Equal(y.Manifest) })
}

// Sequence returns the sequence number under which a component made by [World.Component] is
// installed, 0 if it is not.
func (d *Device) Sequence(name string) uint64 {
	d.world.t.Helper()
	for _, i := range d.Installed() {
		if i.Manifest.Equal(ManifestID(name)) {
			return i.Sequence
		}
	}
	return 0
}

// asked is what the TAM ever told anybody to install and to remove.
type asked struct {
	mu sync.Mutex
	// answered counts the Updates that one and the same message got.
	answered map[[32]byte]int
	installs map[string]map[uint64]bool
	removals map[string]bool
	// last are the manifests of the last Update that had any.
	last [][]byte
}

// note reads a message as it left the TAM, and what it answers.
func (a *asked) note(question, message []byte, keys ...*cose.Key) {
	set, err := cose.NewKeySet(keys...)
	if err != nil || len(message) == 0 {
		return
	}
	opened, err := teep.Open(message, set, teep.OpenOptions{})
	if err != nil {
		return
	}
	u, ok := opened.Message.(*teep.Update)
	if !ok {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.answered == nil {
		a.answered = make(map[[32]byte]int)
	}
	if u.ErrorCode == 0 {
		a.answered[sha256.Sum256(question)]++
	}
	if a.installs == nil {
		a.installs, a.removals = make(map[string]map[uint64]bool), make(map[string]bool)
	}
	if len(u.Manifests) > 0 {
		a.last = u.Manifests
	}
	for _, envelope := range u.Manifests {
		a.noteEnvelope(envelope)
	}
	for _, id := range u.UnneededManifests {
		a.removals[suit.ComponentID(id).Key()] = true
		if prefix := DistributionPrefix(); suit.ComponentID(id).HasPrefix(prefix) {
			// It takes along what it brought.
			a.removals[suit.ComponentID(id[len(prefix):]).Key()] = true
		}
	}
}

// LastManifests are the envelopes of the TAM's last Update that had any.
func (w *World) LastManifests() [][]byte {
	w.asked.mu.Lock()
	defer w.asked.mu.Unlock()
	return w.asked.last
}

func (a *asked) noteEnvelope(data []byte) {
	e, err := suit.ParseEnvelope(data)
	if err != nil {
		return
	}
	m, err := e.UnverifiedManifest()
	if err != nil {
		return
	}
	key := m.ComponentID.Key()
	if a.installs[key] == nil {
		a.installs[key] = make(map[uint64]bool)
	}
	a.installs[key][m.SequenceNumber] = true
	for _, dependency := range e.Integrated {
		if bytes.HasPrefix(dependency, []byte{0xd8, 0x6b}) || bytes.HasPrefix(dependency, []byte{0xa2}) {
			a.noteEnvelope(dependency)
		}
	}
}

// CheckAsked fails the test if a device that is up has something installed that the TAM never told
// anybody to install, lost something that the TAM never told anybody to remove, or went back to a
// lower sequence number. It compares with what it saw when it was last called: call it often.
//
// It also fails the test if a TAM answered one message with two Updates: a token or challenge counts once.
func (w *World) CheckAsked() {
	w.t.Helper()
	for _, t := range w.tams() {
		t.asked.mu.Lock()
		for _, n := range t.asked.answered {
			if n > 1 {
				w.t.Errorf("%s answered one message with %d Updates", t.name, n)
			}
		}
		t.asked.mu.Unlock()
	}
	for _, d := range w.devices {
		if d.up() {
			d.checkAsked()
		}
	}
}

func (d *Device) up() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.agent != nil && !d.disk.Crashed()
}

func (d *Device) checkAsked() {
	w := d.world
	w.t.Helper()
	r := d.record()
	for key, m := range r.Manifests {
		if !w.tamAsked(m.Owner, func(a *asked) bool { return a.installs[key][m.Sequence] }) {
			w.t.Errorf("device %s has %v with sequence number %d installed, which %s never asked for", d.Name, m.ID, m.Sequence, m.Owner)
		}
	}
	for key, owner := range d.held {
		if m, has := r.Manifests[key]; has && m.Owner == owner {
			continue
		}
		if !w.tamAsked(owner, func(a *asked) bool { return a.removals[key] }) {
			w.t.Errorf("device %s lost manifest %q, which %s never asked for", d.Name, key, owner)
		}
	}
	clear(d.held)
	for key, m := range r.Manifests {
		d.held[key] = m.Owner
	}
	for key, s := range r.Sequences {
		if s.Highest < d.high[key] {
			w.t.Errorf("device %s went back from sequence number %d of %q to %d", d.Name, d.high[key], key, s.Highest)
		}
		d.high[key] = max(d.high[key], s.Highest)
	}
}

// tamAsked looks into what one TAM told devices to do.
func (w *World) tamAsked(name string, did func(*asked) bool) bool {
	for _, t := range w.tams() {
		if t.name == name {
			t.asked.mu.Lock()
			defer t.asked.mu.Unlock()
			return did(&t.asked)
		}
	}
	return false
}

const (
	settleStep   = 25 * time.Hour
	settleRounds = 64
)

// Settle ends the faults, restarts what is down, and lets time pass, policy check after policy
// check, until neither the device nor what the TAMs believe of it changes any more. It fails the test
// if that does not come to an end, or if the two differ then.
func (w *World) Settle(ctx context.Context, d *Device) {
	w.t.Helper()
	w.Relay.SetFaults(Faults{})
	d.CrashAt(0)
	if !d.up() {
		d.Restart(0)
	}
	quiet := 0
	for range settleRounds {
		before := d.Installed()
		w.Clock.Advance(settleStep)
		err := d.PolicyCheck(ctx)
		after, agreed := d.Installed(), true
		for _, t := range w.tams() {
			agreed = agreed && same(d.InstalledBy(t), d.BelievedBy(t))
		}
		w.CheckAsked()
		if err == nil && same(before, after) && agreed && d.record().Pending == nil {
			quiet++
		} else {
			quiet = 0
		}
		if quiet == 3 {
			return
		}
	}
	w.t.Fatalf("device %s does not settle: it has %v, the TAM believes %v; the relay did:\n%s",
		d.Name, d.Installed(), d.Believed(), strings.Join(w.Relay.Log(), "\n"))
}
