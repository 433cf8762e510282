package tam

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-teep/teep/attest"
)

// ErrReplacement says that one device cannot take the place of another.
var ErrReplacement = errors.New("tam: the device cannot take the place of the other")

// What [Device.DecidedBy] says beside the names of rules.
const (
	undecided = "nobody"
	byPerson  = "person "
)

// Decide sets the status on behalf of a person, which no rule changes again.
func (d *Device) Decide(status DeviceStatus, name string) {
	d.Status, d.DecidedBy = status, byPerson+name
}

// admit decides about a device that is not accepted yet and whose attestation is good: whether it is
// known under another key, and whether it is accepted without a person.
func (t *TAM) admit(ctx context.Context, s *sender, d *Device) error {
	s.replaced, s.note = nil, ""
	if d.Status != DevicePending {
		return nil
	}
	if d.DecidedBy == undecided {
		known, err := t.recognize(ctx, s, d)
		if err != nil || known {
			return err
		}
	}
	if t.policy.Admission == AdmitAttested {
		// An operator may have set a device back to pending: then it is for them to accept it.
		if d.DecidedBy == undecided {
			d.Status, d.DecidedBy = DeviceAccepted, "attestation"
		}
		return nil
	}
	if strings.HasPrefix(d.DecidedBy, byPerson) {
		return nil
	}
	by, labels, err := t.acceptance(ctx, d)
	if err != nil || by == "" {
		return err
	}
	d.Status, d.DecidedBy = DeviceAccepted, by
	if len(labels) > 0 {
		merged := maps.Clone(labels)
		maps.Copy(merged, d.Labels) // what a person wrote counts
		d.Labels = merged
	}
	s.note += "accepted by " + by + "; "
	return nil
}

// acceptance finds what accepts a device without a person; empty if nothing does.
func (t *TAM) acceptance(ctx context.Context, d *Device) (by string, labels map[string]string, err error) {
	if t.allow != nil {
		if list := t.allow(); list != nil && list.Allows(d.KeyThumbprint, d.UEID) {
			return "allow-list", nil, nil
		}
	}
	c, err := t.currentCatalogue(ctx)
	if err != nil {
		return "", nil, err
	}
	at := standing{catalogue: c, device: d, now: t.clock()}
	for i := range c.admissions {
		if in, err := at.holds(c.admissions[i].match); err == nil && in {
			return "rule " + c.admissions[i].Name, c.admissions[i].Labels, nil
		}
	}
	return "", nil, nil
}

// recognize looks whether a new agent key belongs to a device that is known, and tells whether that settles its
// status. Its UEID is attested and bound to the key that signed the message: without that there would be no record to
// make.
func (t *TAM) recognize(ctx context.Context, s *sender, d *Device) (settled bool, err error) {
	if len(d.UEID) == 0 {
		return false, nil
	}
	same, err := t.store.DevicesByUEID(ctx, d.UEID)
	if err != nil {
		return false, fmt.Errorf("tam: looking up a device: %w", err)
	}
	var old, left *Device
	candidates, accepted := 0, false
	for i := range same {
		o := &same[i]
		if o.ID == d.ID {
			continue // it waits, and has a record already
		}
		if o.Status == DeviceBlocked {
			// Making a new key is no way out.
			d.Status = DeviceBlocked
			return true, nil
		}
		accepted = accepted || o.Status == DeviceAccepted
		if o.Status == DeviceRetired && o.ReplacedBy == "" && strings.HasPrefix(o.DecidedBy, byPerson) {
			left = o
		}
		if o.served() && bytes.Equal(o.OEMID, d.OEMID) && bytes.Equal(o.HWModel, d.HWModel) {
			old = o
			candidates++
		}
	}
	if left != nil && !accepted {
		// A person took the device out of the fleet: for a person it is to take it back.
		s.note = fmt.Sprintf("was retired as %s; ", left.ID)
		return true, nil
	}
	if t.policy.Reenrolment != ReenrolAutomatically || candidates != 1 || d.Attestation.Status != attest.StatusAffirming ||
		d.Replaces != "" || old.ReplacedBy != "" { // each took part in a replacement already: see [TAM.ReplaceDevice]
		return false, nil
	}
	if err := d.replace(old); err != nil {
		t.log.WarnContext(ctx, "new agent key of a known device", "device", d.ID, "err", err)
		s.note = fmt.Sprintf("is %s, which had too many agent keys to be followed; ", old.ID)
		return true, nil
	}
	s.replaced, s.note = old, fmt.Sprintf("takes the place of %s, with a new agent key; ", old.ID)
	t.log.InfoContext(ctx, "device has a new agent key", "device", d.ID, "replaces", old.ID)
	return true, nil
}

// maxFormerly bounds how many agent keys a device may have had: each is a name more that policy and deposits are
// looked up by, in every session. Forgetting the oldest instead would let a device shake off what was said of it.
const maxFormerly = 64

