// Package vsock connects the link between a virtual machine and its host over AF_VSOCK, the sockets
// that reach from one to the other without a network. The agent listens inside, at [Port]; the
// broker dials the machine's context identifier (CID), which its monitor gave it.
//
// It was tried within one system (loopback) where that has such sockets; between a host and a machine it has
// not run yet.
package vsock

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// Port is where the agent listens, unless configured otherwise. No service is registered for it.
const Port = 28737

// OwnerPort is where it answers its owner (package link/owner).
const OwnerPort = Port + 1

// Host and Local are the CIDs of the host and, for tests, of this very system.
const (
	Local = 1
	Host  = 2
)

// ErrUnavailable says that this system has no such sockets.
var ErrUnavailable = errors.New("vsock: not available")

// Dial connects to a port of the machine with a CID.
func Dial(ctx context.Context, cid, port uint32) (*os.File, error) {
	f, err := dial(ctx, cid, port)
	if err != nil {
		return nil, fmt.Errorf("vsock: connect to port %d of machine %d: %w", port, cid, err)
	}
	return f, nil
}

// Listener accepts connections from the host. It is a link.Listener.
type Listener struct{ socket *os.File }

// Listen listens at a port of this system.
func Listen(port uint32) (*Listener, error) {
	f, err := listen(port)
	if err != nil {
		return nil, fmt.Errorf("vsock: listen at port %d: %w", port, err)
	}
	return &Listener{f}, nil
}

// Accept waits for a connection.
func (l *Listener) Accept() (*os.File, error) { return accept(l.socket) }

// Close ends Accept.
func (l *Listener) Close() error { return l.socket.Close() }
