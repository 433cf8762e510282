package transport

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// newClient makes a client without pauses; slept gets those that it would have made.
func newClient(t *testing.T, o ClientOptions, slept *[]time.Duration) *Client {
	t.Helper()
	o.Random = func() float64 { return 0.5 }
	o.Sleep = func(ctx context.Context, d time.Duration) error {
		if slept != nil {
			*slept = append(*slept, d)
		}
		return ctx.Err()
	}
	c, err := NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func server(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func TestPost(t *testing.T) {
	s := httptest.NewServer(NewHandler(fakeTAM{}, HandlerOptions{}))
	defer s.Close()
	c := newClient(t, ClientOptions{}, nil)
	ctx := context.Background()
	if reply, err := c.Post(ctx, s.URL, nil); err != nil || string(reply) != "hello" {
		t.Errorf("%q, %v", reply, err)
	}
	if reply, err := c.Post(ctx, s.URL, []byte("message")); err != nil || string(reply) != "message" {
		t.Errorf("%q, %v", reply, err)
	}
}

func TestPostHeaders(t *testing.T) {
	var got *http.Request
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		http.SetCookie(w, &http.Cookie{Name: "track", Value: "1"})
		w.WriteHeader(http.StatusNoContent)
	})
	c := newClient(t, ClientOptions{UserAgent: "test/1"}, nil)
	for _, body := range [][]byte{nil, {}, []byte("x"), []byte("x")} {
		reply, err := c.Post(context.Background(), s.URL+"/tam?x=y", body)
		if err != nil || len(reply) != 0 {
			t.Fatal(reply, err)
		}
		h := got.Header
		if got.Method != "POST" || h.Get("Accept") != MediaType || h.Get("User-Agent") != "test/1" || h.Get("Cookie") != "" || got.ContentLength != int64(len(body)) {
			t.Errorf("%v %v", got.Method, h)
		}
		if wrong := (h.Get("Content-Type") == MediaType) != (len(body) > 0); wrong {
			t.Errorf("content type %q for %d bytes", h.Get("Content-Type"), len(body))
		}
	}
}

func TestPostFailures(t *testing.T) {
	elsewhere := server(t, func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") })
	reply := func(status int, header map[string]string, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for k, v := range header {
				w.Header().Set(k, v)
			}
			w.WriteHeader(status)
			io.WriteString(w, body)
		}
	}
	teep := map[string]string{"Content-Type": MediaType}
	for name, c := range map[string]struct {
		h    http.HandlerFunc
		want error
		text string
	}{
		"301":              {reply(301, map[string]string{"Location": elsewhere.URL}, ""), nil, "redirects are not followed"},
		"307":              {reply(307, map[string]string{"Location": elsewhere.URL}, ""), nil, "status 307"},
		"404":              {reply(404, nil, "<html>"), nil, "status 404 Not Found"},
		"500":              {reply(500, teep, "x"), nil, "status 500"},
		"503 with seconds": {reply(503, map[string]string{"Retry-After": "120"}, ""), nil, "try again in 2m0s"},
		"HTML":             {reply(200, map[string]string{"Content-Type": "text/html"}, "<html>"), ErrMediaType, "is this the TAM's URI?"},
		"no content type":  {reply(200, map[string]string{"Content-Type": ""}, "x"), ErrMediaType, ""},
		"too large":        {reply(200, teep, strings.Repeat("x", 101)), ErrTooLarge, "100"},
		"too large chunked": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", MediaType)
			for range 20 {
				io.WriteString(w, "0123456789")
				w.(http.Flusher).Flush()
			}
		}, ErrTooLarge, "100"},
		"broken off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", MediaType)
			w.Header().Set("Content-Length", "50")
			io.WriteString(w, "x")
		}, ErrUnreachable, "broke off"},
		"hung up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, ErrUnreachable, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := server(t, c.h)
			client := newClient(t, ClientOptions{MaxResponse: 100}, nil)
			got, err := client.Post(context.Background(), s.URL, []byte("x"))
			if err == nil || got != nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%q, %v", got, err)
			}
			var status *StatusError
			if c.want == nil && !errors.As(err, &status) {
				t.Errorf("%T is no StatusError", err)
			}
		})
	}
}

