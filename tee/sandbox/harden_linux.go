package sandbox

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// Hardening is what Harden achieved.
type Hardening struct {
	// Missing says, in words, what could not be done. It becomes part of the Evidence.
	Missing []string
}

// Harden closes the ways into this process that cost nothing to close: no memory dumps, no
// debugger of the same user, no reading of /proc/self by others (all by PR_SET_DUMPABLE), no
// privileges from programs that it starts, no files that others can read. It affects the whole
// process and cannot be undone; the agent's program calls it first of all.
func Harden() Hardening {
	var h Hardening
	syscall.Umask(0o077)
	h.note("memory can be dumped and debugged by programs of the same user",
		unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0))
	h.note("core dumps are possible",
		unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}))
	// The attribute belongs to a thread: each one must get it.
	_, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0)
	var err error
	if errno != 0 {
		err = errno
	}
	h.note("programs that it starts could gain privileges", err)
	return h
}

func (h *Hardening) note(weakness string, err error) {
	if err != nil {
		h.Missing = append(h.Missing, fmt.Sprintf("%s (%v)", weakness, err))
	}
}
