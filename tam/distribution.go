package tam

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/distribute"
)

// Distribution lets a TAM sign manifests of its own, which bring a device the key to an encrypted
// payload, and personalization data (trust domains §template-override-encryption-info). Agents have to
// trust the signer for Prefix and Components, and need not trust it for anything else: what it depends
// on is signed by the developer still.
type Distribution struct {
	// Signer is a component signer. Its key is none of those that sign messages.
	Signer cose.Signer
	// Prefix begins the SUIT Manifest Component ID of each such manifest; that of the developer's
	// follows.
	Prefix suit.ComponentID
	// Components are where data may be put, each with everything below; Prefix always is.
	Components []suit.ComponentID
}

func (d *Distribution) check(messages []cose.Signer) error {
	switch {
	case d == nil:
		return nil
	case d.Signer == nil:
		return errors.New("tam: Config.Distribution.Signer is missing")
	case len(d.Prefix) == 0:
		return errors.New("tam: Config.Distribution.Prefix is missing: agents could not tell what the signer may sign")
	case slices.ContainsFunc(messages, func(s cose.Signer) bool { return s != nil && s.Public().Equal(d.Signer.Public()) }):
		return errors.New("tam: Config.Distribution.Signer has a key that signs messages: one key has one use (RFC 9397 §5)")
	}
	return nil
}

// idFor is the SUIT Manifest Component ID of the TAM's manifest beside a developer's.
func (d *Distribution) idFor(manifest suit.ComponentID) suit.ComponentID {
	return d.Prefix.Join(manifest)
}

// developers is the reverse of idFor; ids that are no such manifest's are returned as they are.
func (d *Distribution) developers(id suit.ComponentID) suit.ComponentID {
	if d == nil || len(id) <= len(d.Prefix) || !id.HasPrefix(d.Prefix) {
		return id
	}
	return id[len(d.Prefix):]
}

func (d *Distribution) mayPut(component suit.ComponentID) bool {
	return len(component) > 0 && (component.HasPrefix(d.Prefix) || slices.ContainsFunc(d.Components, component.HasPrefix))
}

// Delivery is the record of the TAM's own manifest beside one of a developer's, on one device.
type Delivery struct {
	// Manifest is the developer's SUIT Manifest Component ID, Version its sequence number.
	Manifest suit.ComponentID `json:"manifest"`
	Version  uint64           `json:"version"`
	// Sequence and Digest are those of the TAM's manifest as it was last offered.
	Sequence uint64 `json:"sequence"`
	Digest   []byte `json:"digest"`
	// Deposits is the fingerprint of what was in it.
	Deposits []byte `json:"deposits"`
	// Signer is the thumbprint of the key that signed it; deliveries of older releases do not say.
	Signer []byte `json:"signer,omitempty"`
	// Done says that the device has it.
	Done bool `json:"done,omitempty"`
	// Envelope is the manifest as it was last offered, signed, without the developer's envelope inside:
	// what somebody needs who expands a report about it. Of one over [MaxKeptDelivery] nothing is kept.
	Envelope []byte `json:"envelope,omitempty"`
}

// MaxKeptDelivery is how long the TAM's own manifest may be to be kept in a device's record, in bytes. One with a key
// has less than 1 KiB; data counts whole.
const MaxKeptDelivery = 8 << 10

// deposited is what was deposited beside a developer's manifest, for any version of it, as far as one device is
// meant, by the identifier of the manifest.
type deposited map[string]*material

type material struct {
	delivery
	keys map[uint64]*Deposit // by the version that they are for
}

// of is what the device should get beside a version; nil for nothing.
func (all deposited) of(v *Version) *delivery {
	m := all[v.Manifest.Key()]
	if m == nil {
		return nil
	}
	d := m.delivery
	d.offered, d.key, d.data = v.Sequence, m.keys[v.Sequence], slices.Clone(m.data)
	d.complete()
	return &d
}

