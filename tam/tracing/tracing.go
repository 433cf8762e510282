// Package tracing follows requests and messages through a TAM for OpenTelemetry: each HTTP request, TEEP message, call of the
// store, appraisal and request to another service is a span, sent to a collector by OTLP over HTTP.
//
//	traces, err := tracing.Open(ctx, tracing.Config{Endpoint: "https://collector.example:4318/v1/traces", Ratio: 0.1})
//	defer traces.Close()
//	handler := traces.Public("teep", transport.NewHandler(t, …))
//	t, err := tam.New(ctx, tam.Config{Store: traces.Store(store), Observer: traces.Messages(), …})
//
// A nil *[Tracing] is tracing that is off: its methods give back what they were given, so that it costs nothing. There
// are no globals of OpenTelemetry in it.
//
// # What spans say
//
// Names of servers, routes, calls, hosts, kinds of messages and outcomes, and identifiers of devices (thumbprints of public
// keys). Never: bodies, headers, paths and queries of URLs (where webhooks and logins have secrets), tokens, keys.
//
// # Who may begin a trace
//
// Devices, and whoever reaches the service, cannot: what they send as traceparent (W3C Trace Context) becomes a link of
// a new trace, and forces no sampling. [Config].Parents names the networks whose word counts at the operator API.
package tracing

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Config says where traces go and how many there are. What is empty comes from the environment variables that
// OpenTelemetry defines (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_HEADERS, OTEL_RESOURCE_ATTRIBUTES, …).
type Config struct {
	// Endpoint is the URL that OTLP requests are posted to. Empty: that of the environment.
	Endpoint string
	// Headers are sent along, such as a collector's token.
	Headers map[string]string
	// TLS is for the connection to the collector; nil: the authorities of the system.
	TLS *tls.Config
	// InsecureHTTP lets spans cross a network in the clear.
	InsecureHTTP bool
	// Ratio is the part of traces that are followed, from 0 to 1.
	Ratio float64
	// Parents are the networks of clients whose traceparent is believed, at handlers made by Trusted.
	Parents []netip.Prefix
	// Queue bounds the spans that wait for the collector; 0 means 4096. Further ones are dropped.
	Queue int
	// Pause is how long spans wait for others to go with; 0 means 5 seconds.
	Pause  time.Duration
	Logger *slog.Logger
}

const (
	defaultQueue = 4096
	// closeTimeout bounds how long the last spans may hold up the end of the service.
	closeTimeout = 3 * time.Second
	service      = "teep-tam"
)

// Tracing makes spans. All methods are safe for concurrent use, and for a nil *Tracing.
type Tracing struct {
	tracer   trace.Tracer
	provider *sdk.TracerProvider
	queue    *queue
	parents  []netip.Prefix
	common   []attribute.KeyValue
	carrier  propagation.TraceContext
}

// Open begins to send spans. It makes no connection: a collector that is away is found out later, and delays nothing.
func Open(ctx context.Context, c Config) (*Tracing, error) {
	if c.Ratio < 0 || c.Ratio > 1 {
		return nil, fmt.Errorf("tracing: the ratio %v is no part: write one from 0 to 1", c.Ratio)
	}
	exporter, err := c.exporter(ctx)
	if err != nil {
		return nil, err
	}
	return open(ctx, c, exporter)
}

func (c *Config) exporter(ctx context.Context) (*otlptrace.Exporter, error) {
	o := []otlptracehttp.Option{otlptracehttp.WithCompression(otlptracehttp.GzipCompression)}
	if c.Endpoint != "" {
		if err := CheckEndpoint(c.Endpoint, c.InsecureHTTP); err != nil {
			return nil, err
		}
		o = append(o, otlptracehttp.WithEndpointURL(c.Endpoint))
	}
	if c.Headers != nil {
		o = append(o, otlptracehttp.WithHeaders(c.Headers))
	}
	if c.TLS != nil {
		o = append(o, otlptracehttp.WithTLSClientConfig(c.TLS))
	}
	e, err := otlptracehttp.New(ctx, o...)
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	return e, nil
}

// CheckEndpoint refuses what is no URL of a collector, and one that spans would cross a network to in the clear.
func CheckEndpoint(endpoint string, insecureHTTP bool) error {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" {
		// It may have a secret in it.
		return errors.New("tracing: the endpoint is no URL of a collector: write one such as https://collector.example:4318/v1/traces, with credentials in a header")
	}
	ip := net.ParseIP(u.Hostname())
	if u.Scheme == "http" && !insecureHTTP && u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("tracing: the endpoint at %s has no TLS, and spans would cross the network in the clear: write https, or allow it with insecure-plain-http", u.Host)
	}
	return nil
}

func open(ctx context.Context, c Config, exporter sdk.SpanExporter) (*Tracing, error) {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Queue == 0 {
		c.Queue = defaultQueue
	}
	described, err := resource.New(ctx, resource.WithAttributes(attribute.String("service.name", service)), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("tracing: OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	t := &Tracing{parents: c.Parents, queue: newQueue(exporter, c.Queue, c.Pause, c.Logger)}
	t.provider = sdk.NewTracerProvider(sdk.WithResource(described), sdk.WithSpanProcessor(t.queue),
		sdk.WithSampler(sdk.ParentBased(sdk.TraceIDRatioBased(c.Ratio))))
	t.tracer = t.provider.Tracer("github.com/go-teep/teep/tam")
	return t, nil
}

// Tenant gives the spans of a tenant its name.
func (t *Tracing) Tenant(name string) *Tracing {
	if t == nil || name == "" {
		return t
	}
	of := *t
	of.common = append(of.common[:len(of.common):len(of.common)], attribute.String("teep.tenant", name))
	return &of
}

// Close sends what waits, for a moment, and ends.
func (t *Tracing) Close() error {
	if t == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("tracing: %w", err)
	}
	return nil
}

// Spans counts the spans that ended, by what became of them: the collector took them, it did not, or they
// were too many for the queue.
func (t *Tracing) Spans() (exported, failed, dropped uint64) {
	if t == nil {
		return 0, 0, 0
	}
	return t.queue.exported.Load(), t.queue.failed.Load(), t.queue.dropped.Load()
}

// start begins a span, with what is common to all.
func (t *Tracing) start(ctx context.Context, name string, kind trace.SpanKind, o ...trace.SpanStartOption) (context.Context, trace.Span) {
	return t.tracer.Start(ctx, name, append(o, trace.WithSpanKind(kind), trace.WithAttributes(t.common...))...)
}

// followed tells whether ctx belongs to a trace that is followed. What runs in the background begins none.
func followed(ctx context.Context) bool { return trace.SpanFromContext(ctx).IsRecording() }
