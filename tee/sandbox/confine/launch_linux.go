package confine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

const terminate = syscall.SIGTERM

func programPath() string { return fmt.Sprintf("/proc/self/fd/%d", programFile) }

// namespaces are the walls that a process is born with.
var namespaces = []struct {
	wall Wall
	file string // in /proc/self/ns
	flag uintptr
}{
	{WallUserNamespace, "user", unix.CLONE_NEWUSER},
	{WallMountNamespace, "mnt", unix.CLONE_NEWNS},
	{WallPIDNamespace, "pid", unix.CLONE_NEWPID},
	{WallNetNamespace, "net", unix.CLONE_NEWNET},
	{WallIPCNamespace, "ipc", unix.CLONE_NEWIPC},
	{WallUTSNamespace, "uts", unix.CLONE_NEWUTS},
}

// Run starts this program again, confined, and waits for it. SIGTERM reaches it when ctx ends. It
// is killed when the launcher dies. An *ExitError is how it ended.
//
// What the kernel or its administrator does not grant is left out, and reported by Enter.
func Run(ctx context.Context, c Command) error {
	// The kernel kills the child when the thread that made it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := os.Chdir(c.Dir); err != nil {
		return fmt.Errorf("confine: %w", err)
	}
	for _, f := range c.Files {
		// A file that is in non-blocking mode for one process is so for the other.
		if f == nil {
			return errors.New("confine: a file to hand over is missing")
		}
	}
	h := handover{Payload: c.Handover, Files: len(c.Files), Without: c.Without, Namespaces: namespaceIDs()}
	program, copyErr := sealedProgram()
	if copyErr != nil {
		var err error
		if program, err = os.Open("/proc/self/exe"); err != nil {
			return fmt.Errorf("confine: %w", err)
		}
	}
	defer program.Close()
	flags := c.wanted(&h.Report, copyErr)
	for {
		err := c.attempt(ctx, program, h, flags)
		var start *startError
		if !errors.As(err, &start) || flags == 0 {
			return err
		}
		flags = fewer(flags, &h.Report, start.err)
	}
}

// wanted returns the namespaces to ask for.
func (c Command) wanted(r *Report, copyErr error) uintptr {
	var flags uintptr
	for _, ns := range namespaces {
		switch _, err := os.Stat("/proc/self/ns/" + ns.file); {
		case slices.Contains(c.Without, ns.wall):
			r.Miss(ns.wall, errWithout)
		case err != nil:
			r.Miss(ns.wall, fmt.Errorf("the kernel has none: %w", err))
		default:
			flags |= ns.flag
		}
	}
	root := os.Geteuid() == 0
	if flags&unix.CLONE_NEWUSER != 0 && copyErr != nil && !root {
		// Without the copy, the user could read the process: rather no namespaces.
		r.Miss(WallUserNamespace, fmt.Errorf("it would open the process to its user, because there is no copy of the program: %w", copyErr))
		flags &^= unix.CLONE_NEWUSER
	}
	if flags&unix.CLONE_NEWUSER == 0 && !root {
		missAll(flags, r, errors.New("only root has it without a user namespace"))
		return 0
	}
	return flags
}

// fewer is what to ask for after the kernel refused.
func fewer(flags uintptr, r *Report, cause error) uintptr {
	if flags&unix.CLONE_NEWUSER != 0 {
		r.Miss(WallUserNamespace, cause)
		if os.Geteuid() == 0 {
			return flags &^ unix.CLONE_NEWUSER
		}
	}
	missAll(flags, r, cause)
	return 0
}

func missAll(flags uintptr, r *Report, cause error) {
	for _, ns := range namespaces {
		if flags&ns.flag != 0 {
			r.Miss(ns.wall, cause)
		}
	}
}

func (c Command) attempt(ctx context.Context, program *os.File, h handover, flags uintptr) error {
	root := os.Geteuid() == 0
	attr := &syscall.SysProcAttr{
		Cloneflags: flags,
		Pdeathsig:  syscall.SIGKILL,
		// A terminal's Ctrl-C is for the launcher, which tells the confined process once.
		Setpgid: true,
	}
	switch {
	case root && flags&unix.CLONE_NEWUSER != 0:
		attr.UidMappings = []syscall.SysProcIDMap{{HostID: c.User.UID, Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{HostID: c.User.GID, Size: 1}}
		attr.GidMappingsEnableSetgroups = true
		attr.Credential = &syscall.Credential{Groups: []uint32{}}
		h.Privileged = c.User.UID == 0
	case root:
		h.Become = &c.User
		h.Privileged = c.User.UID == 0
	case flags&unix.CLONE_NEWUSER != 0:
		// No group is mapped: so the copy of the program, which belongs to the user and the
		// user's group, is outside the namespace, and cannot be read in it by capability.
		attr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
	}
	return attempt(ctx, c, program, h, func(cmd *exec.Cmd) error {
		cmd.SysProcAttr = attr
		if root || flags&unix.CLONE_NEWUSER == 0 {
			return cmd.Start()
		}
		return startDumpable(cmd)
	})
}

// startDumpable lets an ordinary user write the child's table of users, which the kernel refuses
// while the launcher's memory, which the child still shares then, is not dumpable. There is
// nothing secret in it. The confined process has memory of its own, which never is dumpable.
func startDumpable(cmd *exec.Cmd) error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
		return err
	}
	return errors.Join(cmd.Start(), notDumpable())
}

func namespaceIDs() map[string]string {
	ids := map[string]string{}
	for _, ns := range namespaces {
		if id, err := os.Readlink("/proc/self/ns/" + ns.file); err == nil {
			ids[ns.file] = id
		}
	}
	return ids
}

// sealedProgram copies the program that runs into memory, executable, not readable by name, and
// unchangeable. The copy's owner is the launcher's user.
func sealedProgram() (*os.File, error) {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	defer self.Close()
	fd, err := unix.MemfdCreate("teep-program", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // MFD_EXEC is of Linux 6.3
		fd, err = unix.MemfdCreate("teep-program", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("memory for a program: %w", err)
	}
	f := os.NewFile(uintptr(fd), "program")
	if _, err = io.Copy(f, self); err == nil {
		err = f.Chmod(0o111)
	}
	if err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("copy the program: %w", err), f.Close())
	}
	return f, nil
}
