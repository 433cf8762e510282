// Package tee says what a Trusted Execution Environment provides to the TEEP Agent that lives in
// it: an identity, keys that never leave, sealed state, a runtime for Trusted Applications, and,
// where the hardware has one, a monotonic counter.
//
// The package holds contracts only. tee/sandbox implements them with a process of its own,
// tee/vm with a virtual machine; tee/teetest is the suite that every implementation passes.
// Start with [TEE].
package tee

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/go-teep/teep/cose"
)

// Sentinel errors of every implementation.
var (
	// ErrNotExist says that the record, blob, key or application data does not exist.
	ErrNotExist = errors.New("tee: does not exist")
	// ErrGeneration says that the state record moved on since it was read.
	ErrGeneration = errors.New("tee: state record is of another generation")
	// ErrCorrupt says that sealed data failed authentication: it was changed outside the TEE,
	// or belongs to another TEE. It is never returned to the caller as data.
	ErrCorrupt = errors.New("tee: sealed data is corrupt")
	// ErrRollback says that the state record is older than the monotonic counter allows.
	ErrRollback = errors.New("tee: sealed state was rolled back")
	// ErrQuota says that a limit on storage, memory, time or count was reached.
	ErrQuota = errors.New("tee: quota exceeded")
	// ErrTrap says that a Trusted Application ended abnormally.
	ErrTrap = errors.New("tee: application trapped")
)

// ExitError is the end of a Trusted Application that refused its command: it ran, and ended with a
// code other than 0. What it wrote to its sealed storage during the invocation is dropped.
type ExitError struct {
	// Code is the exit code, 1 to 2^32-1.
	Code uint32
	// Stderr is the end of what the application wrote to its standard error, at most 4 KiB.
	// It is the application's text: not trusted, and no secret of the TEE.
	Stderr string
}

// Error implements error.
func (e *ExitError) Error() string {
	if e.Stderr == "" {
		return fmt.Sprintf("tee: application ended with code %d", e.Code)
	}
	return fmt.Sprintf("tee: application ended with code %d: %s", e.Code, e.Stderr)
}

// TEE is one Trusted Execution Environment, as the agent inside it sees it.
// Implementations are safe for concurrent use.
type TEE interface {
	Identity() Identity
	Keys() Keys
	Store() Store
	Runtime() Runtime
}

// Identity is what the TEE knows about itself and the device. All of it goes into Evidence.
type Identity struct {
	// UEID is the device's Universal Entity ID (RFC 9711 §4.2.1), 7 to 33 bytes, type byte first.
	UEID []byte
	// OEMID identifies the hardware vendor (RFC 9711 §4.2.3): a 3-byte IEEE, 16-byte random
	// or, as an integer, IANA PEN identifier. The bytes here are the CBOR encoding of the claim.
	OEMID []byte
	// HWModel is the hwmodel claim (RFC 9711 §4.2.4), 1 to 32 bytes.
	HWModel []byte
	// HWVersion is the hwversion claim's version text (RFC 9711 §4.2.5).
	HWVersion string
	// VendorID, ClassID and DeviceID answer the SUIT identifier conditions: 16-byte UUIDs
	// (SUIT §8.4.8.1). A zero UUID matches nothing.
	VendorID, ClassID, DeviceID [16]byte
	// Measurement is the digest (SHA-256) of the agent's own code as the TEE measured it.
	Measurement []byte
	// AgentName and AgentVersion describe the agent for reports and logs.
	AgentName, AgentVersion string
	// Weaknesses lists, in words, protections that this TEE or its host lacks ("no monotonic
	// counter: rollback of the whole store is not detected"). They are part of the Evidence.
	Weaknesses []string
}

// KeyUse names what a key of the TEE is for. One key has one use (RFC 9397 §5).
type KeyUse string

// The keys every TEE makes at first start, inside.
const (
	// KeyAgent signs TEEP messages. cose.AlgESP256 unless configured otherwise.
	KeyAgent KeyUse = "agent"
	// KeyAttestation signs Evidence. It is certified or endorsed by who made the device.
	KeyAttestation KeyUse = "attestation"
	// KeyReport signs SUIT Reports: it MUST differ from KeyAgent (TEEP §4.5).
	KeyReport KeyUse = "report"
	// KeyEncryption is the ECDH key that content keys are wrapped to.
	KeyEncryption KeyUse = "encryption"
)

