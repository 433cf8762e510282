package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/go-teep/teep/broker"
	"github.com/go-teep/teep/internal/config"
	"github.com/go-teep/teep/internal/filewatch"
	"github.com/go-teep/teep/transport"
)

// endpoint makes an agent reachable over HTTP, for TAMs that connect to it: the second topology of
// TEEP over HTTP §1. The agent answers TAMs that it trusts, and nobody else.
type endpoint struct {
	Listen string `yaml:"listen"`
	Path   string `yaml:"path"`
	// TEE names the agent; empty for the first one.
	TEE string `yaml:"tee"`
	TLS struct {
		Certificate string `yaml:"certificate"`
		Key         string `yaml:"key"`
	} `yaml:"tls"`
	// Rate is requests per second and address; MessageBytes the largest message.
	Rate         float64 `yaml:"rate"`
	MessageBytes int64   `yaml:"message-bytes"`
}

const (
	// endpointMessage is the largest message from a TAM, in bytes: an Update may hold payloads.
	endpointMessage = 64 << 20
	// endpointConcurrent bounds the messages in work, and as many may be on their way in: this is a device, and
	// strangers' messages take memory too. An agent works on one at a time anyway.
	endpointConcurrent = 4
	endpointRate       = 5
	shutdownTimeout    = 10 * time.Second
)

// endpointPath is a path that is the same in a URI and in a multiplexer's pattern.
var endpointPath = regexp.MustCompile(`^/[A-Za-z0-9._~/-]*$`)

func (c *configuration) checkEndpoints(path string) error {
	for i := range c.Endpoints {
		e := &c.Endpoints[i]
		if e.Path == "" {
			e.Path = "/teep"
		}
		_, port, err := net.SplitHostPort(e.Listen)
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		known := e.TEE == ""
		for _, t := range c.TEEs {
			known = known || t.Name == e.TEE
		}
		switch {
		case err != nil:
			return fmt.Errorf("%s: endpoints: listen %q is no address: write HOST:PORT, such as 0.0.0.0:8443", path, e.Listen)
		case !endpointPath.MatchString(e.Path):
			return fmt.Errorf("%s: endpoints: path %q is no plain path: write a slash and then letters, digits, and - . _ ~ /", path, e.Path)
		case !known:
			return fmt.Errorf("%s: endpoints: tee %q is none of tees", path, e.TEE)
		case (e.TLS.Certificate == "") != (e.TLS.Key == ""):
			return fmt.Errorf("%s: endpoints: tls needs both certificate and key", path)
		case e.Rate < 0, e.MessageBytes < 0:
			return fmt.Errorf("%s: endpoints: a limit is negative", path)
		}
		e.TLS.Certificate, e.TLS.Key = config.Relative(path, e.TLS.Certificate), config.Relative(path, e.TLS.Key)
	}
	return nil
}

// serveEndpoints listens for TAMs until ctx ends, then lets messages under way be answered.
func serveEndpoints(ctx context.Context, g *errgroup.Group, c *configuration, b *broker.Broker, log *slog.Logger) error {
	for _, e := range c.Endpoints {
		agent, err := b.Endpoint(broker.Requirements{TEE: e.TEE})
		if err != nil {
			return err
		}
		mux := http.NewServeMux()
		mux.Handle(e.Path, transport.NewHandler(agent, e.handlerOptions(log)))
		if err := listen(ctx, g, e, mux, log); err != nil {
			return err
		}
		log.Info("TAMs can connect", "listen", e.Listen, "path", e.Path, "tls", e.TLS.Certificate != "")
	}
	return nil
}

func (e *endpoint) handlerOptions(log *slog.Logger) transport.HandlerOptions {
	o := transport.HandlerOptions{
		MaxRequest: e.MessageBytes, MaxConcurrent: endpointConcurrent, MaxArriving: endpointConcurrent, Rate: e.Rate, Log: log,
	}
	if o.MaxRequest == 0 {
		o.MaxRequest = endpointMessage
	}
	if o.Rate == 0 {
		o.Rate = endpointRate
	}
	o.Burst = max(int(4*o.Rate), 1)
	return o
}

func listen(ctx context.Context, g *errgroup.Group, e endpoint, h http.Handler, log *slog.Logger) error {
	server := transport.NewServer(h)
	if e.TLS.Certificate != "" {
		// Certificates end, and devices are not restarted for it.
		pair, err := filewatch.New([]string{e.TLS.Certificate, e.TLS.Key}, func(contents [][]byte) (*tls.Certificate, error) {
			c, err := tls.X509KeyPair(contents[0], contents[1])
			return &c, err
		}, log)
		if err != nil {
			return fmt.Errorf("endpoints: tls: %w", err)
		}
		server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair.Get(), nil }}
	}
	ln, err := net.Listen("tcp", e.Listen)
	if err != nil {
		return fmt.Errorf("listening for TAMs: %w", err)
	}
	g.Go(func() error { return transport.Serve(ctx, server, ln, shutdownTimeout) })
	return nil
}
