package vm

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/go-teep/teep/broker/machine"
	"github.com/go-teep/teep/tee/vm/image"
)

// conformance boots an image in which a test is the first process: the suite that every TEE passes,
// inside the machine.
func conformance(t *testing.T, root, kernelPackage string) {
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
	kernel, err := image.ReadKernelPackage(t.Context(), kernelPackage)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	img, err := image.Build(image.Options{Kernel: kernel, Agent: program, Config: fstest.MapFS{"agent.yaml": {}}})
	if err != nil {
		t.Fatal(err)
	}
	c := config(dir)
	if err := img.Write(c.Image); err != nil {
		t.Fatal(err)
	}
	log := &watched{until: "never", seen: make(chan struct{})}
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
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
