package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/go-teep/teep/link"
)

// listening serves a socket until the test ends.
func listening(t *testing.T, b Backend, o ServeOptions) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	ln, err := Listen(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- ServeListener(ctx, ln, b, o) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return path
}

func dial(t *testing.T, path string) *Client {
	t.Helper()
	c, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestAppsOfUsers: who connected is part of an app's name, so that nobody speaks for another user.
func TestAppsOfUsers(t *testing.T) {
	b := &fakeBackend{}
	c := dial(t, listening(t, b, ServeOptions{}))
	if err := c.As("mail").Unrequest(t.Context(), component(), Requirements{}); err != nil {
		t.Fatal(err)
	}
	want := []any{[]any{"unrequest", fmt.Sprintf("uid %d/mail", os.Getuid()), component(), Requirements{}}}
	if calls := b.take(); !reflect.DeepEqual(calls, want) {
		t.Errorf("%+v", calls)
	}
}

// TestConnectionsPerUser: one user cannot take all connections, and who is turned away learns why.
func TestConnectionsPerUser(t *testing.T) {
	b := &fakeBackend{}
	path := listening(t, b, ServeOptions{MaxConns: 8, MaxConnsPerUser: 2})
	first, second := dial(t, path), dial(t, path)
	for _, c := range []*Client{first, second} {
		if _, err := c.PolicyCheck(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	third := dial(t, path)
	if _, err := third.PolicyCheck(t.Context()); !errors.Is(err, link.ErrBusy) {
		t.Fatalf("a third connection: %v", err)
	}
	third.Close()
	first.Close()
	for deadline := time.Now().Add(5 * time.Second); ; {
		c := dial(t, path)
		_, err := c.PolicyCheck(t.Context())
		if err == nil {
			break
		}
		if !errors.Is(err, link.ErrBusy) && !errors.Is(err, ErrClosed) || time.Now().After(deadline) {
			t.Fatalf("after one has left: %v", err)
		}
		c.Close()
	}
}

// TestIdleConnectionsEnd: a connection that nobody uses is closed, one with a session is not.
func TestIdleConnectionsEnd(t *testing.T) {
	b := &fakeBackend{}
	path := listening(t, b, ServeOptions{IdleTimeout: 20 * time.Millisecond})
	used := dial(t, path)
	if _, err := used.Open(t.Context(), component(), Requirements{}); err != nil {
		t.Fatal(err)
	}
	idle, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	idle.SetReadDeadline(time.Now().Add(10 * time.Second))
	var timeout net.Error
	if _, err := idle.Read(make([]byte, 1)); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatalf("an idle connection stays: %v", err)
	}
	if _, err := used.PolicyCheck(t.Context()); err != nil {
		t.Errorf("the connection with a session: %v", err)
	}
}
