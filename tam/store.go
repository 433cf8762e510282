package tam

import (
	"context"
	"errors"
	"time"

	"github.com/go-teep/teep/suit"
)

// Sentinel errors of every Store and Blobs. Anything else that they return is a failure of the
// backend, after which nothing of the call is visible, except that a database may break off just when
// it commits. A failure that may pass by itself is marked ([Unavailable]).
var (
	// ErrNotFound says that the record does not exist.
	ErrNotFound = errors.New("tam: not found")
	// ErrExists says that a record of that name exists already.
	ErrExists = errors.New("tam: exists already")
	// ErrConflict says that the record moved on since it was read: read it again and retry.
	ErrConflict = errors.New("tam: record was changed by someone else")
	// ErrConsumed says that a token or challenge was used up before.
	ErrConsumed = errors.New("tam: token or challenge was used before")
	// ErrSequence says that a version's sequence number does not rise.
	ErrSequence = errors.New("tam: sequence number does not rise")
)

// Store is everything that a TAM remembers, except envelopes ([Blobs]) and payloads ([Payloads]).
//
// Every backend passes tam/storetest. These guarantees hold for all of its methods:
//
//   - Atomicity: a call is seen whole or not at all, also after a crash.
//   - Durability: what a call acknowledged survives a crash of the process. Whether it survives a
//     loss of power is the backend's to say.
//   - Isolation: calls behave as if executed one after the other; several processes may use one
//     store at a time.
//   - Ownership: values that go in and come out are the caller's; a Store keeps no reference.
//
// All methods are safe for concurrent use.
type Store interface {
	Devices
	Exchanges
	Catalogue
	Publishers
	APITokens
	TokenKeys
	Deposits
	Policies
	Assigning
	Identities
}

// Devices gives the devices that the TAM has seen.
type Devices interface {
	// DeviceByKey finds the device of an agent key by its SHA-256 thumbprint (RFC 9679).
	// Its cost does not depend on how many devices are known.
	DeviceByKey(ctx context.Context, thumbprint []byte) (*Device, error)
	// Device finds a device by its ID.
	Device(ctx context.Context, id string) (*Device, error)
	// ListDevices lists devices by ID, ascending, beginning after the ID `after`.
	ListDevices(ctx context.Context, after string, limit int) ([]Device, error)
	// UpdateDevice replaces the record whose Revision is that of d, and gives d the new
	// revision. ErrConflict when the stored one is another, ErrNotFound when there is none.
	// ID, KeyThumbprint, AgentKey and FirstSeen stay as they were first stored.
	UpdateDevice(ctx context.Context, d *Device) error
	// Events lists a device's history, newest first, beginning before the event `before`
	// (0: from the newest).
	Events(ctx context.Context, deviceID string, before int64, limit int) ([]Event, error)
}

// Exchanges records what one protocol message leaves behind.
type Exchanges interface {
	// CommitExchange performs all of x as one step. ErrConsumed when x.Consume was consumed
	// before; ErrConflict when x.Device or x.Replaced is set and the stored device has another
	// revision than it (0 means that it must not exist yet). On success they, if any, have their
	// new revisions. After any error nothing of x is stored.
	CommitExchange(ctx context.Context, x Exchange) error
	// Sweep removes consumptions that expired before now and events older than eventsBefore,
	// at most limit rows of each, and returns how many rows went.
	Sweep(ctx context.Context, now, eventsBefore time.Time, limit int) (int, error)
}

// Exchange is the effect of one message.
type Exchange struct {
	// Consume marks a challenge or token as used; nil when the message carried none that
	// must be remembered.
	Consume *Consumption
	// Device is created or replaced; nil when it stays as it is.
	Device *Device
	// Event is appended to the history of Event.DeviceID, a device that exists or is this Device;
	// its ID is assigned by the store.
	Event *Event
	// Replaced is a device that Device takes the place of; nil when there is none.
	Replaced *Device
	// Reindex says that Device.Inventory is another one than [Identities] knows.
	Reindex bool
	// Counts are added to those of rollouts; Devices may be negative.
	Counts []RolloutCount
}

// Consumption is a challenge or token that was used up. Its row may go once it expired, because
// then the token is refused for its age.
type Consumption struct {
	ID      [16]byte
	Expires time.Time
}

