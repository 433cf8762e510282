package confine

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// riscv64 has the numbers of the system calls on that processor, for which the library that builds filters has
// no table: as golang.org/x/sys/unix has them, of those that are allowed to somebody.
var riscv64 = map[string]int{
	"accept": 202, "accept4": 242, "brk": 214, "capget": 90, "clock_getres": 114, "clock_gettime": 113, "clock_nanosleep": 115,
	"clone": 220, "close": 57, "close_range": 436, "copy_file_range": 285, "dup": 23, "dup3": 24, "epoll_create1": 20,
	"epoll_ctl": 21, "epoll_pwait": 22, "epoll_pwait2": 441, "eventfd2": 19, "exit": 93, "exit_group": 94, "faccessat": 48,
	"faccessat2": 439, "fadvise64": 223, "fallocate": 47, "fchdir": 50, "fchmod": 52, "fchmodat": 53, "fcntl": 25,
	"fdatasync": 83, "flock": 32, "fstat": 80, "fstatfs": 44, "fsync": 82, "ftruncate": 46, "futex": 98, "getcpu": 168,
	"getcwd": 17, "getdents64": 61, "getegid": 177, "geteuid": 175, "getgid": 176, "getgroups": 158, "getpeername": 205,
	"getpid": 172, "getppid": 173, "getrandom": 278, "getresgid": 150, "getresuid": 148, "getrlimit": 163, "getrusage": 165,
	"getsockname": 204, "getsockopt": 209, "gettid": 178, "gettimeofday": 169, "getuid": 174, "ioctl": 29, "linkat": 37,
	"listen": 201, "lseek": 62, "madvise": 233, "membarrier": 283, "memfd_secret": 447, "mincore": 232, "mkdirat": 34,
	"mlock": 228, "mlock2": 284, "mmap": 222, "mprotect": 226, "mremap": 216, "munlock": 229, "munmap": 215, "nanosleep": 101, "newfstatat": 79,
	"openat": 56, "openat2": 437, "pipe2": 59, "pkey_mprotect": 288, "ppoll": 73, "prctl": 167, "pread64": 67, "preadv": 69,
	"prlimit64": 261, "pwrite64": 68, "pwritev": 70, "read": 63, "readlinkat": 78, "readv": 65, "reboot": 142, "recvfrom": 207,
	"recvmsg": 212, "renameat2": 276, "restart_syscall": 128, "rseq": 293, "rt_sigaction": 134, "rt_sigpending": 136,
	"rt_sigprocmask": 135, "rt_sigreturn": 139, "rt_sigtimedwait": 137, "sched_getaffinity": 123, "sched_yield": 124,
	"sendmsg": 211, "sendto": 206, "set_robust_list": 99, "set_tid_address": 96, "setitimer": 103, "setsockopt": 208,
	"shutdown": 210, "sigaltstack": 132, "statfs": 43, "statx": 291, "sync": 81, "sync_file_range": 84, "sysinfo": 179,
	"tgkill": 131, "timer_create": 107, "timer_delete": 111, "timer_settime": 110, "tkill": 130, "uname": 160, "unlinkat": 35,
	"utimensat": 88, "wait4": 260, "write": 64, "writev": 66,
}

// Where the kernel has what a filter looks at (Linux, struct seccomp_data), and what it asks for.
const (
	dataNumber, dataArch = 0, 4
	wordSize             = 4
	filterTSync          = 1 // SECCOMP_FILTER_FLAG_TSYNC: all threads
	setModeFilter        = 1 // SECCOMP_SET_MODE_FILTER
)

// riscv64Filter is the program that lets the named calls pass, and those with conditions where they hold.
func riscv64Filter(names []string, conditions []seccomp.NameWithConditions) ([]bpf.Instruction, error) {
	var calls []seccomp.SyscallWithConditions
	for _, name := range names {
		calls = append(calls, seccomp.SyscallWithConditions{Num: uint32(riscv64[name])})
	}
	at := map[string]int{}
	for _, c := range conditions {
		number, known := riscv64[c.Name]
		if !known {
			return nil, fmt.Errorf("there is no system call %s on riscv64", c.Name)
		}
		i, again := at[c.Name]
		if !again {
			i = len(calls)
			at[c.Name] = i
			calls = append(calls, seccomp.SyscallWithConditions{Num: uint32(number)})
		}
		calls[i].Conditions = append(calls[i].Conditions, c.Conditions)
	}
	p := seccomp.NewProgram()
	allow, refuse := p.NewLabel(), p.NewLabel()
	for i, c := range calls {
		c.Assemble(&p, i < len(calls)-1, allow, refuse)
	}
	p.SetLabel(allow)
	p.Ret(seccomp.ActionAllow)
	p.SetLabel(refuse)
	p.Ret(seccomp.ActionErrno)
	body, err := p.Assemble()
	if err != nil {
		return nil, err
	}
	return append([]bpf.Instruction{
		bpf.LoadAbsolute{Off: dataArch, Size: wordSize},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.AUDIT_ARCH_RISCV64, SkipTrue: 1},
		bpf.RetConstant{Val: uint32(seccomp.ActionErrno) | uint32(unix.EPERM)},
		bpf.LoadAbsolute{Off: dataNumber, Size: wordSize},
	}, body...), nil
}

// load puts a program in force, in all threads.
func load(program []bpf.Instruction) error {
	raw, err := bpf.Assemble(program)
	if err != nil {
		return err
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		filter[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	arg := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := syscall.Syscall(unix.SYS_SECCOMP, setModeFilter, filterTSync, uintptr(unsafe.Pointer(&arg)))
	runtime.KeepAlive(filter)
	if errno != 0 {
		return errno
	}
	return nil
}
