package app

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
)

// Listen makes the broker's socket at path with the permissions mode, such as 0o660. A socket that
// a broker left behind is replaced; one that somebody listens on, and anything else that is not a
// socket, is not.
func Listen(path string, mode fs.FileMode) (net.Listener, error) {
	if err := removeStale(path); err != nil {
		return nil, err
	}
	// The socket is made without any permissions and gets them when it is ready: between the two,
	// nobody can connect who may not later.
	old := syscall.Umask(0o777)
	ln, err := net.Listen("unix", path)
	syscall.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("app: socket: %w", err)
	}
	if err := os.Chmod(path, mode.Perm()); err != nil {
		ln.Close() //nolint:errcheck // is given up
		return nil, fmt.Errorf("app: socket: %w", err)
	}
	return ln, nil
}

func removeStale(path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("app: socket: %w", err)
	}
	if st.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("app: %s exists and is no socket; move it away or listen elsewhere", path)
	}
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close() //nolint:errcheck // was only a question
		return fmt.Errorf("app: somebody listens at %s already", path)
	}
	return os.Remove(path)
}
