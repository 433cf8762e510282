// Package vm boots the measured virtual machine and holds the whole of it to what it promises: one test,
// because each boot takes seconds.
package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/broker/machine"
	"github.com/go-teep/teep/cose"
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

// The machines of this package may take this long, on a host that is busy and emulates them: it says
// nothing but that one hangs.
const patience = 15 * time.Minute

// firmware is the smaller one of Debian 12, which takes an emulated processor half the time of the default
// one; "" for the default where it is not installed. The suite inside boots with the default, variables and all.
func firmware() string {
	const small = "/usr/share/OVMF/OVMF_CODE.fd"
	if _, err := os.Stat(small); err != nil {
		return ""
	}
	return small
}

func config(dir string) machine.Config {
	c := machine.Config{
		Image: filepath.Join(dir, "image"), State: filepath.Join(dir, "state.img"), StateBytes: 64 << 20, Run: filepath.Join(dir, "run"),
		TPM: machine.TPMEmulated, TPMState: filepath.Join(dir, "tpm"), Ports: 1, Firmware: firmware(),
	}
	if c.Firmware != "" {
		c.FirmwareVariables = machine.NoVariables
	}
	return c
}

// unpack has the package of a kernel decompressed once, for all images.
func unpack(t *testing.T, kernelPackage string) (archive string) {
	t.Helper()
	archive = filepath.Join(t.TempDir(), "kernel.tar")
	f, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("dpkg-deb", "--fsys-tarfile", kernelPackage)
	cmd.Stdout, cmd.Stderr = f, os.Stderr
	if err := errors.Join(cmd.Run(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return archive
}

// TestMeasuredMachine is the demo in a machine: attested by its TPM through TEEP, an application
// installed, run, updated and removed, and an image whose agent differs in one byte refused. Then that
// image is booted with the genuine machine's TPM and disk, and cannot open the sealed state; an update
// that the vendor approved can, and the genuine one cannot any longer. Beside all that, the suite of all
// TEEs runs in a machine of its own.
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
	kernelPackage, err := kernel.Output()
	require(t, err)
	archive := unpack(t, strings.TrimSpace(string(kernelPackage)))
	// Images are built by a program without the race detector, which takes a fifth of the time.
	bin := filepath.Join(t.TempDir(), "bin")
	if out, err := exec.Command("make", "-s", "-C", root, "build", "BIN="+bin).CombinedOutput(); err != nil {
		t.Fatalf("make build: %v\n%s", err, out)
	}
	t.Run("suite inside", func(t *testing.T) {
		t.Parallel()
		conformance(t, root, bin, archive)
	})
	t.Run("demo", func(t *testing.T) {
		t.Parallel()
		demonstrate(t, root, bin, archive)
	})
}

func demonstrate(t *testing.T, root, bin, kernelPackage string) {
	// Paths of sockets are short.
	dir, err := os.MkdirTemp("", "teep-vm-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	kept := filepath.Join(dir, "k")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	args := "--keep " + kept
	if f := firmware(); f != "" {
		args += " --firmware " + f
	}
	demo := exec.CommandContext(ctx, "make", "-s", "-C", root, "-o", "build", "demo", "TEE=vm", "BIN="+bin, "ARGS="+args)
	demo.Env = append(os.Environ(), "KERNEL_PACKAGE="+kernelPackage)
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
	// The update has the originals.
	c := config(filepath.Join(kept, "device"))
	c.State, c.TPMState, c.Run = copied(t, dir, c.State), copied(t, dir, c.TPMState), filepath.Join(dir, "r")
	c.Image = filepath.Join(kept, "device2", "image")
	t.Run("patched image, same TPM and disk", func(t *testing.T) {
		t.Parallel()
		console := boot(t, c, "booted something else")
		if strings.Contains(console, "msg=ready") {
			t.Error("the patched agent serves with the sealed state of the genuine one")
		}
	})
	t.Run("approved update, and no way back", func(t *testing.T) {
		t.Parallel()
		c := config(filepath.Join(kept, "device"))
		genuine := c.Image
		c.Image = approvedUpdate(t, root, bin, dir, kept, kernelPackage)
		console := boot(t, c, "the agent in the machine answers", func() {
			o := &machineOwner{dir: t.TempDir(), bin: bin, config: filepath.Join(kept, "device", "broker.yaml")}
			o.ask(t)
			o.enrol(t, kept)
		})
		if !strings.Contains(console, "missing=0") {
			t.Errorf("the agent is not confined:\n%s", console)
		}
		if !strings.Contains(console, "msg=ready") || strings.Contains(console, "trust anchors provisioned") {
			t.Errorf("the update began anew:\n%s", console)
		}
		c.Image = genuine
		if console := boot(t, c, "a newer version of this program has opened the state"); strings.Contains(console, "msg=ready") {
			t.Error("the old agent serves after the update")
		}
	})
}

// approvedUpdate builds the next version of the image of the demo, whose agent is another and which the
// vendor approves.
func approvedUpdate(t *testing.T, root, bin, dir, kept, kernelPackage string) string {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	agent, err := os.ReadFile(filepath.Join(bin, "teep-agent"))
	must(err)
	const word = "Be the TEE, and serve the broker"
	if !bytes.Contains(agent, []byte(word)) {
		t.Fatal("the agent has no text to change")
	}
	next, configuration, img := filepath.Join(dir, "teep-agent-2"), filepath.Join(dir, "config-2"), filepath.Join(dir, "image-2")
	must(os.WriteFile(next, bytes.Replace(agent, []byte(word), []byte(strings.ToUpper(word)), 1), 0o700))
	must(os.CopyFS(configuration, os.DirFS(filepath.Join(kept, "device", "config"))))
	name := filepath.Join(configuration, "agent.yaml")
	text, err := os.ReadFile(name)
	must(err)
	must(os.WriteFile(name, bytes.Replace(text, []byte("version: 1\n"), []byte("version: 2\n"), 1), 0o600))
	references, err := os.ReadFile(filepath.Join(kept, "device", "image", "reference-values.yaml"))
	must(err)
	store, err := appraisal.ParseYAML(references)
	must(err)
	var firmware string
	for _, r := range store.References {
		if r.Name == "pcr-0" {
			firmware = fmt.Sprintf("sha-256:%x", r.Digest)
		}
	}
	key := filepath.Join(kept, "vendor.pem")
	// As makers of devices do it, but for the programs, which are built; and for the agent, which is another.
	must(os.Mkdir(filepath.Join(dir, "bin-2"), 0o700))
	must(os.Rename(next, filepath.Join(dir, "bin-2", "teep-agent")))
	must(os.Symlink(filepath.Join(bin, "teep"), filepath.Join(dir, "bin-2", "teep")))
	cmd := exec.Command("make", "-s", "-C", root, "-o", "build", "vm-image", "BIN="+filepath.Join(dir, "bin-2"), "VM="+img, "VM_CONFIG="+configuration,
		"VM_OWNER=Example Devices", "VM_ARGS=--key "+key+" --firmware-value "+firmware)
	cmd.Env = append(os.Environ(), "KERNEL_PACKAGE="+kernelPackage)
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("version 2 may open the state")) {
		t.Fatalf("%v\n%s", err, out)
	}
	checkSigned(t, img, key)
	return img
}

// checkSigned holds the signed reference values of an image against the others, and the key.
func checkSigned(t *testing.T, img, keyFile string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(img, "reference-values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := os.ReadFile(filepath.Join(img, "reference-values.cose"))
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	key, err := cose.ParsePEM(pem)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := cose.NewKeySet(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	have, err := appraisal.ParseSigned(signed, appraisal.Owner{Name: "Example Devices", Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	want, err := appraisal.ParseYAML(text)
	if err != nil || !reflect.DeepEqual(have.References, want.References) {
		t.Errorf("the signed reference values are others: %v", err)
	}
}

// copied copies a file or a folder to a name of its own.
func copied(t *testing.T, dir, from string) string {
	t.Helper()
	to := filepath.Join(dir, "copy-of-"+filepath.Base(from))
	if out, err := exec.Command("cp", "-r", "--sparse=always", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return to
}

// boot runs a machine until its log has a text, and what is to be done then is done, and returns the log.
func boot(t *testing.T, c machine.Config, until string, then ...func()) string {
	t.Helper()
	log := &watched{until: until, seen: make(chan struct{})}
	m, err := machine.New(c, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	select {
	case <-log.seen:
		for _, f := range then {
			f()
		}
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
