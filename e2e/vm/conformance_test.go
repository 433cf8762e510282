package vm

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-teep/teep/broker/machine"
)

// conformance boots an image in which a test is the first process: the suite that every TEE passes,
// inside the machine.
func conformance(t *testing.T, root, bin, kernelPackage string) {
	dir, err := os.MkdirTemp("", "teep-vm-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	binary := filepath.Join(dir, "inside.test")
	build := exec.Command("go", "test", "-c", "-trimpath", "-ldflags=-s -w", "-o", binary, "./e2e/vm/inside")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	configuration := filepath.Join(dir, "config")
	if err := errors.Join(os.Mkdir(configuration, 0o700), os.WriteFile(filepath.Join(configuration, "agent.yaml"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	c := config(dir)
	if out, err := exec.Command(filepath.Join(bin, "teep"), "image", "build", "--kernel-package", kernelPackage, "--agent", binary,
		"--config", configuration, "--out", c.Image).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c.Firmware, c.FirmwareVariables = "", "" // the default ones, with their flash memory
	log := &watched{until: "never", seen: make(chan struct{})}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err = machine.RunOnce(ctx, c, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	console := log.String()
	if err != nil || !strings.Contains(console, "conformance inside the machine: exit code 0") || strings.Contains(console, "SKIP") {
		t.Fatalf("%v\n%s", err, console)
	}
	for _, line := range strings.Split(console, "\n") {
		if _, result, is := strings.Cut(line, "--- "); is {
			t.Log(strings.TrimSpace(result))
		}
	}
}
