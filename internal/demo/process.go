package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// stopTimeout is how long a program may take to end after SIGTERM before it is killed.
const stopTimeout = 5 * time.Second

// process is one program that the story started.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	err  error // of Wait; valid once done is closed
}

// start runs a program in the background with its output in a log file. It dies with this
// process, so that no demo leaves anything running.
func (s *story) start(name, program string, args ...string) (*process, error) {
	return s.startAs(nil, name, program, args...)
}

// startAs is start under another account; nil for this one.
func (s *story) startAs(account *syscall.Credential, name, program string, args ...string) (*process, error) {
	logPath := filepath.Join(s.dir, "logs", name+".log")
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: account}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	p := &process{name: name, cmd: cmd, log: logPath, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = append(s.running, p)
	return p, nil
}

// take returns what runs, and leaves it to the caller.
func (s *story) take() []*process {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.running
	s.running = nil
	return all
}

// forget is for a program that has done its work before the end of the story.
func (s *story) forget(p *process) {
	p.kill()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = slices.DeleteFunc(s.running, func(other *process) bool { return other == p })
}

// background is work that goes on beside the story.
type background struct {
	done chan struct{}
	err  error // valid once done is closed
}

func inBackground(work func() error) *background {
	b := &background{done: make(chan struct{})}
	go func() {
		b.err = work()
		close(b.done)
	}()
	return b
}

// wait returns how the work went; nil if there was none.
func (b *background) wait() error {
	if b == nil {
		return nil
	}
	<-b.done
	return b.err
}

// waitAll waits for work that nobody wants the outcome of any more.
func (s *story) waitAll() {
	for _, b := range []*background{s.references, s.second} {
		_ = b.wait() // it was cancelled, or its outcome was taken before
	}
}

// stop ends a program with SIGTERM and tells whether it went cleanly.
func (p *process) stop() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s had ended before: %v; see %s", p.name, p.err, p.log)
	default:
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.done:
		if p.err != nil {
			return fmt.Errorf("%s did not shut down cleanly: %w; see %s", p.name, p.err, p.log)
		}
		return nil
	case <-time.After(stopTimeout):
		p.kill()
		return fmt.Errorf("%s did not end within %v of SIGTERM; see %s", p.name, stopTimeout, p.log)
	}
}

// kill ends a program at once, as a power cut would.
func (p *process) kill() {
	// The process may be gone already: then there is nothing to kill.
	_ = p.cmd.Process.Kill()
	<-p.done
}

// ready waits until check succeeds, and fails early when the program ends.
func (p *process) ready(ctx context.Context, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended at its start: %v\n%s", p.name, p.err, tail(p.log))
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w\n%s", p.name, err, tail(p.log))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// tail returns the last lines of a log, for an error message.
func tail(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-8):], "\n")
}

// listening is a readiness check: somebody accepts connections there.
func listening(network, address string) func(context.Context) error {
	return func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil {
			return err
		}
		return conn.Close()
	}
}

// freeAddress finds a loopback address that nobody listens on.
func freeAddress() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}

// commandError is a program of ours that refused.
type commandError struct {
	args   []string
	stderr string
	err    error
}

func (e *commandError) Error() string {
	return fmt.Sprintf("%s: %v: %s", strings.Join(e.args, " "), e.err, e.stderr)
}

func (e *commandError) Unwrap() error { return e.err }

// run executes one of the programs to its end and returns its standard output.
func (s *story) run(ctx context.Context, program string, args ...string) (string, error) {
	return s.runInput(ctx, nil, program, args...)
}

func (s *story) runInput(ctx context.Context, stdin io.Reader, program string, args ...string) (string, error) {
	patience := time.Minute
	if s.inMachine() {
		patience = machinePatience // some commands boot one, or wait for one that boots
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.program(program), args...)
	cmd.Dir, cmd.Stdin = s.dir, stdin
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	stop := s.watch()
	err := cmd.Run()
	stop()
	if err != nil {
		return stdout.String(), &commandError{
			args: append([]string{program}, args...), stderr: strings.TrimSpace(stderr.String()), err: err,
		}
	}
	return stdout.String(), nil
}

// refused runs a command that must fail, and returns the reason that it gives.
func (s *story) refused(ctx context.Context, want, program string, args ...string) (string, error) {
	out, err := s.run(ctx, program, args...)
	var failed *commandError
	switch {
	case err == nil:
		return "", fmt.Errorf("%s %s was accepted and printed %q: it must be refused", program, strings.Join(args, " "), out)
	case !errors.As(err, &failed):
		return "", err
	case !strings.Contains(failed.stderr, want):
		return "", fmt.Errorf("%s %s was refused for another reason than %q: %s", program, args[0], want, failed.stderr)
	}
	reason := strings.TrimPrefix(failed.stderr, program+": ")
	return reason, nil
}
