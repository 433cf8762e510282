package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-teep/teep/internal/filewatch"
	"github.com/go-teep/teep/tam/identity"
)

// serverTLS says where a listener's certificate comes from; the zero value: it has no TLS.
type serverTLS struct {
	// Certificate and Key are files.
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
	// ACME: from the server of the part "acme".
	ACME bool `yaml:"acme"`
}

func (t serverTLS) on() bool { return t.ACME || t.Certificate != "" }

func (t serverTLS) check(key string) error {
	switch {
	case t.ACME && (t.Certificate != "" || t.Key != ""):
		return fmt.Errorf("%s has a certificate in a file and acme: true: decide for one of them", key)
	case (t.Certificate == "") != (t.Key == ""):
		return fmt.Errorf("%s needs both certificate and key", key)
	}
	return nil
}

// certificate is what a listener shows, and when it expires (the zero time: unknown).
type certificate struct {
	config  *tls.Config
	expires func() time.Time
}

// server makes the configuration of a server, whose files are read again when they change; nil: no TLS.
func (t serverTLS) server(acme *acmeCertificates, log *slog.Logger) (*certificate, error) {
	if t.ACME {
		return &certificate{acme.server(), acme.expires}, nil
	}
	if t.Certificate == "" {
		return nil, nil
	}
	pair, err := filewatch.New([]string{t.Certificate, t.Key}, func(contents [][]byte) (*tls.Certificate, error) {
		c, err := tls.X509KeyPair(contents[0], contents[1])
		return &c, err
	}, log)
	if err != nil {
		return nil, fmt.Errorf("tls: %s with %s: %w", t.Certificate, t.Key, err)
	}
	if left := time.Until(pair.Get().Leaf.NotAfter); left <= 0 {
		log.Warn("tls certificate has expired: clients refuse it", "file", t.Certificate)
	}
	return &certificate{&tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair.Get(), nil },
	}, func() time.Time { return pair.Get().Leaf.NotAfter }}, nil
}

// askForCertificates has clients send certificates, if they have any of these CAs. They are verified with
// each request.
func askForCertificates(c *tls.Config, known func() []*identity.Certificates) *tls.Config {
	if c == nil {
		return c
	}
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		all := known()
		if len(all) == 0 {
			return nil, nil // the configuration as it is: nobody is asked
		}
		// What the client is told is a hint which of its certificates make sense.
		pool := x509.NewCertPool()
		for _, k := range all {
			for _, ca := range k.CAs() {
				pool.AddCert(ca)
			}
		}
		asking := c.Clone()
		asking.GetConfigForClient, asking.ClientAuth, asking.ClientCAs = nil, tls.RequestClientCert, pool
		return asking, nil
	}
	return c
}
