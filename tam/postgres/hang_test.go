package postgres_test

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/console"
	"github.com/go-teep/teep/tam/postgres/pgtest"
)

// gate stands between a store and its database. Closed, it lets nothing through and ends no connection:
// a database whose disk or network hangs.
type gate struct {
	mu     sync.Mutex
	open   *sync.Cond
	closed bool
}

// newGate returns the URL of the database through the gate.
func newGate(t *testing.T, database string) (*gate, string) {
	t.Helper()
	u, err := url.Parse(database)
	must(t, err)
	q := u.Query()
	const socket = ".s.PGSQL.5432"
	behind, dir := filepath.Join(q.Get("host"), socket), t.TempDir()
	ln, err := net.Listen("unix", filepath.Join(dir, socket))
	must(t, err)
	t.Cleanup(func() { ln.Close() })
	g := &gate{}
	g.open = sync.NewCond(&g.mu)
	t.Cleanup(func() { g.set(false) })
	go func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("unix", behind)
			if err != nil {
				in.Close()
				continue
			}
			go g.pass(in, out)
			go g.pass(out, in)
		}
	}()
	q.Set("host", dir)
	u.RawQuery = q.Encode()
	return g, u.String()
}

func (g *gate) pass(from, to net.Conn) {
	defer to.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		g.mu.Lock()
		for g.closed {
			g.open.Wait()
		}
		g.mu.Unlock()
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (g *gate) set(closed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = closed
	g.open.Broadcast()
}

// TestDatabaseHangs: a database that takes requests and answers none holds up neither the operator API nor
// the console, and both work again when it does.
func TestDatabaseHangs(t *testing.T) {
	g, through := newGate(t, pgtest.Start(t).Database(t))
	s := serve(t, through)
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	operators, err := api.NewHandler(api.Config{TAM: s.tam, Store: s.store, Timeout: 100 * time.Millisecond, Logger: logger})
	must(t, err)
	pages, err := console.NewHandler(console.Config{API: operators, Store: s.store, Timeout: 300 * time.Millisecond, Logger: logger})
	must(t, err)
	s.operators.Config.Handler = operators
	face := httptest.NewServer(pages)
	t.Cleanup(face.Close)
	login := func() (int, string) {
		r, err := http.NewRequest(http.MethodPost, face.URL+"/console/login?", nil)
		must(t, err)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		form := url.Values{"token": {s.administratorToken}}.Encode()
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(form)), int64(len(form))
		client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		res, err := client.Do(r)
		must(t, err)
		defer res.Body.Close()
		return res.StatusCode, res.Header.Get("Retry-After")
	}
	for round := range 2 {
		g.set(true)
		for _, path := range []string{"/v1/devices", "/v1/readyz", "/v1/rollouts", "/v1/events/stream", "/v1/audit/export"} {
			if status, after := s.ask("GET", path, ""); status != http.StatusServiceUnavailable || after == "" {
				t.Fatalf("%s while the database hangs: %d, Retry-After %q", path, status, after)
			}
		}
		if status, after := s.ask("POST", "/v1/tokens", `{"name":"ci","scopes":["auditor"],"lifetime":"1h"}`); status != http.StatusServiceUnavailable || after == "" {
			t.Fatalf("a change while the database hangs: %d, Retry-After %q", status, after)
		}
		if status, after := login(); status != http.StatusServiceUnavailable || after == "" {
			t.Fatalf("the console while the database hangs: %d, Retry-After %q", status, after)
		}
		g.set(false)
		status := 0
		for range 50 { // connections of before are found broken first
			if status, _ = s.ask("GET", "/v1/devices", ""); status == http.StatusOK {
				break
			}
		}
		if status != http.StatusOK {
			t.Fatalf("round %d: the API with the database back: %d", round, status)
		}
		if status, _ = login(); status != http.StatusSeeOther {
			t.Fatalf("round %d: the console with the database back: %d", round, status)
		}
	}
}
