package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/letsencrypt/challtestsrv"
	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
)

// acmeServer is Pebble, the ACME server that those of Let's Encrypt test clients with. It looks up all names at a
// DNS server here, and really connects to the hosts.
type acmeServer struct {
	directory, caFile string
	roots             *x509.CertPool
	log               *textBuffer
}

// acmeOptions say what an ACME server is like: at which ports it takes hosts to be 80 and 443, how many seconds its
// certificates are good for (0: a long time), and the MAC keys of external accounts, which it then requires.
type acmeOptions struct {
	http, tls int
	validity  uint64
	accounts  map[string]string
}

func newACMEServer(t *testing.T, o acmeOptions) *acmeServer {
	t.Helper()
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	s := &acmeServer{log: &textBuffer{}, roots: x509.NewCertPool()}
	logger := log.New(s.log, "", 0)
	resolver := local(freePort(t))
	names, err := challtestsrv.New(challtestsrv.Config{Log: logger, DNSAddrs: []string{resolver}})
	must(t, err)
	names.SetDefaultDNSIPv6("")
	go names.Run()
	t.Cleanup(names.Shutdown)
	store := db.NewMemoryStore()
	for id, key := range o.accounts {
		must(t, store.AddExternalAccountKeyByID(id, key))
	}
	authority := ca.New(logger, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {ValidityPeriod: o.validity}})
	front := wfe.New(logger, store, va.New(logger, o.http, o.tls, true, resolver, store), authority, []string{"ca.example"}, true, o.accounts != nil, 1, 1)
	server := httptest.NewTLSServer(front.Handler())
	t.Cleanup(server.Close)
	s.directory = server.URL + wfe.DirectoryPath
	s.caFile = filepath.Join(t.TempDir(), "directory-ca.pem")
	must(t, os.WriteFile(s.caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	s.roots.AddCert(authority.GetRootCert(0).Cert)
	return s
}

// issued is how many certificates the server made.
func (s *acmeServer) issued() int { return strings.Count(s.log.String(), "Issued certificate serial") }

// lines are those of a configuration for the server.
func (s *acmeServer) lines(host, cache string, more ...string) string {
	return fmt.Sprintf("acme:\n  directory: %s\n  ca: %s\n  hosts: [%s]\n  cache: %s\n  accept-terms: true\n", s.directory, s.caFile, host, cache) +
		strings.Join(more, "")
}

// serveACME runs a service whose agents come by TLS.
func serveACME(t *testing.T, port int, lines string) *servedTAM {
	t.Helper()
	return serveTAM(t, port, "  tls: {acme: true}\n", lines)
}

// TestACMEByTLS: a certificate is got by TLS-ALPN-01 at the listener itself, kept in files for nobody else, found there by the
// next start and by another replica, and asked for listed hosts alone.
func TestACMEByTLS(t *testing.T) {
	port := freePort(t)
	server := newACMEServer(t, acmeOptions{http: freePort(t), tls: port})
	cache := filepath.Join(t.TempDir(), "cache")
	s := serveACME(t, port, server.lines("tam.test", cache))
	first, err := s.certificate("tam.test", server.roots)
	must(t, err)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: server.roots}, ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", s.address)
		}}}
	defer client.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://tam.test/tam", nil)
	must(t, err)
	r.Header.Set("Accept", "application/teep+cbor")
	res, err := client.Do(r)
	must(t, err)
	must(t, res.Body.Close())
	if res.StatusCode != http.StatusOK || res.ProtoMajor != 2 {
		t.Errorf("an agent is answered %s %s", res.Proto, res.Status)
	}
	s.log.wait(t, "terms of service")
	if _, err := s.certificate("other.test", nil); err == nil {
		t.Error("a host that is not listed has a certificate")
	}
	s.log.wait(t, "not one of acme.hosts")
	if nameless, err := s.certificate("", nil); err != nil || !nameless.Equal(first) {
		t.Errorf("a client that names no host: %v", err)
	}
	files := 0
	must(t, filepath.WalkDir(cache, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err == nil && st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %o", path, st.Mode().Perm())
		}
		if d.Type().IsRegular() {
			files++
		}
		return err
	}))
	if files != 2 {
		t.Errorf("%d files in the cache, not the account's key and the certificate", files)
	}
	replica := serveACME(t, freePort(t), server.lines("tam.test", cache))
	if same, err := replica.certificate("tam.test", server.roots); err != nil || !same.Equal(first) {
		t.Errorf("another replica does not take the certificate from the cache: %v", err)
	}
	s.stop()
	s = serveACME(t, port, server.lines("tam.test", cache))
	if same, err := s.certificate("tam.test", server.roots); err != nil || !same.Equal(first) {
		t.Errorf("after a restart: %v", err)
	}
	if n := server.issued(); n != 1 {
		t.Errorf("%d certificates were issued", n)
	}
	// The server asks whichever replica answers at port 443: here the one that did not order.
	other := serveACME(t, freePort(t), server.lines("second.test", cache))
	if _, err := other.certificate("second.test", server.roots); err != nil {
		t.Errorf("validation at another replica: %v\n%s", err, other.log)
	}
}

