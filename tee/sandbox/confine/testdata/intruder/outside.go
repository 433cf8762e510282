package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// target is whom to break into, from the test.
type target struct {
	PID           int
	Secret, Plain uintptr
	Dir           string
}

// victim is a process without walls: to see that the attacks work.
func victim() error {
	plain := []byte(strings.Repeat("in plain ", 2) + "memory")
	line, err := json.Marshal(result{PID: os.Getpid(), UID: os.Getuid(), Plain: uintptr(unsafe.Pointer(&plain[0]))})
	if err != nil {
		return err
	}
	fmt.Println(string(line))
	_, err = io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(plain)
	return err
}

// breakIn tries to get at a process from outside, and prints what came of it.
func breakIn(text string) error {
	var t target
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		return err
	}
	runtime.LockOSThread() // ptrace is a matter of threads
	tried := map[string]string{}
	try := func(what string, f func() error) {
		tried[what] = ""
		if err := f(); err != nil {
			tried[what] = err.Error()
		}
	}
	proc := func(name string) string { return fmt.Sprintf("/proc/%d/%s", t.PID, name) }
	for what, at := range map[string]uintptr{"plain": t.Plain, "secret": t.Secret} {
		if at == 0 {
			continue
		}
		try("memory: /proc/PID/mem, "+what, func() error { return readMem(proc("mem"), at) })
		try("memory: process_vm_readv, "+what, func() error { return vmRead(t.PID, at) })
		try("memory: process_vm_writev, "+what, func() error { return vmWrite(t.PID, at) })
	}
	try("debug: ptrace attach", func() error {
		if err := unix.PtraceAttach(t.PID); err != nil {
			return err
		}
		_, err := unix.Wait4(t.PID, nil, 0, nil)
		return errors.Join(err, unix.PtraceDetach(t.PID))
	})
	try("debug: ptrace seize", func() error {
		if err := unix.PtraceSeize(t.PID); err != nil {
			return err
		}
		return nil
	})
	for _, name := range []string{"maps", "environ", "auxv", "stack", "syscall"} {
		try("proc: read "+name, func() error { _, err := os.ReadFile(proc(name)); return err })
	}
	for _, name := range []string{"root", "cwd", "exe", "ns/user", "ns/mnt"} {
		try("proc: follow "+name, func() error { _, err := os.Readlink(proc(name)); return err })
	}
	try("proc: list fd", func() error { _, err := os.ReadDir(proc("fd")); return err })
	try("files: steal one", func() error {
		pidfd, err := unix.PidfdOpen(t.PID, 0)
		if err != nil {
			return err
		}
		for fd := range 64 {
			if _, err = unix.PidfdGetfd(pidfd, fd, 0); err == nil {
				return nil
			}
		}
		return err
	})
	for name, flag := range map[string]int{"user": unix.CLONE_NEWUSER, "mnt": unix.CLONE_NEWNS, "net": unix.CLONE_NEWNET} {
		try("namespace: join "+name+" by pidfd", func() error {
			pidfd, err := unix.PidfdOpen(t.PID, 0)
			if err != nil {
				return err
			}
			return unix.Setns(pidfd, flag)
		})
	}
	try("limits: set", func() error {
		return unix.Prlimit(t.PID, unix.RLIMIT_CORE, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}, nil)
	})
	try("storage: list", func() error { _, err := os.ReadDir(t.Dir); return err })
	try("storage: read", func() error { _, err := os.ReadFile(t.Dir + "/sealed"); return err })
	try("storage: write", func() error { return os.WriteFile(t.Dir+"/planted", nil, 0o600) })
	line, err := json.Marshal(result{Attempts: tried, UID: os.Getuid()})
	if err != nil {
		return err
	}
	fmt.Println(string(line))
	return nil
}

func readMem(name string, at uintptr) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	var b [8]byte
	_, err = f.ReadAt(b[:], int64(at))
	return err
}

func vmRead(pid int, at uintptr) error {
	var b [8]byte
	local, remote := []unix.Iovec{{Base: &b[0], Len: 8}}, []unix.RemoteIovec{{Base: at, Len: 8}}
	_, err := unix.ProcessVMReadv(pid, local, remote, 0)
	return err
}

func vmWrite(pid int, at uintptr) error {
	b := [1]byte{'x'}
	local, remote := []unix.Iovec{{Base: &b[0], Len: 1}}, []unix.RemoteIovec{{Base: at, Len: 1}}
	_, err := unix.ProcessVMWritev(pid, local, remote, 0)
	return err
}
