package machine

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Config says what machine it is. Paths are absolute, or relative to the working directory.
type Config struct {
	// Image is the folder with kernel, initramfs and command line.
	Image string
	// State is the file with the disk of the sealed state, which is made at the first start with
	// StateBytes; what is not written takes no space.
	State      string
	StateBytes int64
	// Approvals is the file with what the image's vendor approved, which the machine reads from a disk of
	// its own; empty for that of the image, if it has one.
	Approvals string
	// Run is a folder for sockets. It is made.
	Run string
	// MemoryMiB is the machine's memory. Reference values of PCRs depend on it.
	MemoryMiB int
	// Machine is QEMU's type of machine: q35, or microvm, which has no firmware and no TPM.
	Machine string
	// Accelerator is kvm, tcg, or empty: kvm where this user may have the processor run the machine, and the host
	// is no virtual machine itself, and else tcg.
	Accelerator string
	// TPM is empty for none, TPMEmulated, or the device of the host's TPM that the machine gets
	// for itself. With a TPM, firmware boots the image and measures it.
	TPM string
	// TPMState is the folder of the emulated TPM, which is made, with a TPM, at the first start.
	TPMState string
	// Firmware and FirmwareVariables are UEFI's code, and its variables at every start; NoVariables for
	// firmware that then has them in its memory.
	Firmware, FirmwareVariables string
	// CID is the machine's number for vsock; 0 for a link over virtio-serial.
	CID uint32
	// Ports is how many virtio-serial ports of the link there are: each is one connection. The broker
	// uses the first.
	Ports int
	// Arguments are further ones for QEMU, for the technology that protects the machine.
	Arguments []string
}

// TPMEmulated is swtpm. It is the host's: what is sealed under it is as safe as the host.
const TPMEmulated = "emulated"

// NoVariables gives the firmware no flash memory for variables. What is measured stays the same. Firmware
// can do without it if it falls back to its memory, as OVMF of Debian 12 does.
const NoVariables = "none"

// Types of machines, and accelerators.
const (
	MachineQ35     = "q35"
	MachineMicroVM = "microvm"

	AcceleratorKVM = "kvm"
	AcceleratorTCG = "tcg"
)

// Limits and defaults.
const (
	DefaultMemoryMiB  = 512
	DefaultStateBytes = 1 << 30
	minMemoryMiB      = 128
	minStateBytes     = 16 << 20
	maxPorts          = 8
	// Debian's package ovmf has them here.
	defaultFirmware  = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	defaultVariables = "/usr/share/OVMF/OVMF_VARS_4M.fd"
	// maxSocketPath is what fits into the address of a Unix socket on Linux.
	maxSocketPath = 107
)

// Check completes the configuration and refuses what can only be a mistake.
func (c *Config) Check() error {
	setDefault(&c.MemoryMiB, DefaultMemoryMiB)
	setDefault(&c.StateBytes, DefaultStateBytes)
	setDefault(&c.Machine, MachineQ35)
	setDefault(&c.Ports, 1)
	setDefault(&c.Firmware, defaultFirmware)
	setDefault(&c.FirmwareVariables, defaultVariables)
	switch {
	case c.Image == "":
		return errors.New("image is missing: name the folder that 'make vm-image' or 'teep image build' made")
	case c.State == "":
		return errors.New("state is missing: name the file for the disk with the sealed state")
	case c.Run == "":
		return errors.New("there is no folder for sockets")
	case c.Machine != MachineQ35 && c.Machine != MachineMicroVM:
		return fmt.Errorf("machine %q: write %s or %s", c.Machine, MachineQ35, MachineMicroVM)
	case c.Accelerator != "" && c.Accelerator != AcceleratorKVM && c.Accelerator != AcceleratorTCG:
		return fmt.Errorf("accelerator %q: write %s or %s, or leave it out", c.Accelerator, AcceleratorKVM, AcceleratorTCG)
	case c.MemoryMiB < minMemoryMiB:
		return fmt.Errorf("memory-mib %d: the agent needs %d at least", c.MemoryMiB, minMemoryMiB)
	case c.StateBytes < minStateBytes:
		return fmt.Errorf("state-bytes %d: write %d at least", c.StateBytes, minStateBytes)
	case c.Ports < 1 || c.Ports > maxPorts:
		return fmt.Errorf("ports %d: write 1 to %d", c.Ports, maxPorts)
	case c.TPM != "" && c.Machine == MachineMicroVM:
		return errors.New("machine microvm has neither firmware nor a TPM: use q35 for a measured boot")
	case c.TPM == TPMEmulated && c.TPMState == "":
		return errors.New("tpm-state is missing: name a folder for the emulated TPM")
	case c.TPM != "" && c.TPM != TPMEmulated && !strings.HasPrefix(c.TPM, "/dev/"):
		return fmt.Errorf("tpm %q: write %s, or the device of the host's TPM", c.TPM, TPMEmulated)
	case c.CID == 1 || c.CID == 2:
		return fmt.Errorf("vsock-cid %d is not a machine's: write 3 or more", c.CID)
	}
	for _, p := range []*string{&c.Image, &c.State, &c.Approvals, &c.Run, &c.TPMState, &c.Firmware, &c.FirmwareVariables} {
		if *p == "" || p == &c.FirmwareVariables && *p == NoVariables {
			continue
		}
		if strings.ContainsRune(*p, ',') {
			return fmt.Errorf("%s: QEMU takes no paths with a comma", *p)
		}
		var err error
		if *p, err = filepath.Abs(*p); err != nil {
			return err
		}
	}
	if longest := c.socket(c.Ports - 1); len(longest) > maxSocketPath {
		return fmt.Errorf("the path of the socket %s has %d bytes and only %d are possible: choose a shorter folder", longest, len(longest), maxSocketPath)
	}
	return nil
}

