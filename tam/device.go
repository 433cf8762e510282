package tam

import (
	"encoding/hex"
	"slices"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam/policy"
)

// DeviceStatus says what the operator lets a device do.
type DeviceStatus string

// The states of a device.
const (
	// DevicePending devices were attested and wait for an operator: they are offered nothing.
	DevicePending DeviceStatus = "pending"
	// DeviceAccepted devices are served.
	DeviceAccepted DeviceStatus = "accepted"
	// DeviceBlocked devices are not answered.
	DeviceBlocked DeviceStatus = "blocked"
	// DeviceRetired devices left the fleet and are not answered.
	DeviceRetired DeviceStatus = "retired"
)

// Valid tells whether s is one of the states.
func (s DeviceStatus) Valid() bool {
	switch s {
	case DevicePending, DeviceAccepted, DeviceBlocked, DeviceRetired:
		return true
	}
	return false
}

// Device is one TEEP Agent in one TEE, as the TAM knows it. It exists from its first authentic
// Evidence or Attestation Result on.
type Device struct {
	// ID names the device in the operator API: see [DeviceID].
	ID string `json:"-"`
	// KeyThumbprint is the SHA-256 thumbprint (RFC 9679) of AgentKey.
	KeyThumbprint []byte `json:"-"`
	// AgentKey is the public COSE_Key that signs the agent's messages, encoded.
	AgentKey []byte       `json:"-"`
	Status   DeviceStatus `json:"-"`
	// Revision counts the changes of this record; 0 before it was first stored.
	Revision  int64     `json:"-"`
	FirstSeen time.Time `json:"-"`
	LastSeen  time.Time `json:"-"`

	// UEID, OEMID, HWModel and HWVersion are the attested identity (RFC 9711 §4.2). UEID
	// does not change during the life of a record.
	UEID      []byte `json:"ueid,omitempty"`
	OEMID     []byte `json:"oemid,omitempty"` // CBOR of the claim
	HWModel   []byte `json:"hwmodel,omitempty"`
	HWVersion string `json:"hwversion,omitempty"`
	// EncryptionKey is the attested public COSE_Key that content keys and data for the device are
	// wrapped to, encoded; nil if its Evidence names none.
	EncryptionKey []byte `json:"encryptionKey,omitempty"`

	// TAMKey is the thumbprint of the TAM's key under which the device last accepted a message; nil: not
	// known.
	TAMKey []byte `json:"tamKey,omitempty"`

	Attestation Attestation `json:"attestation"`
	// Inventory is what the device has installed of what this TAM publishes.
	Inventory []Installed `json:"inventory,omitempty"`
	// Pending are the Updates that were sent and not answered yet, oldest first, at most
	// [MaxPendingUpdates]. Taking an entry out is what uses its token up.
	Pending []PendingUpdate `json:"pending,omitempty"`
	// Failures holds back what failed on this device before.
	Failures []Failure `json:"failures,omitempty"`
	// Deliveries are the TAM's own manifests on the device, or on their way to it.
	Deliveries []Delivery `json:"deliveries,omitempty"`

	// deliveries is what the device should have of such, while a message is being answered.
	deliveries deposited

	// Labels are what operators wrote on the device. The map is never changed in place.
	Labels map[string]string `json:"labels,omitempty"`
	// DecidedBy names what the status comes from: "attestation", "allow-list", "rule NAME", "person
	// NAME", or "nobody" as long as it is open. Records of older releases do not say.
	DecidedBy string `json:"decidedBy,omitempty"`
	// Replaces is the record that this one took the place of, when the device got a new agent key;
	// ReplacedBy is the other direction.
	Replaces   string `json:"replaces,omitempty"`
	ReplacedBy string `json:"replacedBy,omitempty"`
	// Formerly are all records that the device had under older agent keys, the newest, which is Replaces, first.
	// Records of older releases have none.
	Formerly []string `json:"formerly,omitempty"`
	// Rollouts is how far rollouts came on this device, at most one for each manifest.
	Rollouts []RolloutProgress `json:"rollouts,omitempty"`
	// InventoryMark tells whether [Identities] knows the inventory.
	InventoryMark uint64 `json:"inventoryMark,omitempty,string"`

	// counts are the changes of rollouts' counts that this record makes when it is stored next.
	counts []RolloutCount
}