// delivery is what a device should get beside one version of a developer's manifest.
type delivery struct {
	manifest    suit.ComponentID
	key         *Deposit
	data        []Deposit
	recipient   *cose.Key
	fingerprint []byte
	// signer is the thumbprint of the key that signs it now.
	signer []byte
	// offered is the version that it is for, last what was offered of it before.
	offered uint64
	last    Delivery
	// withheld says why the manifest cannot be offered; empty if it can.
	withheld string
	// keyed says that content keys were deposited, if not for this version; unreadable why there is no
	// recipient.
	keyed      bool
	unreadable error
	made       Delivery // once it was made
}

// owes tells whether the device lacks what it should have beside a manifest that it has. What another key signed is
// signed anew: devices need not trust that key once all have it from the new one.
func (v *delivery) owes() bool {
	return v != nil && !(v.last.Done && v.last.Version == v.offered && slices.Equal(v.last.Deposits, v.fingerprint) && v.sameSigner())
}

func (v *delivery) sameSigner() bool {
	return v.last.Signer == nil || v.signer == nil || slices.Equal(v.last.Signer, v.signer)
}

// renewed tells whether other things were deposited since the last offer, or another key signs: what failed may go
// well now.
func (v *delivery) renewed() bool {
	return v != nil && !(slices.Equal(v.last.Deposits, v.fingerprint) && v.sameSigner())
}

// sharedDeposits are those for all devices and for groups, as of one revision of the catalogue.
type sharedDeposits struct {
	mu       sync.Mutex
	read     bool
	revision int64
	list     []Deposit
}

func (s *sharedDeposits) get(ctx context.Context, store Store, revision int64) ([]Deposit, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.read && s.revision == revision {
		return s.list, nil
	}
	list, err := store.DepositsFor(ctx, "")
	if err != nil {
		return nil, err
	}
	s.read, s.revision, s.list = true, revision, list
	return list, nil
}

// deliveries finds out what a device should have beside the developers' manifests. What was deposited for
// a device alone, under whichever of its agent keys, goes before what is for a group of it, and that before what is for all. Which version of a manifest
// the device is to have is decided later: one that something else names by digest goes before the newest.
func (t *TAM) deliveries(ctx context.Context, c *catalogue, d *Device) (deposited, error) {
	if t.distribution == nil {
		return nil, nil
	}
	shared, err := t.shared.get(ctx, t.store, c.revision)
	if err != nil {
		return nil, fmt.Errorf("tam: reading deposits: %w", err)
	}
	var own []Deposit
	if d.ID != "" { // a stranger has none
		for _, name := range d.names() {
			list, err := t.store.DepositsFor(ctx, name)
			if err != nil {
				return nil, fmt.Errorf("tam: reading deposits: %w", err)
			}
			own = append(own, list...)
		}
	}
	at := &standing{catalogue: c, device: d, now: t.clock()}
	recipient, unreadable := d.encryptionKey()
	signer := t.distribution.Signer.Public().Thumbprint()
	all := deposited{}
	of := func(manifest suit.ComponentID) *material {
		m := all[manifest.Key()]
		if m == nil {
			m = &material{
				delivery: delivery{manifest: manifest, recipient: recipient, unreadable: unreadable, signer: signer}, keys: make(map[uint64]*Deposit),
			}
			all[manifest.Key()] = m
		}
		return m
	}
	for _, last := range d.Deliveries {
		of(last.Manifest).last = last
	}
	for _, one := range append(own, at.meant(shared)...) {
		m := of(one.Manifest)
		switch {
		case one.Kind == DepositContentKey:
			m.keyed = true
			m.keys[one.Sequence] = &one
		case !slices.ContainsFunc(m.data, func(o Deposit) bool { return o.Component.Equal(one.Component) }):
			m.data = append(m.data, one)
		}
	}
	return all, nil
}

