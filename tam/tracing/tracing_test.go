package tracing_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/sqlite"
	"github.com/go-teep/teep/tam/sqlite/sqlitetest"
	"github.com/go-teep/teep/tam/tracing"
	"github.com/go-teep/teep/teeptest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// collected is an OTLP collector: what it was sent, decoded.
type collected struct {
	*httptest.Server
	mu     sync.Mutex
	spans  []*spans.Span
	text   strings.Builder // all that was sent, headers of the requests aside
	header http.Header
	// status answers requests; gate, if not nil, holds them up.
	status int
	gate   chan struct{}
	// partly, if not nil, is what the collector says of what it took.
	partly *collector.ExportTracePartialSuccess
}

func newCollector(t *testing.T, start func(http.Handler) *httptest.Server) *collected {
	t.Helper()
	c := &collected{status: http.StatusOK}
	c.Server = start(c)
	t.Cleanup(c.Close)
	return c
}

func (c *collected) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if c.gate != nil {
		select {
		case <-c.gate:
		case <-r.Context().Done():
			return
		}
	}
	var body io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		var err error
		if body, err = gzip.NewReader(r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	data, err := io.ReadAll(body)
	var sent collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(data, &sent)
	}
	if err != nil || r.URL.Path != "/v1/traces" {
		http.Error(w, fmt.Sprint(err), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.header = r.Header.Clone()
	c.text.WriteString(prototext.Format(&sent))
	c.text.Write(data)
	for _, rs := range sent.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			c.spans = append(c.spans, ss.Spans...)
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	w.WriteHeader(c.status)
	answer, err := proto.Marshal(&collector.ExportTraceServiceResponse{PartialSuccess: c.partly})
	if err == nil && c.partly != nil {
		_, _ = w.Write(answer) // the exporter may be gone
	}
}

// all waits until there are n spans.
func (c *collected) all(t *testing.T, n int) []*spans.Span {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c.mu.Lock()
		got := slices.Clone(c.spans)
		c.mu.Unlock()
		if len(got) >= n {
			return got
		}
		if time.Now().After(end) {
			t.Fatalf("%d spans, not %d: %v", len(got), n, got)
		}
	}
}

func attribute(s *spans.Span, key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			if v, ok := a.Value.Value.(interface{ GetIntValue() int64 }); ok && v.GetIntValue() != 0 {
				return fmt.Sprint(v.GetIntValue())
			}
			if n := a.Value.GetIntValue(); n != 0 {
				return fmt.Sprint(n)
			}
			return a.Value.GetStringValue()
		}
	}
	return ""
}

func (c *collected) open(t *testing.T, change func(*tracing.Config)) *tracing.Tracing {
	t.Helper()
	config := tracing.Config{Endpoint: c.URL + "/v1/traces", Ratio: 1, Pause: time.Millisecond, Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&config)
	}
	tr, err := tracing.Open(t.Context(), config)
	must(t, err)
	t.Cleanup(func() { must(t, tr.Close()) })
	return tr
}

const (
	forgedTrace = "0af7651916cd43dd8448eb211c80319c"
	forged      = "00-" + forgedTrace + "-b7ad6b7169203331-01"
)

func request(t *testing.T, h http.Handler, from string, change func(*http.Request)) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/tam", nil)
	r.RemoteAddr = from
	if change != nil {
		change(r)
	}
	h.ServeHTTP(httptest.NewRecorder(), r)
}

func forge(r *http.Request) {
	r.Header.Set("traceparent", forged)
	r.Header.Set("tracestate", "vendor=MARKED-state")
}

