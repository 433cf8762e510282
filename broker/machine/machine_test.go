package machine

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func config(t *testing.T) Config {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{kernelFile, initramfsFile, commandLineFile} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("content"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Config{Image: dir, State: filepath.Join(dir, "state.img"), Run: filepath.Join(dir, "run")}
}

func TestCheckRefuses(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no image":                func(c *Config) { c.Image = "" },
		"no state":                func(c *Config) { c.State = "" },
		"no folder for sockets":   func(c *Config) { c.Run = "" },
		"unknown machine":         func(c *Config) { c.Machine = "pc" },
		"unknown accelerator":     func(c *Config) { c.Accelerator = "xen" },
		"too little memory":       func(c *Config) { c.MemoryMiB = 16 },
		"too small a disk":        func(c *Config) { c.StateBytes = 1024 },
		"too many ports":          func(c *Config) { c.Ports = 9 },
		"microvm with a TPM":      func(c *Config) { c.Machine, c.TPM, c.TPMState = MachineMicroVM, TPMEmulated, "tpm" },
		"TPM without a folder":    func(c *Config) { c.TPM = TPMEmulated },
		"TPM that is no device":   func(c *Config) { c.TPM = "tpm0" },
		"the host's CID":          func(c *Config) { c.CID = 2 },
		"path with a comma":       func(c *Config) { c.State = "a,readonly=off" },
		"path too long to listen": func(c *Config) { c.Run = "/" + strings.Repeat("long", 30) },
	} {
		c := config(t)
		change(&c)
		if err := c.Check(); err == nil || len(err.Error()) < 20 {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := New(c, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s: made a machine", name)
		}
	}
}

func TestArguments(t *testing.T) {
	c := config(t)
	c.TPM, c.TPMState, c.Ports, c.Arguments = TPMEmulated, "tpm", 2, []string{"-object", "sev-snp-guest,id=sev0"}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	args := c.arguments(AcceleratorKVM, "console=ttyS0 quiet")
	all := strings.Join(args, " ")
	for _, want := range []string{
		"-nodefaults", "-no-reboot", "-accel kvm", "-cpu host", "-M q35", "-m 512", "-append console=ttyS0 quiet",
		"serial=teep-state", "name=org.go-teep.link.0", "name=org.go-teep.link.1", "tpm-crb,tpmdev=tpm0", "readonly=on,file=" + c.Firmware,
		"-object sev-snp-guest,id=sev0",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not in %s", want, all)
		}
	}
	for _, unwanted := range []string{"-net", "-nic", "-monitor", "vsock"} {
		if slices.Contains(args, unwanted) || strings.Contains(all, "vhost-vsock") {
			t.Errorf("%q is in %s", unwanted, all)
		}
	}
	c.Machine, c.TPM, c.CID = MachineMicroVM, "", 42
	all = strings.Join(c.arguments(AcceleratorTCG, ""), " ")
	for _, want := range []string{"microvm", "-accel tcg", "-cpu max", "virtio-blk-device", "vhost-vsock-device,guest-cid=42"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not in %s", want, all)
		}
	}
	if strings.Contains(all, "pflash") || strings.Contains(all, "virtserialport") || strings.Contains(all, "tpm") {
		t.Errorf("too much: %s", all)
	}
}

// TestNoVariables: the word is no file's name, and the firmware has no flash memory to write to then.
func TestNoVariables(t *testing.T) {
	c := config(t)
	c.TPM, c.TPMState, c.FirmwareVariables = TPMEmulated, "tpm", NoVariables
	if err := c.Check(); err != nil || c.FirmwareVariables != NoVariables {
		t.Fatal(err, c.FirmwareVariables)
	}
	all := strings.Join(c.arguments(AcceleratorTCG, ""), " ")
	if !strings.Contains(all, "pflash,format=raw,unit=0,readonly=on") || strings.Contains(all, "unit=1") {
		t.Error(all)
	}
	for _, needed := range c.tools() {
		if needed.name == NoVariables {
			t.Error("it is looked for as a file")
		}
	}
	if err := c.refreshVariables(); err != nil {
		t.Error(err)
	}
	c.FirmwareVariables = ""
	if err := c.Check(); err != nil || !strings.Contains(strings.Join(c.arguments(AcceleratorTCG, ""), " "), "unit=1,file="+c.variables()) {
		t.Error("the firmware has no variables by default", err)
	}
}

