package confine

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// TestSystemCallsOfEachProcessor: what an agent needs to live is allowed, what makes sockets, processes
// and mounts is not; and where no filter can be built, the Evidence says so and "require" refuses.
func TestSystemCallsOfEachProcessor(t *testing.T) {
	never := []string{"socket", "connect", "bind", "execve", "execveat", "fork", "vfork", "clone3", "mount", "umount2", "ptrace",
		"process_vm_readv", "process_vm_writev", "bpf", "keyctl", "unshare", "setns", "init_module", "kexec_load", "pidfd_getfd", "io_uring_setup", "userfaultfd", "perf_event_open"}
	for _, goarch := range []string{"amd64", "arm64", "riscv64"} {
		names, err := allowedOn(goarch)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"read", "write", "futex", "openat", "epoll_pwait", "accept4", "fsync", "exit_group"} {
			if !slices.Contains(names, name) {
				t.Errorf("%s: %s is not allowed", goarch, name)
			}
		}
		for _, name := range never {
			if slices.Contains(names, name) {
				t.Errorf("%s: %s is allowed", goarch, name)
			}
		}
	}
	_, err := allowedOn("ppc64le")
	if err == nil {
		t.Fatal("there is a table for ppc64le now: take another processor")
	}
	var r Report
	r.Miss(WallSeccomp, err)
	if w := r.Weaknesses(); len(w) != 1 || !strings.Contains(w[0], "seccomp: there is no table of system calls for ppc64le") {
		t.Errorf("the Evidence says %q", w)
	}
	if err := r.Require([]Wall{WallSeccomp}); !errors.Is(err, ErrMissing) {
		t.Errorf("%v", err)
	}
}

// TestRISCV64Table: the numbers are those of the kernel's generic table, which arm64 has too, for what both
// processors have; a list that is older or newer than the kernel's own would let something else pass.
func TestRISCV64Table(t *testing.T) {
	common := 0
	for name, number := range riscv64 {
		if other, has := arch.AARCH64.SyscallNames[name]; has {
			common++
			if other != number {
				t.Errorf("%s is %d, and %d on arm64", name, number, other)
			}
		}
	}
	if common < len(riscv64)-3 {
		t.Errorf("only %d of %d names are arm64's too", common, len(riscv64))
	}
}

// TestRISCV64Filter runs the filter of that processor on a machine of another, as the kernel would.
func TestRISCV64Filter(t *testing.T) {
	names, err := allowedOn("riscv64")
	if err != nil {
		t.Fatal(err)
	}
	program, err := riscv64Filter(names, conditions())
	if err != nil {
		t.Fatal(err)
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	verdict := func(machine uint32, number int, args ...uint64) uint32 {
		// The machine reads words as they come from a network; the kernel reads its own. The low word of an
		// argument is in front there.
		data := binary.BigEndian.AppendUint32(nil, uint32(number))
		data = binary.BigEndian.AppendUint32(data, machine)
		data = append(data, make([]byte, 8)...)
		for i := range 6 {
			var a uint64
			if i < len(args) {
				a = args[i]
			}
			data = binary.BigEndian.AppendUint32(data, uint32(a))
			data = binary.BigEndian.AppendUint32(data, uint32(a>>32))
		}
		result, err := vm.Run(data)
		if err != nil {
			t.Fatal(err)
		}
		return uint32(result)
	}
	const allowed, refused = 0x7fff0000, 0x00050000 | uint32(unix.EPERM)
	const riscv, thread = unix.AUDIT_ARCH_RISCV64, unix.CLONE_THREAD | unix.CLONE_VM
	for _, name := range names {
		if got := verdict(riscv, riscv64[name]); got != allowed {
			t.Errorf("%s: %#x", name, got)
		}
	}
	for _, tc := range []struct {
		what    string
		machine uint32
		number  int
		args    []uint64
		want    uint32
	}{
		{"a thread", riscv, riscv64["clone"], []uint64{thread}, allowed},
		{"a process", riscv, riscv64["clone"], []uint64{uint64(unix.SIGCHLD)}, refused},
		{"a thread in a namespace", riscv, riscv64["clone"], []uint64{thread | unix.CLONE_NEWUSER}, refused},
		{"memory to write", riscv, riscv64["mmap"], []uint64{0, 4096, unix.PROT_READ | unix.PROT_WRITE}, allowed},
		{"memory to execute", riscv, riscv64["mprotect"], []uint64{0, 4096, unix.PROT_READ | unix.PROT_EXEC}, allowed},
		{"memory to write and execute", riscv, riscv64["mmap"], []uint64{0, 4096, unix.PROT_WRITE | unix.PROT_EXEC}, refused},
		{"memory to write and execute, later", riscv, riscv64["mprotect"], []uint64{0, 4096, unix.PROT_WRITE | unix.PROT_EXEC}, refused},
		{"a name for a thread", riscv, riscv64["prctl"], []uint64{unix.PR_SET_NAME}, allowed},
		{"dumpable", riscv, riscv64["prctl"], []uint64{unix.PR_SET_DUMPABLE}, refused},
		{"a debugger", riscv, riscv64["prctl"], []uint64{unix.PR_SET_PTRACER}, refused},
		{"socket", riscv, 198, nil, refused},
		{"execve", riscv, 221, nil, refused},
		{"ptrace", riscv, 117, nil, refused},
		{"mount", riscv, 40, nil, refused},
		{"reboot, which only a machine's agent may", riscv, riscv64["reboot"], nil, refused},
		{"no such number", riscv, 100000, nil, refused},
		{"another processor's call", unix.AUDIT_ARCH_AARCH64, riscv64["read"], nil, refused},
		{"a 32-bit call", unix.AUDIT_ARCH_RISCV32, riscv64["read"], nil, refused},
	} {
		if got := verdict(tc.machine, tc.number, tc.args...); got != tc.want {
			t.Errorf("%s: %#x, want %#x", tc.what, got, tc.want)
		}
	}
}