func TestPostURIs(t *testing.T) {
	c := newClient(t, ClientOptions{Retry: DefaultRetry()}, nil)
	for _, uri := range []string{"", "tam.example/tam", "ftp://tam.example", "file:///etc/passwd", "http://", "https:///tam", "http://[::1", "unix:/run/x", "\x00"} {
		if _, err := c.Post(context.Background(), uri, nil); !errors.Is(err, ErrURI) {
			t.Errorf("%q: %v", uri, err)
		}
		if _, err := c.Open(context.Background(), uri, 0); !errors.Is(err, ErrURI) {
			t.Errorf("fetch from %q: %v", uri, err)
		}
	}
}

func TestErrorsDoNotRepeatTheURI(t *testing.T) {
	s := server(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	c := newClient(t, ClientOptions{}, nil)
	if _, err := c.Post(context.Background(), s.URL+"/?token=hunter2", nil); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Error(err)
	}
}

func TestRetry(t *testing.T) {
	policy := RetryPolicy{Attempts: 4, Base: time.Second, Max: 10 * time.Second}
	for name, c := range map[string]struct {
		statuses []int // 0 hangs up
		after    string
		requests int
		slept    string
		ok       bool
	}{
		"fine":                      {[]int{200}, "", 1, "[]", true},
		"503 once":                  {[]int{503, 200}, "", 2, "[750ms]", true},
		"faults of all kinds":       {[]int{0, 502, 429, 200}, "", 4, "[750ms 1.5s 3s]", true},
		"for too long":              {[]int{503, 503, 503, 503, 200}, "", 4, "[750ms 1.5s 3s]", false},
		"told to wait":              {[]int{503, 200}, "7", 2, "[7s]", true},
		"told to wait for too long": {[]int{503, 200}, "3600", 1, "[]", false},
		"404":                       {[]int{404, 200}, "", 1, "[]", false},
		"500 is an answer":          {[]int{500, 200}, "", 1, "[]", false},
		"redirect":                  {[]int{302, 200}, "", 1, "[]", false},
	} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int32
			s := server(t, func(w http.ResponseWriter, r *http.Request) {
				if body, _ := io.ReadAll(r.Body); string(body) != "x" {
					t.Errorf("request has %q", body)
				}
				status := c.statuses[requests.Add(1)-1]
				if status == 0 {
					panic(http.ErrAbortHandler)
				}
				if status != 200 && c.after != "" {
					w.Header().Set("Retry-After", c.after)
				}
				w.Header().Set("Content-Type", MediaType)
				w.WriteHeader(status)
				io.WriteString(w, "reply")
			})
			slept := []time.Duration{}
			client := newClient(t, ClientOptions{Retry: policy}, &slept)
			reply, err := client.Post(context.Background(), s.URL, []byte("x"))
			if (err == nil) != c.ok || c.ok && string(reply) != "reply" {
				t.Errorf("%q, %v", reply, err)
			}
			if int(requests.Load()) != c.requests || fmt.Sprint(slept) != c.slept {
				t.Errorf("%d requests, slept %v; want %d, %s", requests.Load(), slept, c.requests, c.slept)
			}
		})
	}
}

func TestRetryDelay(t *testing.T) {
	p := RetryPolicy{Base: time.Second, Max: 8 * time.Second}
	for attempt, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 4: 8 * time.Second, 60: 8 * time.Second} {
		if low, high := p.delay(attempt, 0), p.delay(attempt, 1); low != want/2 || high != want {
			t.Errorf("attempt %d: %v to %v", attempt, low, high)
		}
	}
}

