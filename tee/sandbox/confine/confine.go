// Package confine puts the process of a TEE behind walls that the kernel keeps: an unprivileged
// user without capabilities, namespaces of its own, one folder as its whole file system, Landlock,
// a list of allowed system calls, limits on resources, and memory that no debugger opens.
//
// Namespaces begin with a process. So the program starts itself a second time: a launcher, which
// opens what the TEE needs (its folder, its socket) and waits, and the confined process, in
// which the TEE is:
//
//	confine.Harden()                                   // first of all, in both
//	err := confine.Run(ctx, confine.Command{           // the launcher
//		Args: []string{"teep-agent", "confined"}, Dir: "state", Files: files, Handover: settings,
//	})
//
//	inside, err := confine.Enter()                     // the confined process
//	settings, files, report := inside.Handover, inside.Files, inside.Report
//
// No wall is taken for granted. [Report] says, from what the kernel answered, which of them
// stand and what is missing and why; it becomes part of the Evidence, and [Report.Require] makes it a
// reason not to start.
//
// # Who is kept out
//
// A process that another one of the same user may read is no TEE. The confined process is
// therefore not dumpable, which refuses ptrace, /proc/PID/mem and process_vm_readv to
// everybody but the administrator. A user namespace would undo that, because whoever made the
// namespace has every capability over what was started in it: the kernel asks the user namespace
// in which a program was executed. Unless the program's file cannot be read there: then it asks the
// namespace outside. So the launcher executes a sealed copy of the program in memory that may be
// executed and not be read, and that no one can exchange or change either.
package confine

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Wall is one protection, by the name that a configuration uses.
type Wall string

// The walls, in the order in which they are reported.
const (
	WallUser           Wall = "user"
	WallUserNamespace  Wall = "user-namespace"
	WallMountNamespace Wall = "mount-namespace"
	WallPIDNamespace   Wall = "pid-namespace"
	WallNetNamespace   Wall = "net-namespace"
	WallIPCNamespace   Wall = "ipc-namespace"
	WallUTSNamespace   Wall = "uts-namespace"
	WallLandlock       Wall = "landlock"
	WallSeccomp        Wall = "seccomp"
	WallNoNewPrivs     Wall = "no-new-privs"
	WallNotDumpable    Wall = "not-dumpable"
	WallLimits         Wall = "rlimits"
	// WallSecretMemory is built by tee/sandbox, around the keys.
	WallSecretMemory Wall = "secret-memory"
)

// walls says what is possible without each of them.
var walls = []struct {
	wall     Wall
	weakness string
}{
	{WallUser, "runs with privileges"},
	{WallUserNamespace, "no user namespace of its own"},
	{WallMountNamespace, "sees the file system of the device"},
	{WallPIDNamespace, "sees the processes of the device"},
	{WallNetNamespace, "sees the network of the device"},
	{WallIPCNamespace, "shares System V IPC with the device"},
	{WallUTSNamespace, "shares the host name with the device"},
	{WallLandlock, "file access is not confined by Landlock"},
	{WallSeccomp, "system calls are not confined by seccomp"},
	{WallNoNewPrivs, "programs that it starts could gain privileges"},
	{WallNotDumpable, "memory can be dumped and debugged by programs of the same user"},
	{WallLimits, "resources are not bounded"},
	{WallSecretMemory, "keys are in memory that can be swapped out"},
}

// Walls returns all of them.
func Walls() []Wall {
	all := make([]Wall, len(walls))
	for i, w := range walls {
		all[i] = w.wall
	}
	return all
}

// ParseWalls reads a list of names. A name that is not known is an error: a misspelt wall that
// was required would be missing in silence.
func ParseWalls(names []string) ([]Wall, error) {
	var list []Wall
	all := Walls()
	for _, name := range names {
		w := Wall(name)
		if !slices.Contains(all, w) {
			known := make([]string, len(all))
			for i, k := range all {
				known[i] = string(k)
			}
			return nil, fmt.Errorf("%q is no wall; there are %s", name, strings.Join(known, ", "))
		}
		if slices.Contains(list, w) {
			return nil, fmt.Errorf("%q is named twice", name)
		}
		list = append(list, w)
	}
	return list, nil
}

// Report says which walls do not stand.
type Report struct {
	// Missing has the reason for each wall that is missing.
	Missing map[Wall]string `json:"missing"`
	// LandlockABI is the kernel's version of Landlock, 0 without it.
	LandlockABI int `json:"landlock_abi"`
}

// Miss notes why a wall is missing; the first reason counts.
func (r *Report) Miss(w Wall, reason error) {
	if reason == nil || r.Missing[w] != "" {
		return
	}
	if r.Missing == nil {
		r.Missing = map[Wall]string{}
	}
	r.Missing[w] = reason.Error()
}

// Weaknesses says in words what is possible because a wall is missing, for the Evidence.
func (r Report) Weaknesses() []string {
	var list []string
	for _, w := range walls {
		if reason := r.Missing[w.wall]; reason != "" {
			list = append(list, fmt.Sprintf("%s (%s: %s)", w.weakness, w.wall, reason))
		}
	}
	return list
}

// ErrMissing says that a wall that was required is missing.
var ErrMissing = errors.New("confine: a required protection is missing")

// Require is nil if all of the named walls stand.
func (r Report) Require(required []Wall) error {
	var missing []string
	for _, w := range required {
		if reason := r.Missing[w]; reason != "" {
			missing = append(missing, fmt.Sprintf("%s: %s", w, reason))
		}
	}
	if missing == nil {
		return nil
	}
	return fmt.Errorf("%w: %s: provide it, or take it from \"require\" in the configuration", ErrMissing, strings.Join(missing, "; "))
}

// errWithout is the reason for a wall that the configuration switched off.
var errWithout = errors.New("switched off by insecure-without in the configuration")
