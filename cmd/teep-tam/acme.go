package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/go-teep/teep/internal/config"
)

// acmeConfig is the part "acme" of tam.yaml: certificates that the service gets from an ACME server (RFC 8555)
// and renews by itself, for the listeners whose tls says acme: true.
type acmeConfig struct {
	// Directory is the URL of the server's directory; empty: that of Let's Encrypt.
	Directory string `yaml:"directory"`
	// CA, when set, is all that the TLS certificate of the directory's server may lead to.
	CA string `yaml:"ca"`
	// Hosts are the names that certificates are asked for; others are refused.
	Hosts []string `yaml:"hosts"`
	// Cache is the folder of certificates, their keys and the account's key, which replicas share.
	Cache string `yaml:"cache"`
	Email string `yaml:"email"`
	// AcceptTerms says that the operator read the terms of service of the server, and agrees.
	AcceptTerms bool `yaml:"accept-terms"`
	// HTTP01 is an address that the server reaches as port 80 of the hosts (RFC 8555 §8.3). Empty: control over
	// the hosts is shown at the listeners themselves, as port 443 (TLS-ALPN-01, RFC 8737).
	HTTP01 string `yaml:"http-01"`
	// ExternalAccount binds the account to one that the server knows by other means (RFC 8555 §7.3.4).
	ExternalAccount struct {
		KeyID   string `yaml:"key-id"`
		KeyFile string `yaml:"key-file"`
	} `yaml:"external-account"`
}

const (
	defaultACMECache = "acme"
	// acmeTimeout bounds one request to the ACME server.
	acmeTimeout = 30 * time.Second
	// acmePause is the pause after the first failure to get a certificate. It doubles up to acmeLongestPause:
	// servers count failures, and lock out whoever has too many.
	acmePause, acmeLongestPause = time.Minute, time.Hour
	// acmeInterval is how often it is looked whether a certificate was renewed in time.
	acmeInterval = time.Minute
)

// hostName is a DNS name that certificates can be got for by TLS-ALPN-01 or HTTP-01, in lower case.
var hostName = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)

func (a *acmeConfig) set() bool {
	return a.Directory != "" || a.CA != "" || len(a.Hosts) > 0 || a.Cache != "" || a.Email != "" || a.AcceptTerms || a.HTTP01 != "" ||
		a.ExternalAccount.KeyID != "" || a.ExternalAccount.KeyFile != ""
}

func (a *acmeConfig) relative(path string) {
	if a.set() && a.Cache == "" {
		a.Cache = defaultACMECache
	}
	for _, p := range []*string{&a.CA, &a.Cache, &a.ExternalAccount.KeyFile} {
		*p = config.Relative(path, *p)
	}
}

// directory is the URL in force.
func (a *acmeConfig) directory() string { return cmp.Or(a.Directory, autocert.DefaultACMEDirectory) }

// check finds what can only be a mistake. used tells whether a listener wants these certificates.
func (a *acmeConfig) check(used bool) error {
	switch {
	case !used && a.set():
		return errors.New("acme has no effect: set teep.tls or api.tls to {acme: true}")
	case !used:
		return nil
	case len(a.Hosts) == 0:
		return errors.New("acme.hosts is empty: name the hosts that agents and operators reach this service by, such as tam.example.com")
	case !a.AcceptTerms:
		return fmt.Errorf("acme.accept-terms is not true: read the terms of service of %s, and set it if you agree to them", a.directory())
	case (a.ExternalAccount.KeyID == "") != (a.ExternalAccount.KeyFile == ""):
		return errors.New("acme.external-account needs both key-id and key-file")
	}
	for _, host := range a.Hosts {
		if !hostName.MatchString(host) || net.ParseIP(host) != nil {
			return fmt.Errorf("acme.hosts: %q is no host that a certificate can be got for: write a whole DNS name in lower case, such as tam.example.com, without port, and no address", host)
		}
	}
	if u, err := url.Parse(a.directory()); err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" {
		return fmt.Errorf("acme.directory %q is no URL of a directory: write https://… (RFC 8555 §6.1)", a.Directory)
	}
	if a.HTTP01 == "" {
		return nil
	}
	return checkListen("acme.http-01", a.HTTP01)
}