// TestACMEByHTTP: HTTP-01 where the ACME server does not reach the listener, under an account that the server knows.
func TestACMEByHTTP(t *testing.T) {
	const mac = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
	port := freePort(t)
	server := newACMEServer(t, acmeOptions{http: port, tls: freePort(t), accounts: map[string]string{"kid-1": mac}})
	key := filepath.Join(t.TempDir(), "mac")
	must(t, os.WriteFile(key, []byte(mac+"\n"), 0o600))
	s := serveACME(t, freePort(t), server.lines("tam.test", t.TempDir(),
		fmt.Sprintf("  http-01: %q\n  external-account: {key-id: kid-1, key-file: %s}\n", local(port), key)))
	if _, err := s.certificate("tam.test", server.roots); err != nil {
		t.Fatalf("%v\n%s\n%s", err, s.log, server.log)
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Get("http://" + local(port) + "/console/")
	must(t, err)
	must(t, res.Body.Close())
	if res.StatusCode != http.StatusFound || !strings.HasPrefix(res.Header.Get("Location"), "https://") {
		t.Errorf("who comes without TLS is answered %s", res.Status)
	}
	if strings.Contains(s.log.String(), mac) {
		t.Error("the MAC key is in the log")
	}
	// Without the account the server refuses, and the log says what it said.
	bare := serveACME(t, freePort(t), server.lines("tam.test", t.TempDir()))
	bare.log.wait(t, "externalAccountRequired")
}

// TestACMERenews: a certificate is replaced before it expires, without a restart.
func TestACMERenews(t *testing.T) {
	port := freePort(t)
	server := newACMEServer(t, acmeOptions{http: freePort(t), tls: port, validity: 5})
	s := serveACME(t, port, server.lines("tam.test", t.TempDir()))
	first, err := s.certificate("tam.test", nil)
	must(t, err)
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if now, err := s.certificate("tam.test", nil); err == nil && !now.Equal(first) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("not renewed\n%s", s.log)
		}
	}
}

// TestACMEFailures: what goes wrong is said, with what to do, and the service runs.
func TestACMEFailures(t *testing.T) {
	port := freePort(t)
	server := newACMEServer(t, acmeOptions{http: freePort(t), tls: freePort(t)})
	strange := newACMEServer(t, acmeOptions{})
	cache := t.TempDir()
	exposed := t.TempDir()
	c := acmeConfig{Directory: server.directory, Cache: exposed}
	opened, err := openACMECache(exposed, c.directory(), nil)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(string(opened.DirCache), "tam.test"), []byte("key"), 0o644))
	for name, f := range map[string]struct{ lines, says string }{
		"not reached":        {server.lines("tam.test", cache), "port 443 of the host, or acme.http-01"},
		"another authority":  {strings.Replace(server.lines("tam.test", cache), server.caFile, otherCA(t), 1), "unknown authority"},
		"directory is away":  {strings.Replace(strange.lines("tam.test", cache), strange.directory, "https://"+local(freePort(t))+"/dir", 1), "connection refused"},
		"readable by others": {server.lines("tam.test", exposed), "chmod 600"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serveACME(t, port, f.lines)
			s.log.wait(t, f.says)
			if _, err := s.certificate("tam.test", nil); err == nil {
				t.Error("there is a certificate")
			}
			s.stop()
		})
	}
	if server.issued() != 0 {
		t.Error("the server issued a certificate to whom it cannot reach")
	}
}