// TestNobodyForgesParents: what a client says of traces is a link at most, except from the networks whose word counts.
func TestNobodyForgesParents(t *testing.T) {
	c := newCollector(t, httptest.NewServer)
	tr := c.open(t, func(o *tracing.Config) { o.Parents = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")} })
	public, trusted := tr.Public("teep", http.NotFoundHandler()), tr.Trusted("api", http.NotFoundHandler())
	for i, f := range []struct {
		handler      http.Handler
		from         string
		header       string
		link, parent bool
	}{
		{public, "10.1.0.1:5", forged, true, false},
		{public, "192.0.2.1:5", "", false, false},
		{public, "192.0.2.1:5", "00-" + strings.Repeat("0", 32) + "-b7ad6b7169203331-01", false, false},
		{public, "192.0.2.1:5", "nonsense", false, false},
		{public, "192.0.2.1:5", forged + strings.Repeat("x", 5000), false, false},
		{trusted, "192.0.2.1:5", forged, true, false},
		{trusted, "@", forged, true, false},
		{trusted, "[::ffff:10.1.2.3]:5", forged, false, true},
		{trusted, "10.1.0.1:5", "", false, false},
	} {
		request(t, f.handler, f.from, func(r *http.Request) {
			if f.header != "" {
				forge(r)
				r.Header.Set("traceparent", f.header)
			}
		})
		s := c.all(t, i+1)[i]
		if got := len(s.ParentSpanId) > 0; got != f.parent || got != (hex.EncodeToString(s.TraceId) == forgedTrace) {
			t.Errorf("%d: parent %x in trace %x", i, s.ParentSpanId, s.TraceId)
		}
		if (len(s.Links) == 1) != f.link || len(s.Links) > 1 || f.link && hex.EncodeToString(s.Links[0].TraceId) != forgedTrace {
			t.Errorf("%d: links %v", i, s.Links)
		}
	}
	if strings.Contains(c.text.String(), "MARKED") {
		t.Error("tracestate of a client came through")
	}
}

// TestNobodyForcesSampling: a device that says that its trace is followed does not make it so.
func TestNobodyForcesSampling(t *testing.T) {
	c := newCollector(t, httptest.NewServer)
	tr := c.open(t, func(o *tracing.Config) {
		o.Ratio, o.Parents = 0, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	})
	for range 50 {
		request(t, tr.Public("teep", http.NotFoundHandler()), "10.0.0.1:5", forge)
		request(t, tr.Trusted("api", http.NotFoundHandler()), "192.0.2.1:5", forge)
	}
	request(t, tr.Trusted("api", http.NotFoundHandler()), "10.0.0.1:5", forge)
	if got := c.all(t, 1); len(got) != 1 || hex.EncodeToString(got[0].TraceId) != forgedTrace {
		t.Errorf("%d spans", len(got))
	}
	if _, _, dropped := tr.Spans(); dropped != 0 {
		t.Error("spans that nobody wants took room")
	}
}

// TestSpansOfRequests: route, status and method; health is not followed; and nothing of what is secret.
func TestSpansOfRequests(t *testing.T) {
	c := newCollector(t, httptest.NewServer)
	tr := c.open(t, nil).Tenant("acme")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/devices/{id}", func(w http.ResponseWriter, _ *http.Request) {
		must(t, http.NewResponseController(w).Flush())
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	mux.HandleFunc("GET /v1/readyz", func(http.ResponseWriter, *http.Request) {})
	h := tr.Trusted("api", mux)
	for _, path := range []string{"/v1/readyz", "/t/acme/v1/livez", "/v1/devices/MARKED-path?token=MARKED-query", "/z"} {
		request(t, h, "192.0.2.1:5", func(r *http.Request) {
			u := *r.URL
			r.Method, r.URL = http.MethodGet, &u
			r.URL.Path, r.URL.RawQuery, _ = strings.Cut(path, "?")
			r.Header.Set("Authorization", "Bearer MARKED-token")
			r.Header.Set("Cookie", "session=MARKED-cookie")
		})
	}
	request(t, h, "192.0.2.1:5", func(r *http.Request) { r.Method = "MARKED-method" })
	got := c.all(t, 3)
	if s := got[0]; s.Name != "GET /v1/devices/{id}" || attribute(s, "http.route") != "/v1/devices/{id}" || attribute(s, "teep.tenant") != "acme" ||
		attribute(s, "teep.server") != "api" || s.Kind != spans.Span_SPAN_KIND_SERVER {
		t.Errorf("%v", s)
	}
	if s := got[2]; s.Name != "_OTHER api" || attribute(s, "http.response.status_code") != "404" {
		t.Errorf("%v", s)
	}
	if strings.Contains(c.text.String(), "MARKED") {
		t.Errorf("something secret was sent: %s", c.text.String())
	}
}

// TestSession: a device's session is told message by message, each with what was done for it below.
func TestSession(t *testing.T) {
	c := newCollector(t, httptest.NewServer)
	tr := c.open(t, nil)
	store, err := sqlite.Open(t.Context(), sqlitetest.Database(t, t.TempDir()), sqlite.Options{RelaxedDurability: true})
	must(t, err)
	t.Cleanup(func() { store.Close() })
	w := teeptest.New(t, teeptest.Options{TAMConfig: func(o *tam.Config) {
		if s, ok := o.Store.(api.Store); ok {
			o.Store = tr.Store(s)
		} else {
			o.Store = tr.Store(store)
		}
		o.Observer, o.Verifier, o.Blobs = tr.Messages(), tr.Verifier("builtin", o.Verifier), tr.Blobs(o.Blobs)
	}})
	w.Publish(w.Component("hello", 1, "one"))
	must(t, w.Device.Request(t.Context(), "hello"))
	_, err = w.TAM().ProcessTeepMessage(t.Context(), []byte("garbage"))
	must(t, err)
	must(t, tr.Close())
	byName := map[string][]*spans.Span{}
	for _, s := range c.all(t, 8) {
		byName[s.Name] = append(byName[s.Name], s)
	}
	response, success := byName["TEEP query-response"], byName["TEEP success"]
	if len(byName["TEEP connect"]) == 0 || len(response) == 0 || len(success) == 0 {
		t.Fatalf("spans: %v", byName)
	}
	device := attribute(response[0], "teep.device")
	if len(device) < 32 || attribute(success[0], "teep.device") != device {
		t.Errorf("of device %q", device)
	}
	if s := response[0]; attribute(s, "teep.outcome") != "answered" || attribute(s, "teep.event") != string(tam.EventUpdateSent) {
		t.Errorf("%v", s)
	}
	if s := success[0]; attribute(s, "teep.outcome") != "done" || attribute(s, "teep.event") != string(tam.EventSucceeded) {
		t.Errorf("%v", s)
	}
	for _, name := range []string{"store CommitExchange", "appraise builtin"} {
		if of := byName[name]; len(of) == 0 || !bytes.Equal(of[0].ParentSpanId, response[0].SpanId) {
			t.Errorf("%s is not below the message: %v", name, of)
		}
	}
	if s := byName["appraise builtin"]; len(s) > 0 && attribute(s[0], "teep.attestation") != "affirming" {
		t.Errorf("%v", s[0])
	}
	ignored := 0
	for _, s := range byName["TEEP connect"] {
		if attribute(s, "teep.ignored") == "invalid" && attribute(s, "teep.outcome") == "ignored" {
			ignored++
		}
	}
	if ignored != 1 {
		t.Errorf("garbage is told of %d times: %v", ignored, byName["TEEP connect"])
	}
}

// TestDeadCollector: a collector that hangs delays nobody; what waits is bounded, the rest is dropped and counted, and all is
// well when it comes back.
func TestDeadCollector(t *testing.T) {
	c := newCollector(t, httptest.NewServer)
	c.gate = make(chan struct{})
	release := sync.OnceFunc(func() { close(c.gate) })
	defer release()
	const room, requests = 8, 100
	var log bytes.Buffer
	tr := c.open(t, func(o *tracing.Config) { o.Queue, o.Logger = room, slog.New(slog.NewTextHandler(&log, nil)) })
	h := tr.Public("teep", http.NotFoundHandler())
	for range requests {
		request(t, h, "192.0.2.1:5", nil) // returns although nobody takes spans
	}
	if exported, failed, dropped := tr.Spans(); exported != 0 || failed != 0 || dropped != requests-room {
		t.Errorf("exported %d, failed %d, dropped %d", exported, failed, dropped)
	}
	if n := strings.Count(log.String(), "spans are dropped"); n != 1 {
		t.Errorf("said %d times: %s", n, &log)
	}
	release()
	c.all(t, room)
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if exported, _, _ := tr.Spans(); exported == room {
			break
		}
		if time.Now().After(end) {
			t.Fatal("what waited was not exported")
		}
	}
	request(t, h, "192.0.2.1:5", nil)
	c.all(t, room+1)
}

// TestCollectorThatRefuses: failures are counted and said, and Close does not wait for one that is away.
func TestCollectorThatRefuses(t *testing.T) {
	c := newCollector(t, httptest.NewServer)
	c.status = http.StatusForbidden
	var log bytes.Buffer
	tr := c.open(t, func(o *tracing.Config) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	request(t, tr.Public("teep", http.NotFoundHandler()), "192.0.2.1:5", nil)
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, failed, _ := tr.Spans(); failed == 1 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the failure is not counted")
		}
	}
	must(t, tr.Close())
	if !strings.Contains(log.String(), "the collector took no spans") {
		t.Errorf("the log: %s", &log)
	}
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	dead, err := tracing.Open(t.Context(), tracing.Config{Endpoint: gone.URL + "/v1/traces", Ratio: 1, Pause: time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	request(t, dead.Public("teep", http.NotFoundHandler()), "192.0.2.1:5", nil)
	must(t, dead.Close())
	if exported, failed, dropped := dead.Spans(); exported != 0 || failed+dropped != 1 {
		t.Errorf("exported %d, failed %d, dropped %d", exported, failed, dropped)
	}
}

// TestPartialSuccess: what a collector rejects of a batch, or warns of, is counted as it says, and in the TAM's own log.
func TestPartialSuccess(t *testing.T) {
	for name, test := range map[string]struct {
		rejected         int64
		message          string
		exported, failed uint64
		says             string
	}{
		"all":           {rejected: 0, exported: 2},
		"one rejected":  {rejected: 1, message: "too old\n(99 spans rejected)", exported: 1, failed: 1, says: "the collector rejected spans"},
		"none, but":     {rejected: 0, message: "use another endpoint", exported: 2, says: "has something to say"},
		"more than all": {rejected: 5, failed: 2, says: "the collector rejected spans"},
	} {
		c := newCollector(t, httptest.NewServer)
		c.partly = &collector.ExportTracePartialSuccess{RejectedSpans: test.rejected, ErrorMessage: test.message}
		var log bytes.Buffer
		tr, err := tracing.Open(t.Context(), tracing.Config{Endpoint: c.URL + "/v1/traces", Ratio: 1, Pause: time.Hour, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		must(t, err)
		for range 2 {
			request(t, tr.Public("teep", http.NotFoundHandler()), "192.0.2.1:5", nil)
		}
		must(t, tr.Close())
		if exported, failed, dropped := tr.Spans(); exported != test.exported || failed != test.failed || dropped != 0 {
			t.Errorf("%s: exported %d, failed %d, dropped %d", name, exported, failed, dropped)
		}
		if said := log.String(); !strings.Contains(said, test.says) || test.says == "" && said != "" || !strings.Contains(said, strings.SplitN(test.message, "\n", 2)[0]) {
			t.Errorf("%s: the log: %s", name, said)
		}
	}
}

// TestRequestsToOthers: no path, query or error text; and only services of the operator's own are told the trace.
func TestRequestsToOthers(t *testing.T) {
	c := newCollector(t, httptest.NewServer)
	tr := c.open(t, nil)
	var parents []string
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parents = append(parents, r.Header.Get("traceparent"))
		if r.Header.Get("tracestate") != "" {
			t.Error("tracestate was sent")
		}
		w.WriteHeader(http.StatusTeapot)
	}))
	defer other.Close()
	for _, transport := range []http.RoundTripper{tr.Transport("webhook", nil), tr.Propagating("verifier", nil)} {
		client := &http.Client{Transport: transport}
		res, err := client.Get(other.URL + "/hooks/MARKED-path?key=MARKED-query")
		must(t, err)
		must(t, res.Body.Close())
		client.CloseIdleConnections()
	}
	got := c.all(t, 2)
	if s := got[0]; s.Name != "GET webhook" || s.Status.GetCode() != spans.Status_STATUS_CODE_ERROR || attribute(s, "server.address") != "127.0.0.1" {
		t.Errorf("%v", s)
	}
	if parents[0] != "" || parents[1] != fmt.Sprintf("00-%x-%x-01", got[1].TraceId, got[1].SpanId) {
		t.Errorf("told %q", parents)
	}
	other.Close()
	_, err := (&http.Client{Transport: tr.Transport("s3", nil)}).Get(other.URL + "/MARKED-bucket")
	if err == nil || c.all(t, 3)[2].Status.GetMessage() != "no answer" {
		t.Errorf("%v, %v", err, c.all(t, 3)[2])
	}
	if strings.Contains(c.text.String(), "MARKED") {
		t.Error("a URL was sent")
	}
}

// TestStoreAnswers: refusals of the contract are no failures; failures are; what runs in the background begins no traces.
func TestStoreAnswers(t *testing.T) {
	c := newCollector(t, httptest.NewServer)
	tr := c.open(t, nil)
	sq, err := sqlite.Open(t.Context(), sqlitetest.Database(t, t.TempDir()), sqlite.Options{RelaxedDurability: true})
	must(t, err)
	store := tr.Store(sq)
	if _, err := store.DeviceByKey(t.Context(), make([]byte, 32)); !errors.Is(err, tam.ErrNotFound) {
		t.Fatal(err)
	}
	ctx, ended := tr.Messages().Message(t.Context())
	if _, err := store.DeviceByKey(ctx, make([]byte, 32)); !errors.Is(err, tam.ErrNotFound) {
		t.Fatal(err)
	}
	must(t, sq.Close())
	if _, err := store.CatalogueRevision(ctx); err == nil {
		t.Fatal("a closed store answers")
	}
	ended(tam.Outcome{Err: tam.Unavailable(errors.New("closed"))})
	got := c.all(t, 3)
	if s := got[0]; s.Name != "store DeviceByKey" || s.Status.GetCode() == spans.Status_STATUS_CODE_ERROR || attribute(s, "teep.store.answer") == "" {
		t.Errorf("%v", s)
	}
	if s := got[1]; s.Status.GetCode() != spans.Status_STATUS_CODE_ERROR {
		t.Errorf("%v", s)
	}
	if s := got[2]; attribute(s, "teep.outcome") != "unavailable" || s.Status.GetCode() != spans.Status_STATUS_CODE_ERROR {
		t.Errorf("%v", s)
	}
}

func TestCollectorOverTLS(t *testing.T) {
	c := newCollector(t, httptest.NewTLSServer)
	roots := x509.NewCertPool()
	roots.AddCert(c.Certificate())
	tr := c.open(t, func(o *tracing.Config) {
		o.TLS, o.Headers = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, map[string]string{"Authorization": "Bearer of-the-collector"}
	})
	request(t, tr.Public("teep", http.NotFoundHandler()), "192.0.2.1:5", nil)
	c.all(t, 1)
	if c.header.Get("Authorization") != "Bearer of-the-collector" || !strings.Contains(c.text.String(), "teep-tam") {
		t.Errorf("%v", c.header)
	}
	strange := c.open(t, nil)
	request(t, strange.Public("teep", http.NotFoundHandler()), "192.0.2.1:5", nil)
	must(t, strange.Close())
	if exported, _, _ := strange.Spans(); exported != 0 {
		t.Error("spans went to a collector that nobody vouches for")
	}
}

// TestLog: what is logged of a followed request names its trace, and nothing else does.
func TestLog(t *testing.T) {
	c := newCollector(t, httptest.NewServer)
	tr := c.open(t, nil)
	var text bytes.Buffer
	log := tr.Log(slog.New(slog.NewTextHandler(&text, nil))).With("a", 1).WithGroup("g")
	log.InfoContext(t.Context(), "before")
	request(t, tr.Public("teep", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { log.InfoContext(r.Context(), "within") })), "192.0.2.1:5", nil)
	trace := fmt.Sprintf("trace_id=%x", c.all(t, 1)[0].TraceId)
	lines := strings.Split(text.String(), "\n")
	if strings.Contains(lines[0], "trace_id") || !strings.Contains(lines[1], trace) {
		t.Errorf("no %s in %s", trace, &text)
	}
}

