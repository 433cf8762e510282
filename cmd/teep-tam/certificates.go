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

// tlsFiles are a server's certificate and key.
type tlsFiles struct {
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
}

// server makes the configuration of a server, whose files are read again when they change; nil: no TLS.
func (t tlsFiles) server(log *slog.Logger) (*tls.Config, error) {
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
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair.Get(), nil },
	}, nil
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