// otherCA is a file with a certificate that nothing leads to.
func otherCA(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "other.pem")
	must(t, os.WriteFile(path, otherAuthority(t), 0o600))
	return path
}

func TestACMERefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	wide := filepath.Join(t.TempDir(), "wide")
	must(t, os.WriteFile(wide, []byte("c2VjcmV0"), 0o644))
	nonsense := filepath.Join(t.TempDir(), "nonsense")
	must(t, os.WriteFile(nonsense, []byte("not base64 at all!"), 0o600))
	const on, good = "  tls: {acme: true}\n", "hosts: [tam.example.com], accept-terms: true"
	for name, f := range map[string]struct{ tls, acme, says string }{
		"not used":              {"", good, "has no effect"},
		"no hosts":              {on, "accept-terms: true", "acme.hosts is empty"},
		"nothing said":          {on, "", "acme.hosts is empty"},
		"terms":                 {on, "hosts: [tam.example.com]", "terms of service of https://acme-v02.api.letsencrypt.org"},
		"terms refused":         {on, "hosts: [tam.example.com], accept-terms: false", "accept-terms"},
		"beside a file":         {"  tls: {acme: true, certificate: tls.crt, key: tls.key}\n", good, "decide for one"},
		"beside half a pair":    {"  tls: {acme: true, key: tls.key}\n", good, "decide for one"},
		"host with a port":      {on, "hosts: ['tam.example.com:443'], accept-terms: true", "without port"},
		"address":               {on, "hosts: [192.0.2.1], accept-terms: true", "no address"},
		"wildcard":              {on, "hosts: ['*.example.com'], accept-terms: true", "whole DNS name"},
		"single label":          {on, "hosts: [localhost], accept-terms: true", "whole DNS name"},
		"directory without TLS": {on, good + ", directory: 'http://ca.example/dir'", "https"},
		"directory":             {on, good + ", directory: ca.example", "acme.directory"},
		"http-01":               {on, good + ", http-01: '80'", "acme.http-01"},
		"half an account":       {on, good + ", external-account: {key-id: x}", "both key-id and key-file"},
		"unknown key":           {on, good + ", insecure: true", "unknown key"},
	} {
		path := made(t, "  path: /tam\n", "  path: /tam\n"+f.tls)
		text, err := os.ReadFile(path)
		must(t, err)
		must(t, os.WriteFile(path, fmt.Appendf(text, "acme: {%s}\n", f.acme), 0o600))
		if _, err := load(path); err == nil || !strings.Contains(err.Error(), f.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, f := range map[string]struct {
		config acmeConfig
		says   string
	}{
		"cache is a file":      {acmeConfig{Cache: file}, "name a folder"},
		"cache cannot be made": {acmeConfig{Cache: "/proc/none"}, "name a folder"},
		"no CA":                {acmeConfig{Cache: t.TempDir(), CA: file}, "no certificate"},
		"MAC key for all":      {account(t, wide), "chmod 600"},
		"MAC key":              {account(t, nonsense), "base64url"},
		"MAC key is not there": {account(t, nonsense+"-"), "no such file"},
	} {
		_, err := f.config.open(nil)
		if err == nil || !strings.Contains(err.Error(), f.says) || strings.Contains(err.Error(), "not base64 at all") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func account(t *testing.T, key string) acmeConfig {
	c := acmeConfig{Cache: t.TempDir()}
	c.ExternalAccount.KeyID, c.ExternalAccount.KeyFile = "x", key
	return c
}

// TestACMEHosts: the policy does not depend on how a host is written, and knows no other.
func TestACMEHosts(t *testing.T) {
	c := &acmeCertificates{hosts: []string{"tam.example.com"}}
	must(t, c.listed(t.Context(), "tam.example.com"))
	must(t, c.listed(t.Context(), "tam.example.com."))
	must(t, c.listed(t.Context(), "tam.example.com:80"))
	for _, host := range []string{"", ".", "example.com", "a.tam.example.com", "tam.example.com.evil.test", "*.example.com", "evil.test:80", "evil.test:tam.example.com"} {
		if err := c.listed(t.Context(), host); !errors.Is(err, errNotListed) {
			t.Errorf("%q: %v", host, err)
		}
	}
}
