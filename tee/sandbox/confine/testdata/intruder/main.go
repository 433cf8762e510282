// Command intruder is the program of the tests of package confine. It is its own launcher; confined,
// it tries to get out, or waits to be broken into.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/go-teep/teep/tee/sandbox/confine"
	"github.com/go-teep/teep/tee/sandbox/secretmem"
)

// settings come from the test.
type settings struct {
	Dir     string
	UID     int
	Without []confine.Wall
	// Mode is "attack", "wait", "crash" or "spin".
	Mode string
	// Outside is a file outside of the folder that everybody may read.
	Outside string
	// OutsidePID is a process outside, of the same user.
	OutsidePID int
}

// result is what the confined process prints, one JSON text in a line.
type result struct {
	Report      confine.Report
	Measurement []byte
	PID, UID    int
	Files       int
	// Secret is where the secret is in memory.
	Secret   uintptr
	Plain    uintptr
	Kind     secretmem.Kind
	Attempts map[string]string // error, or "" where the attempt succeeded
}

func main() {
	if len(os.Args) < 3 {
		confine.Harden()
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "intruder:", err)
		os.Exit(7)
	}
}

func run() error {
	if len(os.Args) == 2 && os.Args[1] == "confined" {
		return confined()
	}
	if len(os.Args) > 2 && os.Args[1] == "victim" {
		return victim()
	}
	if len(os.Args) > 2 && os.Args[1] == "break in" {
		return breakIn(os.Args[2])
	}
	var s settings
	if err := json.Unmarshal([]byte(os.Args[1]), &s); err != nil {
		return err
	}
	handed, err := os.Open(s.Outside)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	err = confine.Run(ctx, confine.Command{
		Args: []string{"intruder", "confined"}, Dir: s.Dir, User: confine.User{UID: s.UID, GID: s.UID},
		Files: []*os.File{handed}, Handover: []byte(os.Args[1]), Without: s.Without,
	})
	var exit *confine.ExitError
	if errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(max(exit.Code, 1))
	}
	return err
}

