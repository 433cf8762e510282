package main

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// traceCollector takes spans by OTLP over HTTP, from whoever has its token.
type traceCollector struct {
	*httptest.Server
	mu    sync.Mutex
	names []string
}

func newTraceCollector(t *testing.T) *traceCollector {
	t.Helper()
	c := &traceCollector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var sent collector.ExportTraceServiceRequest
		body, err := gzip.NewReader(r.Body)
		if err == nil {
			var data []byte
			if data, err = io.ReadAll(body); err == nil {
				err = proto.Unmarshal(data, &sent)
			}
		}
		if err != nil || r.Header.Get("Authorization") != "Bearer of-the-collector" {
			http.Error(w, fmt.Sprint(err), http.StatusUnauthorized)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, rs := range sent.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				for _, s := range ss.Spans {
					c.names = append(c.names, s.Name)
				}
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *traceCollector) has(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(c.names, name)
}

// TestTracing: a service sends spans of agents' and operators' requests where its configuration, or the environment, says,
// and counts them; at its end it sends what is left.
func TestTracing(t *testing.T) {
	headers := filepath.Join(t.TempDir(), "headers")
	must(t, os.WriteFile(headers, []byte("# of the collector\n\nauthorization: Bearer of-the-collector\n"), 0o600))
	for name, lines := range map[string]func(c *traceCollector) string{
		"configured": func(c *traceCollector) string {
			return fmt.Sprintf("tracing: {endpoint: %s/v1/traces, headers-file: %s, ratio: 1}\n", c.URL, headers)
		},
		"environment": func(c *traceCollector) string {
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.URL)
			return fmt.Sprintf("tracing: {headers-file: %s}\n", headers)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newTraceCollector(t)
			metrics := local(freePort(t))
			s := serveTAM(t, freePort(t), "", lines(c)+fmt.Sprintf("metrics: {listen: %q}\n", metrics))
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.address+"/tam", nil)
			must(t, err)
			r.Header.Set("Accept", "application/teep+cbor")
			res, err := http.DefaultClient.Do(r)
			must(t, err)
			must(t, res.Body.Close())
			for _, path := range []string{"/v1/devices", "/v1/readyz"} {
				res, err := http.Get("http://" + s.api + path)
				must(t, err)
				must(t, res.Body.Close())
			}
			res, err = http.Get("http://" + metrics + "/metrics")
			must(t, err)
			text, err := io.ReadAll(res.Body)
			must(t, err)
			must(t, res.Body.Close())
			if !strings.Contains(string(text), `teep_tam_trace_spans_total{outcome="dropped"} 0`) {
				t.Error("spans are not measured")
			}
			s.stop()
			for _, span := range []string{"TEEP connect", "POST teep", "GET /v1/devices"} {
				if !c.has(span) {
					t.Errorf("no span %q in %q", span, c.names)
				}
			}
			if slices.ContainsFunc(c.names, func(n string) bool { return strings.Contains(n, "readyz") }) {
				t.Error("health is followed")
			}
			if strings.Contains(s.log.String(), "of-the-collector") {
				t.Error("the collector's token is in the log")
			}
		})
	}
}

// TestTracingDeadCollector: the service answers, and ends, although the collector hangs.
func TestTracingDeadCollector(t *testing.T) {
	release := make(chan struct{})
	hangs := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer hangs.Close()
	defer close(release)
	s := serveTAM(t, freePort(t), "", fmt.Sprintf("tracing: {endpoint: %s/v1/traces, queue: 2}\n", hangs.URL))
	for range 20 {
		res, err := http.Get("http://" + s.api + "/v1/devices")
		must(t, err)
		must(t, res.Body.Close())
		if res.StatusCode != http.StatusUnauthorized {
			t.Fatalf("answered %s", res.Status)
		}
	}
	s.log.wait(t, "spans are dropped")
	s.stop()
}

func TestTracingRefuses(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, []byte(text), mode))
		return path
	}
	const endpoint = "endpoint: 'https://collector.example/v1/traces'"
	for name, f := range map[string]struct{ tracing, says string }{
		"no endpoint":    {"ratio: 1", "endpoint is missing"},
		"no URL":         {"endpoint: 'collector:4317'", "no URL"},
		"in the clear":   {"endpoint: 'http://collector.example/v1/traces'", "has no TLS"},
		"credentials":    {"endpoint: 'https://u:MARKED@collector.example'", "credentials in a header"},
		"ratio":          {endpoint + ", ratio: 2", "from 0 to 1"},
		"negative ratio": {endpoint + ", ratio: -0.1", "from 0 to 1"},
		"queue":          {endpoint + ", queue: -1", "queue"},
		"parents":        {endpoint + ", parents-from: [gateway]", "10.0.0.0/8"},
		"unknown key":    {endpoint + ", header: x", "unknown key"},
	} {
		path := made(t, "api:", "tracing: {"+f.tracing+"}\napi:")
		if _, err := load(path); err == nil || !strings.Contains(err.Error(), f.says) || strings.Contains(err.Error(), "MARKED") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, f := range map[string]struct {
		config tracingConfig
		says   string
	}{
		"no headers":         {tracingConfig{HeadersFile: filepath.Join(dir, "none")}, "no such file"},
		"headers for all":    {tracingConfig{HeadersFile: write("wide", "A: b", 0o644)}, "chmod 600"},
		"no header":          {tracingConfig{HeadersFile: write("broken", "\nMARKED of the collector", 0o600)}, "line 2 is no header"},
		"header with spaces": {tracingConfig{HeadersFile: write("spaces", "a b: MARKED", 0o600)}, "line 1 is no header"},
		"no CA":              {tracingConfig{CA: write("ca", "none", 0o600)}, "no certificate"},
	} {
		f.config.Endpoint = "https://collector.example/v1/traces"
		if _, err := f.config.open(t.Context(), nil); err == nil || !strings.Contains(err.Error(), f.says) || strings.Contains(err.Error(), "MARKED") {
			t.Errorf("%s: %v", name, err)
		}
	}
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
	if _, err := (&tracingConfig{Endpoint: "https://collector.example"}).open(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "http/protobuf") {
		t.Errorf("gRPC: %v", err)
	}
	t.Setenv("OTEL_SDK_DISABLED", "true")
	if tr, err := (&tracingConfig{Endpoint: "https://collector.example"}).open(t.Context(), nil); err != nil || tr != nil {
		t.Errorf("switched off: %v", err)
	}
}
