package machine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stopPatience is how long a program may take to end after SIGTERM.
const stopPatience = 5 * time.Second

// process is a program that runs beside this one, and dies with it.
type process struct {
	name string
	cmd  *exec.Cmd
	tail tail
	done chan struct{}
	err  error // how it ended; valid once done is closed
}

// start runs a program. What it prints goes to the log, line by line.
func start(log *slog.Logger, program string, args ...string) (*process, error) {
	name, err := find(program)
	if err != nil {
		return nil, err
	}
	p := &process{name: filepath.Base(program), cmd: exec.Command(name, args...), done: make(chan struct{})}
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.cmd.Stdout, p.cmd.Stderr = in, in
	p.cmd.SysProcAttr = dieWithParent()
	err = p.cmd.Start()
	if err = errors.Join(err, in.Close()); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", program, err), out.Close())
	}
	go func() {
		p.tail.follow(out, log.With("from", p.name))
		p.err = errors.Join(p.cmd.Wait(), out.Close())
		close(p.done)
	}()
	return p, nil
}

// stop ends the program and waits for its end.
func (p *process) stop() {
	// It may be gone already: then there is nothing to end.
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(stopPatience):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// ended says how the program ended by itself, with its last words.
func (p *process) ended() error {
	return fmt.Errorf("%s ended: %v%s", p.name, p.err, p.tail.text())
}

// tail keeps the last lines.
type tail struct {
	mu    sync.Mutex
	lines []string
}

const (
	tailLines    = 12
	maxLineBytes = 2048
)

// follow logs lines until the end. What comes out of a machine is cleaned of what could play tricks on
// a terminal.
func (t *tail) follow(r io.Reader, log *slog.Logger) {
	in := bufio.NewReaderSize(r, maxLineBytes)
	for {
		line, err := in.ReadSlice('\n')
		if text := printable(line); text != "" {
			log.Debug(text)
			t.mu.Lock()
			if t.lines = append(t.lines, text); len(t.lines) > tailLines {
				t.lines = t.lines[1:]
			}
			t.mu.Unlock()
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

func printable(line []byte) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r == '\t' {
			return ' '
		}
		if r < ' ' || r == 0x7f || r == '\uFFFD' || r >= 0x80 && r < 0xa0 {
			return -1
		}
		return r
	}, string(line)))
}

// text is the tail for an error message.
func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == 0 {
		return ""
	}
	return "\n" + strings.Join(t.lines, "\n")
}

// startTPM starts the emulated TPM and waits until it listens.
func (c *Config) startTPM(ctx context.Context, log *slog.Logger) (*process, error) {
	if err := os.Remove(c.tpmSocket()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	p, err := start(log, "swtpm", "socket", "--tpm2", "--tpmstate", "dir="+c.TPMState, "--ctrl", "type=unixio,path="+c.tpmSocket())
	if err != nil {
		return nil, err
	}
	const patience = 10 * time.Second
	for deadline := time.Now().Add(patience); ; {
		if _, err := os.Stat(c.tpmSocket()); err == nil {
			return p, nil
		}
		select {
		case <-p.done:
			return nil, p.ended()
		case <-ctx.Done():
			p.stop()
			return nil, ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			p.stop()
			return nil, fmt.Errorf("swtpm does not listen after %v%s", patience, p.tail.text())
		}
	}
}
