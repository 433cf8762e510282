package vm

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-teep/teep/link/vsock"
	"github.com/go-teep/teep/tee/vm/image"
)

// FirstProcess tells whether this process is the first one of a machine that boots an image.
func FirstProcess() bool { return os.Getpid() == 1 && os.Args[0] == image.InitPath }

// Names that the host gives its devices, by which they are found inside.
const (
	// LinkPort is the virtio-serial port of the link, with a number from 0 behind it.
	LinkPort = "org.go-teep.link."
	// OwnerPort is the port on which the machine's owner asks (package link/owner), with the number 0.
	OwnerPort = "org.go-teep.owner."
	// StateDisk is the serial number of the disk with the sealed state.
	StateDisk = "teep-state"
	// ApprovalsDisk is the serial number of a disk with what the vendor of images approved, which is
	// not the image's own: it says something about the image.
	ApprovalsDisk = "teep-approvals"
)

const (
	stateMount = "/state"
	// StateDir is the folder of the TEE, on the disk with the sealed state.
	StateDir = stateMount + "/tee"
	// devicePatience is how long a device may take to appear after its module was loaded.
	devicePatience = 10 * time.Second
)

// fileSystems are mounted in this order. A kernel that lacks an optional one lacks a kind of Evidence.
var fileSystems = []struct {
	kind, at string
	optional bool
}{
	{"proc", "/proc", false},
	{"sysfs", "/sys", false},
	{"devtmpfs", "/dev", false},
	{"tmpfs", "/tmp", false},
	{"securityfs", "/sys/kernel/security", true},
	{"configfs", "/sys/kernel/config", true},
}

// Machine is this virtual machine.
type Machine struct {
	log *slog.Logger
	// The link's: one of them is open once the TEE is. owner is there if the host gives one.
	ports, owner            []*os.File
	listener, ownerListener *vsock.Listener
}

// Boot does what the first process of a machine has to do before anything else. After an error the
// machine is of no use but to say so and be powered off.
func Boot(log *slog.Logger) (*Machine, error) {
	m := &Machine{log: log}
	// The kernel's module files come from the initramfs, /proc is not needed for them; configfs may
	// be such a module.
	if err := loadModules("/"); err != nil {
		return m, err
	}
	for _, fs := range fileSystems {
		if err := mount(fs.kind, fs.at); err != nil && !fs.optional {
			return m, err
		} else if err != nil {
			log.Info("not mounted", "kind", fs.kind, "err", err)
		}
	}
	go m.reap()
	return m, nil
}

func mount(kind, at string) error {
	if err := os.MkdirAll(at, 0o755); err != nil {
		return fmt.Errorf("vm: %w", err)
	}
	flags := uintptr(unix.MS_NOSUID | unix.MS_NOEXEC)
	if kind != "devtmpfs" {
		flags |= unix.MS_NODEV
	}
	if err := unix.Mount(kind, at, kind, flags, ""); err != nil {
		return fmt.Errorf("vm: mount %s at %s: %w", kind, at, err)
	}
	return nil
}

// loadModules loads the kernel modules that the image lists, in its order.
func loadModules(root string) error {
	list, err := os.ReadFile(path.Join(root, image.LoadFile))
	if err != nil {
		return fmt.Errorf("vm: the image lists no kernel modules: %w", err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(list)); lines.Scan(); {
		name := lines.Text()
		if err := loadModule(path.Join(root, image.ModulesPath, name+".ko")); err != nil {
			return fmt.Errorf("vm: kernel module %s: %w", name, err)
		}
	}
	return nil
}

// loadModule loads one. A module that is there already, or whose hardware is not, is fine.
func loadModule(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	err = unix.FinitModule(int(f.Fd()), "", 0)
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENODEV) {
		err = nil
	}
	return errors.Join(err, f.Close())
}

// reap takes the ends of processes whose parents are gone: they are the first process's children.
// It starts none itself.
func (m *Machine) reap() {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	for range ended {
		for {
			pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
			if err != nil || pid <= 0 {
				break
			}
		}
	}
}

// MountState mounts the disk with the sealed state, which the host formatted, and makes the TEE's
// folder on it. Its content is the host's to change: what is trusted in it is authenticated when it
// is read.
func (m *Machine) MountState() error {
	device, err := waitForState()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(stateMount, 0o700); err != nil {
		return fmt.Errorf("vm: %w", err)
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME
	if err := unix.Mount(device, stateMount, "ext4", flags, "errors=remount-ro"); err != nil {
		return fmt.Errorf("vm: mount %s, which must hold an ext4 file system: %w", device, err)
	}
	if err := os.MkdirAll(StateDir, 0o700); err != nil {
		return fmt.Errorf("vm: %w", err)
	}
	return nil
}

func waitForState() (string, error) {
	return waitFor("the disk with the sealed state", func() (string, error) { return findDisk(StateDisk) })
}

// Approvals reads what the vendor approved, limit bytes at most, with what the disk has behind it; nil if
// the host gave no such disk. It is the host's to change.
func (m *Machine) Approvals(limit int64) ([]byte, error) {
	// Disks are there together with the one that every machine has.
	if _, err := waitForState(); err != nil {
		return nil, err
	}
	device, err := findDisk(ApprovalsDisk)
	if err != nil || device == "" {
		return nil, err
	}
	f, err := os.Open(device)
	if err != nil {
		return nil, fmt.Errorf("vm: the disk with approvals: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("vm: read the disk with approvals: %w", err)
	}
	return data, nil
}

// findDisk finds a disk by its serial number; "" until it is there.
func findDisk(serial string) (string, error) {
	names, err := filepath.Glob("/sys/block/*/serial")
	if err != nil {
		return "", err
	}
	for _, name := range names {
		found, err := os.ReadFile(name)
		if err == nil && strings.TrimSpace(string(found)) == serial {
			return "/dev/" + filepath.Base(filepath.Dir(name)), nil
		}
	}
	return "", nil
}

// waitFor asks until there is an answer: buses report their devices when it suits them.
func waitFor[T comparable](what string, find func() (T, error)) (T, error) {
	var none T
	for deadline := time.Now().Add(devicePatience); ; time.Sleep(5 * time.Millisecond) {
		found, err := find()
		if err != nil {
			return none, fmt.Errorf("vm: %s: %w", what, err)
		}
		if found != none {
			return found, nil
		}
		if time.Now().After(deadline) {
			return none, fmt.Errorf("vm: the machine has no device that is %s: the host has to give it one", what)
		}
	}
}

// PowerOff ends the machine. What was written to its disk is on it then. The disk stays mounted: taking
// it away is a privilege that the process has not any longer, and nothing is lost.
func (m *Machine) PowerOff() {
	unix.Sync()
	// Only the first process may, and it is that.
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		m.log.Error("power off", "err", err)
	}
}
