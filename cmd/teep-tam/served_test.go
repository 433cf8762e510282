package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-teep/teep/internal/freeport"
	"github.com/go-teep/teep/internal/program"
)

// textBuffer is what several write to.
type textBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *textBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *textBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// wait waits until the text is there.
func (b *textBuffer) wait(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !strings.Contains(b.String(), text); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("nothing says %q:\n%s", text, b)
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	address, err := freeport.Address()
	must(t, err)
	at, err := netip.ParseAddrPort(address)
	must(t, err)
	return int(at.Port())
}

func local(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// servedTAM is a whole service that runs.
type servedTAM struct {
	t            *testing.T
	address, api string
	log          *textBuffer
	stop         func()
}

// serveTAM runs the service until the test ends, or stop is called. teep are lines for the part of that name,
// lines such at the end of its configuration.
func serveTAM(t *testing.T, port int, teep, lines string) *servedTAM {
	t.Helper()
	path := made(t, "  path: /tam\n", "  path: /tam\n"+teep)
	text, err := os.ReadFile(path)
	must(t, err)
	s := &servedTAM{t: t, address: local(port), api: local(freePort(t)), log: &textBuffer{}}
	changed := strings.NewReplacer("127.0.0.1:8080", s.address, "127.0.0.1:8081", s.api).Replace(string(text))
	must(t, os.WriteFile(path, []byte(changed+lines), 0o600))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, path, false, &program.LogFlags{Level: "debug", Format: "text"}, s.log) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the service ended with %v", err)
		}
	})
	t.Cleanup(s.stop)
	for end := time.Now().Add(time.Minute); !strings.Contains(s.log.String(), "msg=ready"); time.Sleep(20 * time.Millisecond) {
		if len(ended) > 0 || time.Now().After(end) {
			t.Fatalf("the service is not ready:\n%s", s.log)
		}
	}
	return s
}

// certificate is what a client is shown that verifies it.
func (s *servedTAM) certificate(host string, roots *x509.CertPool) (*x509.Certificate, error) {
	s.t.Helper()
	c := &tls.Config{ServerName: host, RootCAs: roots, InsecureSkipVerify: roots == nil} //nolint:gosec // to look at it
	conn, err := tls.Dial("tcp", s.address, c)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0], nil
}