// TestOff: tracing that is off gives back what it was given.
func TestOff(t *testing.T) {
	var off *tracing.Tracing
	h := http.NewServeMux()
	if off.Public("teep", h) != http.Handler(h) || off.Trusted("api", h) != http.Handler(h) || off.Transport("s3", http.DefaultTransport) != http.DefaultTransport ||
		off.Messages() != nil || off.Tenant("a") != nil || off.Verifier("v", nil) != nil || off.Log(slog.Default()) != slog.Default() {
		t.Error("something is wrapped")
	}
	sq, err := sqlite.Open(t.Context(), sqlitetest.Database(t, t.TempDir()), sqlite.Options{RelaxedDurability: true})
	must(t, err)
	defer sq.Close()
	if off.Store(sq) != api.Store(sq) || off.Blobs(nil) != nil {
		t.Error("the store is wrapped")
	}
	must(t, off.Close())
	if a, b, c := off.Spans(); a+b+c != 0 {
		t.Error("spans were counted")
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, c := range map[string]tracing.Config{
		"no URL":                {Endpoint: "collector:4318"},
		"credentials":           {Endpoint: "https://user:MARKED@collector.example"},
		"another scheme":        {Endpoint: "grpc://collector.example:4317"},
		"in the clear":          {Endpoint: "http://collector.example:4318/v1/traces"},
		"in the clear, address": {Endpoint: "http://192.0.2.1:4318/v1/traces"},
		"ratio":                 {Endpoint: "https://collector.example", Ratio: 1.5},
		"negative ratio":        {Endpoint: "https://collector.example", Ratio: -1},
	} {
		tr, err := tracing.Open(t.Context(), c)
		if err == nil || strings.Contains(err.Error(), "MARKED") {
			t.Errorf("%s: %v", name, err)
		}
		must(t, tr.Close())
	}
	tr, err := tracing.Open(t.Context(), tracing.Config{Endpoint: "http://collector.example:4318/v1/traces", InsecureHTTP: true})
	must(t, err)
	must(t, tr.Close())
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "nonsense")
	if _, err := tracing.Open(context.Background(), tracing.Config{Endpoint: "https://collector.example"}); err == nil {
		t.Error("OTEL_RESOURCE_ATTRIBUTES is not looked at")
	}
}