// acmeCertificates are what an acmeConfig amounts to while the service runs.
type acmeCertificates struct {
	hosts   []string
	manager *autocert.Manager
	log     *slog.Logger

	mu   sync.Mutex
	said map[string]time.Time // by host, when it was last said that something is wrong
	ends map[string]time.Time // by host, when its certificate expires
}

// open reads what is needed and looks whether the cache can be written. It asks the server for nothing yet.
func (a *acmeConfig) open(log *slog.Logger) (*acmeCertificates, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if a.CA != "" {
		certs, err := certificates(a.CA)
		if err != nil {
			return nil, fmt.Errorf("acme.ca: %w", err)
		}
		roots := x509.NewCertPool()
		for _, c := range certs {
			roots.AddCert(c)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	cache, err := openACMECache(a.Cache, a.directory(), log)
	if err != nil {
		return nil, err
	}
	c := &acmeCertificates{hosts: a.Hosts, log: log, said: map[string]time.Time{}, ends: map[string]time.Time{}}
	c.manager = &autocert.Manager{
		Prompt: func(terms string) bool {
			log.Info("terms of service of the ACME server are accepted, as acme.accept-terms says", "terms", terms)
			return a.AcceptTerms
		},
		Cache: cache, Email: a.Email, HostPolicy: c.listed,
		Client: &acme.Client{DirectoryURL: a.directory(), UserAgent: "teep-tam", HTTPClient: &http.Client{Transport: transport, Timeout: acmeTimeout}},
	}
	if a.ExternalAccount.KeyID != "" {
		if c.manager.ExternalAccountBinding, err = a.externalAccount(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (a *acmeConfig) externalAccount() (*acme.ExternalAccountBinding, error) {
	if err := private(a.ExternalAccount.KeyFile); err != nil {
		return nil, fmt.Errorf("acme.external-account.key-file: %w", err)
	}
	text, err := os.ReadFile(a.ExternalAccount.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("acme.external-account.key-file: %w", err)
	}
	key, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(string(text)), "="))
	if err != nil || len(key) == 0 {
		// The error of the decoder would tell a part of the key.
		return nil, fmt.Errorf("acme.external-account.key-file: %s does not hold a MAC key in base64url, as ACME servers hand it out", a.ExternalAccount.KeyFile)
	}
	return &acme.ExternalAccountBinding{KID: a.ExternalAccount.KeyID, Key: key}, nil
}

// private refuses a file that others can read.
func private(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if mode := st.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%s can be read by others (mode %o): run 'chmod 600 %s'", path, mode, path)
	}
	return nil
}

// errNotListed says that somebody asked for a host that is not in acme.hosts.
var errNotListed = errors.New("it is not one of acme.hosts: add it there if it is a name of this service")

// listed is the policy which hosts certificates are asked for: nobody else than the operator may say so.
func (c *acmeCertificates) listed(_ context.Context, host string) error {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name // of a request by HTTP-01
	}
	if !slices.Contains(c.hosts, strings.TrimSuffix(host, ".")) {
		return fmt.Errorf("no certificate for %q: %w", host, errNotListed)
	}
	return nil
}

// server is a TLS configuration with these certificates, which also shows control over the hosts.
func (c *acmeCertificates) server() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1", acme.ALPNProto}, GetCertificate: c.get}
}

// get is the certificate for a handshake. Clients that name no host, such as health checks by address, get that
// of the first one.
func (c *acmeCertificates) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if hello.ServerName == "" {
		named := *hello
		named.ServerName, hello = c.hosts[0], &named
	}
	cert, err := c.manager.GetCertificate(hello)
	if err != nil {
		c.complain(hello.ServerName, err)
	}
	return cert, err
}

// complain says at most once a minute what is wrong with a host: handshakes are many.
func (c *acmeCertificates) complain(host string, err error) {
	level, key := slog.LevelError, host
	if !slices.Contains(c.hosts, host) {
		level, key = slog.LevelInfo, "" // whoever scans networks chooses the names
	}
	now := time.Now()
	c.mu.Lock()
	again := now.Sub(c.said[key]) < acmePause
	if !again {
		c.said[key] = now
	}
	c.mu.Unlock()
	if again {
		return
	}
	c.log.Log(context.Background(), level, "no TLS certificate: the ACME server has to reach this service as port 443 of the host, or acme.http-01 as port 80",
		"host", host, "directory", c.manager.Client.DirectoryURL, "err", err)
}

