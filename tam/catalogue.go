package tam

import (
	"time"

	"github.com/go-teep/teep/suit"
)

// Version is one published version of a Trusted Component: one SUIT envelope.
type Version struct {
	// Manifest is the SUIT Manifest Component ID (trust domains §5.1), or, for a manifest
	// that has none, the identifier of its one component.
	Manifest suit.ComponentID `json:"manifest"`
	Sequence uint64           `json:"sequence"`
	// Digest is the digest of the manifest, which Evidence and reports name it by.
	Digest []byte `json:"digest"`
	// Components are what it installs.
	Components []VersionComponent `json:"components,omitempty"`
	// Dependencies are the Manifest Component IDs that it depends on.
	Dependencies []suit.ComponentID `json:"dependencies,omitempty"`
	// Envelope is the SHA-256 of the envelope as uploaded, which is where [Blobs] has it.
	Envelope [32]byte `json:"envelope"`
	// Size is the size of the envelope in bytes.
	Size int64 `json:"size"`
	// Publisher is the name of the publisher that signed it.
	Publisher string    `json:"publisher"`
	Uploaded  time.Time `json:"uploaded"`
	// Withdrawn is when the version was withdrawn; zero while it is offered.
	Withdrawn       time.Time `json:"withdrawn,omitzero"`
	WithdrawnReason string    `json:"withdrawnReason,omitempty"`
}

// VersionComponent is one component that a version installs.
type VersionComponent struct {
	ID suit.ComponentID `json:"id"`
	// Digest is the digest of its payload (SHA-256), where the manifest gives one.
	Digest []byte `json:"digest,omitempty"`
	Size   uint64 `json:"size,omitempty"`
}

// VersionCursor is a position in the list of versions; the zero value is its beginning.
type VersionCursor struct {
	Manifest suit.ComponentID
	Sequence uint64
}

// Mode says what devices should have of a manifest.
type Mode string

// The modes of an assignment.
const (
	// ModeAvailable: devices get it when they ask for it, keep it updated, and lose it when
	// they no longer need it. It is the mode of every manifest without an assignment.
	ModeAvailable Mode = "available"
	// ModeRequired: devices get it without asking.
	ModeRequired Mode = "required"
	// ModeForbidden: devices do not get it, and lose it when they have it.
	ModeForbidden Mode = "forbidden"
)

// Valid tells whether m is one of the modes.
func (m Mode) Valid() bool {
	return m == ModeAvailable || m == ModeRequired || m == ModeForbidden
}

// Assignment is the desired state of one manifest.
type Assignment struct {
	Manifest suit.ComponentID `json:"manifest"`
	Mode     Mode             `json:"mode"`
	// Devices limits the assignment to some devices, by ID; empty means all. For the others
	// the manifest is available.
	Devices []string `json:"devices,omitempty"`
}

// Publisher is a Trusted Component Signer whose manifests the TAM relays.
type Publisher struct {
	Name string
	// Keys are its public COSE_Keys, encoded.
	Keys [][]byte
	// Prefixes are the component identifiers that it may sign, each with everything below.
	// A publisher without prefixes may sign nothing.
	Prefixes []suit.ComponentID
	Created  time.Time
	// Revoked is when it was revoked; zero while it is trusted.
	Revoked time.Time
}

// APIToken is a bearer token of the operator API. The token itself is not stored.
type APIToken struct {
	ID     string
	Name   string
	Hash   [32]byte // SHA-256 of the token
	Scopes []string
	// Publisher limits a token of scope publisher to one publisher's uploads; empty: to none
	// in particular.
	Publisher string
	Created   time.Time
	Expires   time.Time
	Revoked   time.Time
}
