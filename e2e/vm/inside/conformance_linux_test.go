package inside

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-teep/teep/attest/hardware"
	"github.com/go-teep/teep/attest/tpm"
	"github.com/go-teep/teep/tee"
	"github.com/go-teep/teep/tee/sandbox"
	"github.com/go-teep/teep/tee/sandbox/confine"
	"github.com/go-teep/teep/tee/teetest"
	"github.com/go-teep/teep/tee/tpmseal"
	"github.com/go-teep/teep/tee/vm"
)

// Outcome is what the last line on the console begins with; the exit code follows.
const Outcome = "conformance inside the machine: exit code "

// TestMain makes the machine usable, where this is the first process of one.
func TestMain(m *testing.M) {
	if !vm.FirstProcess() {
		os.Exit(m.Run())
	}
	confine.Harden()
	machine, err := vm.Boot(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	defer machine.PowerOff()
	if err == nil {
		err = machine.MountState()
	}
	code := 1
	if err != nil {
		fmt.Println("the machine is not usable:", err)
	} else {
		os.Args = []string{os.Args[0], "-test.v", "-test.failfast"}
		code = m.Run()
	}
	fmt.Println(Outcome + fmt.Sprint(code))
}

// TestConformance: the TEE that is this machine passes the suite, with its state on the machine's disk
// and sealed under the machine's TPM.
func TestConformance(t *testing.T) {
	if !vm.FirstProcess() {
		t.Skip("this is not the first process of a machine: package e2e/vm boots one for it")
	}
	f, err := os.OpenFile(hardware.DefaultTPM, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_ = f.Fd() // blocking mode: the device answers when the TPM is done
	devices := uint32(0)
	teetest.Run(t, func(t *testing.T) teetest.Device {
		// The program stays the same; an emulated processor takes a second for its digest.
		measure := sync.OnceValues(sandbox.MeasureExecutable)
		// Each device has a counter of its own on the one TPM.
		devices++
		dir := filepath.Join(vm.StateDir, fmt.Sprint(devices))
		keys := &tpmseal.Source{TPM: tpm.Stream(f), PCRs: tpm.DefaultPCRs(), Index: tpmseal.DefaultIndex + devices}
		return teetest.Device{
			Start: func() (tee.TEE, error) {
				e, err := sandbox.Open(context.Background(), sandbox.Config{
					Dir: dir, Keys: keys, Rand: rand.Reader, Now: time.Now, Measure: measure, Confinement: &confine.Report{},
					Boundary: vm.Keeper{Measured: true}.Weaknesses(),
					Identity: sandbox.Identity{OEMID: []byte{0x19, 0x7a, 0x69}, HWModel: []byte("model"), HWVersion: "1.0",
						VendorID: [16]byte{1}, ClassID: [16]byte{2}, AgentVersion: "1.2.3"},
				})
				if err != nil {
					return nil, err
				}
				return e, nil
			},
			Stop: func(e tee.TEE) error { return e.(*sandbox.TEE).Close() },
			Dir:  dir,
			Slow: true,
		}
	})
}

// TestWalls comes last: there is no way back. What breaks out of the runtime of applications in this machine
// gets no further, with the walls that the machine's own kernel has.
func TestWalls(t *testing.T) {
	if !vm.FirstProcess() {
		t.Skip("this is not the first process of a machine: package e2e/vm boots one for it")
	}
	report, err := confine.EnterMachine([]string{vm.StateDir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Missing) > 0 {
		t.Errorf("the machine's kernel lacks %v", report.Missing)
	}
	for _, name := range []string{"/dev/vda", "/dev/tpm0", "/dev/hwrng", "/init", "/proc/kcore", "/sys/kernel/security/tpm0/binary_bios_measurements", "/etc/teep-agent/agent.yaml"} {
		if f, err := os.Open(name); err == nil {
			f.Close()
			t.Errorf("%s can be opened", name)
		} else if errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := unix.Mount("none", vm.StateDir, "tmpfs", 0, ""); !errors.Is(err, unix.EPERM) {
		t.Errorf("mount: %v", err)
	}
	if _, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("socket: %v", err)
	}
	name := filepath.Join(vm.StateDir, "file")
	if err := os.WriteFile(name, []byte("content"), 0o600); err != nil {
		t.Errorf("its own folder: %v", err)
	}
}
