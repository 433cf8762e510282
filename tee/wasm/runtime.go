package wasm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/go-teep/teep/tee"
)

// Defaults of Config. Limits that an application does not state are the default ones.
const (
	DefaultMemoryBytes  = 64 << 20
	DefaultCallDuration = 10 * time.Second
	DefaultOutputBytes  = 1 << 20
	DefaultStorageBytes = 1 << 20
	DefaultMaxCodeBytes = 64 << 20
	DefaultMaxSessions  = 64
	DefaultMaxParallel  = 4
	DefaultMaxCached    = 8

	// MaxMemoryBytes is the most linear memory any application can be given.
	MaxMemoryBytes = 1 << 30
	pageBytes      = 64 << 10
)

// ErrProgram says that code is not a program that this runtime runs.
var ErrProgram = errors.New("wasm: not a program for this runtime")

// Config of a Runtime. Zero values mean the defaults above.
type Config struct {
	// Rand is what applications draw from, crypto/rand.Reader outside tests. Required.
	Rand io.Reader
	// Now is the wall clock of applications. Required.
	Now func() time.Time
	// Logger receives what applications write to stderr, and traps. nil discards it.
	Logger *slog.Logger
	// Defaults replaces the default limits, field by field.
	Defaults tee.Limits
	// MaxCodeBytes bounds a program. MaxSessions bounds open sessions, MaxParallel running
	// invocations (more wait), MaxCached compiled programs kept without an open session.
	MaxCodeBytes                        int64
	MaxSessions, MaxParallel, MaxCached int
	// Interpret has programs interpreted instead of compiled: opening one costs a fifth, running it many
	// times as much, and no machine code is made. Also so where there is no compiler for the processor.
	Interpret bool
}

// Runtime implements tee.Runtime. Safe for concurrent use.
type Runtime struct {
	cfg     Config
	log     *slog.Logger
	wazero  wazero.Runtime
	wasi    map[string]api.FunctionDefinition
	modules *moduleCache
	slots   chan struct{} // one per running invocation
	start   time.Time

	mu       sync.Mutex
	closed   bool
	sessions int
	names    map[string]*nameLock
}

var _ tee.Runtime = (*Runtime)(nil)

// New makes a runtime. Close it to release compiled code.
func New(ctx context.Context, cfg Config) (*Runtime, error) {
	if cfg.Rand == nil || cfg.Now == nil {
		return nil, errors.New("wasm: Config needs Rand and Now")
	}
	cfg = cfg.withDefaults()
	r := &Runtime{
		cfg: cfg, log: cfg.Logger, start: time.Now(),
		slots: make(chan struct{}, cfg.MaxParallel), names: map[string]*nameLock{},
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	// Reference types stay off: table.grow would allocate host memory that no limit counts.
	features := api.CoreFeaturesV2.SetEnabled(api.CoreFeatureReferenceTypes, false)
	engine := wazero.NewRuntimeConfig()
	if cfg.Interpret {
		engine = wazero.NewRuntimeConfigInterpreter()
	}
	r.wazero = wazero.NewRuntimeWithConfig(ctx, engine.
		WithCoreFeatures(features).
		WithCloseOnContextDone(true).
		WithMemoryLimitPages(MaxMemoryBytes/pageBytes))
	wasi, err := r.instantiateWASI(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("wasm: provide WASI: %w", err), r.wazero.Close(ctx))
	}
	r.wasi = wasi.ExportedFunctionDefinitions()
	r.modules = newModuleCache(r.wazero, cfg.MaxCached)
	return r, nil
}