// meant picks the deposits that are for the device, those for groups first.
func (s *standing) meant(shared []Deposit) []Deposit {
	type ofGroup struct {
		Deposit
		priority int
	}
	var groups []ofGroup
	var all []Deposit
	for _, d := range shared {
		switch {
		case d.Group == "":
			all = append(all, d)
		case s.inGroup(d.Group):
			groups = append(groups, ofGroup{d, s.catalogue.priority(d.Group)})
		}
	}
	slices.SortStableFunc(groups, func(a, b ofGroup) int {
		return cmp.Or(cmp.Compare(b.priority, a.priority), cmp.Compare(a.Group, b.Group))
	})
	list := make([]Deposit, 0, len(shared))
	for _, g := range groups {
		list = append(list, g.Deposit)
	}
	return append(list, all...)
}

// priority is that of a group that there is.
func (c *catalogue) priority(name string) int {
	for _, g := range c.groups {
		if g.Name == name {
			return g.Priority
		}
	}
	return 0
}

// complete fills in what follows from the rest.
func (v *delivery) complete() {
	v.withheld = ""
	parts := slices.Clone(v.data)
	if v.key != nil {
		parts = append(parts, *v.key)
	}
	slices.SortFunc(parts, func(a, b Deposit) int { return slices.Compare([]byte(a.ID), []byte(b.ID)) })
	slices.SortFunc(v.data, func(a, b Deposit) int { return slices.Compare([]byte(a.ID), []byte(b.ID)) })
	v.fingerprint = fingerprint(parts)
	switch {
	case v.keyed && v.key == nil:
		v.withheld = "no content key was deposited for this version; deposit it, or, if the payload is no longer encrypted, remove those of earlier versions"
	case v.recipient == nil && len(parts) > 0:
		v.withheld = "its Evidence names no key to encrypt to"
		if v.unreadable != nil {
			v.withheld = v.unreadable.Error()
		}
	}
}

// healing is what goes to a device whose attestation failed: the key to the update that may heal it, by
// which nothing else is told, and none of the data that was deposited for healthy devices. nil if there is
// nothing to bring. The data follows when attestation succeeds.
func (v *delivery) healing() *delivery {
	if v == nil {
		return nil
	}
	h := *v
	h.data = nil
	h.complete()
	if h.key == nil && h.withheld == "" && h.last.Sequence == 0 {
		return nil
	}
	return &h
}

// encryptionKey is the attested key that content keys and data are wrapped to.
func (d *Device) encryptionKey() (*cose.Key, error) {
	if d.EncryptionKey == nil {
		return nil, nil
	}
	return cose.ParseKey(d.EncryptionKey)
}

// owed is the delivery beside a version, or nil.
func (d *Device) owed(v *Version) *delivery { return d.deliveries.of(v) }

// deliver makes the TAM's manifest around the developer's envelope, signed. Its sequence number is the
// time in milliseconds, or one more than the last if that is higher: it rises whatever becomes of the
// offers before, and of the TAM's store (SUIT §8.4.2).
func (t *TAM) deliver(v *delivery, developer []byte) ([]byte, error) {
	e, err := suit.ParseEnvelope(developer)
	if err != nil {
		return nil, err
	}
	order := distribute.Delivery{
		ID: t.distribution.idFor(v.manifest), Developer: e,
		SequenceNumber: max(v.last.Sequence+1, uint64(t.clock().UnixMilli())),
	}
	if v.key != nil {
		if order.Key, err = suit.RecoverPayloadKey(v.key.EncryptionInfo, cose.DecryptKeys(t.keys.Load().decrypt)); err != nil {
			return nil, fmt.Errorf("content key: %w", err)
		}
	}
	for i := range v.data {
		content, err := t.openData(&v.data[i])
		if err != nil {
			return nil, fmt.Errorf("data for %v: %w", v.data[i].Component, err)
		}
		order.Data = append(order.Data, distribute.Data{Component: v.data[i].Component, Content: content})
	}
	made, err := order.Encrypt(t.rand, v.recipients()...)
	if err != nil {
		return nil, err
	}
	if err := made.Sign(t.rand, t.distribution.Signer); err != nil {
		return nil, err
	}
	v.made = Delivery{Manifest: v.manifest, Version: v.offered, Sequence: order.SequenceNumber, Digest: made.Digest.Bytes,
		Deposits: v.fingerprint, Signer: v.signer}
	alone := *made
	alone.Integrated = nil
	if kept := alone.Encode(); len(kept) <= MaxKeptDelivery {
		v.made.Envelope = kept
	}
	return made.Encode(), nil
}

