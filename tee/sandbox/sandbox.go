package sandbox

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tee"
	"github.com/go-teep/teep/tee/sandbox/confine"
	"github.com/go-teep/teep/tee/sandbox/secretmem"
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
	// Confinement is what confine.Enter reported; nil is reported as a weakness.
	Confinement *confine.Report
	// Require names the walls without which the TEE does not open (confine.ErrMissing).
	Require []confine.Wall
	// Keys is what the sealed state is protected by; nil means a device secret in a file of the
	// folder, which is reported as a weakness.
	Keys seal.KeySource
	// Counter finds rollback of the whole folder; nil means that of Keys. None is reported as a
	// weakness.
	Counter seal.MonotonicCounter
	// Boundary says in words what the boundary around this TEE does not keep out, where that is not
	// the one between processes of a device: tee/vm draws another. nil means the sandbox's own.
	Boundary []string
	// Applications are the limits of applications that state none, field by field.
	Applications tee.Limits
	// MaxSessions bounds open applications, MaxParallel running ones, MaxAppBytes the sealed
	// storage of one; 0 means the default of tee/wasm and tee/seal.
	MaxSessions, MaxParallel int
	MaxAppBytes              int64
	// Interpret has applications interpreted instead of compiled (wasm.Config).
	Interpret bool
	// Version is that of the agent, as what booted says: state that a newer one has opened does not
	// open for it (seal.ErrOlder). 0 where nobody counts.
	Version uint64
	Logger  *slog.Logger
	// Lock is what TakeLock returned, if the caller has taken it: then it stays the caller's.
	Lock *os.File
	// Disk replaces Dir in tests, together with its lock and its permissions.
	Disk seal.Disk
}

// TEE implements tee.TEE. Safe for concurrent use.
type TEE struct {
	identity tee.Identity
	keys     *keys
	store    *seal.Store
	runtime  *wasm.Runtime
	secrets  *secretmem.Page
	counted  bool // there is a monotonic counter
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
		if disk, release, err = claimFolder(cfg.Dir, cfg.Lock); err != nil {
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
	report := cfg.report()
	secrets, err := secretmem.New()
	if secrets == nil {
		return nil, err
	}
	report.Miss(confine.WallSecretMemory, err)
	t := &TEE{secrets: secrets, release: func() error { return nil }}
	if err = report.Require(cfg.Require); err == nil {
		err = t.unseal(ctx, cfg, disk)
	}
	if err != nil {
		return nil, errors.Join(err, secrets.Close())
	}
	t.identity.Measurement, t.identity.Weaknesses = measurement, cfg.weaknesses(report, t.counted)
	return t, nil
}

// report is a copy of what Enter reported. Without that nothing stands.
func (cfg Config) report() confine.Report {
	if cfg.Confinement != nil {
		return confine.Report{Missing: maps.Clone(cfg.Confinement.Missing), LandlockABI: cfg.Confinement.LandlockABI}
	}
	var r confine.Report
	for _, w := range confine.Walls() {
		if w != confine.WallSecretMemory {
			r.Miss(w, errNotConfined)
		}
	}
	return r
}

var errNotConfined = errors.New("the process was not confined")

// unseal opens, or makes, what is in the folder.
func (t *TEE) unseal(ctx context.Context, cfg Config, disk seal.Disk) error {
	secret, counter, err := cfg.keys().Open(disk, cfg.Rand)
	if err != nil {
		return err
	}
	if cfg.Counter != nil {
		counter = cfg.Counter
	}
	t.counted = counter != nil
	defer clear(secret)
	sealing, err := hkdf.Key(sha256.New, secret, nil, "go-teep sandbox sealing", 32)
	if err != nil {
		return err
	}
	if sealing, err = t.secrets.Keep(sealing); err != nil {
		return err
	}
	t.store, err = seal.Open(seal.Config{Disk: disk, Secret: sealing, Rand: cfg.Rand, Counter: counter,
		Logger: cfg.Logger, MaxAppBytes: cfg.MaxAppBytes, Version: cfg.Version})
	if err != nil {
		return err
	}
	birth, err := loadBirth(t.store, t.secrets, cfg)
	if err != nil {
		return err
	}
	t.keys, t.identity = birth.keys, cfg.identity(birth.UEID)
	t.runtime, err = wasm.New(ctx, wasm.Config{Rand: cfg.Rand, Now: cfg.Now, Logger: cfg.Logger,
		Defaults: cfg.Applications, MaxSessions: cfg.MaxSessions, MaxParallel: cfg.MaxParallel, Interpret: cfg.Interpret})
	return err
}

// Close ends all applications, gives the folder free and zeroes the keys.
func (t *TEE) Close() error {
	return errors.Join(t.runtime.Close(context.Background()), t.release(), t.secrets.Close())
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

func (cfg Config) identity(ueid []byte) tee.Identity {
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
		AgentName: id.AgentName, AgentVersion: id.AgentVersion,
	}
}

func (cfg Config) keys() seal.KeySource {
	if cfg.Keys == nil {
		return DeviceSecret{}
	}
	return cfg.Keys
}

// processBoundary is what the boundary between processes does not keep out.
var processBoundary = []string{
	"software TEE: the administrator of the device can read its memory",
	"measurement of the agent by the agent itself: not rooted in hardware",
}

// weaknesses says what this TEE does not protect against. It is evidence: nothing is left out.
func (cfg Config) weaknesses(r confine.Report, counted bool) []string {
	boundary := cfg.Boundary
	if boundary == nil {
		boundary = processBoundary
	}
	w := append(clone(boundary), cfg.keys().Weaknesses()...)
	w = append(w, "keys are copied to ordinary memory of the process while they are used")
	if !counted {
		w = append(w, "no monotonic counter: rollback of the whole store is not detected")
	}
	return append(w, r.Weaknesses()...)
}