// RolloutProgress is how far a rollout came on one device.
type RolloutProgress struct {
	Rollout  string           `json:"rollout"`
	Manifest suit.ComponentID `json:"manifest"`
	Sequence uint64           `json:"sequence"`
	Stage    int              `json:"stage"`
	Progress policy.Progress  `json:"progress"`
	At       time.Time        `json:"at"`
}

// MaxPendingUpdates bounds the outstanding Updates per device; the oldest gives way (TEEP §7.1).
const MaxPendingUpdates = 4

// DeviceID derives the ID of a new device from the thumbprint of the agent key that it was first
// seen with. It is derived so that replicas that see the device at the same time agree.
func DeviceID(thumbprint []byte) string {
	return hex.EncodeToString(thumbprint[:min(len(thumbprint), 16)])
}

// Attestation is the outcome of a device's newest appraisal.
type Attestation struct {
	Status      attest.Status   `json:"status"`
	Measurement []byte          `json:"measurement,omitempty"`
	Reasons     []attest.Reason `json:"reasons,omitempty"`
	// At is when the TAM accepted it; zero before the first.
	At time.Time `json:"at,omitzero"`
}

// Installed is one manifest that is installed on a device.
type Installed struct {
	// Manifest is the SUIT Manifest Component ID.
	Manifest suit.ComponentID `json:"manifest"`
	// Sequence is the installed sequence number; 0 when the device has something that no
	// published version matches.
	Sequence uint64 `json:"sequence"`
	// Digest is the digest of the installed manifest, where known.
	Digest []byte `json:"digest,omitempty"`
}

// PendingUpdate is an Update whose Success or Error did not arrive yet.
type PendingUpdate struct {
	// Token is the identity of the Update's token, not the token.
	Token   [16]byte  `json:"token"`
	Expires time.Time `json:"expires"`
	// Offered are the versions in its manifest-list, in order.
	Offered []Installed `json:"offered,omitempty"`
	// Unlinked is its unneeded-manifest-list.
	Unlinked []suit.ComponentID `json:"unlinked,omitempty"`
	// Deliveries are the TAM's own manifests that it has around some of Offered.
	Deliveries []Delivery `json:"deliveries,omitempty"`
	// Key is the thumbprint of the TAM's key that signed it.
	Key []byte `json:"key,omitempty"`
}

// Failure says that a version failed on a device and when it may be offered again.
type Failure struct {
	Manifest suit.ComponentID `json:"manifest"`
	// Sequence is the version that failed; 0 stands for unlinking.
	Sequence uint64    `json:"sequence"`
	Count    int       `json:"count"`
	Until    time.Time `json:"until"`
	Reason   string    `json:"reason,omitempty"`
}

// EventKind says what happened.
type EventKind string

// The kinds of event in a device's history.
const (
	EventAttested          EventKind = "attested"
	EventAttestationFailed EventKind = "attestation-failed"
	EventUpdateSent        EventKind = "update-sent"
	EventSucceeded         EventKind = "succeeded"
	EventFailed            EventKind = "failed"
	EventStatus            EventKind = "status-changed"
)

// The kinds of event in the life of a rollout. They are in the feed, and in no device's history.
const (
	EventRolloutCreated  EventKind = "rollout-created"
	EventRolloutApproved EventKind = "rollout-approved"
	// EventRolloutStage says that a further stage is open; the first one opens with EventRolloutStarted.
	EventRolloutStarted  EventKind = "rollout-started"
	EventRolloutStage    EventKind = "rollout-stage"
	EventRolloutPaused   EventKind = "rollout-paused"
	EventRolloutResumed  EventKind = "rollout-resumed"
	EventRolloutDone     EventKind = "rollout-done"
	EventRolloutStopped  EventKind = "rollout-stopped"
	EventRolloutAborted  EventKind = "rollout-aborted"
	EventRolloutArchived EventKind = "rollout-archived"
	EventRolloutDeleted  EventKind = "rollout-deleted"
)

