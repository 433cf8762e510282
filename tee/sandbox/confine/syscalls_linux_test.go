package confine

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// TestSystemCallsOfEachProcessor: what an agent needs to live is allowed, what makes sockets, processes
// and mounts is not; and where no filter can be built, the Evidence says so and "require" refuses.
func TestSystemCallsOfEachProcessor(t *testing.T) {
	never := []string{"socket", "connect", "bind", "execve", "execveat", "fork", "vfork", "clone3", "mount", "umount2", "ptrace",
		"process_vm_readv", "process_vm_writev", "bpf", "keyctl", "unshare", "setns", "init_module", "kexec_load", "pidfd_getfd", "io_uring_setup", "userfaultfd", "perf_event_open"}
	for _, goarch := range []string{"amd64", "arm64"} {
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
	_, err := allowedOn("riscv64")
	if err == nil {
		t.Fatal("there is a table for riscv64 now: take it out of the documentation")
	}
	var r Report
	r.Miss(WallSeccomp, err)
	if w := r.Weaknesses(); len(w) != 1 || !strings.Contains(w[0], "seccomp: there is no table of system calls for riscv64") {
		t.Errorf("the Evidence says %q", w)
	}
	if err := r.Require([]Wall{WallSeccomp}); !errors.Is(err, ErrMissing) {
		t.Errorf("%v", err)
	}
}