func confined() error {
	inside, err := confine.Enter()
	if err != nil {
		return err
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	var s settings
	if err := json.Unmarshal(inside.Handover, &s); err != nil {
		return err
	}
	page, err := secretmem.New()
	if page == nil {
		return err
	}
	inside.Report.Miss(confine.WallSecretMemory, err)
	// The markers are never whole in the program, so that only these two places hold them.
	secret, err := page.Keep([]byte(strings.Repeat("in secret ", 2) + "memory"))
	if err != nil {
		return err
	}
	plain := []byte(strings.Repeat("in plain ", 2) + "memory")
	r := result{
		Report: inside.Report, Measurement: inside.Measurement, PID: os.Getpid(), UID: os.Getuid(), Files: len(inside.Files),
		Secret: uintptr(unsafe.Pointer(&secret[0])), Plain: uintptr(unsafe.Pointer(&plain[0])), Kind: page.Kind(),
	}
	if s.Mode == "attack" {
		r.Attempts = attack(s)
	}
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	fmt.Println(string(line))
	switch s.Mode {
	case "wait":
		<-ended
		runtime.KeepAlive(plain)
		fmt.Println("ended by SIGTERM")
	case "crash":
		os.Exit(3)
	}
	return nil
}

// attack tries everything that a wall is against.
func attack(s settings) map[string]string {
	tried := map[string]string{}
	try := func(what string, f func() error) {
		tried[what] = ""
		if err := f(); err != nil {
			tried[what] = err.Error()
		}
	}
	raw := func(nr uintptr, args ...uintptr) func() error {
		var a [6]uintptr
		copy(a[:], args)
		return func() error {
			if _, _, errno := syscall.RawSyscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
				return errno
			}
			return nil
		}
	}
	// what has to work
	try("allowed: a file in the folder", func() error {
		if err := os.WriteFile("mine", []byte("x"), 0o600); err != nil {
			return err
		}
		return os.Rename("mine", "mine too")
	})
	try("allowed: threads", func() error {
		done := make(chan struct{})
		go func() { runtime.LockOSThread(); close(done) }()
		<-done
		return nil
	})
	try("allowed: memory that is written, then executed", func() error {
		m, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			return err
		}
		return unix.Mprotect(m, unix.PROT_READ|unix.PROT_EXEC)
	})
	// files
	for _, name := range []string{s.Outside, "/etc/passwd", "/proc/self/status", "/proc/1/root/etc/passwd", "/dev/null", "../../../../etc/passwd"} {
		try("file: read "+filepath.Base(filepath.Dir(name))+"/"+filepath.Base(name), func() error { _, err := os.ReadFile(name); return err })
	}
	try("file: write outside", func() error { return os.WriteFile(filepath.Join(filepath.Dir(s.Outside), "planted"), nil, 0o600) })
	try("file: write to /tmp", func() error { return os.WriteFile("/tmp/teep-planted", nil, 0o600) })
	try("file: device", func() error { return unix.Mknod("device", unix.S_IFCHR|0o600, 1<<8|3) })
	try("file: leave by link", func() error {
		if err := os.Symlink(s.Outside, "link"); err != nil {
			return err
		}
		_, err := os.ReadFile("link")
		return err
	})
	// sockets
	try("socket: TCP", func() error {
		_, err := net.DialTimeout("tcp", "127.0.0.1:1", time.Second)
		return hide(err, unix.ECONNREFUSED)
	})
	try("socket: listen", func() error { _, err := net.Listen("tcp", "127.0.0.1:0"); return err })
	try("socket: unix", raw(unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM))
	try("socket: pair", raw(unix.SYS_SOCKETPAIR, unix.AF_UNIX, unix.SOCK_STREAM, 0, uintptr(unsafe.Pointer(new([2]int32)))))
	try("socket: netlink", raw(unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW))
	try("socket: packet", raw(unix.SYS_SOCKET, unix.AF_PACKET, unix.SOCK_RAW))
	// programs and processes
	try("process: program", func() error { return exec.Command("/proc/self/exe").Run() })
	try("process: shell", func() error { return exec.Command("/bin/true").Run() })
	try("process: own program", func() error {
		if err := os.WriteFile("script", []byte("#!/bin/true\n"), 0o700); err != nil {
			return err
		}
		return exec.Command("./script").Run()
	})
	// A child has one thread, in which Go cannot go on: it ends at once.
	fork := func(nr uintptr, args ...uintptr) func() error {
		var a [2]uintptr
		copy(a[:], args)
		return func() error {
			pid, _, errno := syscall.RawSyscall6(nr, a[0], a[1], 0, 0, 0, 0)
			if errno != 0 {
				return errno
			}
			if pid == 0 {
				syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
			}
			return nil
		}
	}
	try("process: fork", fork(unix.SYS_CLONE, uintptr(unix.SIGCHLD)))
	try("process: clone3", fork(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&[8]uint64{4: uint64(unix.SIGCHLD)})), 64))
	try("process: signal outside", raw(unix.SYS_KILL, uintptr(s.OutsidePID), 0))
	try("process: signal all", raw(unix.SYS_KILL, ^uintptr(0), 0))
	try("process: ptrace attach", func() error { return unix.PtraceAttach(s.OutsidePID) })
	try("process: read memory", func() error {
		var b [1]byte
		local, remote := []unix.Iovec{{Base: &b[0], Len: 1}}, []unix.RemoteIovec{{Base: 0x400000, Len: 1}}
		_, err := unix.ProcessVMReadv(s.OutsidePID, local, remote, 0)
		return err
	})
	try("process: pidfd", func() error { _, err := unix.PidfdOpen(s.OutsidePID, 0); return err })
	// privileges
	try("privilege: mount", func() error { return unix.Mount("none", ".", "tmpfs", 0, "") })
	try("privilege: unmount", func() error { return unix.Unmount("/", unix.MNT_DETACH) })
	try("privilege: pivot", func() error { return unix.PivotRoot(".", ".") })
	try("privilege: chroot", func() error { return unix.Chroot(".") })
	try("privilege: user namespace", raw(unix.SYS_UNSHARE, unix.CLONE_NEWUSER))
	try("privilege: mount namespace", raw(unix.SYS_UNSHARE, unix.CLONE_NEWNS))
	try("privilege: join a namespace", raw(unix.SYS_SETNS, 0, 0))
	try("privilege: user", raw(unix.SYS_SETUID, 1))
	try("privilege: group", raw(unix.SYS_SETGROUPS, 0, 0))
	try("privilege: capability", func() error {
		h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		d := [2]unix.CapUserData{{Effective: 1 << unix.CAP_DAC_OVERRIDE, Permitted: 1 << unix.CAP_DAC_OVERRIDE}}
		return unix.Capset(&h, &d[0])
	})
	try("privilege: raise a limit", func() error { return unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1 << 20, Max: 1 << 20}) })
	try("privilege: dumpable again", func() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0) })
	try("privilege: ptracer", func() error { return unix.Prctl(unix.PR_SET_PTRACER, unix.PR_SET_PTRACER_ANY, 0, 0, 0) })
	// kernel
	try("kernel: BPF", raw(unix.SYS_BPF, 0, 0, 0))
	try("kernel: io_uring", raw(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(new([120]byte)))))
	try("kernel: perf", raw(unix.SYS_PERF_EVENT_OPEN, 0, 0, 0, 0, 0))
	try("kernel: keyring", raw(unix.SYS_KEYCTL, 0, 0, 0))
	try("kernel: shared memory", func() error {
		id, _, errno := syscall.RawSyscall(unix.SYS_SHMGET, unix.IPC_PRIVATE, 4096, unix.IPC_CREAT|0o600)
		if errno != 0 {
			return errno
		}
		// What is left there outlives every process.
		return raw(unix.SYS_SHMCTL, id, unix.IPC_RMID)()
	})
	try("kernel: userfaultfd", raw(unix.SYS_USERFAULTFD, 0))
	try("kernel: module", raw(unix.SYS_FINIT_MODULE, 0, 0, 0))
	try("kernel: host name", func() error { return unix.Sethostname([]byte("intruder")) })
	try("kernel: clock", func() error { return unix.Settimeofday(&unix.Timeval{}) })
	try("kernel: terminal input", raw(unix.SYS_IOCTL, 0, unix.TIOCSTI, uintptr(unsafe.Pointer(new(byte)))))
	// memory
	try("memory: written and executed", func() error {
		_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
		return err
	})
	try("memory: program in memory", func() error { _, err := unix.MemfdCreate("x", 0); return err })
	return tried
}

// hide takes an error for success that shows that the attempt got through.
func hide(err, through error) error {
	if errors.Is(err, through) {
		return nil
	}
	return err
}
