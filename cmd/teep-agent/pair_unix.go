//go:build unix

package main

import (
	"fmt"
	"os"
	"syscall"
)

// connectedPair returns the two ends of a connection.
func connectedPair() (ours, theirs *os.File, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a pair of sockets: %w", err)
	}
	syscall.CloseOnExec(fds[0])
	syscall.CloseOnExec(fds[1])
	return os.NewFile(uintptr(fds[0]), "processor"), os.NewFile(uintptr(fds[1]), "processor"), nil
}
