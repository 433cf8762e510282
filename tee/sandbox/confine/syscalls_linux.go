package confine

import (
	"fmt"
	"runtime"
	"slices"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

// allowed are the system calls of the Go runtime, of files in the one folder, and of connections
// that come in through the socket that was handed over. There is none that makes a socket, starts a
// program, touches another process, mounts or changes an identity.
var allowed = []string{
	// memory; mmap, mprotect and pkey_mprotect have conditions
	"brk", "madvise", "mincore", "mlock", "mlock2", "mremap", "munlock", "munmap", "memfd_secret",
	// threads and time; clone has conditions
	"arch_prctl", "clock_getres", "clock_gettime", "clock_nanosleep", "exit", "exit_group", "futex",
	"getcpu", "getpid", "getppid", "gettid", "gettimeofday", "membarrier", "nanosleep", "restart_syscall", "rseq",
	"sched_getaffinity", "sched_yield", "set_robust_list", "set_tid_address", "setitimer",
	"timer_create", "timer_delete", "timer_settime", "time",
	// signals, to this process: there is no other in sight
	"rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait", "sigaltstack", "tgkill", "tkill",
	// what it is; prctl has conditions
	"capget", "getegid", "geteuid", "getgid", "getgroups", "getrandom", "getresgid", "getresuid", "getrlimit", "getrusage",
	"getuid", "prlimit64", "sysinfo", "uname",
	// files
	"access", "close", "close_range", "copy_file_range", "dup", "dup3", "faccessat", "faccessat2", "fadvise64", "fallocate",
	"fchdir", "fchmod", "fchmodat", "fcntl", "fdatasync", "flock", "fstat", "fstatfs", "fsync", "ftruncate", "getcwd", "getdents64",
	"linkat", "lseek", "lstat", "mkdirat", "newfstatat", "open", "openat", "openat2", "pread64", "preadv", "pwrite64",
	"pwritev", "read", "readlinkat", "readv", "renameat", "renameat2", "stat", "statfs", "statx", "sync_file_range",
	"unlinkat", "utimensat", "write", "writev",
	// events and connections
	"accept", "accept4", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2", "epoll_wait", "eventfd2", "getpeername",
	"getsockname", "getsockopt", "listen", "pipe2", "poll", "ppoll", "recvfrom", "recvmsg", "sendmsg", "sendto", "setsockopt", "shutdown",
}

// newNamespaces are the flags of clone that leave a namespace.
const newNamespaces = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP

// conditions: a new thread and no new process; memory that can be written or executed and not both at
// a time, which is how the WebAssembly compiler uses it.
func conditions() []seccomp.NameWithConditions {
	list := []seccomp.NameWithConditions{{Name: "clone", Conditions: seccomp.ArgumentConditions{
		{Argument: 0, Operation: seccomp.BitsSet, Value: unix.CLONE_THREAD},
		{Argument: 0, Operation: seccomp.BitsNotSet, Value: newNamespaces},
	}}}
	// What keeps other processes out of this one stays.
	list = append(list, seccomp.NameWithConditions{Name: "prctl", Conditions: seccomp.ArgumentConditions{
		{Argument: 0, Operation: seccomp.NotEqual, Value: unix.PR_SET_DUMPABLE},
		{Argument: 0, Operation: seccomp.NotEqual, Value: unix.PR_SET_PTRACER},
	}})
	for _, name := range []string{"mmap", "mprotect", "pkey_mprotect"} {
		for _, absent := range []uint64{unix.PROT_WRITE, unix.PROT_EXEC} {
			list = append(list, seccomp.NameWithConditions{Name: name, Conditions: seccomp.ArgumentConditions{
				{Argument: 2, Operation: seccomp.BitsNotSet, Value: absent},
			}})
		}
	}
	return list
}

// filterSystemCalls makes every other system call fail with EPERM, on all threads. An error that a
// program handles tells more than its death, and attackers gain nothing by it.
func filterSystemCalls(more ...string) error {
	names, err := allowedOn(runtime.GOARCH, more...)
	if err != nil {
		return err
	}
	if runtime.GOARCH == "riscv64" {
		program, err := riscv64Filter(names, conditions())
		if err != nil {
			return err
		}
		if err := noNewPrivs(); err != nil {
			return err
		}
		return load(program)
	}
	return seccomp.LoadFilter(seccomp.Filter{
		NoNewPrivs: true,
		Flag:       seccomp.FilterFlagTSync,
		Policy: seccomp.Policy{
			DefaultAction: seccomp.ActionErrno,
			Syscalls: []seccomp.SyscallGroup{
				{Action: seccomp.ActionAllow, Names: names, NamesWithCondtions: conditions()},
			},
		},
	})
}

// allowedOn are those of allowed that exist on a processor. For some processors there is no table: there the
// wall is missing, and the Evidence says so.
func allowedOn(goarch string, more ...string) ([]string, error) {
	numbers := riscv64
	if goarch != "riscv64" {
		info, err := arch.GetInfo(goarch)
		if err != nil {
			return nil, fmt.Errorf("there is no table of system calls for %s: %w", goarch, err)
		}
		numbers = info.SyscallNames
	}
	var names []string
	for _, name := range append(slices.Clone(allowed), more...) {
		if _, ok := numbers[name]; ok {
			names = append(names, name)
		}
	}
	return names, nil
}
