// Package vm boots the measured virtual machine and holds the whole of it to what it promises: one test,
// because each boot takes seconds.
package vm

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-teep/teep/broker/machine"
)

// require skips where the programs are not installed, and fails under CI=true.
func require(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal(err)
	}
	t.Skip(err)
}

func config(dir string) machine.Config {
	return machine.Config{
		Image: filepath.Join(dir, "image"), State: filepath.Join(dir, "state.img"), StateBytes: 64 << 20, Run: filepath.Join(dir, "run"),
		TPM: machine.TPMEmulated, TPMState: filepath.Join(dir, "tpm"), Ports: 1,
	}
}

// TestMeasuredMachine is the demo in a machine: attested by its TPM through TEEP, an application
// installed, run, updated and removed, and an image whose agent differs in one byte refused. Then that
// image is booted with the genuine machine's TPM and disk, and cannot open the sealed state; the genuine
// one can.
func TestMeasuredMachine(t *testing.T) {
	if testing.Short() {
		t.Skip("boots machines")
	}
	probe := config(t.TempDir())
	require(t, probe.Check())
	require(t, probe.Missing())
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	kernel := exec.Command(filepath.Join(root, ".ci", "kernel-package"), filepath.Join(root, ".cache", "kernel"))
	kernel.Stderr = os.Stderr
	_, err = kernel.Output()
	require(t, err)

	// Paths of sockets are short.
	dir, err := os.MkdirTemp("", "teep-vm-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	kept := filepath.Join(dir, "k")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	demo := exec.CommandContext(ctx, "make", "-s", "-C", root, "demo", "TEE=vm", "BIN="+filepath.Join(dir, "bin"), "ARGS=--keep "+kept)
	out, err := demo.CombinedOutput()
	if err != nil {
		t.Fatalf("make demo TEE=vm: %v\n%s", err, out)
	}
	for _, want := range []string{
		"as the first process of a machine", "attestation affirming", "invoked in the TEE", "the application runs as 2.0.0",
		"refused: Evidence of a machine whose agent differs in one byte", "all programs shut down cleanly",
	} {
		if !bytes.Contains(out, []byte(want)) {
			t.Errorf("the demo does not say %q:\n%s", want, out)
		}
	}
	t.Run("patched image, same TPM and disk", func(t *testing.T) {
		c := config(filepath.Join(kept, "device"))
		c.Image = filepath.Join(kept, "device2", "image")
		console := boot(t, c, "booted something else")
		if strings.Contains(console, "msg=ready") {
			t.Error("the patched agent serves with the sealed state of the genuine one")
		}
	})
	t.Run("genuine image", func(t *testing.T) {
		boot(t, config(filepath.Join(kept, "device")), "the agent in the machine answers")
	})
}

// boot runs a machine until its log has a text, and returns the log.
func boot(t *testing.T, c machine.Config, until string) string {
	t.Helper()
	log := &watched{until: until, seen: make(chan struct{})}
	m, err := machine.New(c, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	select {
	case <-log.seen:
	case err := <-ended:
		t.Fatalf("%v\n%s", err, log)
	case <-ctx.Done():
		t.Fatalf("the machine's log does not say %q:\n%s", until, log)
	}
	cancel()
	<-ended
	return log.String()
}

// watched is a log that tells when it has a text.
type watched struct {
	mu    sync.Mutex
	text  strings.Builder
	until string
	once  sync.Once
	seen  chan struct{}
}

var _ io.Writer = (*watched)(nil)

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(p)
	if bytes.Contains(p, []byte(w.until)) {
		w.once.Do(func() { close(w.seen) })
	}
	return len(p), nil
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}
