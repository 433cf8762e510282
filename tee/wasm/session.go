package wasm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/experimental/sysfs"
	"github.com/tetratelabs/wazero/sys"

	"github.com/go-teep/teep/tee"
)

// session implements tee.Session.
type session struct {
	runtime *Runtime
	module  *module
	app     tee.Application
	limits  tee.Limits

	turn   chan struct{} // held by the invocation that runs
	closed bool          // guarded by turn
	live   *instance     // a reactor between invocations, guarded by turn
}

func newSession(r *Runtime, m *module, app tee.Application, l tee.Limits) *session {
	return &session{runtime: r, module: m, app: app, limits: l, turn: make(chan struct{}, 1)}
}

// instance is a program in memory.
type instance struct {
	module api.Module
	memory *memoryLimit
	stdio  *stdio
	data   *mount

	personalization *volume
}

// stdio stands between an instance and the invocation it currently serves.
type stdio struct {
	ctx    context.Context
	stdin  io.Reader
	stdout *output
	stderr *stderrLog
}

type stdin struct{ *stdio }
type stdout struct{ *stdio }
type stderr struct{ *stdio }

func (s stdin) Read(p []byte) (int, error)   { return s.stdio.stdin.Read(p) }
func (s stdout) Write(p []byte) (int, error) { return s.stdio.stdout.Write(p) }
func (s stderr) Write(p []byte) (int, error) { return s.stdio.stderr.Write(p) }

// sleep is nanosleep: an application that sleeps past its deadline is woken by it.
func (s *stdio) sleep(ns int64) {
	if ns <= 0 {
		return
	}
	timer := time.NewTimer(time.Duration(ns))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.ctx.Done():
	}
}

// Invoke implements tee.Session.
func (s *session) Invoke(ctx context.Context, command string, input []byte) ([]byte, error) {
	if strings.ContainsRune(command, 0) {
		return nil, errors.New("wasm: a command contains no NUL byte")
	}
	release, err := s.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	call := &call{session: s, command: command, input: input, parent: ctx}
	out, err := call.run()
	if err != nil {
		s.discard()
		return nil, err
	}
	return out, nil
}

// acquire takes the session, the application's storage and a slot to run in, in this order.
func (s *session) acquire(ctx context.Context) (release func(), err error) {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if s.closed {
		<-s.turn
		return nil, errors.New("wasm: the session is closed")
	}
	unlock, err := s.runtime.lockName(ctx, s.app.Name)
	if err != nil {
		<-s.turn
		return nil, err
	}
	select {
	case s.runtime.slots <- struct{}{}:
	case <-ctx.Done():
		unlock()
		<-s.turn
		return nil, context.Cause(ctx)
	}
	return func() {
		<-s.runtime.slots
		unlock()
		<-s.turn
	}, nil
}

func (s *session) discard() {
	if s.live != nil {
		// The instance is thrown away whatever state it is in.
		_ = s.live.module.Close(context.Background())
		s.live = nil
	}
}

// Close implements tee.Session. It waits for an invocation that runs.
func (s *session) Close() error {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if s.closed {
		return nil
	}
	s.closed = true
	s.discard()
	s.runtime.modules.release(context.Background(), s.module)
	s.runtime.removeSession()
	return nil
}

// call is one invocation.
type call struct {
	session *session
	command string
	input   []byte
	parent  context.Context

	ctx    context.Context
	stdio  *stdio
	data   *volume
	memory *memoryLimit

	personalization *volume
}

func (c *call) run() ([]byte, error) {
	s := c.session
	ctx, cancel := context.WithTimeout(c.parent, s.limits.CallDuration)
	defer cancel()
	c.ctx = ctx
	log := s.runtime.log.With("application", s.app.Name)
	c.stdio = &stdio{
		ctx:    ctx,
		stdin:  bytes.NewReader(c.input),
		stdout: &output{limit: s.limits.OutputBytes, stop: cancel},
		stderr: &stderrLog{log: log},
	}
	c.data = newVolume(s.app.Data, s.limits.StorageBytes, s.runtime.cfg.Now().UnixNano())
	var result []byte
	var err error
	if s.module.abi == abiCommand {
		err = c.runCommand()
		result = c.stdio.stdout.buf
	} else {
		result, err = c.runReactor()
	}
	c.stdio.stderr.flush()
	if err := c.verdict(err); err != nil {
		log.Info("application failed", "command", c.command, "error", err)
		return nil, err
	}
	if changes := c.data.changes(); len(changes) > 0 {
		if err := s.app.Data.Apply(changes); err != nil {
			return nil, fmt.Errorf("wasm: store what %s wrote: %w", s.app.Name, err)
		}
	}
	return result, nil
}

func (c *call) runCommand() error {
	inst, err := c.instantiate([]string{c.session.app.Name, c.command}, exportStart)
	if inst != nil {
		err = errors.Join(err, inst.module.Close(context.WithoutCancel(c.ctx)))
	}
	return err
}

func (c *call) runReactor() ([]byte, error) {
	s := c.session
	if s.live == nil {
		inst, err := c.instantiate([]string{s.app.Name}, exportInitialize)
		if err != nil {
			return nil, err
		}
		s.live = inst
	}
	inst := s.live
	c.memory, c.personalization = inst.memory, inst.personalization
	c.memory.denied = false
	*inst.stdio, c.stdio = *c.stdio, inst.stdio
	inst.data.volume = c.data
	defer func() { inst.data.volume = nil }()
	return c.exchange(inst.module)
}

