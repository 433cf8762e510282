package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/go-teep/teep/internal/config"
	"github.com/go-teep/teep/tam/tracing"
)

// tracingConfig is the part "tracing" of tam.yaml: where spans go. Without an endpoint, here or in the environment
// variables of OpenTelemetry, there are none.
type tracingConfig struct {
	// Endpoint is the URL that OTLP requests over HTTP are posted to.
	Endpoint string `yaml:"endpoint"`
	// HeadersFile has what is sent along, such as a token: lines of NAME: VALUE.
	HeadersFile string `yaml:"headers-file"`
	// CA, when set, is all that the collector's TLS certificate may lead to.
	CA string `yaml:"ca"`
	// Ratio is the part of traces that are followed; without it, all are.
	Ratio *float64 `yaml:"ratio"`
	// Queue bounds the spans that wait for the collector; 0 means 4096.
	Queue int `yaml:"queue"`
	// ParentsFrom are addresses and networks whose traceparent counts at the operator API and the console.
	ParentsFrom []string `yaml:"parents-from"`
	// InsecureHTTP lets spans cross a network in the clear.
	InsecureHTTP bool `yaml:"insecure-plain-http"`
}

func (t *tracingConfig) set() bool {
	return t.Endpoint != "" || t.HeadersFile != "" || t.CA != "" || t.Ratio != nil || t.Queue != 0 || len(t.ParentsFrom) > 0 || t.InsecureHTTP
}

func (t *tracingConfig) relative(path string) {
	t.HeadersFile, t.CA = config.Relative(path, t.HeadersFile), config.Relative(path, t.CA)
}

// endpoint is the one in force, and empty where there are no traces.
func (t *tracingConfig) endpoint() string {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return ""
	}
	return cmp.Or(t.Endpoint, os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT"))
}

// check finds what can only be a mistake.
func (t *tracingConfig) check() error {
	switch {
	case t.Endpoint == "" && t.set() && os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") == "" && os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "":
		return errors.New("tracing.endpoint is missing: without the URL of a collector there are no traces")
	case t.Ratio != nil && (*t.Ratio < 0 || *t.Ratio > 1):
		return fmt.Errorf("tracing.ratio is %v: write the part of traces that are followed, from 0 to 1", *t.Ratio)
	case t.Queue < 0:
		return errors.New("tracing.queue is negative: leave it out for 4096")
	}
	if _, err := parsePrefixes("tracing.parents-from", t.ParentsFrom); err != nil {
		return err
	}
	if e := t.endpoint(); e != "" {
		if err := tracing.CheckEndpoint(e, t.InsecureHTTP); err != nil {
			return fmt.Errorf("tracing.endpoint: %w", err)
		}
	}
	return nil
}

// open begins to send spans; nil: there are none.
func (t *tracingConfig) open(ctx context.Context, log *slog.Logger) (*tracing.Tracing, error) {
	if t.endpoint() == "" {
		return nil, nil
	}
	if p := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"), "http/protobuf"); p != "http/protobuf" {
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL is %q: this service speaks http/protobuf, which collectors take at port 4318", p)
	}
	c := tracing.Config{Endpoint: t.Endpoint, Ratio: 1, Queue: t.Queue, InsecureHTTP: t.InsecureHTTP, Logger: log}
	if t.Ratio != nil {
		c.Ratio = *t.Ratio
	}
	var err error
	if c.Parents, err = parsePrefixes("tracing.parents-from", t.ParentsFrom); err != nil {
		return nil, err
	}
	if t.HeadersFile != "" {
		if c.Headers, err = readHeaders(t.HeadersFile); err != nil {
			return nil, fmt.Errorf("tracing.headers-file: %w", err)
		}
	}
	if t.CA != "" {
		certs, err := certificates(t.CA)
		if err != nil {
			return nil, fmt.Errorf("tracing.ca: %w", err)
		}
		c.TLS = &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
		for _, cert := range certs {
			c.TLS.RootCAs.AddCert(cert)
		}
	}
	if t.InsecureHTTP {
		log.Warn("insecure: traces may cross the network to the collector in the clear")
	}
	return tracing.Open(ctx, c)
}

// readHeaders reads lines of NAME: VALUE out of a file for nobody else. Errors do not show values.
func readHeaders(path string) (map[string]string, error) {
	if err := private(path); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	headers := map[string]string{}
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		if !ok || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return nil, fmt.Errorf("%s: line %d is no header: write NAME: VALUE", path, i+1)
		}
		headers[http.CanonicalHeaderKey(name)] = value
	}
	return headers, nil
}

// parsePrefixes reads addresses and networks.
func parsePrefixes(key string, texts []string) (all []netip.Prefix, err error) {
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			var a netip.Addr
			if a, err = netip.ParseAddr(text); err == nil {
				p, err = a.Prefix(a.BitLen())
			}
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %q: write an address or a network, such as 10.0.0.0/8", key, text)
		}
		all = append(all, p.Masked())
	}
	return all, nil
}