func (v *delivery) recipients() []*cose.Key {
	if v.recipient == nil {
		return nil
	}
	return []*cose.Key{v.recipient}
}

// wrapUpdate replaces, for a device, what an Update removes: where the TAM's own manifest depends on the
// developer's, that one goes first and takes the developer's along.
func (t *TAM) wrapUpdate(u *teep.Update, d *Device) {
	for i, id := range u.UnneededManifests {
		if n := d.deliveryOf(suit.ComponentID(id)); n >= 0 && d.Deliveries[n].Done {
			u.UnneededManifests[i] = teep.ComponentID(t.distribution.idFor(suit.ComponentID(id)))
		}
	}
}

// developersUnneeded says of the developers' manifests what an agent says of the TAM's own.
func (t *TAM) developersUnneeded(list []teep.ComponentID) []teep.ComponentID {
	if t.distribution == nil {
		return list
	}
	var out []teep.ComponentID
	for _, id := range list {
		out = append(out, teep.ComponentID(t.distribution.developers(suit.ComponentID(id))))
	}
	return out
}

func (d *Device) deliveryOf(manifest suit.ComponentID) int {
	return slices.IndexFunc(d.Deliveries, func(v Delivery) bool { return v.Manifest.Equal(manifest) })
}

// forgetDeliveries drops the records beside manifests that the device has no longer, but for those on
// their way: the numbers of these must not come back.
func (d *Device) forgetDeliveries() {
	d.Deliveries = slices.DeleteFunc(d.Deliveries, func(v Delivery) bool {
		_, has := d.installed(v.Manifest)
		return !has && v.Done
	})
}

// dropDelivery forgets what is beside a manifest: it was removed. The manifest itself may be there still,
// if it was installed for its own sake before, and is removed by its own name next.
func (d *Device) dropDelivery(manifest suit.ComponentID) {
	d.Deliveries = slices.DeleteFunc(d.Deliveries, func(v Delivery) bool { return v.Manifest.Equal(manifest) })
}

// noteDeliveries records what an Update offers.
func (d *Device) noteDeliveries(p *PendingUpdate, steps []step) {
	for _, s := range steps {
		if s.delivery == nil {
			continue
		}
		made := s.delivery.made
		offered := made
		offered.Envelope = nil // once is enough
		p.Deliveries = append(p.Deliveries, offered)
		if n := d.deliveryOf(made.Manifest); n >= 0 {
			d.Deliveries[n] = made
		} else {
			d.Deliveries = append(d.Deliveries, made)
		}
	}
}

// settle records that the device has what was offered beside a manifest, unless something newer is on
// its way.
func (d *Device) settle(p PendingUpdate, manifest suit.ComponentID) {
	for _, v := range p.Deliveries {
		if n := d.deliveryOf(v.Manifest); n >= 0 && v.Manifest.Equal(manifest) && d.Deliveries[n].Sequence == v.Sequence {
			d.Deliveries[n].Done = true
		}
	}
}

// reportedDigest is the digest that a report names an offered version by: that of the TAM's manifest
// where the developer's was inside of one.
func (p *PendingUpdate) reportedDigest(i Installed) []byte {
	for _, v := range p.Deliveries {
		if v.Manifest.Equal(i.Manifest) {
			return v.Digest
		}
	}
	return i.Digest
}