// TestMissingNamesPackages: who has not installed something is told what to install.
func TestMissingNamesPackages(t *testing.T) {
	c := config(t)
	c.TPM, c.TPMState, c.Firmware = TPMEmulated, "tpm", filepath.Join(t.TempDir(), "OVMF_CODE.fd")
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", t.TempDir())
	err := c.Missing()
	if !errors.Is(err, ErrMissing) {
		t.Fatal(err)
	}
	for _, want := range []string{"apt-get install", "qemu-system-x86", "ovmf", "swtpm", "swtpm-tools"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	m, err := New(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Run(context.Background()); !errors.Is(err, ErrMissing) {
		t.Errorf("run: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := m.Dial(ctx); !errors.Is(err, ErrDown) || !errors.Is(err, ErrMissing) {
		t.Errorf("who dials is not told why: %v", err)
	}
}

func TestIncompleteImage(t *testing.T) {
	c := config(t)
	if err := os.Remove(filepath.Join(c.Image, initramfsFile)); err != nil {
		t.Fatal(err)
	}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	if err := c.Missing(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	if err := c.Prepare(context.Background()); err == nil || !strings.Contains(err.Error(), "teep image build") {
		t.Errorf("%v", err)
	}
}

// TestConsoleIsCleaned: what a machine prints plays no tricks on a terminal.
func TestConsoleIsCleaned(t *testing.T) {
	for in, want := range map[string]string{
		"\x1b[2Jhello\r\n": "[2Jhello", "a\tb": "a b", "\x9b31m": "31m", "\xff\xfe": "", "Grüße": "Grüße",
	} {
		if got := printable([]byte(in)); got != want {
			t.Errorf("%q became %q, not %q", in, got, want)
		}
	}
	var kept tail
	kept.follow(strings.NewReader(strings.Repeat("line\n", 100)+strings.Repeat("x", 10000)), slog.New(slog.DiscardHandler))
	if len(kept.lines) > tailLines {
		t.Errorf("%d lines are kept", len(kept.lines))
	}
}

// TestApprovalsAndOwner: the machine gets what lies beside its image, or what is named; and a port for its
// owner, before those of the link.
func TestApprovalsAndOwner(t *testing.T) {
	c := config(t)
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	all := strings.Join(c.arguments(AcceleratorTCG, ""), " ")
	if strings.Contains(all, "approvals") || !strings.Contains(all, ownerPort) || strings.Index(all, ownerPort) > strings.Index(all, linkPort) {
		t.Error(all)
	}
	beside := filepath.Join(c.Image, approvalsFile)
	if err := os.WriteFile(beside, []byte("approvals"), 0o600); err != nil {
		t.Fatal(err)
	}
	all = strings.Join(c.arguments(AcceleratorTCG, ""), " ")
	if !strings.Contains(all, "readonly=on,file="+beside) || strings.Index(all, "serial="+approvalsDisk) > strings.Index(all, "serial="+stateDisk) {
		t.Error(all)
	}
	c.Approvals = filepath.Join(t.TempDir(), "next.cbor")
	if all := strings.Join(c.arguments(AcceleratorTCG, ""), " "); !strings.Contains(all, "file="+c.Approvals) || strings.Contains(all, beside) {
		t.Error(all)
	}
	if c.Missing() == nil {
		if err := c.Prepare(context.Background()); err == nil || !strings.Contains(err.Error(), "approvals") {
			t.Errorf("approvals that are not there: %v", err)
		}
	}
	c.CID = 42
	if all := strings.Join(c.arguments(AcceleratorTCG, ""), " "); strings.Contains(all, ownerPort) {
		t.Errorf("a port beside vsock: %s", all)
	}
	if _, err := DialOwner(context.Background(), config(t)); !errors.Is(err, ErrDown) || !strings.Contains(err.Error(), "teep-broker serve") {
		t.Errorf("a machine that does not run: %v", err)
	}
}

// TestVirtual: what a hypervisor says of itself in the processor's flags.
func TestVirtual(t *testing.T) {
	for cpuinfo, want := range map[string]bool{
		"processor\t: 0\nflags\t\t: fpu vme svm hypervisor lahf_lm\n\nprocessor\t: 1\nflags\t\t: fpu\n": true,
		"processor\t: 0\nflags\t\t: fpu vme svm nohypervisor\n":                                         false,
		"processor\t: 0\nmodel name\t: hypervisor\nflags\t\t: fpu\n":                                    false,
		"processor\t: 0\nFeatures\t: fp asimd\n":                                                        false,
		"":                                                                                              false,
	} {
		if got := virtual(cpuinfo); got != want {
			t.Errorf("%q: %v", cpuinfo, got)
		}
	}
}