func (c Config) withDefaults() Config {
	setDefault(&c.Defaults.MemoryBytes, DefaultMemoryBytes)
	setDefault(&c.Defaults.CallDuration, DefaultCallDuration)
	setDefault(&c.Defaults.OutputBytes, DefaultOutputBytes)
	setDefault(&c.Defaults.StorageBytes, DefaultStorageBytes)
	setDefault(&c.MaxCodeBytes, DefaultMaxCodeBytes)
	setDefault(&c.MaxSessions, DefaultMaxSessions)
	setDefault(&c.MaxParallel, DefaultMaxParallel)
	setDefault(&c.MaxCached, DefaultMaxCached)
	return c
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// instantiateWASI provides WASI preview 1, less what could take memory outside every limit:
// fd_renumber to a high number makes the host allocate a table that long.
func (r *Runtime) instantiateWASI(ctx context.Context) (api.Module, error) {
	const errnoNotsup = 58
	b := r.wazero.NewHostModuleBuilder(wasi_snapshot_preview1.ModuleName)
	wasi_snapshot_preview1.NewFunctionExporter().ExportFunctions(b)
	b.NewFunctionBuilder().WithFunc(func(context.Context, uint32, uint32) uint32 {
		return errnoNotsup
	}).Export("fd_renumber")
	return b.Instantiate(ctx)
}

// Check implements tee.Runtime. It compiles the program, which a session that opens soon after
// does not have to do again.
func (r *Runtime) Check(ctx context.Context, code tee.Blob) error {
	m, err := r.load(ctx, code)
	if err != nil {
		return err
	}
	r.modules.release(ctx, m)
	return nil
}

// Open implements tee.Runtime. The session reads Personalization until it is closed, and does
// not close it; Code it has read when Open returns.
func (r *Runtime) Open(ctx context.Context, app tee.Application) (tee.Session, error) {
	limits, err := r.limits(app.Limits)
	if err != nil {
		return nil, err
	}
	if err := r.addSession(); err != nil {
		return nil, err
	}
	m, err := r.load(ctx, app.Code)
	if err != nil {
		r.removeSession()
		return nil, err
	}
	return newSession(r, m, app, limits), nil
}

func (r *Runtime) limits(l tee.Limits) (tee.Limits, error) {
	setDefault(&l.MemoryBytes, r.cfg.Defaults.MemoryBytes)
	setDefault(&l.CallDuration, r.cfg.Defaults.CallDuration)
	setDefault(&l.OutputBytes, r.cfg.Defaults.OutputBytes)
	setDefault(&l.StorageBytes, r.cfg.Defaults.StorageBytes)
	if l.MemoryBytes > MaxMemoryBytes {
		return l, fmt.Errorf("wasm: a memory limit of %d bytes is more than the runtime's %d", l.MemoryBytes, MaxMemoryBytes)
	}
	if l.CallDuration < 0 || l.OutputBytes < 0 || l.StorageBytes < 0 {
		return l, errors.New("wasm: a limit is negative")
	}
	return l, nil
}

func (r *Runtime) addSession() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return errors.New("wasm: the runtime is closed")
	}
	if r.sessions >= r.cfg.MaxSessions {
		return fmt.Errorf("%w: %d sessions are open: close one first", tee.ErrQuota, r.sessions)
	}
	r.sessions++
	return nil
}

func (r *Runtime) removeSession() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sessions--
}

// load reads, checks and compiles a program, or finds it compiled.
func (r *Runtime) load(ctx context.Context, code tee.Blob) (*module, error) {
	if code == nil {
		return nil, fmt.Errorf("%w: there is no code", ErrProgram)
	}
	if size := code.Size(); size > r.cfg.MaxCodeBytes {
		return nil, fmt.Errorf("%w: program of %d bytes, limit %d", tee.ErrQuota, size, r.cfg.MaxCodeBytes)
	}
	binary := make([]byte, code.Size())
	if _, err := io.ReadFull(io.NewSectionReader(code, 0, code.Size()), binary); err != nil {
		return nil, fmt.Errorf("wasm: read the program: %w", err)
	}
	return r.modules.get(ctx, binary, r.inspect)
}

// Close stops every application and releases compiled code. Sessions that are open fail.
func (r *Runtime) Close(ctx context.Context) error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	return r.wazero.Close(ctx)
}

// nameLock serializes the invocations of one application across its sessions, because each
// reads the whole sealed storage and writes back what it changed.
type nameLock struct {
	held  chan struct{}
	users int
}

// lockName waits for an application's turn, and returns what ends it.
func (r *Runtime) lockName(ctx context.Context, name string) (unlock func(), err error) {
	r.mu.Lock()
	l := r.names[name]
	if l == nil {
		l = &nameLock{held: make(chan struct{}, 1)}
		r.names[name] = l
	}
	l.users++
	r.mu.Unlock()
	leave := func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(r.names, name)
		}
	}
	select {
	case l.held <- struct{}{}:
		return func() { <-l.held; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, context.Cause(ctx)
	}
}