// Catalogue holds the published versions and what devices should have of them.
type Catalogue interface {
	// CatalogueRevision rises with every change to versions, assignments and publishers.
	// It is cheap: it is asked once per QueryResponse.
	CatalogueRevision(ctx context.Context) (int64, error)
	// AddVersion adds a version. ErrSequence when any version of the same manifest, withdrawn
	// or not, has the same or a higher sequence number: numbers only rise, also under
	// concurrent calls.
	AddVersion(ctx context.Context, v Version) error
	// ListVersions lists versions ordered by manifest and sequence number, ascending,
	// beginning after the given cursor.
	ListVersions(ctx context.Context, after VersionCursor, limit int) ([]Version, error)
	// WithdrawVersion marks one version as withdrawn, for good. Withdrawing it again
	// changes nothing.
	WithdrawVersion(ctx context.Context, manifest suit.ComponentID, sequence uint64, reason string, at time.Time) error
	// Assignments lists all assignments, ordered by manifest.
	Assignments(ctx context.Context) ([]Assignment, error)
	// PutAssignment creates or replaces the assignment of a.Manifest.
	PutAssignment(ctx context.Context, a Assignment) error
	// DeleteAssignment removes the assignment of a manifest.
	DeleteAssignment(ctx context.Context, manifest suit.ComponentID) error
}

// Publishers holds the Trusted Component Signers whose manifests the TAM relays.
type Publishers interface {
	// AddPublisher adds a publisher; ErrExists when the name or one of its keys is taken.
	AddPublisher(ctx context.Context, p Publisher) error
	// Publisher finds a publisher by name.
	Publisher(ctx context.Context, name string) (*Publisher, error)
	// ListPublishers lists publishers by name, ascending, beginning after `after`.
	ListPublishers(ctx context.Context, after string, limit int) ([]Publisher, error)
	// ChangePublisher adds keys to a publisher or withdraws one; ErrExists when a key is taken, or withdrawn already
	// and not to be removed only now,
	// ErrNotFound when a key to withdraw is not the publisher's.
	ChangePublisher(ctx context.Context, name string, c PublisherChange) error
	// RevokePublisher marks a publisher as revoked, for good: nothing that it signed is
	// offered any more.
	RevokePublisher(ctx context.Context, name string, at time.Time) error
}

// APITokens holds the bearer tokens of the operator API, hashed.
type APITokens interface {
	// AddAPIToken adds a token; ErrExists when the ID is taken.
	AddAPIToken(ctx context.Context, t APIToken) error
	// APITokenByHash finds a token by the SHA-256 of its secret. Expired and revoked tokens
	// are returned too: the caller judges.
	APITokenByHash(ctx context.Context, hash [32]byte) (*APIToken, error)
	// ListAPITokens lists tokens by ID, ascending, beginning after `after`.
	ListAPITokens(ctx context.Context, after string, limit int) ([]APIToken, error)
	// RevokeAPIToken marks a token as revoked, for good.
	RevokeAPIToken(ctx context.Context, id string, at time.Time) error
}

// TokenKeys holds the keys that authenticate TEEP tokens and challenges, which all replicas share.
type TokenKeys interface {
	// TokenKeys lists the keys by generation, ascending.
	TokenKeys(ctx context.Context) ([]TokenKey, error)
	// AddTokenKey adds the key of the next generation; ErrConflict when its generation is not
	// exactly one more than the newest (the first is 1): another replica was faster.
	AddTokenKey(ctx context.Context, k TokenKey) error
	// DropTokenKeys removes the keys that were created before the given time.
	DropTokenKeys(ctx context.Context, before time.Time) error
}

// TokenKey is one generation of the key under which tokens are made.
type TokenKey struct {
	Generation uint32
	// Secret is 32 random bytes. It is never printed.
	Secret  []byte
	Created time.Time
}

// Blobs keeps envelopes, by the SHA-256 of their bytes.
//
// A blob that Put acknowledged survives a crash; Get never returns bytes of another digest.
// All methods are safe for concurrent use, also by several processes.
type Blobs interface {
	// Put stores data under its digest. Storing the same bytes again is no error.
	Put(ctx context.Context, data []byte) (digest [32]byte, err error)
	// Get returns the bytes; ErrNotFound when there are none. The caller must not change them.
	Get(ctx context.Context, digest [32]byte) ([]byte, error)
	// Delete removes a blob; removing one that does not exist is no error.
	Delete(ctx context.Context, digest [32]byte) error
}
