package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/go-teep/teep/attest/builtin"
	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/console"
	"github.com/go-teep/teep/tam/metrics"
	"github.com/go-teep/teep/tam/recorder"
	"github.com/go-teep/teep/transport"
)

const (
	// shutdownTimeout is how long requests under way may take after SIGTERM.
	shutdownTimeout = 10 * time.Second
	sweepInterval   = 5 * time.Minute
	// sweepRequests bounds the remembered requests, and the recorded messages, that go in one sweep.
	sweepRequests = 10_000
)

func serveCommand() *cobra.Command {
	var path string
	var olderPeers bool
	var logs program.LogFlags
	c := &cobra.Command{
		Use:   "serve --config FILE",
		Short: "Answer agents and operators until SIGTERM",
		Long: `Answers TEEP Agents at teep.listen, and operators at api.listen.

What the protocol leaves open is chosen in the configuration file, all of it off or the safe choice unless it is set:

  policy.query               attestation (a challenge each time), token or timestamp
  passports                  verifiers whose Attestation Results count
  certificates, agents       certificate chains and revocation lists, for this TAM and for agents
  self-attestation           for agents that demand that the TAM attests itself
  connect                    agents that this TAM connects to, because they are HTTP servers
  teep.limits                sizes and rates that agents may ask for

docs/operations/protocol.md explains each.`,
		Example: `  teep-tam serve --config tam/tam.yaml
  teep-tam serve --config tam/tam.yaml --log-format json --log-level debug`,
		Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve(cmd.Context(), path, olderPeers, &logs, cmd.ErrOrStderr())
		},
	}
	c.Flags().BoolVar(&olderPeers, "insecure-older-peers", false,
		"also offer and accept ES256 (-7) and EdDSA (-8), which leave the curve open, for agents of earlier drafts")
	logs.Register(c)
	return configFlag(c, &path)
}

func serve(ctx context.Context, path string, olderPeers bool, logs *program.LogFlags, stderr io.Writer) error {
	program.KeepHeapRoom(ctx)
	log, err := logs.Logger(stderr)
	if err != nil {
		return err
	}
	c, err := load(path)
	if err != nil {
		return err
	}
	c.olderPeers = olderPeers
	if c.traces, err = c.Tracing.open(ctx, log); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer func() {
		if err := c.traces.Close(); err != nil {
			log.Warn("the last spans were not sent", "err", err)
		}
	}()
	store, err := openStore(ctx, c)
	if err != nil {
		return err
	}
	defer store.Close()
	if c.InsecureStore {
		log.Warn("insecure-store-connection is set: whoever sits between here and the database can read token keys and change what devices get")
	}
	if c.API.InsecureHTTP {
		log.Warn("insecure: the operator API accepts tokens over plain HTTP")
	}
	own, err := openInstance(ctx, c, store, metrics.New(store, log, time.Now), log)
	if err != nil {
		return err
	}
	s := newService(c, store, log)
	defer func() { closeInstances(s.instances()) }()
	if c.traces != nil {
		own.measured.Traces(c.traces.Spans)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.run, ctx = errgroup.WithContext(ctx)
	s.add(ctx, own)
	s.beginTenants(ctx)
	s.run.Go(func() error { return s.followTenants(ctx) })
	if err := s.listen(ctx); err != nil {
		cancel()
		return errors.Join(err, s.run.Wait())
	}
	log.Info("ready", "tam", c.uri(), "api", c.API.Listen, "tenants", len(s.instances())-1)
	if err := s.run.Wait(); err != nil {
		return err
	}
	log.Info("stopped")
	return nil
}

// listen opens the service's addresses.
func (s *service) listen(ctx context.Context) error {
	c, measured := s.config, s.instances()[0].measured
	acme, err := s.openACME(ctx)
	if err != nil {
		return err
	}
	agentTLS, err := s.certificate("teep", c.TEEP.TLS, acme)
	if err != nil {
		return err
	}
	if err := listen(ctx, s.run, c.TEEP.Listen, agentTLS, s.agents, s.prepared("teep", c.TEEP.Limits.Connections)); err != nil {
		return err
	}
	operatorTLS, err := s.certificate("api", c.API.TLS, acme)
	if err != nil {
		return err
	}
	if err := listen(ctx, s.run, c.API.Listen, askForCertificates(operatorTLS, s.certificates), s.operators, s.prepared("api", 0)); err != nil {
		return err
	}
	if acme != nil {
		s.run.Go(func() error { return acme.follow(ctx) }) // the server may ask at once at the listeners
	}
	if c.Metrics.Listen == "" {
		return nil
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		measured.Exporter(s.tenantMetrics()...).ServeHTTP(w, r) // there may be new tenants
	})
	return listen(ctx, s.run, c.Metrics.Listen, nil, mux, s.prepared("metrics", 0))
}

// openACME opens the certificates that come by ACME, and the listener for HTTP-01; nil: there are none.
func (s *service) openACME(ctx context.Context) (*acmeCertificates, error) {
	c := s.config
	if !c.TEEP.TLS.ACME && !c.API.TLS.ACME {
		return nil, nil
	}
	acme, err := c.ACME.open(s.log)
	if err != nil || c.ACME.HTTP01 == "" {
		return acme, err
	}
	// Whoever comes for something else is sent to https.
	return acme, listen(ctx, s.run, c.ACME.HTTP01, nil, acme.manager.HTTPHandler(nil), s.prepared("acme", 0))
}

// certificate opens that of a listener, and measures how long it is good for.
func (s *service) certificate(server string, from serverTLS, acme *acmeCertificates) (*tls.Config, error) {
	c, err := from.server(acme, s.log)
	if err != nil || c == nil {
		return nil, err
	}
	s.instances()[0].measured.Certificate(server, c.expires)
	return c.config, nil
}