// exchange passes the request into a reactor's memory and the result out of it.
func (c *call) exchange(m api.Module) ([]byte, error) {
	request := append([]byte(c.command), c.input...)
	if uint64(len(request)) > c.session.limits.MemoryBytes {
		return nil, fmt.Errorf("%w: input of %d bytes is more than the application's memory", tee.ErrQuota, len(c.input))
	}
	res, err := m.ExportedFunction(exportAlloc).Call(c.ctx, uint64(len(request)))
	if err != nil {
		return nil, err
	}
	if len(request) > 0 && !m.Memory().Write(uint32(res[0]), request) {
		return nil, fmt.Errorf("%w: %s returned a buffer outside of memory", tee.ErrTrap, exportAlloc)
	}
	res, err = m.ExportedFunction(exportInvoke).Call(c.ctx, uint64(len(c.command)), uint64(len(c.input)))
	if err != nil {
		return nil, err
	}
	address, length := uint32(res[0]>>32), uint32(res[0])
	if int64(length) > int64(c.session.limits.OutputBytes) {
		c.stdio.stdout.overflow = true
		return nil, errOutput
	}
	if length == 0 {
		return []byte{}, nil
	}
	out, ok := m.Memory().Read(address, length)
	if !ok {
		return nil, fmt.Errorf("%w: %s returned a result outside of memory", tee.ErrTrap, exportInvoke)
	}
	return bytes.Clone(out), nil
}

// instantiate starts the program: a command runs to its end in it.
func (c *call) instantiate(args []string, start string) (inst *instance, err error) {
	s := c.session
	c.memory = &memoryLimit{limit: s.limits.MemoryBytes}
	if c.personalization, err = newReadOnlyVolume(s.app.Personalization, c.data.mtime); err != nil {
		return nil, err
	}
	inst = &instance{memory: c.memory, stdio: c.stdio, data: &mount{volume: c.data}, personalization: c.personalization}
	fsConfig := wazero.NewFSConfig().(sysfs.FSConfig).WithSysFSMount(inst.data, "/data")
	fsConfig = fsConfig.(sysfs.FSConfig).WithSysFSMount(&mount{volume: c.personalization}, "/personalization")
	r := s.runtime
	config := wazero.NewModuleConfig().WithName("").WithArgs(args...).WithStartFunctions(start).
		WithStdin(stdin{c.stdio}).WithStdout(stdout{c.stdio}).WithStderr(stderr{c.stdio}).
		WithFSConfig(fsConfig).
		WithRandSource(r.cfg.Rand).
		WithWalltime(func() (int64, int32) {
			now := r.cfg.Now()
			return now.Unix(), int32(now.Nanosecond())
		}, sys.ClockResolution(time.Microsecond)).
		WithNanotime(func() int64 { return int64(time.Since(r.start)) }, sys.ClockResolution(time.Microsecond)).
		WithNanosleep(c.stdio.sleep)
	defer func() {
		switch p := recover().(type) {
		case nil:
		case errMemory:
			inst, err = nil, fmt.Errorf("%w: the program needs more memory than its limit to start", tee.ErrQuota)
		default:
			inst, err = nil, fmt.Errorf("%w: the runtime failed: %v", tee.ErrTrap, p)
		}
	}()
	ctx := experimental.WithMemoryAllocator(c.ctx, c.memory)
	inst.module, err = r.wazero.InstantiateModule(ctx, s.module.compiled, config)
	if inst.module == nil {
		return nil, err
	}
	return inst, err
}

// verdict turns how an invocation ended into the errors of package tee. What the environment did
// wrong comes before what the application did about it.
func (c *call) verdict(err error) error {
	name, l := c.session.app.Name, c.session.limits
	var exit *sys.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 0 {
		err = nil
	}
	switch {
	case c.data.fault != nil:
		return fmt.Errorf("wasm: sealed storage of %s: %w", name, c.data.fault)
	case c.personalization != nil && c.personalization.fault != nil:
		return fmt.Errorf("wasm: personalization of %s: %w", name, c.personalization.fault)
	case c.stdio.stdout.overflow:
		return fmt.Errorf("%w: %s wrote more than %d bytes of output", tee.ErrQuota, name, l.OutputBytes)
	case c.data.full:
		return fmt.Errorf("%w: %s stores more than %d bytes, %d files, or %d open ones", tee.ErrQuota, name, l.StorageBytes, maxFiles, maxOpenFiles)
	// A sleep that was cut short returns to a program that knows nothing of it.
	case c.parent.Err() != nil:
		return fmt.Errorf("wasm: %s was stopped: %w", name, context.Cause(c.parent))
	case c.ctx.Err() != nil:
		return fmt.Errorf("%w: %s ran longer than %v", tee.ErrQuota, name, l.CallDuration)
	case err == nil:
		return nil
	case c.memory != nil && c.memory.denied:
		return fmt.Errorf("%w: %s needs more than %d bytes of memory", tee.ErrQuota, name, l.MemoryBytes)
	case exit != nil:
		return &tee.ExitError{Code: exit.ExitCode(), Stderr: c.stdio.stderr.text()}
	case errors.Is(err, tee.ErrQuota) || errors.Is(err, tee.ErrTrap):
		return err
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	return fmt.Errorf("%w: %s: %s", tee.ErrTrap, name, first)
}
