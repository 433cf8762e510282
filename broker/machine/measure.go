package machine

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// pcrLine is what the agent prints for each register of the TPM.
var pcrLine = regexp.MustCompile(`\bpcr-([0-9]+) sha-256:([0-9a-f]{64})\b`)

// Measure boots the machine once and returns what is in the SHA-256 bank of its TPM then. It is how the
// owner of a firmware learns what it measures of itself into PCR 0: on a host that is known to be
// genuine, and with a TPM of its own that is gone afterwards. The command line is another than that of
// an ordinary boot, and so is PCR 9.
func Measure(ctx context.Context, c Config, log *slog.Logger) (map[int][]byte, error) {
	dir, err := os.MkdirTemp("", "teep-vm-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	c.TPM, c.Run, c.TPMState, c.State = TPMEmulated, dir, filepath.Join(dir, "tpm"), filepath.Join(dir, "state")
	c.StateBytes, c.CID, c.Ports = minStateBytes, 0, 1
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("machine: %w", err)
	}
	if err := c.Prepare(ctx); err != nil {
		return nil, err
	}
	commandLine, err := os.ReadFile(filepath.Join(c.Image, commandLineFile))
	if err != nil {
		return nil, fmt.Errorf("machine: %w", err)
	}
	const attempts = 2
	for range attempts {
		var values map[int][]byte
		if values, err = c.measure(ctx, strings.TrimSpace(string(commandLine))+" -- measure --pcrs", log); err == nil {
			return values, nil
		}
	}
	return nil, fmt.Errorf("machine: measure a boot: %w", err)
}

func (c *Config) measure(ctx context.Context, commandLine string, log *slog.Logger) (map[int][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.bootPatience())
	defer cancel()
	values := &pcrValues{Handler: log.Handler(), found: map[int][]byte{}}
	last, err := c.toItsEnd(ctx, commandLine, slog.New(values))
	if err != nil {
		return nil, err
	}
	values.mu.Lock()
	defer values.mu.Unlock()
	if len(values.found) == 0 {
		return nil, errors.New("the agent in the machine printed no registers" + last)
	}
	return values.found, nil
}

// RunOnce boots a machine and returns when it has powered itself off. It is for images that have something
// else to do than to serve; what they print is in the log. There is no second attempt.
func RunOnce(ctx context.Context, c Config, log *slog.Logger) error {
	if err := c.Check(); err != nil {
		return fmt.Errorf("machine: %w", err)
	}
	if err := c.Prepare(ctx); err != nil {
		return err
	}
	commandLine, err := os.ReadFile(filepath.Join(c.Image, commandLineFile))
	if err != nil {
		return fmt.Errorf("machine: %w", err)
	}
	if _, err := c.toItsEnd(ctx, strings.TrimSpace(string(commandLine)), log); err != nil {
		return fmt.Errorf("machine: %w", err)
	}
	return nil
}

// toItsEnd boots the machine and returns its last words when it has ended.
func (c *Config) toItsEnd(ctx context.Context, commandLine string, log *slog.Logger) (last string, err error) {
	if err := c.refreshVariables(); err != nil {
		return "", err
	}
	if c.TPM == TPMEmulated {
		tpm, err := c.startTPM(ctx, log)
		if err != nil {
			return "", err
		}
		defer tpm.stop()
	}
	vm, err := start(log, "qemu-system-x86_64", c.arguments(c.accelerator(), commandLine)...)
	if err != nil {
		return "", err
	}
	defer vm.stop()
	select {
	case <-vm.done:
		return vm.tail.text(), nil
	case <-ctx.Done():
		return "", fmt.Errorf("%w%s", ctx.Err(), vm.tail.text())
	}
}

// pcrValues is a log that reads the lines of the console.
type pcrValues struct {
	slog.Handler
	mu    sync.Mutex
	found map[int][]byte
}

// Enabled implements slog.Handler.
func (p *pcrValues) Enabled(context.Context, slog.Level) bool { return true }

// WithAttrs implements slog.Handler.
func (p *pcrValues) WithAttrs([]slog.Attr) slog.Handler { return p }

// Handle implements slog.Handler.
func (p *pcrValues) Handle(ctx context.Context, r slog.Record) error {
	if m := pcrLine.FindStringSubmatch(r.Message); m != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		pcr, err := strconv.Atoi(m[1])
		value, hexErr := hex.DecodeString(m[2])
		if err == nil && hexErr == nil {
			p.found[pcr] = value
		}
	}
	if !p.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return p.Handler.Handle(ctx, r)
}
