package download_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/blobfs"
	"github.com/go-teep/teep/tam/download"
	"github.com/go-teep/teep/transport"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// served is a server with one payload, and the payload's URI.
func served(t *testing.T, data []byte, wrap func(http.Handler) http.Handler) (uri, name string) {
	t.Helper()
	payloads, err := blobfs.OpenPayloads(t.TempDir())
	must(t, err)
	t.Cleanup(func() { payloads.Close() })
	digest, _, err := payloads.Put(t.Context(), bytes.NewReader(data))
	must(t, err)
	name = hex.EncodeToString(digest[:])
	h := http.StripPrefix("/payloads/", download.NewHandler(download.Config{Payloads: payloads}))
	if wrap != nil {
		h = wrap(h)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL + "/payloads/" + name, name
}

func do(t *testing.T, method, uri string, header map[string]string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, uri, nil)
	must(t, err)
	for k, v := range header {
		req.Header.Set(k, v)
	}
	res, err := http.DefaultClient.Do(req)
	must(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	must(t, err)
	return res, string(body)
}

func TestRangesAndConditions(t *testing.T) {
	uri, name := served(t, []byte("0123456789"), nil)
	etag := `"` + name + `"`
	for what, c := range map[string]struct {
		method string
		header map[string]string
		status int
		body   string
		ranged string
	}{
		"whole":                        {"GET", nil, 200, "0123456789", ""},
		"head":                         {"HEAD", nil, 200, "", ""},
		"middle":                       {"GET", map[string]string{"Range": "bytes=3-5"}, 206, "345", "bytes 3-5/10"},
		"from":                         {"GET", map[string]string{"Range": "bytes=7-"}, 206, "789", "bytes 7-9/10"},
		"suffix":                       {"GET", map[string]string{"Range": "bytes=-2"}, 206, "89", "bytes 8-9/10"},
		"head of a range":              {"HEAD", map[string]string{"Range": "bytes=7-"}, 200, "", ""},
		"head beyond the end":          {"HEAD", map[string]string{"Range": "bytes=10-"}, 200, "", ""},
		"a unit in capitals":           {"GET", map[string]string{"Range": "BYTES=3-5"}, 206, "345", "bytes 3-5/10"},
		"too many ranges":              {"GET", map[string]string{"Range": "bytes=0-0" + strings.Repeat(",2-2", 16)}, 200, "0123456789", ""},
		"ranges of more than all":      {"GET", map[string]string{"Range": "bytes=0-,0-,0-"}, 200, "0123456789", ""},
		"one of two is beyond the end": {"GET", map[string]string{"Range": "bytes=8-9,20-30"}, 206, "89", "bytes 8-9/10"},
		"If-None-Match weak":           {"GET", map[string]string{"If-None-Match": "W/" + etag}, 304, "", ""},
		"If-None-Match anything":       {"GET", map[string]string{"If-None-Match": "*"}, 304, "", ""},
		"If-None-Match before a range": {"GET", map[string]string{"If-None-Match": etag, "Range": "bytes=7-"}, 304, "", ""},
		"HEAD If-None-Match":           {"HEAD", map[string]string{"If-None-Match": etag}, 304, "", ""},
		"a range backwards":            {"GET", map[string]string{"Range": "bytes=5-3"}, 416, "", ""},
		"no number":                    {"GET", map[string]string{"Range": "bytes=a-b"}, 416, "", ""},
		"If-Range holds":               {"GET", map[string]string{"Range": "bytes=7-", "If-Range": etag}, 206, "789", "bytes 7-9/10"},
		"If-Range of another":          {"GET", map[string]string{"Range": "bytes=7-", "If-Range": `"another"`}, 200, "0123456789", ""},
		"If-Range weak":                {"GET", map[string]string{"Range": "bytes=7-", "If-Range": "W/" + etag}, 200, "0123456789", ""},
		"If-Range date":                {"GET", map[string]string{"Range": "bytes=7-", "If-Range": "Mon, 02 Jan 2006 15:04:05 GMT"}, 200, "0123456789", ""},
		"If-None-Match":                {"GET", map[string]string{"If-None-Match": etag}, 304, "", ""},
		"If-None-Match of another":     {"GET", map[string]string{"If-None-Match": `"another"`}, 200, "0123456789", ""},
		"If-Match":                     {"GET", map[string]string{"If-Match": etag}, 200, "0123456789", ""},
		"If-Match of another":          {"GET", map[string]string{"If-Match": `"another"`}, 412, "", ""},
		"beyond the end":               {"GET", map[string]string{"Range": "bytes=10-"}, 416, "", "bytes */10"},
		"a range of something else":    {"GET", map[string]string{"Range": "lines=1-2"}, 200, "0123456789", ""},
		"a range of nothing":           {"GET", map[string]string{"Range": "7-"}, 200, "0123456789", ""},
		"a credential changes nothing": {"GET", map[string]string{"Authorization": "Bearer x"}, 200, "0123456789", ""},
	} {
		t.Run(what, func(t *testing.T) {
			res, body := do(t, c.method, uri, c.header)
			if res.StatusCode != c.status || c.status < 400 && body != c.body || res.Header.Get("Content-Range") != c.ranged {
				t.Fatalf("%d %q, range %q", res.StatusCode, body, res.Header.Get("Content-Range"))
			}
			if c.status >= 400 {
				if strings.Contains(res.Header.Get("Cache-Control"), "immutable") {
					t.Errorf("a refusal may be cached: %q", res.Header.Get("Cache-Control"))
				}
				return
			}
			want := map[string]string{"ETag": etag, "Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
			if c.status != http.StatusNotModified {
				want["Accept-Ranges"], want["Content-Type"] = "bytes", "application/octet-stream"
				want["Repr-Digest"] = "sha-256=:hNiYd/DUBB77a/kaFvAkjy/Vc+avBcGflr7bn4gveII=:"
			}
			if c.method == "HEAD" && c.status == http.StatusOK {
				want["Content-Length"] = "10"
			}
			for k, v := range want {
				if got := res.Header.Get(k); got != v {
					t.Errorf("%s is %q, want %q", k, got, v)
				}
			}
		})
	}
}

// TestSeveralRanges: they come as parts, each with its place (RFC 9110 §14.6).
func TestSeveralRanges(t *testing.T) {
	uri, name := served(t, []byte("0123456789"), nil)
	res, body := do(t, "GET", uri, map[string]string{"Range": "bytes=0-1, 8-9", "If-Range": strconv.Quote(name)})
	kind, params, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
	must(t, err)
	if res.StatusCode != http.StatusPartialContent || kind != "multipart/byteranges" || !strings.Contains(res.Header.Get("Cache-Control"), "immutable") {
		t.Fatalf("%d %s, %q", res.StatusCode, kind, res.Header.Get("Cache-Control"))
	}
	parts := multipart.NewReader(strings.NewReader(body), params["boundary"])
	for _, want := range []string{"bytes 0-1/10 01", "bytes 8-9/10 89"} {
		part, err := parts.NextPart()
		must(t, err)
		data, err := io.ReadAll(part)
		must(t, err)
		if got := part.Header.Get("Content-Range") + " " + string(data); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if _, err := parts.NextPart(); err != io.EOF {
		t.Errorf("and then: %v", err)
	}
}

func TestNothingElseIsServed(t *testing.T) {
	uri, name := served(t, []byte("payload"), nil)
	base := strings.TrimSuffix(uri, name)
	other := sha256.Sum256([]byte("another"))
	for _, path := range []string{"", hex.EncodeToString(other[:]), strings.ToUpper(name), name[:63], name + "0", name + ".part", name + "/", "x/" + name,
		"..%2f" + name, "%2e%2e/" + name, strings.Repeat("g", 64)} {
		res, _ := do(t, "GET", base+path, nil)
		if res.StatusCode != http.StatusNotFound || res.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%q: %d, %q", path, res.StatusCode, res.Header.Get("Cache-Control"))
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH"} {
		if res, _ := do(t, method, uri, nil); res.StatusCode != http.StatusMethodNotAllowed || res.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d, Allow %q", method, res.StatusCode, res.Header.Get("Allow"))
		}
	}
}

// dead is a store whose disk or service is away, or that answers when it is told to.
type dead struct {
	tam.Payloads
	wait chan struct{}
}

func (d dead) Open(context.Context, [32]byte) (tam.Payload, error) {
	if d.wait != nil {
		d.wait <- struct{}{}
		<-d.wait
	}
	return nil, errors.New("/secret/path: input/output error")
}

func TestDeadStoreIsUnavailable(t *testing.T) {
	var log bytes.Buffer
	s := httptest.NewServer(http.StripPrefix("/", download.NewHandler(download.Config{Payloads: dead{}, Logger: slog.New(slog.NewTextHandler(&log, nil))})))
	defer s.Close()
	res, body := do(t, "GET", s.URL+"/"+strings.Repeat("0", 64), nil)
	if res.StatusCode != 503 || res.Header.Get("Retry-After") == "" || strings.Contains(body, "secret") || !strings.Contains(log.String(), "input/output") {
		t.Errorf("%d %q; logged %q", res.StatusCode, body, log.String())
	}
}

func TestDownloadsAreBounded(t *testing.T) {
	d := dead{wait: make(chan struct{})}
	s := httptest.NewServer(http.StripPrefix("/", download.NewHandler(download.Config{Payloads: d, Concurrent: 1, Logger: slog.New(slog.DiscardHandler)})))
	defer s.Close()
	uri, done := s.URL+"/"+strings.Repeat("0", 64), make(chan struct{})
	go func() {
		defer close(done)
		if res, err := http.Get(uri); err == nil {
			res.Body.Close()
		}
	}()
	<-d.wait // the one slot is taken
	if res, _ := do(t, "GET", uri, nil); res.StatusCode != 503 || res.Header.Get("Retry-After") == "" {
		t.Errorf("%d", res.StatusCode)
	}
	d.wait <- struct{}{}
	<-done
}

// cutting breaks the connection of each answer after some bytes.
type cutting struct {
	http.ResponseWriter
	left int
}

func (c *cutting) Write(p []byte) (int, error) {
	if len(p) <= c.left {
		c.left -= len(p)
		return c.ResponseWriter.Write(p)
	}
	_, _ = c.ResponseWriter.Write(p[:c.left])
	_ = http.NewResponseController(c.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}

// TestBrokersFetcherResumes: the connection breaks again and again, and the payload arrives whole, each byte
// once.
func TestBrokersFetcherResumes(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
	var asked []string
	uri, name := served(t, data, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked = append(asked, r.Header.Get("Range")+" "+r.Header.Get("If-Range"))
			h.ServeHTTP(&cutting{w, 100_000}, r)
		})
	})
	client, err := transport.NewClient(transport.ClientOptions{Retry: transport.DefaultRetry(), Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }})
	must(t, err)
	defer client.CloseIdleConnections()
	stream, err := client.Open(t.Context(), uri, 0)
	must(t, err)
	defer stream.Close()
	got, err := io.ReadAll(stream)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d of %d bytes, %v", len(got), len(data), err)
	}
	want := []string{" ", `bytes=100000- "` + name + `"`, `bytes=200000- "` + name + `"`, `bytes=300000- "` + name + `"`}
	if strings.Join(asked, "|") != strings.Join(want, "|") {
		t.Errorf("asked for %q", asked)
	}
}

// TestStalledReceiverIsLeft: whoever takes nothing does not hold a download for good.
func TestStalledReceiverIsLeft(t *testing.T) {
	payloads, err := blobfs.OpenPayloads(t.TempDir())
	must(t, err)
	defer payloads.Close()
	digest, _, err := payloads.Put(t.Context(), io.LimitReader(bytes.NewReader(make([]byte, 32<<20)), 32<<20))
	must(t, err)
	ended := make(chan struct{})
	h := http.StripPrefix("/", download.NewHandler(download.Config{Payloads: payloads, StallTimeout: 50 * time.Millisecond}))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { defer close(ended); h.ServeHTTP(w, r) }))
	defer s.Close()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	must(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "GET /"+hex.EncodeToString(digest[:])+" HTTP/1.1\r\nHost: tam\r\n\r\n")
	must(t, err)
	<-ended // or the test's own timeout
}
