package serial_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-teep/teep/link/serial"
)

// wire stands in for a virtio-serial port: one stream on the agent's side, whatever comes and goes
// on the broker's. While nobody is there it reads as ended.
type wire struct {
	mu       sync.Mutex
	near     net.Conn // the agent's end of what is there now
	deadline time.Time
}

func newWire() *wire { return &wire{} }

// plug gives the broker a new connection, which takes the place of an old one.
func (w *wire) plug(t *testing.T) net.Conn {
	t.Helper()
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	far, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.near != nil {
		w.near.Close()
	}
	w.near = near
	_ = near.SetDeadline(w.deadline)
	return far
}

func (w *wire) end() net.Conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.near
}

func (w *wire) Read(p []byte) (int, error) {
	near := w.end()
	if near == nil {
		return 0, io.EOF
	}
	n, err := near.Read(p)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		err = io.EOF
	}
	return n, err
}

func (w *wire) Write(p []byte) (int, error) {
	if near := w.end(); near != nil {
		return near.Write(p)
	}
	return len(p), nil
}

func (w *wire) SetDeadline(d time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deadline = d
	if w.near == nil {
		return nil
	}
	return w.near.SetDeadline(d)
}

func (w *wire) Close() error {
	if near := w.end(); near != nil {
		return near.Close()
	}
	return nil
}

// echo accepts connections and sends back what comes, until a byte 0x00 ends the connection.
func echo(t *testing.T, port serial.Port) {
	t.Helper()
	ln := serial.NewListener(port)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			for one := make([]byte, 1); ; {
				if _, err := conn.Read(one); err != nil || one[0] == 0 {
					break
				}
				if _, err := conn.Write(one); err != nil {
					break
				}
			}
			conn.Close()
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
	})
}

func greet(t *testing.T, conn net.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := serial.Greet(ctx, conn, rand.Reader); err != nil {
		t.Fatal(err)
	}
}

func exchange(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := conn.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != text {
		t.Fatalf("%q came back as %q, %v", text, got, err)
	}
}

func TestGreetAndExchange(t *testing.T) {
	w := newWire()
	echo(t, w)
	conn := w.plug(t)
	defer conn.Close()
	greet(t, conn)
	exchange(t, conn, "hello")
}

// TestAgentThatStartsLate: greetings that piled up are one greeting.
func TestAgentThatStartsLate(t *testing.T) {
	w := newWire()
	conn := w.plug(t)
	defer conn.Close()
	go func() {
		time.Sleep(700 * time.Millisecond)
		echo(t, w)
	}()
	greet(t, conn)
	exchange(t, conn, "hello")
}

// TestReconnect: a broker that went away in the middle of anything leaves nothing behind.
func TestReconnect(t *testing.T) {
	for name, leave := range map[string]string{
		"in good order":         "",
		"with a byte unsaid":    "abc",
		"inside a greeting":     "\xff\xff\xff\xffTEEP12345",
		"inside a mark":         "\xff\xff\xff",
		"with a whole greeting": "\xff\xff\xff\xffTEEP0123456789abcdef",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWire()
			echo(t, w)
			first := w.plug(t)
			greet(t, first)
			exchange(t, first, "one")
			if _, err := first.Write([]byte(leave)); err != nil {
				t.Fatal(err)
			}
			first.Close()
			second := w.plug(t)
			defer second.Close()
			greet(t, second)
			exchange(t, second, "two")
		})
	}
}

// TestNewGreetingInAnOldConnection: the stream goes on, but who is at its other end is another.
func TestNewGreetingInAnOldConnection(t *testing.T) {
	w := newWire()
	echo(t, w)
	conn := w.plug(t)
	defer conn.Close()
	greet(t, conn)
	exchange(t, conn, "one")
	if _, err := conn.Write([]byte{0}); err != nil { // what a frame that breaks the protocol does
		t.Fatal(err)
	}
	greet(t, conn)
	exchange(t, conn, "two")
}

func TestStaleAnswersAreDropped(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	go func() {
		greeting := make([]byte, 24)
		if _, err := io.ReadFull(far, greeting); err != nil {
			return
		}
		other := bytes.Clone(greeting)
		other[20] ^= 1
		go io.Copy(io.Discard, far) //nolint:errcheck // repetitions
		for _, part := range [][]byte{[]byte("the end of an old frame"), other, greeting[:9], greeting, []byte("frames")} {
			if _, err := far.Write(part); err != nil {
				return
			}
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := serial.Greet(ctx, near, rand.Reader); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 6)
	if _, err := io.ReadFull(near, got); err != nil || string(got) != "frames" {
		t.Fatalf("after the answer comes %q, %v", got, err)
	}
}

func TestNoAnswer(t *testing.T) {
	w := newWire()
	conn := w.plug(t)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := serial.Greet(ctx, conn, rand.Reader); !errors.Is(err, serial.ErrNoAnswer) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if err := serial.Greet(context.Background(), w.plug(t), bytes.NewReader(nil)); err == nil {
		t.Error("greeted without randomness")
	}
	gone := w.plug(t)
	w.end().Close()
	if err := serial.Greet(context.Background(), gone, rand.Reader); !errors.Is(err, serial.ErrNoAnswer) {
		t.Error(err)
	}
}

func FuzzListener(f *testing.F) {
	f.Add([]byte("\xff\xff\xff\xffTEEP0123456789abcdefframe"))
	f.Add([]byte("\xff\xff\xff\xff\xffTEEP\xff\xff\xff\xffTEEP0123456789abcdef\xff\xff\xff\xffTEEP0123456789abcdef"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		port := &recording{Reader: bytes.NewReader(stream)}
		ln := serial.NewListener(port)
		time.AfterFunc(5*time.Millisecond, func() { ln.Close() })
		conn, err := ln.Accept()
		if err != nil {
			if len(port.written) > 0 {
				t.Fatalf("an answer to nothing: %x", port.written)
			}
			return
		}
		if !bytes.Contains(stream, port.written) || len(port.written) != 24 {
			t.Fatalf("the answer %x is not what was greeted", port.written)
		}
		rest, _ := io.ReadAll(conn)
		if bytes.HasPrefix(rest, port.written) {
			t.Fatal("a repetition came through")
		}
	})
}

type recording struct {
	io.Reader
	written []byte
}

func (r *recording) Write(p []byte) (int, error) {
	r.written = append(r.written, p...)
	return len(p), nil
}
func (r *recording) Close() error                { return nil }
func (r *recording) SetDeadline(time.Time) error { return nil }