// follow gets the certificates without waiting for a client, and says when one is not renewed in time, until
// ctx ends. The manager renews them when a third of their life is left.
func (c *acmeCertificates) follow(ctx context.Context) error {
	var all sync.WaitGroup
	for _, host := range c.hosts {
		all.Go(func() { c.followHost(ctx, host) })
	}
	all.Wait()
	return nil
}

func (c *acmeCertificates) followHost(ctx context.Context, host string) {
	wait, failed := time.Duration(0), time.Duration(0)
	for pause(ctx, wait) {
		cert, err := c.obtain(ctx, host)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			failed = min(max(2*failed, acmePause), acmeLongestPause)
			wait = failed
			continue
		}
		wait, failed = acmeInterval, 0
		c.note(host, cert.Leaf)
	}
}

// obtain is the certificate of a host. The manager does not mind ctx, and may work for minutes.
func (c *acmeCertificates) obtain(ctx context.Context, host string) (*tls.Certificate, error) {
	type answer struct {
		cert *tls.Certificate
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		cert, err := c.get(modernHello(host))
		got <- answer{cert, err}
	}()
	select {
	case a := <-got:
		return a.cert, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// note says which certificate is in use, and whether it should have been renewed.
func (c *acmeCertificates) note(host string, leaf *x509.Certificate) {
	c.mu.Lock()
	before := c.ends[host]
	c.ends[host] = leaf.NotAfter
	c.mu.Unlock()
	if !before.Equal(leaf.NotAfter) {
		c.log.Info("TLS certificate in use", "host", host, "issuer", leaf.Issuer.String(), "until", leaf.NotAfter)
	}
	if left := time.Until(leaf.NotAfter); left < leaf.NotAfter.Sub(leaf.NotBefore)/6 {
		c.complain(host, fmt.Errorf("it should have been renewed by now, and expires at %s", leaf.NotAfter.Format(time.RFC3339)))
	}
}

// expires is when the first of the certificates does; zero while one is missing.
func (c *acmeCertificates) expires() (first time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, host := range c.hosts {
		at := c.ends[host]
		if at.IsZero() {
			return at
		}
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}

// modernHello is the hello of a client that takes ECDSA certificates, as all do that TEEP has.
func modernHello(host string) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{
		ServerName: host, SupportedVersions: []uint16{tls.VersionTLS13}, SupportedCurves: []tls.CurveID{tls.CurveP256},
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
		CipherSuites:     []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
	}
}

// acmeCache is a folder whose files nobody else can read.
type acmeCache struct {
	autocert.DirCache
	log *slog.Logger
}

// openACMECache makes the folder, and looks whether it can be written. Each server has a folder of its own in it, so
// that certificates of a test server are not served, nor its account used, once another one is configured.
func openACMECache(folder, directory string, log *slog.Logger) (*acmeCache, error) {
	u, err := url.Parse(directory)
	if err != nil {
		return nil, err
	}
	name := regexp.MustCompile(`[^a-zA-Z0-9.-]+`).ReplaceAllString(u.Host+u.Path, "_")
	dir := filepath.Join(folder, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("acme.cache: %w: name a folder in which this account may write, which replicas share", err)
	}
	f, err := os.CreateTemp(dir, "writable-")
	if err != nil {
		return nil, fmt.Errorf("acme.cache: certificates could not be kept: %w: name a folder in which this account may write, which replicas share", err)
	}
	if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
		return nil, fmt.Errorf("acme.cache: %w", err)
	}
	return &acmeCache{autocert.DirCache(dir), log}, nil
}

// Get implements [autocert.Cache]. A key that others could read is not used any more.
func (c *acmeCache) Get(ctx context.Context, name string) ([]byte, error) {
	if err := private(filepath.Join(string(c.DirCache), filepath.Clean("/"+name))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("acme.cache: %w", err)
	}
	return c.DirCache.Get(ctx, name)
}

// Put implements [autocert.Cache]. What cannot be kept is asked for again after the next start, which servers allow
// a few times a week: it is said.
func (c *acmeCache) Put(ctx context.Context, name string, data []byte) error {
	err := c.DirCache.Put(ctx, name, data)
	if err != nil {
		c.log.Error("acme.cache cannot be written: what the ACME server gave is lost with this process", "file", name, "err", err)
	}
	return err
}
