package confine

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"github.com/landlock-lsm/go-landlock/landlock"
	"golang.org/x/sys/unix"
)

// ofMachines are the system calls with which the first process ends its machine.
var ofMachines = []string{"reboot", "sync", "wait4"}

// EnterMachine builds the walls around this process that make sense when it is the first and only one of
// a virtual machine: what breaks out of the runtime of applications has neither the machine's devices nor
// its kernel's interfaces. What the process uses of them is open before. It keeps the folders, where they
// exist, and of all privileges the one to power the machine off; and the system calls that it names
// besides those of every agent.
//
// There is no namespace: there is nothing in the machine to be kept apart from. There is no other user:
// what the first process has made is root's.
func EnterMachine(folders, systemCalls []string) (*Report, error) {
	Harden()
	r := &Report{}
	r.Miss(WallLimits, setLimits())
	if err := keepCapability(unix.CAP_SYS_BOOT); err != nil {
		return nil, fmt.Errorf("confine: give up privileges: %w", err)
	}
	r.Miss(WallNotDumpable, notDumpable())
	r.Miss(WallNoNewPrivs, noNewPrivs())
	var err error
	r.LandlockABI, err = landlockFolders(landlock.RWDirs(folders...).IgnoreIfMissing())
	r.Miss(WallLandlock, err)
	r.Miss(WallSeccomp, filterSystemCalls(append(systemCalls, ofMachines...)...))
	return r, nil
}

// keepCapability leaves the process one capability, and no way to get another.
func keepCapability(keep uintptr) error {
	for c := uintptr(0); c <= lastCapability; c++ {
		if has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0); err != nil {
			break // the kernel knows no more
		} else if has == 0 || c == keep {
			continue
		}
		if err := onAllThreads(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("capability %d: %w", c, err)
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var kept [2]unix.CapUserData
	kept[keep/32].Effective, kept[keep/32].Permitted = 1<<(keep%32), 1<<(keep%32)
	err := onAllThreads(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&kept[0])), 0, 0, 0)
	runtime.KeepAlive(&kept)
	return err
}
