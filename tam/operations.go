package tam

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/suit"
)

// What an operator's side of the TAM needs of a store, beside what the protocol needs ([Store]).
// Every backend of this module has these; the guarantees of [Store] hold for them too.

// Assigning changes the desired state on the condition that nobody else did meanwhile.
type Assigning interface {
	// Assignment finds the assignment of a manifest.
	Assignment(ctx context.Context, manifest suit.ComponentID) (*Assignment, error)
	// SwapAssignment replaces old by new, in one step. old nil: there must be none yet; new nil:
	// it is removed. ErrConflict when the stored one is not old, or the catalogue has another revision than that which new
	// was checked against; 0: any.
	SwapAssignment(ctx context.Context, manifest suit.ComponentID, old, new *Assignment, catalogue int64) error
}

// Overview is the fleet in numbers.
type Overview interface {
	// CountDevices counts devices by status and attestation.
	CountDevices(ctx context.Context) ([]DeviceCount, error)
	// FindDevices lists devices that match f, by ID, ascending, beginning after the ID `after`.
	FindDevices(ctx context.Context, f DeviceFilter, after string, limit int) ([]Device, error)
	// AddActivity adds to the counts of what happened. It is called every few seconds with what
	// one replica saw, because a row that every message updates would be what all of them wait
	// for; a crash loses those seconds of statistics and nothing else.
	AddActivity(ctx context.Context, counts []Activity) error
	// ActivitySince lists the counts of the hours from since on, by hour and kind, ascending.
	ActivitySince(ctx context.Context, since time.Time) ([]Activity, error)
	// AddField keeps how many devices had each version in an hour, unless somebody did so for that hour
	// before, and forgets what is older than [FieldKept]. Like activity, it is statistics: two replicas that
	// do it at the same moment may both count.
	AddField(ctx context.Context, hour time.Time, counts []InstalledCount) error
	// FieldSince lists the counts of the hours from since on, by hour, manifest and sequence number,
	// ascending, beginning in the first of these hours after the given cursor.
	FieldSince(ctx context.Context, since time.Time, after VersionCursor, limit int) ([]FieldCount, error)
}

// FieldKept is how long it is known which versions were in the field.
const FieldKept = 90 * 24 * time.Hour

// FieldCount is how many devices had a version in an hour.
type FieldCount struct {
	Hour time.Time // its beginning, UTC
	InstalledCount
}

// DeviceCount is how many devices have a status and an attestation.
type DeviceCount struct {
	Status      DeviceStatus
	Attestation attest.Status
	Devices     int64
}

// DeviceFilter chooses devices. Empty fields choose all.
type DeviceFilter struct {
	Status      DeviceStatus
	Attestation string // affirming, warning, contraindicated or none
}

// Activity counts the events of one kind in one hour.
type Activity struct {
	Hour  time.Time // its beginning, UTC
	Kind  EventKind
	Count int64
}

// Idempotency remembers the answers to requests that must not be executed twice.
type Idempotency interface {
	// ReserveRequest begins a request. It returns nil when there is none of that ID yet, or only
	// an expired one; otherwise the record of it, and changes nothing.
	ReserveRequest(ctx context.Context, r RequestRecord, now time.Time) (*RequestRecord, error)
	// CompleteRequest stores the answer to a reserved request; ErrNotFound without one.
	CompleteRequest(ctx context.Context, id, answer []byte) error
	// ReleaseRequest forgets a request that had no effect. One that is not there is no error.
	ReleaseRequest(ctx context.Context, id []byte) error
	// SweepRequests removes at most limit records that expired before now, and returns how many.
	SweepRequests(ctx context.Context, now time.Time, limit int) (int, error)
}

// RequestRecord is a request under an idempotency key.
type RequestRecord struct {
	// ID is derived from who asks and the key that they chose; 32 bytes.
	ID []byte
	// Fingerprint is a digest of the request.
	Fingerprint []byte
	Expires     time.Time
	// Answer is nil until the request is complete. It is opaque to the store.
	Answer []byte
}

// The sentences with which stores describe changes in the audit log, the same in every backend.

// Describe says what an assignment makes of its manifest.
func (a Assignment) Describe() string {
	if len(a.Devices) == 0 {
		return fmt.Sprintf("%s for all devices", a.Mode)
	}
	return fmt.Sprintf("%s for %d devices: %s", a.Mode, len(a.Devices), strings.Join(a.Devices, ", "))
}

// Describe says what a version is.
func (v Version) Describe() string {
	return fmt.Sprintf("sequence number %d, signed by %s, manifest digest %x", v.Sequence, v.Publisher, v.Digest)
}

// Describe says what a publisher may do.
func (p Publisher) Describe() string {
	list := make([]string, len(p.Prefixes))
	for i, id := range p.Prefixes {
		list[i] = id.String()
	}
	return fmt.Sprintf("%d keys, may sign for %s", len(p.Keys), strings.Join(list, ", "))
}

// Describe says what a token allows.
func (t APIToken) Describe() string {
	s := fmt.Sprintf("%q with scopes %s until %s", t.Name, strings.Join(t.Scopes, ", "), t.Expires.UTC().Format(time.RFC3339))
	if t.Owner != "" {
		s += fmt.Sprintf(", owned by %q", t.Owner)
	}
	if t.Publisher != "" {
		s += fmt.Sprintf(", for uploads of %q only", t.Publisher)
	}
	return s
}