func TestRetryEndsWithTheContext(t *testing.T) {
	s := server(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
	ctx, cancel := context.WithCancel(context.Background())
	c := newClient(t, ClientOptions{Retry: DefaultRetry()}, nil)
	c.options.Sleep = func(ctx context.Context, d time.Duration) error {
		cancel()
		return ctx.Err()
	}
	var status *StatusError
	if _, err := c.Post(ctx, s.URL, nil); !errors.As(err, &status) {
		t.Errorf("%v: the fault is forgotten", err)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	for s, want := range map[string]time.Duration{
		"": 0, "5": 5 * time.Second, "-1": 0, "x": 0, "99999999": maxRetryAfter, "999999999999999": 0,
		"Sun, 01 Feb 2026 00:01:00 GMT": time.Minute, "Sat, 31 Jan 2026 00:01:00 GMT": 0,
	} {
		if got := parseRetryAfter(s, now); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
}

func TestPostTimesOut(t *testing.T) {
	release := make(chan struct{})
	s := server(t, func(_ http.ResponseWriter, r *http.Request) { <-release })
	defer close(release)
	c := newClient(t, ClientOptions{Timeout: 20 * time.Millisecond}, nil)
	if _, err := c.Post(context.Background(), s.URL, nil); !errors.Is(err, ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", MediaType)
		fmt.Fprint(w, r.Proto)
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if reply, err := newClient(t, ClientOptions{CAFile: ca}, nil).Post(ctx, s.URL, nil); err != nil || string(reply) != "HTTP/2.0" {
		t.Errorf("private CA: %q, %v", reply, err)
	}
	if _, err := newClient(t, ClientOptions{}, nil).Post(ctx, s.URL, nil); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("unknown CA: %v", err)
	}
	// The certificate is for example.com and 127.0.0.1, not for localhost.
	other := strings.Replace(s.URL, "127.0.0.1", "localhost", 1)
	if _, err := newClient(t, ClientOptions{CAFile: ca}, nil).Post(ctx, other, nil); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("another name: %v", err)
	}
	if _, err := NewClient(ClientOptions{CAFile: ca + "x"}); err == nil {
		t.Error("a missing CA file was accepted")
	}
	if err := os.WriteFile(ca, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewClient(ClientOptions{CAFile: ca}); err == nil {
		t.Error("a CA file without certificates was accepted")
	}
}

// payloadServer serves data, breaking off each response after cut bytes (0: never).
func payloadServer(t *testing.T, data []byte, cut int, header http.Header) (*httptest.Server, *[]string) {
	t.Helper()
	var ranges []string
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		ranges = append(ranges, r.Header.Get("Range"))
		for k, v := range header {
			w.Header()[k] = v
		}
		out := w
		if cut > 0 {
			out = &cutWriter{ResponseWriter: w, left: cut}
		}
		http.ServeContent(out, r, "payload", time.Time{}, bytes.NewReader(data))
	})
	return s, &ranges
}

type cutWriter struct {
	http.ResponseWriter
	left int
}

func (c *cutWriter) Write(p []byte) (int, error) {
	if len(p) > c.left {
		c.ResponseWriter.Write(p[:c.left])
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	c.left -= len(p)
	return c.ResponseWriter.Write(p)
}

func TestOpen(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789"), 1000)
	s, ranges := payloadServer(t, data, 0, nil)
	c := newClient(t, ClientOptions{}, nil)
	for offset, want := range map[int64]string{0: "", 1: "bytes=1-", 9999: "bytes=9999-", 10000: "bytes=10000-"} {
		*ranges = nil
		stream, err := c.Open(context.Background(), s.URL, offset)
		if err != nil {
			t.Fatal(offset, err)
		}
		got, err := io.ReadAll(stream)
		if err != nil || !bytes.Equal(got, data[offset:]) || (*ranges)[0] != want {
			t.Errorf("from %d: %d bytes, %v, range %q", offset, len(got), err, *ranges)
		}
		stream.Close()
		if _, err := stream.Read(make([]byte, 1)); err == nil {
			t.Error("a closed stream was read")
		}
	}
	if _, err := c.Open(context.Background(), s.URL, 10001); !errors.Is(err, ErrRange) {
		t.Errorf("beyond the end: %v", err)
	}
	if _, err := c.Open(context.Background(), s.URL, -1); !errors.Is(err, ErrRange) {
		t.Errorf("negative: %v", err)
	}
}

func TestFetch(t *testing.T) {
	s, _ := payloadServer(t, []byte("0123456789"), 0, nil)
	c := newClient(t, ClientOptions{}, nil)
	for _, x := range []struct {
		offset, length int64
		want           string
		last           bool
	}{{0, 4, "0123", false}, {4, 6, "456789", true}, {4, 100, "456789", true}, {10, 5, "", true}, {9, 1, "9", true}} {
		got, last, err := c.Fetch(context.Background(), s.URL, x.offset, x.length)
		if err != nil || string(got) != x.want || last != x.last {
			t.Errorf("%+v: %q, %v, %v", x, got, last, err)
		}
	}
}

func TestFetchIsResumed(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789"), 100)
	for name, header := range map[string]http.Header{"with validator": {"Etag": {`"v1"`}}, "without": nil} {
		s, ranges := payloadServer(t, data, 300, header)
		c := newClient(t, ClientOptions{Retry: RetryPolicy{Attempts: 2, Base: time.Second}}, nil)
		stream, err := c.Open(context.Background(), s.URL, 0)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(stream)
		if err != nil || !bytes.Equal(got, data) || fmt.Sprint(*ranges) != "[ bytes=300- bytes=600- bytes=900-]" {
			t.Errorf("%s: %d bytes, %v, ranges %q", name, len(got), err, *ranges)
		}
		stream.Close()
	}
	// Without leave to repeat, the break is an error that says where.
	s, _ := payloadServer(t, data, 300, nil)
	stream, err := newClient(t, ClientOptions{}, nil).Open(context.Background(), s.URL, 0)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(stream)
	if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "byte 300") || len(got) != 300 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestFetchOfAChangedPayload(t *testing.T) {
	for name, headers := range map[string][2]http.Header{
		"another ETag":  {{"Etag": {`"1"`}}, {"Etag": {`"2"`}}},
		"another date":  {{"Last-Modified": {"Sun, 01 Feb 2026 00:00:00 GMT"}}, {"Last-Modified": {"Mon, 02 Feb 2026 00:00:00 GMT"}}},
		"weak and gone": {{"Etag": {`"1"`}}, {"Etag": {`W/"1"`}}},
	} {
		requests := 0
		s := server(t, func(w http.ResponseWriter, r *http.Request) {
			for k, v := range headers[min(requests, 1)] {
				w.Header()[k] = v
			}
			requests++
			http.ServeContent(&cutWriter{w, 5}, r, "x", time.Time{}, strings.NewReader("0123456789"))
		})
		c := newClient(t, ClientOptions{Retry: RetryPolicy{Attempts: 3}}, nil)
		stream, err := c.Open(context.Background(), s.URL, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(stream); !errors.Is(err, ErrChanged) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		stream.Close()
	}
}

// A server that knows no ranges sends everything; what is not wanted is skipped.
func TestFetchWithoutRanges(t *testing.T) {
	s := server(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "0123456789") })
	c := newClient(t, ClientOptions{}, nil)
	if got, last, err := c.Fetch(context.Background(), s.URL, 7, 2); err != nil || string(got) != "78" || last {
		t.Errorf("%q, %v, %v", got, last, err)
	}
	if _, _, err := c.Fetch(context.Background(), s.URL, 11, 2); !errors.Is(err, ErrRange) {
		t.Errorf("beyond the end: %v", err)
	}
}

func TestFetchFailures(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"404": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) },
		"204": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) },
		"another range": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-4/10")
			w.WriteHeader(206)
			io.WriteString(w, "01234")
		},
		"no range in 206": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(206)
			io.WriteString(w, "01234")
		},
		"416 without size": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(416) },
		"redirect":         func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/other", http.StatusFound) },
	} {
		s := server(t, h)
		if stream, err := newClient(t, ClientOptions{}, nil).Open(context.Background(), s.URL, 5); err == nil {
			stream.Close()
			t.Errorf("%s: no error", name)
		}
	}
}