func setDefault[T comparable](value *T, otherwise T) {
	var zero T
	if *value == zero {
		*value = otherwise
	}
}

func (c *Config) socket(port int) string {
	return filepath.Join(c.Run, fmt.Sprintf("link-%d.sock", port))
}

func (c *Config) ownerSocket() string { return filepath.Join(c.Run, "owner.sock") }

// approvals is the file with the vendor's approvals; "" without one.
func (c *Config) approvals() string {
	if c.Approvals != "" {
		return c.Approvals
	}
	name := filepath.Join(c.Image, approvalsFile)
	if _, err := os.Stat(name); err != nil {
		return ""
	}
	return name
}

func (c *Config) tpmSocket() string { return filepath.Join(c.Run, "tpm.sock") }

func (c *Config) variables() string { return filepath.Join(c.Run, "firmware-variables.fd") }

// tool is a program, or a file, and Debian's package that has it.
type tool struct{ name, pkg string }

// tools are what the configuration needs.
func (c *Config) tools() []tool {
	needed := []tool{{"qemu-system-x86_64", "qemu-system-x86"}}
	if _, err := os.Stat(c.State); err != nil {
		needed = append(needed, tool{"mkfs.ext4", "e2fsprogs"})
	}
	if c.TPM != "" {
		needed = append(needed, tool{c.Firmware, "ovmf"})
		if c.FirmwareVariables != NoVariables {
			needed = append(needed, tool{c.FirmwareVariables, "ovmf"})
		}
	}
	if c.TPM == TPMEmulated {
		needed = append(needed, tool{"swtpm", "swtpm"}, tool{"swtpm_setup", "swtpm-tools"}, tool{"swtpm_localca", "swtpm-tools"})
	}
	return needed
}

// ErrMissing says that programs are not installed; the text says which packages have them.
var ErrMissing = errors.New("machine: not installed")

// Missing looks for the programs that the configuration needs.
func (c *Config) Missing() error {
	var missing, packages []string
	for _, t := range c.tools() {
		if _, err := find(t.name); err != nil {
			missing = append(missing, t.name)
			if !slices.Contains(packages, t.pkg) {
				packages = append(packages, t.pkg)
			}
		}
	}
	if missing == nil {
		return nil
	}
	return fmt.Errorf("%w: %s; on Debian: apt-get install %s", ErrMissing, strings.Join(missing, ", "), strings.Join(packages, " "))
}

// find finds a program, also where the administrator's are and ordinary users do not look.
func find(name string) (string, error) {
	if strings.HasPrefix(name, "/") {
		_, err := os.Stat(name)
		return name, err
	}
	found, err := exec.LookPath(name)
	if err == nil {
		return found, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if found, sbinErr := exec.LookPath(filepath.Join(dir, name)); sbinErr == nil {
			return found, nil
		}
	}
	return "", err
}

// accelerator is what runs the machine: the processor, where this user may have it do so. Inside of a virtual machine
// it does so where that is configured only: many offer a /dev/kvm with which QEMU fails or a guest hangs.
func (c *Config) accelerator() string {
	if c.Accelerator != "" {
		return c.Accelerator
	}
	if cpu, err := os.ReadFile("/proc/cpuinfo"); err == nil && virtual(string(cpu)) {
		return AcceleratorTCG
	}
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return AcceleratorTCG
	}
	f.Close() //nolint:errcheck // nothing was written
	return AcceleratorKVM
}

// virtual tells from the processor's flags, as Linux lists them, whether a hypervisor is below.
func virtual(cpuinfo string) bool {
	for line := range strings.Lines(cpuinfo) {
		name, flags, _ := strings.Cut(line, ":")
		if strings.TrimSpace(name) == "flags" {
			return slices.Contains(strings.Fields(flags), "hypervisor")
		}
	}
	return false
}
