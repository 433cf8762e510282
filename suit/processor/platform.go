package processor

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
)

// ErrNotExist is what a Tx returns for a component or manifest that is not there.
var ErrNotExist = errors.New("processor: does not exist")

// Platform is the device as the processor needs it. Nothing in it has a default: a condition that
// a platform cannot answer fails with the reason the text assigns.
type Platform interface {
	// Identity answers the vendor, class and device conditions for a component (SUIT §8.4.9.1).
	Identity(id suit.ComponentID) Identity
	// Begin opens the transaction that one procedure runs in.
	Begin(ctx context.Context) (Tx, error)
	// Fetch opens a payload from outside, at offset. It may block for as long as the device
	// needs; ctx ends it. What it yields is not trusted.
	Fetch(ctx context.Context, uri string, args []byte, offset int64) (io.ReadCloser, error)
	// Keys returns the keys that may unwrap content keys (SUIT firmware encryption).
	Keys() cose.DecryptKeys
	Now() time.Time
	// Invoke starts a component (suit-directive-invoke).
	Invoke(ctx context.Context, id suit.ComponentID, args []byte) error
}

// Identity holds the UUIDs of SUIT §8.4.8; a zero UUID matches nothing.
type Identity struct{ Vendor, Class, Device [16]byte }

// Environment is implemented by a Platform that can answer the conditions of the update
// management text. Without it they fail as unsupported.
type Environment interface {
	// Battery is the energy that is left, in mWh (update management §suit-parameter-minimum-battery).
	Battery() (milliwattHours uint64, err error)
	// Authorized asks whether an update of this priority may go on now.
	Authorized(ctx context.Context, priority int64) (bool, error)
	// Wait blocks until the events have come, or ctx ends.
	Wait(ctx context.Context, event suit.WaitEvent) error
	// Version is the version of a component as its manifest set it.
	Version(id suit.ComponentID) ([]int64, error)
}

// Slots is implemented by a Platform whose components have several slots. Without it,
// suit-condition-component-slot is an unsupported command (SUIT §8.4.9.4).
type Slots interface {
	// Slot is the slot index of a component.
	Slot(id suit.ComponentID) (uint64, error)
}

// SequenceDigest is implemented by a Tx that remembers which manifest carried the highest
// sequence number of an identifier. With it, a manifest that was uninstalled may be installed
// again while another one with the same number may not; without it, neither may.
type SequenceDigest interface {
	// HighestDigest is the digest of the manifest that HighestSequence speaks of; ErrNotExist if
	// none was ever committed.
	HighestDigest(id suit.ComponentID) (suit.Digest, error)
}

// Tx is one generation being prepared. Reads see the transaction's own writes. Nothing that it
// does is visible to anyone else, or survives a crash, before Commit returns nil; finished
// content is kept by digest, so that a retry does not fetch it again.
// One goroutine uses a Tx.
type Tx interface {
	// Content opens what a component holds; ErrNotExist if nothing.
	Content(id suit.ComponentID) (Content, error)
	// Create starts new content for a component, which replaces the old at Writer.Commit.
	Create(id suit.ComponentID) (Writer, error)
	// Adopt makes content that the device already has, by digest, the component's content.
	// ErrNotExist if the device has none: then it must be fetched.
	Adopt(id suit.ComponentID, d suit.Digest) error
	// Copy makes dst hold what src holds; Swap exchanges the two; Remove empties one.
	Copy(dst, src suit.ComponentID) error
	Swap(a, b suit.ComponentID) error
	Remove(id suit.ComponentID) error
	// SetParameters records what the manifest said of a component that outlives the procedure
	// (digest, size, vendor, class, version), for reports and inventories.
	SetParameters(id suit.ComponentID, p suit.Parameters) error

	// Manifest returns what is recorded for a manifest component identifier.
	Manifest(id suit.ComponentID) (ManifestRecord, error)
	// Manifests lists all records, in no particular order.
	Manifests() ([]ManifestRecord, error)
	PutManifest(r ManifestRecord) error
	// RemoveManifest forgets a manifest but keeps its highest sequence number.
	RemoveManifest(id suit.ComponentID) error
	// HighestSequence is the highest sequence number ever committed for the identifier, 0 if none.
	HighestSequence(id suit.ComponentID) (uint64, error)

	Commit() error
	// Rollback drops the transaction. After Commit it does nothing.
	Rollback() error
}

// Content is readable content of a component.
type Content interface {
	io.Reader
	io.ReaderAt
	io.Closer
	Size() int64
}

// Writer receives new content. Nothing of it is visible before Commit: what an aborted writer
// received may be a forgery, and is gone. Write does not keep what it is given.
type Writer interface {
	io.Writer
	Commit() error
	Abort() error
}

// Digester is implemented by a Writer that hashes what it stores anyway. The processor then does
// not hash it a second time.
type Digester interface {
	// Digest is that of the content, after Commit. Before it, its Algorithm tells what it will be.
	Digest() suit.Digest
}

// ManifestRecord is a manifest that is installed.
type ManifestRecord struct {
	ID             suit.ComponentID
	SequenceNumber uint64
	// Envelope is the envelope without integrated payloads, as needed for later procedures.
	Envelope []byte
	// Digest is the digest of the bstr-wrapped manifest.
	Digest suit.Digest
	// Root tells whether it was installed for its own sake; a dependency that nobody refers
	// to any more is removed.
	Root bool
	// Dependents are the manifests that refer to this one: the persistent reference count
	// (trust domains §unlink), one entry per dependent however often it says so.
	Dependents []suit.ComponentID
	// Components are the components that this manifest installed or refers to, dependencies
	// aside: the persistent reference count of a component is the number of records that name it.
	Components []suit.ComponentID
	// Dependencies are the manifests that this one depends on.
	Dependencies []Dependency
	// Prefix stands before every component identifier of a manifest that was installed as a
	// dependency with suit-dependency-prefix; usually empty.
	Prefix suit.ComponentID
	// Signer is the thumbprint of the key that authorized it.
	Signer []byte
}

// Dependency is one edge from a dependent to a manifest that it needs.
type Dependency struct {
	// Component is the component identifier by which the dependent speaks of it.
	Component suit.ComponentID
	// ID finds its ManifestRecord.
	ID suit.ComponentID
	// Digest pins the manifest.
	Digest suit.Digest
}