// operatorHandler serves the operator API and the console that works through it. A tenant's prefix is off the
// paths already.
func operatorHandler(ctx context.Context, c *configuration, t *tam.TAM, blobs *blobStores, measured *metrics.Metrics, who recognized, keys *liveKeys, log *slog.Logger) (http.Handler, error) {
	store := c.traces.Store(measured.Store())
	operators, err := api.NewHandler(api.Config{TAM: t, Store: store, Keys: keys.current,
		Authenticators: who.authenticators, RolloutApproval: c.Policy.RolloutApproval,
		Payloads: blobs.payloads, PayloadURI: c.payloadURI(), MaxPayload: c.Payloads.MaxBytes,
		Timeout: c.API.Timeout, InsecureWebhooks: c.Webhooks.InsecurePrivate, Ending: ctx.Done(), Logger: log})
	if err != nil {
		return nil, err
	}
	pages, err := console.NewHandler(console.Config{API: operators, Store: store, Base: c.prefix(), Tenants: c.switchable(), Timeout: c.consoleTimeout(), TLSInFront: c.Console.TLSInFront, Provider: who.provider, Logger: log})
	if err != nil {
		return nil, err
	}
	pages, operators = c.traces.Trusted("console", measured.Handler("console", pages)), c.traces.Trusted("api", measured.Handler("api", operators))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/" && r.Method == http.MethodGet:
			http.Redirect(w, r, c.prefix()+console.Prefix, http.StatusSeeOther)
		case strings.HasPrefix(r.URL.Path, console.Prefix):
			pages.ServeHTTP(w, r)
		default:
			operators.ServeHTTP(w, r)
		}
	}), nil
}

func newTAM(ctx context.Context, c *configuration, store tam.Store, blobs *blobStores, known *collateral, recorded *recorder.Recorder, log *slog.Logger) (*tam.TAM, error) {
	keys, err := c.ring()
	if err != nil {
		return nil, err
	}
	verifier, err := c.newVerifier(known)
	if err != nil {
		return nil, err
	}
	formats, err := builtin.ParseFormats(c.Verifier.Formats)
	if err != nil {
		return nil, err
	}
	policy, err := c.policy()
	if err != nil {
		return nil, err
	}
	distribution, err := c.distribution()
	if err != nil {
		return nil, err
	}
	config := tam.Config{
		Signers: keys.Signers, DecryptionKeys: keys.DecryptionKeys, Verifier: c.traces.Verifier("builtin", verifier), Observer: c.traces.Messages(), EvidenceFormats: formats, Distribution: distribution,
		Store: store, Blobs: blobs.envelopes, Policy: policy, Logger: log,
	}
	if blobs.payloads != nil {
		config.Payloads, config.PayloadURIs = blobs.payloads, []string{c.payloadURI()}
	}
	if c.allowed, err = openAllowList(c.Policy.AllowList, log); err != nil {
		return nil, err
	}
	config.AllowList = c.allowed.current
	if recorded != nil {
		config.Recorder = recorded
	}
	if err := c.protocol(&config); err != nil {
		return nil, err
	}
	config.Results = c.traces.Verifier("passports", config.Results)
	return tam.New(ctx, config)
}

// prepared bounds a server's connections and measures them, and has the server write into the log.
func (s *service) prepared(server string, connections int) func(*http.Server) {
	return func(h *http.Server) {
		s.instances()[0].measured.Connections(server, transport.LimitConnections(h, connections))
		h.ErrorLog = stdlog.New(serverLog{s.log.With("server", server)}, "", 0)
	}
}

// serverLog takes what a server says: panics of handlers, and what clients do wrong in handshakes.
type serverLog struct{ log *slog.Logger }

// Write implements io.Writer.
func (l serverLog) Write(line []byte) (int, error) {
	level := slog.LevelDebug
	if bytes.Contains(line, []byte("panic")) {
		level = slog.LevelError
	}
	l.log.Log(context.Background(), level, "HTTP server", "says", strings.TrimSpace(string(line)))
	return len(line), nil
}

// listen serves a handler until ctx ends, then lets requests under way finish.
func listen(ctx context.Context, g *errgroup.Group, address string, config *tls.Config, h http.Handler, prepare func(*http.Server)) error {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listening for agents or operators: %w", err)
	}
	server := transport.NewServer(h)
	server.TLSConfig = config
	prepare(server)
	g.Go(func() error { return transport.Serve(ctx, server, ln, shutdownTimeout) })
	return nil
}

// newRecorder makes what keeps the newest messages of each device; nil where they are not wanted.
func newRecorder(c *configuration, store tam.Recordings, log *slog.Logger) (*recorder.Recorder, error) {
	if c.Recording.Off {
		return nil, nil
	}
	return recorder.New(recorder.Config{Store: store, Keep: c.Recording.PerDevice, PerSecond: c.Recording.PerSecond, Logger: log})
}

// sweptStore forgets what is only remembered for a while.
type sweptStore interface {
	tam.Idempotency
	tam.Recordings
}

func sweep(ctx context.Context, t *tam.TAM, records sweptStore, keep time.Duration, log *slog.Logger) error {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := t.Sweep(ctx, keep); err != nil && ctx.Err() == nil {
			log.Error("sweep", "err", err)
		}
		if _, err := records.SweepRequests(ctx, time.Now(), sweepRequests); err != nil && ctx.Err() == nil {
			log.Error("sweep of remembered requests", "err", err)
		}
		if _, err := records.SweepRecorded(ctx, time.Now().Add(-keep), sweepRequests); err != nil && ctx.Err() == nil {
			log.Error("sweep of recorded messages", "err", err)
		}
	}
}
