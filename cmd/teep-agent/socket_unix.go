//go:build unix

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// bindSocket makes the socket, which only this user can reach, and does not listen yet: until the
// agent is ready, whoever connects is refused. A socket that an agent left behind when it was
// killed is replaced; that no agent uses it is sure, because the launcher holds the TEE's lock.
func bindSocket(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if st, err := os.Lstat(path); err == nil {
		if st.Mode()&fs.ModeSocket == 0 {
			return nil, fmt.Errorf("%s exists and is not a socket: choose another name for socket", path)
		}
		// This agent's own is not in use, but the name may be another program's.
		if conn, err := net.Dial("unix", path); err == nil {
			return nil, errors.Join(fmt.Errorf("%s is the socket of another program that runs: choose another name for socket", path), conn.Close())
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket: %w", err)
	}
	syscall.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), path)
	if err = syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}); err == nil {
		err = os.Chmod(path, 0o600)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make the socket %s: %w", path, err), f.Close())
	}
	return f, nil
}

// listen begins to accept connections on a socket that bindSocket made.
func listen(socket *os.File) (net.Listener, error) {
	if err := syscall.Listen(int(socket.Fd()), syscall.SOMAXCONN); err != nil {
		return nil, err
	}
	ln, err := net.FileListener(socket)
	return ln, errors.Join(err, socket.Close())
}
