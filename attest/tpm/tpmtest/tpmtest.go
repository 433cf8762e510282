// Package tpmtest makes emulated TPMs for tests, with swtpm: each is manufactured with an
// endorsement key that is certified by the maker's own authority, as real ones are.
package tpmtest

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
)

// needed are Debian's packages with the programs that are run.
var needed = []string{"swtpm", "swtpm-tools"}

var install = sync.OnceValue(func() error {
	for _, program := range []string{"swtpm", "swtpm_setup", "swtpm_localca"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Geteuid() != 0 {
				return fmt.Errorf("%s is not installed: apt-get install %s", program, needed)
			}
			if out, err := exec.Command("apt-get", append([]string{"install", "-y", "--no-install-recommends"}, needed...)...).CombinedOutput(); err != nil {
				return fmt.Errorf("apt-get install %s: %w\n%s", needed, err, out)
			}
			break
		}
	}
	return nil
})

// Require installs swtpm where that is possible. Without it the test is skipped, and under CI=true
// it fails.
func Require(t testing.TB) {
	t.Helper()
	if err := install(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// Maker is a maker of TPMs with a certification authority in a folder.
type Maker struct{ dir string }

// NewMaker uses a folder that the caller removes. The authority is made with the first TPM.
func NewMaker(dir string) (*Maker, error) {
	m := &Maker{dir: dir}
	return m, m.configure()
}

func (m *Maker) path(name string) string { return filepath.Join(m.dir, name) }

func (m *Maker) configure() error {
	for name, text := range map[string]string{
		"localca.conf": fmt.Sprintf("statedir = %[1]s/ca\nsigningkey = %[1]s/ca/key.pem\nissuercert = %[1]s/ca/issuer.pem\ncertserial = %[1]s/ca/serial\n", m.dir),
		"options":      "--platform-manufacturer example\n--platform-version 1\n--platform-model example\n",
		"setup.conf": fmt.Sprintf("create_certs_tool = /usr/bin/swtpm_localca\ncreate_certs_tool_config = %[1]s/localca.conf\ncreate_certs_tool_options = %[1]s/options\n",
			m.dir),
	} {
		if err := os.WriteFile(m.path(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return os.MkdirAll(m.path("ca"), 0o700)
}

// Certificates returns the maker's root and the authority under it that certified the TPMs.
func (m *Maker) Certificates(t testing.TB) (root, issuer *x509.Certificate) {
	t.Helper()
	read := func(name string) *x509.Certificate {
		data, err := os.ReadFile(m.path(name))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(data)
		if block == nil {
			t.Fatalf("%s holds no certificate", name)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	return read("ca/swtpm-localca-rootca-cert.pem"), read("ca/issuer.pem")
}

// Manufacture makes a TPM and starts it. It ends with the test.
func (m *Maker) Manufacture(t testing.TB) transport.TPM {
	t.Helper()
	tpm, err := linuxudstpm.Open(m.ManufactureSocket(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tpm.Close() }) // swtpm may be gone already
	return tpm
}

// ManufactureSocket is Manufacture for a program under test: it returns the TPM's Unix socket, which
// serves one connection at a time.
func (m *Maker) ManufactureSocket(t testing.TB) string {
	t.Helper()
	state, err := os.MkdirTemp(m.dir, "tpm")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("swtpm_setup", "--tpm2", "--tpmstate", state, "--create-ek-cert", "--pcr-banks", "sha256", "--config", m.path("setup.conf")).CombinedOutput(); err != nil {
		t.Fatalf("swtpm_setup: %v\n%s", err, out)
	}
	return start(t, state)
}

func start(t testing.TB, state string) (socket string) {
	t.Helper()
	socket = filepath.Join(state, "tpm")
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+state, "--server", "type=unixio,path="+socket,
		"--ctrl", "type=unixio,path="+filepath.Join(state, "ctrl"), "--flags", "not-need-init,startup-clear")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	})
	deadline := time.Now().Add(10 * time.Second)
	for {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			if err := conn.Close(); err != nil {
				t.Fatal(err)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("swtpm does not answer: %v", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return socket
}