// Keys gives the use of the TEE's private keys without giving them away.
type Keys interface {
	// Signer returns the signer for a use; ErrNotExist for a use that does not sign.
	Signer(use KeyUse) (cose.Signer, error)
	// Decryption returns the private ECDH key for unwrapping content keys. The key stays in
	// the TEE's process; callers do not store or print it.
	Decryption() (*cose.Key, error)
	// Public returns the public part of the key for a use.
	Public(use KeyUse) (*cose.Key, error)
}

// Store is sealed state as a chain of generations. Payloads stream into content-addressed blobs;
// one small state record names the blobs in use. Installing is replacing that record.
//
// Guarantees: what ReplaceRecord acknowledged survives a crash and loss of power; a crash leaves
// the old or the new record, never a mixture; a committed blob survives and its content is
// authenticated again at every read; nothing in it can be read or changed unnoticed from outside.
type Store interface {
	// LoadRecord returns the newest state record and its generation. A new store returns
	// generation 0 and a nil record.
	LoadRecord() (record []byte, generation uint64, err error)
	// ReplaceRecord makes record the state of generation+1, if the newest generation is still
	// generation; else ErrGeneration. On return it is durable.
	ReplaceRecord(generation uint64, record []byte) error
	// CreateBlob starts a blob. Memory use is independent of its size.
	CreateBlob() (BlobWriter, error)
	// OpenBlob opens a committed blob by the SHA-256 of its plaintext.
	OpenBlob(sha256 [32]byte) (Blob, error)
	// StatBlob returns the plaintext size in bytes, ErrNotExist if there is no such blob.
	StatBlob(sha256 [32]byte) (size int64, err error)
	// Sweep removes every committed blob for which keep is false, and what crashes left over.
	Sweep(keep func(sha256 [32]byte) bool) error
	// AppData returns the sealed storage of one Trusted Application, which is created at its
	// first write. The id is the application's component identifier, encoded.
	AppData(id []byte) AppData
}

// BlobWriter receives one blob. Not safe for concurrent use.
type BlobWriter interface {
	io.Writer
	// Commit makes the blob durable and returns the SHA-256 and size of its plaintext.
	// Committing content that exists already is no error and costs no space.
	Commit() (sha256 [32]byte, size int64, err error)
	// Abort discards the blob. After Commit it does nothing.
	Abort() error
}

// Blob is an open blob. Every read is authenticated; ErrCorrupt if that fails.
type Blob interface {
	io.Reader
	io.ReaderAt
	io.Closer
	Size() int64
}

// AppData is the sealed key-value storage of one Trusted Application. Each Apply is atomic and
// durable. Keys are up to 255 bytes of UTF-8.
type AppData interface {
	Load() (map[string][]byte, error)
	// Apply writes and deletes (nil value) keys as one step; ErrQuota leaves all as it was.
	Apply(changes map[string][]byte) error
	// Remove deletes all of it.
	Remove() error
}

// Counter is implemented by a Store whose TEE has a monotonic counter that the host cannot turn
// back; the store then detects rollback of the whole folder (ErrRollback).
type Counter interface {
	CounterValue() (uint64, error)
}

// Limits bound one Trusted Application.
type Limits struct {
	MemoryBytes  uint64        // linear memory
	CallDuration time.Duration // one invocation, wall clock
	OutputBytes  int           // result of one invocation
	StorageBytes int64         // sum of the sealed storage's values
}

// Application is what the runtime needs to start a Trusted Application.
type Application struct {
	// Name is the component identifier in text, for argv[0] and logs.
	Name string
	// Code is the program, already authenticated by the agent.
	Code Blob
	// Personalization is read-only data, by name; it may be empty.
	Personalization map[string]Blob
	Data            AppData
	Limits          Limits
}

// Runtime starts Trusted Applications. Applications cannot reach the agent's memory, keys or
// store, nor each other's.
type Runtime interface {
	// Check tells whether code is a program that this runtime can run, without running it.
	Check(ctx context.Context, code Blob) error
	Open(ctx context.Context, app Application) (Session, error)
}

// Session is an open Trusted Application. Calls are serialized by the implementation.
type Session interface {
	// Invoke runs one command. An application that traps, exits non-zero, or exceeds a limit
	// yields an error (ErrTrap, ErrQuota, or *ExitError) and its storage stays as it was.
	Invoke(ctx context.Context, command string, input []byte) (output []byte, err error)
	Close() error
}
