package vsock_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/go-teep/teep/link/vsock"
)

// listen skips where the kernel has no vsock with a loopback: then nothing can be said here.
func listen(t *testing.T) (*vsock.Listener, uint32) {
	t.Helper()
	port := 20000 + rand.Uint32N(40000)
	ln, err := vsock.Listen(port)
	if err != nil {
		t.Skipf("no AF_VSOCK on this kernel: modprobe vsock_loopback: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	probe, err := vsock.Dial(ctx, vsock.Local, port)
	if err != nil {
		ln.Close()
		t.Skipf("AF_VSOCK has no loopback here: modprobe vsock_loopback: %v", err)
	}
	accepted, err := ln.Accept()
	if err = errors.Join(err, probe.Close()); err != nil {
		t.Fatal(err)
	}
	if err := accepted.Close(); err != nil {
		t.Fatal(err)
	}
	return ln, port
}

func TestBothWays(t *testing.T) {
	ln, port := listen(t)
	defer ln.Close()
	served := make(chan error, 1)
	go func() {
		conn, err := ln.Accept()
		if err == nil {
			_, err = io.Copy(conn, io.LimitReader(conn, 5))
			err = errors.Join(err, conn.Close())
		}
		served <- err
	}()
	conn, err := vsock.Dial(context.Background(), vsock.Local, port)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if string(answer) != "hello" || err != nil {
		t.Errorf("%q, %v", answer, err)
	}
	if err := errors.Join(<-served, conn.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestCloseEndsAcceptAndDeadlineEndsRead(t *testing.T) {
	ln, port := listen(t)
	ended := make(chan error, 1)
	conn, err := vsock.Dial(context.Background(), vsock.Local, port)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	accepted, err := ln.Accept()
	if err = errors.Join(err, accepted.Close(), conn.Close()); err != nil {
		t.Fatal(err)
	}
	go func() { _, err := ln.Accept(); ended <- err }()
	time.Sleep(10 * time.Millisecond)
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("Accept went on after Close")
	}
}

func TestNobodyListens(t *testing.T) {
	ln, port := listen(t)
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if conn, err := vsock.Dial(ctx, vsock.Local, port); err == nil {
		conn.Close()
		t.Error("connected to nobody")
	}
}
