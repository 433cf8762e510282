package sandbox

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tee"
	"github.com/go-teep/teep/tee/seal"
	"github.com/go-teep/teep/tee/wasm"
)

// Identity is what the maker of the device says about it. tee.Identity explains the fields.
type Identity struct {
	// UEID is made at first start if it is empty: type RAND, 16 random bytes.
	UEID []byte
	// OEMID is the CBOR encoding of the claim.
	OEMID             []byte
	HWModel           []byte
	HWVersion         string
	VendorID, ClassID [16]byte
	// DeviceID is derived from ClassID and UEID if it is zero.
	DeviceID                [16]byte
	AgentName, AgentVersion string
}

// Config of the sandbox.
type Config struct {
	// Dir is the TEE's folder. It is made if it is missing; it must belong to the user and be
	// closed to everybody else.
	Dir      string
	Identity Identity
	// AgentAlgorithm is that of the agent key made at first start: cose.AlgESP256 (also if 0),
	// cose.AlgEd25519 or cose.AlgESP384.
	AgentAlgorithm cose.Algorithm
	// Rand and Now are required: crypto/rand.Reader and time.Now outside tests.
	Rand io.Reader
	Now  func() time.Time
	// Measure returns the SHA-256 of the agent's own code; nil means MeasureExecutable.
	Measure func() ([]byte, error)
	// Hardening is what Harden returned; nil is reported as a weakness.
	Hardening *Hardening
	// Counter finds rollback of the whole folder; nil is reported as a weakness.
	Counter seal.MonotonicCounter
	// Applications are the limits of applications that state none, field by field.
	Applications tee.Limits
	// MaxSessions bounds open applications, MaxParallel running ones, MaxAppBytes the sealed
	// storage of one; 0 means the default of tee/wasm and tee/seal.
	MaxSessions, MaxParallel int
	MaxAppBytes              int64
	Logger                   *slog.Logger
	// Disk replaces Dir in tests, together with its lock and its permissions.
	Disk seal.Disk
}

// TEE implements tee.TEE. Safe for concurrent use.
type TEE struct {
	identity tee.Identity
	keys     *keys
	store    *seal.Store
	runtime  *wasm.Runtime
	release  func() error
}

var _ tee.TEE = (*TEE)(nil)

// Open starts the TEE. Everything that is wrong with its folder, its state or its configuration
// is found here. The caller closes it.
func Open(ctx context.Context, cfg Config) (*TEE, error) {
	if cfg.Rand == nil || cfg.Now == nil {
		return nil, errors.New("sandbox: Config needs Rand and Now")
	}
	disk, release := cfg.Disk, func() error { return nil }
	if disk == nil {
		var err error
		if disk, release, err = claimFolder(cfg.Dir); err != nil {
			return nil, err
		}
	}
	t, err := open(ctx, cfg, disk)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("sandbox: %w", err), release())
	}
	t.release = release
	return t, nil
}

func open(ctx context.Context, cfg Config, disk seal.Disk) (*TEE, error) {
	measure := cfg.Measure
	if measure == nil {
		measure = MeasureExecutable
	}
	measurement, err := measure()
	if err != nil {
		return nil, fmt.Errorf("measure the agent: %w", err)
	}
	if len(measurement) != sha256.Size {
		return nil, fmt.Errorf("the measurement of the agent has %d bytes, not the %d of SHA-256", len(measurement), sha256.Size)
	}
	secret, err := deviceSecret(disk, cfg.Rand)
	if err != nil {
		return nil, err
	}
	sealing, err := hkdf.Key(sha256.New, secret, nil, "go-teep sandbox sealing", 32)
	if err != nil {
		return nil, err
	}
	store, err := seal.Open(seal.Config{Disk: disk, Secret: sealing, Rand: cfg.Rand, Counter: cfg.Counter,
		Logger: cfg.Logger, MaxAppBytes: cfg.MaxAppBytes})
	if err != nil {
		return nil, err
	}
	birth, err := loadBirth(store, cfg)
	if err != nil {
		return nil, err
	}
	runtime, err := wasm.New(ctx, wasm.Config{Rand: cfg.Rand, Now: cfg.Now, Logger: cfg.Logger,
		Defaults: cfg.Applications, MaxSessions: cfg.MaxSessions, MaxParallel: cfg.MaxParallel})
	if err != nil {
		return nil, err
	}
	identity := cfg.identity(birth.UEID, measurement)
	return &TEE{identity: identity, keys: birth.keys, store: store, runtime: runtime}, nil
}

// Close ends all applications and gives the folder free.
func (t *TEE) Close() error {
	return errors.Join(t.runtime.Close(context.Background()), t.release())
}

// Identity implements tee.TEE.
func (t *TEE) Identity() tee.Identity {
	id := t.identity
	id.UEID, id.OEMID, id.HWModel = clone(id.UEID), clone(id.OEMID), clone(id.HWModel)
	id.Measurement, id.Weaknesses = clone(id.Measurement), clone(id.Weaknesses)
	return id
}

func clone[T any](s []T) []T { return append([]T(nil), s...) }

// Keys implements tee.TEE.
func (t *TEE) Keys() tee.Keys { return t.keys }

// Store implements tee.TEE.
func (t *TEE) Store() tee.Store { return t.store }

// Runtime implements tee.TEE.
func (t *TEE) Runtime() tee.Runtime { return t.runtime }

func (cfg Config) identity(ueid, measurement []byte) tee.Identity {
	id := cfg.Identity
	if id.DeviceID == ([16]byte{}) {
		id.DeviceID = suit.NewUUIDv5(id.ClassID, ueid)
	}
	if id.AgentName == "" {
		id.AgentName = "teep-agent"
	}
	return tee.Identity{
		UEID: ueid, OEMID: id.OEMID, HWModel: id.HWModel, HWVersion: id.HWVersion,
		VendorID: id.VendorID, ClassID: id.ClassID, DeviceID: id.DeviceID,
		Measurement: measurement, AgentName: id.AgentName, AgentVersion: id.AgentVersion,
		Weaknesses: cfg.weaknesses(),
	}
}

// weaknesses says what this TEE does not protect against. It is evidence: nothing is left out.
func (cfg Config) weaknesses() []string {
	w := []string{
		"software TEE: the administrator of the device can read its memory",
		"measurement of the agent by the agent itself: not rooted in hardware",
		"sealing key from a device secret in a file: whoever reads that file can read and forge the sealed state",
		"keys in ordinary memory",
		"not confined by namespaces, Landlock or seccomp: an exploited runtime can reach what the agent's user can",
	}
	if cfg.Counter == nil {
		w = append(w, "no monotonic counter: rollback of the whole store is not detected")
	}
	if cfg.Hardening == nil {
		return append(w, "process not hardened: memory dumps and debuggers are not kept out")
	}
	return append(w, cfg.Hardening.Missing...)
}
