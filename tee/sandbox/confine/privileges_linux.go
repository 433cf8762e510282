package confine

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/psx"
)

// Harden closes the ways into a process that cost nothing to close: no memory dumps, no debugger
// of the same user, no files that others can read. It affects the whole process and cannot be
// undone; a program calls it first of all. Enter checks that it worked.
func Harden() {
	syscall.Umask(0o077)
	_ = notDumpable()
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
}

func notDumpable() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return err
	}
	if v, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || v != 0 {
		return fmt.Errorf("it is %d after it was set to 0: %v", v, err)
	}
	return nil
}

// onAllThreads makes a system call whose effect is on one thread, on each.
func onAllThreads(nr, a, b, c, d, e uintptr) error {
	if _, _, errno := psx.Syscall6(nr, a, b, c, d, e, 0); errno != 0 {
		return errno
	}
	return nil
}

func noNewPrivs() error {
	return onAllThreads(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
}

const lastCapability = 63

// dropPrivileges leaves the process no capability and no way to get one, and makes it another user
// if it is still root outside.
func dropPrivileges(become *User) error {
	for c := uintptr(0); c <= lastCapability; c++ {
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if err != nil {
			break // the kernel knows no more
		}
		if has == 0 {
			continue
		}
		if err := onAllThreads(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("capability %d: %w", c, err)
		}
	}
	if become != nil {
		if err := syscall.Setgroups([]int{}); err != nil {
			return fmt.Errorf("leave the groups: %w", err)
		}
		if err := syscall.Setresgid(become.GID, become.GID, become.GID); err != nil {
			return fmt.Errorf("become group %d: %w", become.GID, err)
		}
		if err := syscall.Setresuid(become.UID, become.UID, become.UID); err != nil {
			return fmt.Errorf("become user %d: %w", become.UID, err)
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	return onAllThreads(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&none[0])), 0, 0, 0)
}

// checkUnprivileged asks the kernel.
func checkUnprivileged(privileged bool) error {
	if privileged {
		return errors.New("it is root outside")
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var has [2]unix.CapUserData
	if err := unix.Capget(&header, &has[0]); err != nil {
		return err
	}
	for _, h := range has {
		if h.Effective|h.Permitted|h.Inheritable != 0 {
			return errors.New("it has capabilities")
		}
	}
	return nil
}

// The limits of the confined process. Memory is bounded as what it may write to: applications have
// their own, smaller bounds.
const (
	maxOpenFiles  = 1024
	maxThreads    = 512
	maxDataBytes  = 16 << 30
	maxStackBytes = 8 << 20
)

func setLimits() error {
	limits := []struct {
		resource int
		value    uint64
	}{
		{unix.RLIMIT_CORE, 0},
		{unix.RLIMIT_NOFILE, maxOpenFiles},
		{unix.RLIMIT_DATA, maxData()},
		{unix.RLIMIT_STACK, maxStackBytes},
		{unix.RLIMIT_MSGQUEUE, 0},
	}
	// Before Linux 5.14 all processes of the user counted, whatever their namespace.
	if kernelAtLeast(5, 14) {
		limits = append(limits, struct {
			resource int
			value    uint64
		}{unix.RLIMIT_NPROC, maxThreads})
	}
	for _, l := range limits {
		var now unix.Rlimit
		if err := unix.Getrlimit(l.resource, &now); err != nil {
			return err
		}
		value := min(l.value, now.Max)
		if err := unix.Setrlimit(l.resource, &unix.Rlimit{Cur: value, Max: value}); err != nil {
			return fmt.Errorf("resource %d: %w", l.resource, err)
		}
	}
	return nil
}

// maxData is the memory of the device, if that is less.
func maxData() uint64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return maxDataBytes
	}
	return min(maxDataBytes, uint64(info.Totalram)*uint64(info.Unit))
}

func kernelAtLeast(major, minor int) bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	var a, b int
	if n, _ := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &a, &b); n != 2 {
		return false
	}
	return a > major || a == major && b >= minor
}
