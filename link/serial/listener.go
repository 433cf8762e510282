package serial

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Port is the agent's end of the stream. An *os.File of a device that can be polled is one.
type Port interface {
	io.ReadWriteCloser
	// SetDeadline ends reads and writes under way with an error that is os.ErrDeadlineExceeded.
	SetDeadline(time.Time) error
}

// Listener makes connections of the greetings that come over a port, one at a time: the next begins
// when the one before it was closed. It is a link.Listener.
type Listener struct {
	port   Port
	in     *bufio.Reader
	free   chan struct{} // holds a token while no connection is open
	closed chan struct{}
	once   sync.Once
}

// NewListener uses a port, which it owns from now on.
func NewListener(port Port) *Listener {
	l := &Listener{port: port, in: bufio.NewReader(port), free: make(chan struct{}, 1), closed: make(chan struct{})}
	l.free <- struct{}{}
	return l
}

// away is the pause while nobody has the other end open: such a port reads as ended.
const away = 20 * time.Millisecond

// Accept waits for a greeting and answers it.
func (l *Listener) Accept() (*Conn, error) {
	select {
	case <-l.closed:
		return nil, os.ErrClosed
	case <-l.free:
	}
	if err := l.port.SetDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("serial: the port cannot be waited for: %w", err)
	}
	for {
		greeting, err := l.greeting()
		if err == nil {
			c := &Conn{listener: l, greeting: greeting}
			if _, err = l.port.Write(greeting); err == nil {
				return c, nil
			}
		}
		if !errors.Is(err, io.EOF) {
			select {
			case <-l.closed:
				return nil, os.ErrClosed
			default:
				return nil, fmt.Errorf("serial: %w", err)
			}
		}
		l.in.Reset(l.port)
		select {
		case <-l.closed:
			return nil, os.ErrClosed
		case <-time.After(away):
		}
	}
}

// greeting drops what comes before a greeting and returns that. What the end of an old greeting
// makes of the beginning of a new one is answered in vain; the new one comes again.
func (l *Listener) greeting() ([]byte, error) {
	if err := skipPast(l.in, []byte(mark)); err != nil {
		return nil, err
	}
	greeting := append([]byte(mark), make([]byte, nonceSize)...)
	if _, err := io.ReadFull(l.in, greeting[len(mark):]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = io.EOF // the other end was closed inside it
		}
		return nil, err
	}
	return greeting, nil
}

// Close closes the port.
func (l *Listener) Close() error {
	err := os.ErrClosed
	l.once.Do(func() {
		close(l.closed)
		err = l.port.Close()
	})
	return err
}

// Conn is one connection.
type Conn struct {
	listener *Listener
	greeting []byte
	begun    bool // the first frame was seen: repetitions of the greeting are over
	closed   atomic.Bool
	// reading and writing are held while the port is used: it is the next connection's only when
	// this one has let go of it.
	reading, writing sync.Mutex
}

// Read implements io.Reader. Repetitions of the greeting before the first frame are left out.
func (c *Conn) Read(p []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if c.closed.Load() {
		return 0, os.ErrClosed
	}
	in := c.listener.in
	for !c.begun {
		next, err := in.Peek(1)
		if err != nil {
			return 0, err
		}
		if next[0] == c.greeting[0] {
			if next, err = in.Peek(len(c.greeting)); err != nil {
				return 0, err
			}
		}
		if c.begun = !bytes.Equal(next, c.greeting); c.begun {
			break
		}
		if _, err := in.Discard(len(c.greeting)); err != nil {
			return 0, err
		}
	}
	return in.Read(p)
}

// Write implements io.Writer.
func (c *Conn) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.closed.Load() {
		return 0, os.ErrClosed
	}
	return c.listener.port.Write(p)
}

// Close ends the connection and what waits in it. The port stays open for the next one.
func (c *Conn) Close() error {
	if c.closed.Swap(true) {
		return os.ErrClosed
	}
	err := c.listener.port.SetDeadline(time.Unix(1, 0))
	c.reading.Lock()
	defer c.reading.Unlock()
	c.writing.Lock()
	defer c.writing.Unlock()
	c.listener.free <- struct{}{}
	return err
}