// replace makes d the successor of old.
func (d *Device) replace(old *Device) error {
	if len(old.names()) > maxFormerly {
		return fmt.Errorf("%w: it had %d agent keys, and no more are kept track of: accept the new record as a device of its own, and retire %s",
			ErrReplacement, len(old.names()), old.ID)
	}
	d.Status, d.DecidedBy, d.Replaces, d.Formerly = old.Status, old.DecidedBy, old.ID, old.names()
	if len(d.Labels) == 0 {
		d.Labels = old.Labels
	}
	old.Status, old.ReplacedBy = DeviceRetired, d.ID
	return nil
}

// names are the IDs by which operators may have spoken of the device: its own, and those that it had under older
// agent keys, the newest first.
func (d *Device) names() []string {
	if len(d.Formerly) == 0 && d.Replaces != "" {
		return []string{d.ID, d.Replaces}
	}
	return append([]string{d.ID}, d.Formerly...)
}

// isNamed tells whether one of the IDs is the device's.
func (d *Device) isNamed(ids []string) bool {
	return slices.Contains(ids, d.ID) || d.Replaces != "" &&
		slices.ContainsFunc(d.names(), func(name string) bool { return slices.Contains(ids, name) })
}

// ReplaceDevice lets a device take the place of another record of the same device: status, labels, and what is said
// of the old one by its ID, assignments and deposits, go over, and the old agent key is served no longer. Both must have the same attested UEID, and the
// newest attestation of the new one must be affirming. who is for the history.
func (t *TAM) ReplaceDevice(ctx context.Context, id, old, who string) (*Device, error) {
	for range 5 {
		d, err := t.store.Device(ctx, id)
		if err != nil {
			return nil, err
		}
		o, err := t.store.Device(ctx, old)
		if err != nil {
			return nil, err
		}
		switch {
		case d.ID == o.ID:
			return nil, fmt.Errorf("%w: it is the same record", ErrReplacement)
		case len(d.UEID) == 0 || !bytes.Equal(d.UEID, o.UEID):
			return nil, fmt.Errorf("%w: their attested UEIDs differ, so that nothing proves that they are one device", ErrReplacement)
		case d.Attestation.Status != attest.StatusAffirming:
			return nil, fmt.Errorf("%w: the newest attestation of the new record is %v: let the device attest itself first", ErrReplacement, d.Attestation.Status)
		case d.Replaces != "" || d.ReplacedBy != "" || o.ReplacedBy != "":
			return nil, fmt.Errorf("%w: one of them took part in a replacement already", ErrReplacement)
		case o.Status == DeviceBlocked || d.Status == DeviceBlocked:
			return nil, fmt.Errorf("%w: one of them is blocked: unblock it first, if that is meant", ErrReplacement)
		case o.Status == DeviceRetired:
			return nil, fmt.Errorf("%w: the old record is retired: accept the new one instead", ErrReplacement)
		}
		was := d.Status
		if err := d.replace(o); err != nil {
			return nil, err
		}
		x := d.exchange(&Event{DeviceID: d.ID, At: t.clock(), Kind: EventStatus,
			Detail: fmt.Sprintf("%s → %s, in the place of %s, by %s", was, d.Status, o.ID, who)})
		x.Replaced = o
		err = t.store.CommitExchange(ctx, x)
		if errors.Is(err, ErrConflict) {
			continue // one of them was just heard from
		}
		if err != nil {
			return nil, err
		}
		t.devices.forget(d)
		t.devices.forget(o)
		return d, nil
	}
	return nil, ErrConflict
}

// exchange makes the part of an exchange that a changed record brings along.
func (d *Device) exchange(e *Event) Exchange {
	return Exchange{Device: d, Event: e, Counts: d.counts, Reindex: d.markInventory()}
}

// markInventory notes which inventory [Identities] is going to know, and tells whether that is another
// one than before.
func (d *Device) markInventory() bool {
	// FNV-1a: it tells inventories apart, and nobody gains anything by a collision of their own.
	mark := uint64(14695981039346656037)
	add := func(b byte) { mark = (mark ^ uint64(b)) * 1099511628211 }
	for _, i := range d.Inventory {
		for _, part := range i.Manifest {
			for _, b := range part {
				add(b)
			}
			add(byte(len(part)))
		}
		for shift := 0; shift < 64; shift += 8 {
			add(byte(i.Sequence >> shift))
		}
	}
	if len(d.Inventory) == 0 {
		mark = 0
	}
	changed := mark != d.InventoryMark
	d.InventoryMark = mark
	return changed
}

// SetLabels changes labels: an empty value removes one.
func (d *Device) SetLabels(change map[string]string) {
	labels := maps.Clone(d.Labels)
	if labels == nil {
		labels = make(map[string]string)
	}
	for name, value := range change {
		if value == "" {
			delete(labels, name)
			continue
		}
		labels[name] = value
	}
	if len(labels) == 0 {
		labels = nil
	}
	d.Labels = labels
}
