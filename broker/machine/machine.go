package machine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/go-teep/teep/link/serial"
	"github.com/go-teep/teep/link/vsock"
)

const (
	// bootPatience is how long a machine may take until its agent answers, and emulatedPatience how long
	// where the processor is emulated, which on a busy host takes minutes.
	bootPatience     = 90 * time.Second
	emulatedPatience = 5 * time.Minute
	// dialPatience is how long Dial waits for a machine that starts.
	dialPatience = 60 * time.Second
	// restartMin and restartMax bound the wait before a machine is started again; it doubles, and is
	// over when the machine ran for stable.
	restartMin, restartMax = time.Second, time.Minute
	stable                 = time.Minute
)

// ErrDown says that the machine does not run, or that its agent does not answer.
var ErrDown = errors.New("machine: down")

// Machine is one virtual machine. Safe for concurrent use.
type Machine struct {
	config Config
	log    *slog.Logger

	mu      sync.Mutex
	up      bool
	conn    io.ReadWriteCloser // on which the agent answered first, until somebody takes it
	last    error              // why it is down
	changed chan struct{}      // closed and replaced when any of it changes
}

// New checks the configuration. Nothing is started before Run.
func New(c Config, log *slog.Logger) (*Machine, error) {
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("machine: %w", err)
	}
	return &Machine{config: c, log: log, last: errors.New("it was not started yet"), changed: make(chan struct{})}, nil
}

func (m *Machine) set(up bool, conn io.ReadWriteCloser, why error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != nil {
		m.conn.Close() //nolint:errcheck // nobody took it
	}
	m.up, m.conn, m.last = up, conn, why
	close(m.changed)
	m.changed = make(chan struct{})
}

// Run prepares the machine and keeps it running until ctx ends. A boot after which the agent does not
// answer is tried once more at once; after that, and whenever the machine ends, it is started again
// after a while. The error is what keeps it from being started at all.
func (m *Machine) Run(ctx context.Context) error {
	if err := m.config.Prepare(ctx); err != nil {
		m.set(false, nil, err)
		return err
	}
	wait, silent := restartMin, 0
	for {
		began := time.Now()
		answered, err := m.once(ctx)
		if ctx.Err() != nil {
			m.set(false, nil, ctx.Err())
			return nil
		}
		m.log.Warn("the machine is down", "err", err)
		m.set(false, nil, err)
		if answered {
			silent = 0
		} else if silent++; silent == 1 {
			continue
		}
		if time.Since(began) > stable {
			wait = restartMin
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = min(2*wait, restartMax)
	}
}

// once boots the machine and returns when it ended. answered tells whether the agent did.
func (m *Machine) once(ctx context.Context) (answered bool, err error) {
	c := &m.config
	commandLine, err := os.ReadFile(filepath.Join(c.Image, commandLineFile))
	if err != nil {
		return false, err
	}
	if err := c.refreshVariables(); err != nil {
		return false, fmt.Errorf("the firmware's variables: %w", err)
	}
	if c.TPM == TPMEmulated {
		tpm, err := c.startTPM(ctx, m.log)
		if err != nil {
			return false, err
		}
		defer tpm.stop()
	}
	accelerator := c.accelerator()
	began := time.Now()
	vm, err := start(m.log, "qemu-system-x86_64", c.arguments(accelerator, strings.TrimSpace(string(commandLine)))...)
	if err != nil {
		return false, err
	}
	defer vm.stop()
	m.log.Info("the machine starts", "accelerator", accelerator, "machine", c.Machine, "pid", vm.cmd.Process.Pid)
	conn, err := m.firstAnswer(ctx, vm)
	if err != nil {
		return false, err
	}
	m.log.Info("the agent in the machine answers", "after", time.Since(began).Round(time.Millisecond))
	m.set(true, conn, nil)
	select {
	case <-vm.done:
		return true, vm.ended()
	case <-ctx.Done():
		return true, ctx.Err()
	}
}

func (c *Config) bootPatience() time.Duration {
	if c.accelerator() == AcceleratorKVM {
		return bootPatience
	}
	return emulatedPatience
}

// firstAnswer connects until the agent answers or the machine ends.
func (m *Machine) firstAnswer(ctx context.Context, vm *process) (io.ReadWriteCloser, error) {
	ctx, cancel := context.WithTimeout(ctx, m.config.bootPatience())
	defer cancel()
	go func() {
		select {
		case <-vm.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	for {
		conn, err := m.connect(ctx)
		if err == nil {
			return conn, nil
		}
		select {
		case <-vm.done:
			return nil, vm.ended()
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: no answer from the agent: %w%s", ErrDown, err, vm.tail.text())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// connect connects to the agent and greets it.
func (m *Machine) connect(ctx context.Context) (io.ReadWriteCloser, error) {
	if m.config.CID != 0 {
		conn, err := vsock.Dial(ctx, m.config.CID, vsock.Port)
		if err != nil {
			return nil, err
		}
		return greeted(ctx, conn)
	}
	return DialPort(ctx, m.config.socket(0))
}

// DialPort connects to an agent through the socket of a virtio-serial port, as link-1.sock in Run.
func DialPort(ctx context.Context, socket string) (io.ReadWriteCloser, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	return greeted(ctx, conn)
}

// DialOwner connects to the agent in a running machine as its owner does (package link/owner), who may be
// another program than the one that runs the machine.
func DialOwner(ctx context.Context, c Config) (io.ReadWriteCloser, error) {
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("machine: %w", err)
	}
	if c.CID == 0 {
		conn, err := DialPort(ctx, c.ownerSocket())
		if err != nil {
			return nil, fmt.Errorf("%w: %w: the machine runs while 'teep-broker serve' does", ErrDown, err)
		}
		return conn, nil
	}
	conn, err := vsock.Dial(ctx, c.CID, vsock.OwnerPort)
	if err != nil {
		return nil, fmt.Errorf("%w: %w: the machine runs while 'teep-broker serve' does", ErrDown, err)
	}
	return greeted(ctx, conn)
}

func greeted(ctx context.Context, conn io.ReadWriteCloser) (io.ReadWriteCloser, error) {
	if err := serial.Greet(ctx, conn, rand.Reader); err != nil {
		conn.Close() //nolint:errcheck // it may be closed already
		return nil, err
	}
	return conn, nil
}

// Dial returns a new connection to the agent. While the machine starts, it waits.
func (m *Machine) Dial(ctx context.Context) (io.ReadWriteCloser, error) {
	ctx, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	for {
		m.mu.Lock()
		up, conn, last, changed := m.up, m.conn, m.last, m.changed
		m.conn = nil
		m.mu.Unlock()
		if conn != nil {
			return conn, nil
		}
		if up {
			return m.connect(ctx)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrDown, last)
		}
	}
}