// Event is one entry of a device's history, or, with Rollout and without DeviceID, of a rollout's.
type Event struct {
	ID       int64 // rises; assigned by the store
	DeviceID string
	Rollout  string    // the name of one
	At       time.Time //
	Kind     EventKind //
	// Detail is one sentence for people. It holds no secrets and no raw Evidence.
	Detail string
}

// served tells whether the device is answered. One that is not known yet is.
func (d *Device) served() bool {
	return d == nil || d.Status != DeviceBlocked && d.Status != DeviceRetired
}

// pending returns the index of the outstanding Update with that token, or -1.
func (d *Device) pending(token [16]byte) int {
	return slices.IndexFunc(d.Pending, func(p PendingUpdate) bool { return p.Token == token })
}

// unanswered tells whether a version was offered in an Update of which nothing was heard.
func (d *Device) unanswered(v *Version) bool {
	return slices.ContainsFunc(d.Pending, func(p PendingUpdate) bool {
		return slices.ContainsFunc(p.Offered, func(i Installed) bool { return i.Sequence == v.Sequence && i.Manifest.Equal(v.Manifest) })
	})
}

// addPending appends p, dropping what expired and, beyond the bound, the oldest.
func (d *Device) addPending(p PendingUpdate, now time.Time) {
	d.Pending = slices.DeleteFunc(d.Pending, func(q PendingUpdate) bool { return !now.Before(q.Expires) })
	d.Pending = append(d.Pending, p)
	if n := len(d.Pending) - MaxPendingUpdates; n > 0 {
		d.Pending = slices.Delete(d.Pending, 0, n)
	}
}

// installed returns what the device has of a manifest.
func (d *Device) installed(manifest suit.ComponentID) (Installed, bool) {
	for _, i := range d.Inventory {
		if i.Manifest.Equal(manifest) {
			return i, true
		}
	}
	return Installed{}, false
}

// setInstalled records that a manifest is installed.
func (d *Device) setInstalled(i Installed) {
	for n := range d.Inventory {
		if d.Inventory[n].Manifest.Equal(i.Manifest) {
			d.Inventory[n] = i
			return
		}
	}
	d.Inventory = append(d.Inventory, i)
}

// setRemoved records that a manifest is gone.
func (d *Device) setRemoved(manifest suit.ComponentID) {
	d.Inventory = slices.DeleteFunc(d.Inventory, func(i Installed) bool { return i.Manifest.Equal(manifest) })
}

// failure returns the failure record of a version, or nil.
func (d *Device) failure(manifest suit.ComponentID, sequence uint64) *Failure {
	for n := range d.Failures {
		if f := &d.Failures[n]; f.Sequence == sequence && f.Manifest.Equal(manifest) {
			return f
		}
	}
	return nil
}

// heldBack tells whether a version failed here and must not be offered yet.
func (d *Device) heldBack(manifest suit.ComponentID, sequence uint64, now time.Time) bool {
	f := d.failure(manifest, sequence)
	return f != nil && now.Before(f.Until)
}

// maxFailures bounds the failure records of one device; the oldest gives way.
const maxFailures = 64

// recordFailure notes one more failure of a version. The pause doubles with every failure, up to
// 64 times the first (TEEP §4.6: back off, "but take care not to give up on communication").
func (d *Device) recordFailure(manifest suit.ComponentID, sequence uint64, now time.Time, pause time.Duration, reason string) {
	f := d.failure(manifest, sequence)
	if f == nil {
		d.Failures = append(d.Failures, Failure{Manifest: manifest, Sequence: sequence})
		if n := len(d.Failures) - maxFailures; n > 0 {
			d.Failures = slices.Delete(d.Failures, 0, n)
		}
		f = &d.Failures[len(d.Failures)-1]
	}
	f.Until = now.Add(pause << min(f.Count, 6))
	f.Count++
	f.Reason = reason
}

// clearFailure forgets the failures of a version, after it succeeded.
func (d *Device) clearFailure(manifest suit.ComponentID, sequence uint64) {
	d.Failures = slices.DeleteFunc(d.Failures, func(f Failure) bool {
		return f.Sequence == sequence && f.Manifest.Equal(manifest)
	})
}
