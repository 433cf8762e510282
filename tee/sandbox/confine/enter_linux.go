package confine

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// errCgo says how to build the program.
var errCgo = errors.New("confine: the program was built with cgo, and could not give up its privileges in all threads: build it with CGO_ENABLED=0, as make build does")

// Enter builds the walls around this process, which Run started, in the order in which each can
// still be built. An error means that what was handed over is not understood or that privileges could
// not be given up; walls that are missing are no error here, but in the Report.
func Enter() (*Confined, error) {
	if builtWithCgo {
		return nil, errCgo
	}
	Harden()
	h, files, orphaned, err := receive()
	if err != nil {
		return nil, err
	}
	measurement, err := measure()
	if err != nil {
		return nil, fmt.Errorf("confine: measure the program: %w", err)
	}
	c := &Confined{Handover: h.Payload, Files: files, Measurement: measurement, Report: h.Report, Orphaned: orphaned}
	r := &c.Report
	build := func(w Wall, wall func() error) {
		if slices.Contains(h.Without, w) {
			r.Miss(w, errWithout)
			return
		}
		r.Miss(w, wall())
	}
	checkNamespaces(r, h.Namespaces)
	if r.Missing[WallMountNamespace] == "" {
		build(WallMountNamespace, oneFolder)
	}
	build(WallLimits, setLimits)
	if err := dropPrivileges(h.Become); err != nil {
		return nil, fmt.Errorf("confine: give up privileges: %w", err)
	}
	build(WallUser, func() error { return checkUnprivileged(h.Privileged) })
	// Changing the user has opened the process again, and cleared the signal.
	build(WallNotDumpable, notDumpable)
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return nil, fmt.Errorf("confine: end with the launcher: %w", err)
	}
	build(WallNoNewPrivs, noNewPrivs)
	build(WallLandlock, func() (err error) {
		r.LandlockABI, err = landlockFolder()
		return err
	})
	build(WallSeccomp, func() error { return filterSystemCalls() })
	return c, nil
}

// measure reads what this process runs, after it made sure that it is that.
func measure() ([]byte, error) {
	program := os.NewFile(programFile, "program")
	defer program.Close()
	running, err := os.Stat("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	given, err := program.Stat()
	if err != nil {
		return nil, err
	}
	if !os.SameFile(running, given) {
		return nil, errors.New("the program that was handed over is not the one that runs")
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(program, 0, given.Size())); err != nil {
		return nil, err
	}
	return h.Sum(nil), nil
}

// checkNamespaces compares this process's namespaces with the launcher's.
func checkNamespaces(r *Report, outside map[string]string) {
	inside := namespaceIDs()
	for _, ns := range namespaces {
		switch {
		case outside[ns.file] == "" || inside[ns.file] == "":
			r.Miss(ns.wall, errors.New("/proc does not tell"))
		case outside[ns.file] == inside[ns.file]:
			r.Miss(ns.wall, errors.New("it is the launcher's"))
		}
	}
}
