package app

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
)

// Listen makes the broker's socket at path with the permissions mode, such as 0o660. A socket that
// a broker left behind is replaced; one that somebody listens on, and anything else that is not a
// socket, is not.
func Listen(path string, mode fs.FileMode) (net.Listener, error) {
	if err := removeStale(path); err != nil {
		return nil, err
	}
	// The socket appears under its name when its permissions are right: before that, nobody who
	// may not connect later can.
	making := path + ".new"
	if err := os.Remove(making); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("app: socket: %w", err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: making, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("app: socket: %w", err)
	}
	ln.SetUnlinkOnClose(false)
	err = os.Chmod(making, mode.Perm())
	if err == nil {
		err = os.Rename(making, path)
	}
	if err != nil {
		ln.Close()        //nolint:errcheck // is given up
		os.Remove(making) //nolint:errcheck // may be gone
		return nil, fmt.Errorf("app: socket: %w", err)
	}
	return &socket{UnixListener: ln, path: path}, nil
}

// socket is a listener that takes its name away when it closes.
type socket struct {
	*net.UnixListener
	path string
	once sync.Once
}

// Close implements net.Listener.
func (s *socket) Close() error {
	s.once.Do(func() { os.Remove(s.path) }) //nolint:errcheck // may be gone
	return s.UnixListener.Close()
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
