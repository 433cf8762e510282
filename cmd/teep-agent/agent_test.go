//go:build linux

package main_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-teep/teep/cose"
)

var agent = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "teep-agent")
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, "teep-agent")
	cmd := exec.Command("go", "build", "-o", name, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.New(string(out))
	}
	return name, os.Chmod(dir, 0o755)
})

func TestMain(m *testing.M) {
	code := m.Run()
	if name, err := agent(); err == nil {
		_ = os.RemoveAll(filepath.Dir(name))
	}
	os.Exit(code)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// device is a folder with a configuration.
type device struct {
	t   *testing.T
	dir string
}

func newDevice(t *testing.T, more string) device {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent") // short: the names of sockets are bounded
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	key, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	must(t, err)
	pem, err := key.Public().MarshalPEM()
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "tam.pem"), pem, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "trust.yaml"), []byte(trustText), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "agent.yaml"), []byte(configText+more), 0o600))
	return device{t, dir}
}

const configText = `dir: state
socket: agent.sock
trust: trust.yaml
identity: {vendor: example.com, class: sandbox-wasm, oemid: "pen:32473", hwmodel: board, hwversion: "1.0"}
`

const trustText = `version: 1
tams:
  - name: tam
    uris: ["http://127.0.0.1:1/tam"]
    keys: [tam.pem]
signers:
  - name: dev
    keys: [tam.pem]
    components: [hello]
`

func (d device) command(args ...string) *exec.Cmd {
	d.t.Helper()
	name, err := agent()
	must(d.t, err)
	cmd := exec.Command(name, append(args, "--config", "agent.yaml")...)
	cmd.Dir = d.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// output is what a program wrote so far; it may go on while somebody reads.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// serve starts the agent and waits until it accepts connections.
func (d device) serve(flags ...string) (*exec.Cmd, *output) {
	d.t.Helper()
	cmd := d.command(append([]string{"serve"}, flags...)...)
	out := &output{}
	cmd.Stdout, cmd.Stderr = out, out
	must(d.t, cmd.Start())
	d.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	ctx, cancel := context.WithTimeout(d.t.Context(), 10*time.Second)
	defer cancel()
	for {
		conn, err := net.Dial("unix", filepath.Join(d.dir, "agent.sock"))
		if err == nil {
			must(d.t, conn.Close())
			return cmd, out
		}
		select {
		case <-ctx.Done():
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			d.t.Fatalf("the agent does not listen: %v\n%s", err, out)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// TestKilledAndStartedAgain: at once, many times, with the state that was.
func TestKilledAndStartedAgain(t *testing.T) {
	d := newDevice(t, "")
	var ueid string
	for range 4 {
		cmd, _ := d.serve()
		must(t, cmd.Process.Kill())
		_ = cmd.Wait()
		out, err := d.command("collateral", "--owner", "x").Output()
		must(t, err)
		_, rest, _ := strings.Cut(string(out), "ueid: ")
		now, _, _ := strings.Cut(rest, "\n")
		if ueid != "" && now != ueid {
			t.Fatalf("another TEE: %s, was %s", now, ueid)
		}
		if ueid = now; ueid == "" {
			t.Fatalf("no UEID in\n%s", out)
		}
	}
}

func TestSIGTERM(t *testing.T) {
	d := newDevice(t, "")
	cmd, out := d.serve()
	if busy, err := d.command("serve").CombinedOutput(); err == nil || !strings.Contains(string(busy), "in use") {
		t.Errorf("a second agent on the folder: %v\n%s", err, busy)
	}
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	if err := cmd.Wait(); err != nil || !strings.Contains(out.String(), "stopped") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := os.Lstat(filepath.Join(d.dir, "agent.sock")); err == nil {
		t.Error("the socket stayed behind")
	}
}

// TestMeasurement: confined or not, the program is measured as itself.
func TestMeasurement(t *testing.T) {
	name, err := agent()
	must(t, err)
	want, err := exec.Command(name, "measure").Output()
	must(t, err)
	out, err := newDevice(t, "").command("collateral", "--owner", "x").Output()
	must(t, err)
	if w := strings.TrimSpace(string(want)); w == "" || !strings.Contains(string(out), w) {
		t.Errorf("measure says %s; collateral says\n%s", w, out)
	}
}

// TestRequire: a wall that is missing, here because the configuration leaves it out, is reported,
// and is a reason not to start where it is required.
func TestRequire(t *testing.T) {
	without := "insecure-without: [seccomp, pid-namespace]\n"
	out, err := newDevice(t, without).command("collateral", "--owner", "x", "--insecure-accept-weaknesses").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "seccomp: switched off") || !strings.Contains(string(out), "pid-namespace: switched off") {
		t.Errorf("not reported: %v\n%s", err, out)
	}
	d := newDevice(t, without+"require: [seccomp]\n")
	said, err := d.command("serve").CombinedOutput()
	if err == nil || !strings.Contains(string(said), "seccomp: switched off") || !strings.Contains(string(said), "require") {
		t.Errorf("started without a wall that is required: %v\n%s", err, said)
	}
	if _, err := os.Stat(filepath.Join(d.dir, "state", "device-secret")); err == nil {
		t.Error("it made keys all the same")
	}
}

func TestConfigurationErrors(t *testing.T) {
	for more, want := range map[string]string{
		"require: [firewall]\n":          "no wall",
		"require: [seccomp, seccomp]\n":  "twice",
		"insecure-without: [Landlock]\n": "no wall",
		"requires: [seccomp]\n":          "unknown key",
		"user: no-such-account-here\n":   "user",
		"user: \"12:ab\"\n":              "user",
		"identity2: {}\n":                "unknown key",
	} {
		out, err := newDevice(t, more).command("serve").CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v\n%s", more, err, out)
		}
	}
	d := newDevice(t, "")
	must(t, os.WriteFile(filepath.Join(d.dir, "agent.sock"), []byte("precious"), 0o600))
	if out, err := d.command("serve").CombinedOutput(); err == nil || !strings.Contains(string(out), "not a socket") {
		t.Errorf("%v\n%s", err, out)
	}
	if b, err := os.ReadFile(filepath.Join(d.dir, "agent.sock")); err != nil || string(b) != "precious" {
		t.Errorf("a file was taken for a socket: %q, %v", b, err)
	}
}

// TestSizes: what an agent costs a device, on disk and at rest.
func TestSizes(t *testing.T) {
	d := newDevice(t, "")
	cmd, _ := d.serve()
	total := 0
	for _, pid := range append([]int{cmd.Process.Pid}, children(t, cmd.Process.Pid)...) {
		total += residentKiB(t, pid)
	}
	if total == 0 || total > 32<<10 {
		t.Errorf("launcher and agent have %d KiB resident at rest; the bar is 32 MiB", total)
	}
	t.Logf("resident: %d KiB", total)
}
