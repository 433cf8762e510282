package tracing

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// methods are those that spans name; clients may write anything.
var methods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions}

func methodOf(r *http.Request) string {
	if slices.Contains(methods, r.Method) {
		return r.Method
	}
	return "_OTHER" // as OpenTelemetry's conventions have it
}

// Public follows the requests to a handler that anybody reaches, as those of the named server. Each begins a trace.
func (t *Tracing) Public(server string, next http.Handler) http.Handler {
	return t.handler(server, next, func(*http.Request) bool { return false })
}

// Trusted follows the requests to a handler. Those from Config.Parents that say so belong to the trace of who sent them.
func (t *Tracing) Trusted(server string, next http.Handler) http.Handler {
	return t.handler(server, next, func(r *http.Request) bool {
		peer, err := netip.ParseAddrPort(r.RemoteAddr)
		return err == nil && slices.ContainsFunc(t.parents, func(p netip.Prefix) bool { return p.Contains(peer.Addr().Unmap()) })
	})
}

func (t *Tracing) handler(server string, next http.Handler, believed func(*http.Request) bool) http.Handler {
	if t == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "z") && isHealth(r.URL.Path) {
			next.ServeHTTP(w, r)
			return
		}
		ctx, o := t.origin(r, believed(r))
		method := methodOf(r)
		ctx, span := t.start(ctx, method+" "+server, trace.SpanKindServer, append(o, trace.WithAttributes(
			attribute.String("http.request.method", method), attribute.String("teep.server", server)))...)
		defer span.End()
		r = r.WithContext(ctx)
		answer := &answered{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(answer, r)
		span.SetAttributes(attribute.Int("http.response.status_code", answer.status))
		// The multiplexer notes in the request which of its few patterns matched.
		if _, route, ok := strings.Cut(r.Pattern, " "); ok {
			span.SetName(method + " " + route)
			span.SetAttributes(attribute.String("http.route", route))
		}
		if answer.status >= 500 {
			span.SetStatus(codes.Error, http.StatusText(answer.status))
		}
	})
}

// origin is where a request's span belongs: below the span that the client names, if that is believed, and else
// on its own, with a link to it.
func (t *Tracing) origin(r *http.Request, believed bool) (context.Context, []trace.SpanStartOption) {
	ctx := r.Context()
	if r.Header.Get("traceparent") == "" {
		return ctx, []trace.SpanStartOption{trace.WithNewRoot()}
	}
	remote := trace.SpanContextFromContext(t.carrier.Extract(context.Background(), propagation.HeaderCarrier(r.Header)))
	if !remote.IsValid() {
		return ctx, []trace.SpanStartOption{trace.WithNewRoot()}
	}
	// What vendors write into tracestate stays outside.
	remote = remote.WithTraceState(trace.TraceState{})
	if believed {
		return trace.ContextWithRemoteSpanContext(ctx, remote), nil
	}
	return ctx, []trace.SpanStartOption{trace.WithNewRoot(), trace.WithLinks(trace.Link{SpanContext: remote})}
}

// isHealth tells the paths that are asked for all the time, and say nothing.
func isHealth(path string) bool {
	return strings.HasSuffix(path, "/v1/livez") || strings.HasSuffix(path, "/v1/readyz") || strings.HasSuffix(path, "/v1/healthz")
}

// answered notes the status of an answer.
type answered struct {
	http.ResponseWriter
	status int
}

func (a *answered) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach what is beneath.
func (a *answered) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Transport follows the requests to another service, by the service's name. Those that belong to no trace begin one.
func (t *Tracing) Transport(to string, base http.RoundTripper) http.RoundTripper {
	return t.transport(to, base, false)
}

// Propagating is a Transport that also tells the other service which trace its work belongs to: for services of the
// operator's own.
func (t *Tracing) Propagating(to string, base http.RoundTripper) http.RoundTripper {
	return t.transport(to, base, true)
}

func (t *Tracing) transport(to string, base http.RoundTripper, tell bool) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	if t == nil {
		return base
	}
	return &roundTripper{t, to, base, tell}
}

type roundTripper struct {
	*Tracing
	to   string
	base http.RoundTripper
	tell bool
}

// RoundTrip implements http.RoundTripper. The span ends with the header of the answer.
func (t *roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, span := t.start(r.Context(), methodOf(r)+" "+t.to, trace.SpanKindClient, trace.WithAttributes(
		attribute.String("http.request.method", methodOf(r)), attribute.String("server.address", r.URL.Hostname()), attribute.String("teep.service", t.to)))
	defer span.End()
	r = r.Clone(ctx)
	if t.tell {
		t.carrier.Inject(ctx, propagation.HeaderCarrier(r.Header))
	}
	res, err := t.base.RoundTrip(r)
	if err != nil {
		span.SetStatus(codes.Error, "no answer")
		return nil, err
	}
	span.SetAttributes(attribute.Int("http.response.status_code", res.StatusCode))
	if res.StatusCode >= 400 {
		span.SetStatus(codes.Error, http.StatusText(res.StatusCode))
	}
	return res, nil
}

// CloseIdleConnections lets http.Client close those of the base.
func (t *roundTripper) CloseIdleConnections() {
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}
