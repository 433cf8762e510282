package wasm

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

// abi is how a program is called.
type abi int

const (
	abiCommand abi = iota + 1
	abiReactor
)

const (
	exportStart      = "_start"
	exportInitialize = "_initialize"
	exportAlloc      = "teep_alloc"
	exportInvoke     = "teep_invoke"
)

// module is one compiled program.
type module struct {
	digest   [32]byte
	ready    chan struct{} // closed when compiled and abi, or err, are set
	compiled wazero.CompiledModule
	abi      abi
	err      error

	// guarded by moduleCache.mu
	users    int
	lastUsed uint64
}

// moduleCache keeps compiled programs by digest while they are in use, and the last few others.
type moduleCache struct {
	runtime wazero.Runtime
	max     int

	mu      sync.Mutex
	modules map[[32]byte]*module
	clock   uint64
}

func newModuleCache(r wazero.Runtime, limit int) *moduleCache {
	return &moduleCache{runtime: r, max: limit, modules: map[[32]byte]*module{}}
}

// get returns the module of a program, compiled once however many ask for it at a time. The
// caller releases it.
func (c *moduleCache) get(ctx context.Context, code []byte, inspect func(wazero.CompiledModule) (abi, error)) (*module, error) {
	digest := sha256.Sum256(code)
	c.mu.Lock()
	m, found := c.modules[digest]
	if !found {
		m = &module{digest: digest, ready: make(chan struct{})}
		c.modules[digest] = m
	}
	m.users++
	c.mu.Unlock()
	if !found {
		// Compilation is not the one caller's that started it: it is not cancelled.
		m.compiled, m.abi, m.err = compile(context.WithoutCancel(ctx), c.runtime, code, inspect)
		close(m.ready)
	}
	select {
	case <-m.ready:
	case <-ctx.Done():
		c.release(ctx, m)
		return nil, context.Cause(ctx)
	}
	if m.err != nil {
		c.release(ctx, m)
		return nil, m.err
	}
	return m, nil
}

func compile(ctx context.Context, r wazero.Runtime, code []byte, inspect func(wazero.CompiledModule) (abi, error)) (compiled wazero.CompiledModule, kind abi, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: the compiler failed on it: %v", ErrProgram, p)
		}
	}()
	if code, err = sanitize(code); err != nil {
		return nil, 0, err
	}
	compiled, err = r.CompileModule(ctx, code)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrProgram, err)
	}
	kind, err = inspect(compiled)
	if err != nil {
		return nil, 0, errors.Join(err, compiled.Close(ctx))
	}
	return compiled, kind, nil
}

// release ends one use of a module, and drops what was not used for longest.
func (c *moduleCache) release(ctx context.Context, m *module) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m.users--
	c.clock++
	m.lastUsed = c.clock
	if m.users == 0 && m.err != nil {
		delete(c.modules, m.digest)
		return
	}
	var idle []*module
	for _, m := range c.modules {
		if m.users == 0 {
			idle = append(idle, m)
		}
	}
	slices.SortFunc(idle, func(a, b *module) int { return int(b.lastUsed) - int(a.lastUsed) })
	for i, m := range idle {
		if i >= c.max {
			delete(c.modules, m.digest)
			// Close frees memory; it has no error that anyone could act upon.
			_ = m.compiled.Close(ctx)
		}
	}
}

// inspect tells which ABI a compiled module has, and that it imports nothing but WASI.
func (r *Runtime) inspect(m wazero.CompiledModule) (abi, error) {
	if n := len(m.ImportedMemories()); n > 0 {
		return 0, fmt.Errorf("%w: it imports a memory", ErrProgram)
	}
	for _, f := range m.ImportedFunctions() {
		mod, name, _ := f.Import()
		want, ok := r.wasi[name]
		if mod != wasi_snapshot_preview1.ModuleName || !ok {
			return 0, fmt.Errorf("%w: it imports %s.%s; only WASI preview 1 is provided", ErrProgram, mod, name)
		}
		if !sameSignature(f, want.ParamTypes(), want.ResultTypes()) {
			return 0, fmt.Errorf("%w: it imports %s.%s with another signature", ErrProgram, mod, name)
		}
	}
	exports := m.ExportedFunctions()
	if len(m.ExportedMemories()) == 0 {
		return 0, fmt.Errorf("%w: it exports no memory", ErrProgram)
	}
	if f := exports[exportStart]; f != nil {
		if !sameSignature(f, nil, nil) {
			return 0, fmt.Errorf("%w: %s has parameters or results", ErrProgram, exportStart)
		}
		return abiCommand, nil
	}
	i32, i64 := api.ValueTypeI32, api.ValueTypeI64
	for _, e := range []struct {
		name            string
		params, results []api.ValueType
	}{
		{exportInitialize, nil, nil},
		{exportAlloc, []api.ValueType{i32}, []api.ValueType{i32}},
		{exportInvoke, []api.ValueType{i32, i32}, []api.ValueType{i64}},
	} {
		f := exports[e.name]
		if f == nil {
			return 0, fmt.Errorf("%w: it exports neither %s (a command) nor %s (a reactor)", ErrProgram, exportStart, e.name)
		}
		if !sameSignature(f, e.params, e.results) {
			return 0, fmt.Errorf("%w: %s has another signature than a reactor's", ErrProgram, e.name)
		}
	}
	return abiReactor, nil
}

func sameSignature(f api.FunctionDefinition, params, results []api.ValueType) bool {
	return slices.Equal(f.ParamTypes(), params) && slices.Equal(f.ResultTypes(), results)
}