func TestFetchRedirects(t *testing.T) {
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/1":
			http.Redirect(w, r, "/2", http.StatusFound)
		case "/2":
			http.Redirect(w, r, "/3", http.StatusTemporaryRedirect)
		default:
			io.WriteString(w, "payload")
		}
	})
	if got, _, err := newClient(t, ClientOptions{FetchRedirects: 2}, nil).Fetch(context.Background(), s.URL+"/1", 0, 10); err != nil || string(got) != "payload" {
		t.Errorf("%q, %v", got, err)
	}
	var status *StatusError
	if _, _, err := newClient(t, ClientOptions{FetchRedirects: 1}, nil).Fetch(context.Background(), s.URL+"/1", 0, 10); !errors.As(err, &status) || status.Location != "/3" {
		t.Errorf("one too many: %v", err)
	}
	check := followWithin(5)
	from, _ := http.NewRequest("GET", "https://a.example/", nil)
	to, _ := http.NewRequest("GET", "http://a.example/", nil)
	if err := check(to, []*http.Request{from}); !errors.Is(err, ErrURI) {
		t.Errorf("https to http: %v", err)
	}
}

func TestFetchStalls(t *testing.T) {
	release := make(chan struct{})
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "10")
		io.WriteString(w, "01234")
		w.(http.Flusher).Flush()
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	defer close(release)
	c := newClient(t, ClientOptions{IdleTimeout: 30 * time.Millisecond}, nil)
	stream, err := c.Open(context.Background(), s.URL, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	got, err := io.ReadAll(stream)
	if string(got) != "01234" || !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "no bytes for") {
		t.Errorf("%q, %v", got, err)
	}
}

func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-9/10", "bytes 5-9/*", "bytes */10", "bytes */*", "octets 0-1/2", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		start, total, ok := parseContentRange(s)
		if ok && (start < -1 || total < -1) || !ok && (start != 0 || total != 0) {
			t.Fatalf("%q: %d, %d, %v", s, start, total, ok)
		}
	})
}
