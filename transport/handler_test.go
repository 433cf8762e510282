package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("internal/poll.runtime_pollWait"))
}

// fakeTAM answers an empty POST with hello, and a message with itself.
type fakeTAM struct {
	connect func(context.Context) ([]byte, error)
	process func(context.Context, []byte) ([]byte, error)
}

func (f fakeTAM) ProcessConnect(ctx context.Context) ([]byte, error) {
	if f.connect != nil {
		return f.connect(ctx)
	}
	return []byte("hello"), nil
}

func (f fakeTAM) ProcessTeepMessage(ctx context.Context, m []byte) ([]byte, error) {
	if f.process != nil {
		return f.process(ctx, m)
	}
	return m, nil
}

func do(h http.Handler, method, body string, header map[string]string) *http.Response {
	r := httptest.NewRequest(method, "/tam", strings.NewReader(body))
	r.Header.Set("Accept", MediaType)
	if body != "" {
		r.Header.Set("Content-Type", MediaType)
	}
	for k, v := range header {
		if v == "" {
			r.Header.Del(k)
		} else {
			r.Header.Set(k, v)
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func TestHandlerStatuses(t *testing.T) {
	h := NewHandler(fakeTAM{}, HandlerOptions{MaxRequest: 10, Server: "tam/1"})
	for name, c := range map[string]struct {
		method, body string
		header       map[string]string
		status       int
		reply        string
	}{
		"connect":                      {"POST", "", nil, 200, "hello"},
		"message":                      {"POST", "message", nil, 200, "message"},
		"accept anything":              {"POST", "m", map[string]string{"Accept": "*/*"}, 200, "m"},
		"accept application":           {"POST", "m", map[string]string{"Accept": "text/html, application/*;q=0.1"}, 200, "m"},
		"content type with parameter":  {"POST", "m", map[string]string{"Content-Type": MediaType + "; x=y"}, 200, "m"},
		"empty with content type":      {"POST", "", map[string]string{"Content-Type": MediaType}, 200, "hello"},
		"GET":                          {"GET", "", nil, 405, ""},
		"PUT":                          {"PUT", "m", nil, 405, ""},
		"HEAD":                         {"HEAD", "", nil, 405, ""},
		"OPTIONS":                      {"OPTIONS", "", nil, 405, ""},
		"no content type":              {"POST", "m", map[string]string{"Content-Type": ""}, 415, ""},
		"wrong content type":           {"POST", "m", map[string]string{"Content-Type": "application/cbor"}, 415, ""},
		"empty, wrong content type":    {"POST", "", map[string]string{"Content-Type": "text/plain"}, 415, ""},
		"broken content type":          {"POST", "m", map[string]string{"Content-Type": ";;"}, 415, ""},
		"content encoding":             {"POST", "m", map[string]string{"Content-Encoding": "gzip"}, 415, ""},
		"no accept":                    {"POST", "m", map[string]string{"Accept": ""}, 406, ""},
		"accept something else":        {"POST", "m", map[string]string{"Accept": "text/html"}, 406, ""},
		"accept by name forbidden":     {"POST", "m", map[string]string{"Accept": "*/*, " + MediaType + ";q=0"}, 406, ""},
		"accept nonsense":              {"POST", "m", map[string]string{"Accept": ";;;"}, 406, ""},
		"just fits":                    {"POST", "0123456789", nil, 200, "0123456789"},
		"too large":                    {"POST", "01234567890", nil, 413, ""},
		"specific beats general":       {"POST", "m", map[string]string{"Accept": MediaType + ", */*;q=0"}, 200, "m"},
		"accept with nonsense quality": {"POST", "m", map[string]string{"Accept": MediaType + ";q=x"}, 406, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := do(h, c.method, c.body, c.header)
			reply, _ := io.ReadAll(r.Body)
			if r.StatusCode != c.status || c.status == 200 && string(reply) != c.reply {
				t.Fatalf("%d %q, want %d", r.StatusCode, reply, c.status)
			}
			if r.Header.Get("X-Content-Type-Options") != "nosniff" || r.Header.Get("Content-Security-Policy") != "default-src 'none'" ||
				r.Header.Get("Referrer-Policy") != "no-referrer" || r.Header.Get("Server") != "tam/1" {
				t.Errorf("headers %v", r.Header)
			}
			if got := r.Header.Get("Content-Type"); c.status == 200 && got != MediaType || got == "" {
				t.Errorf("content type %q", got)
			}
			if c.status == 405 && r.Header.Get("Allow") != "POST" {
				t.Errorf("Allow %q", r.Header.Get("Allow"))
			}
			if len(r.Cookies()) != 0 {
				t.Error("cookies")
			}
		})
	}
}

// A body without announced length is cut off at the limit, too.
func TestHandlerCutsChunkedBodies(t *testing.T) {
	s := httptest.NewServer(NewHandler(fakeTAM{}, HandlerOptions{MaxRequest: 10}))
	defer s.Close()
	for body, status := range map[string]int{"0123456789": 200, "01234567890": 413, "": 200} {
		r, err := http.NewRequest("POST", s.URL, io.MultiReader(strings.NewReader(body)))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", MediaType)
		r.Header.Set("Content-Type", MediaType)
		response, err := s.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != status {
			t.Errorf("%d bytes: %d, want %d", len(body), response.StatusCode, status)
		}
	}
}

type later struct{}

func (later) Error() string   { return "the database at 10.0.0.1 is down" }
func (later) Temporary() bool { return true }

func TestHandlerEmptyAndFailure(t *testing.T) {
	var logged bytes.Buffer
	for name, c := range map[string]struct {
		reply  []byte
		err    error
		status int
	}{
		"nil":       {nil, nil, 204},
		"empty":     {[]byte{}, nil, 204},
		"error":     {nil, errors.New("secret"), 500},
		"temporary": {nil, later{}, 503},
		"deadline":  {nil, context.DeadlineExceeded, 503},
	} {
		h := NewHandler(fakeTAM{process: func(context.Context, []byte) ([]byte, error) { return c.reply, c.err }},
			HandlerOptions{Log: slog.New(slog.NewTextHandler(&logged, nil)), RetryAfter: 1500 * time.Millisecond})
		r := do(h, "POST", "m", nil)
		body, _ := io.ReadAll(r.Body)
		if r.StatusCode != c.status || c.status == 204 && (len(body) > 0 || r.Header.Get("Content-Type") != "") {
			t.Errorf("%s: %d %q", name, r.StatusCode, body)
		}
		if strings.Contains(string(body), "secret") || strings.Contains(string(body), "10.0.0.1") {
			t.Errorf("%s: the cause leaks: %q", name, body)
		}
		if c.status == 503 && r.Header.Get("Retry-After") != "2" {
			t.Errorf("%s: Retry-After %q", name, r.Header.Get("Retry-After"))
		}
	}
	if !strings.Contains(logged.String(), "secret") {
		t.Error("the cause is not in the log")
	}
}

func TestHandlerOverload(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	h := NewHandler(fakeTAM{process: func(context.Context, []byte) ([]byte, error) {
		entered <- struct{}{}
		<-leave
		return nil, nil
	}}, HandlerOptions{MaxConcurrent: 2})
	done := make(chan int, 2)
	for range 2 {
		go func() { done <- do(h, "POST", "m", nil).StatusCode }()
		<-entered
	}
	if r := do(h, "POST", "m", nil); r.StatusCode != 503 || r.Header.Get("Retry-After") != "5" {
		t.Errorf("%d, Retry-After %q", r.StatusCode, r.Header.Get("Retry-After"))
	}
	close(leave)
	for range 2 {
		if s := <-done; s != 204 {
			t.Error(s)
		}
	}
	go func() { <-entered }()
	if r := do(h, "POST", "m", nil); r.StatusCode != 204 {
		t.Errorf("after the overload: %d", r.StatusCode)
	}
}

func TestHandlerRate(t *testing.T) {
	now := time.Unix(1e9, 0)
	var statuses []int
	h := NewHandler(fakeTAM{}, HandlerOptions{
		Rate: 1, Burst: 2, MaxAddresses: 2, Now: func() time.Time { return now },
		ClientAddress: func(r *http.Request) netip.Addr { a, _ := netip.ParseAddr(r.Header.Get("X-From")); return a },
		Observe:       func(_ *http.Request, status int, _ time.Duration) { statuses = append(statuses, status) },
	})
	from := func(a string) int { return do(h, "POST", "", map[string]string{"X-From": a}).StatusCode }
	want := func(a string, status int) {
		t.Helper()
		if got := from(a); got != status {
			t.Errorf("%s: %d, want %d", a, got, status)
		}
	}
	want("192.0.2.1", 200)
	want("192.0.2.1", 200)
	want("192.0.2.1", 429)
	want("::ffff:192.0.2.1", 429) // the same host
	want("2001:db8::1", 200)
	want("2001:db8::2", 200)
	want("2001:db8::ffff:0:3", 429) // the same /64
	now = now.Add(time.Second)
	want("192.0.2.1", 200)
	want("192.0.2.1", 429)
	want("198.51.100.1", 200) // makes room: the IPv6 network was quiet for longest
	want("2001:db8::1", 200)
	want("2001:db8::1", 200)
	want("not an address", 200)
	want("", 200)
	want("nor this", 429)
	if len(statuses) != 15 || statuses[2] != 429 {
		t.Errorf("observed %v", statuses)
	}
}

func TestHandlerWithoutRate(t *testing.T) {
	h := NewHandler(fakeTAM{}, HandlerOptions{Rate: -1})
	for range 500 {
		if r := do(h, "POST", "", nil); r.StatusCode != 200 {
			t.Fatal(r.StatusCode)
		}
	}
}

func TestAddressLimitsAreBounded(t *testing.T) {
	l := newAddressLimits(1, 1, 100)
	for i := range 1000 {
		l.allow(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), time.Unix(0, 0))
	}
	if len(l.byAddr) != 100 || l.recent.Len() != 100 {
		t.Errorf("%d addresses, %d in the list", len(l.byAddr), l.recent.Len())
	}
}

// A body that trickles is given up, and so is its place.
func TestHandlerSlowBody(t *testing.T) {
	s := httptest.NewUnstartedServer(NewHandler(fakeTAM{}, HandlerOptions{BodyTimeout: 50 * time.Millisecond, MaxConcurrent: 1}))
	s.Start()
	defer s.Close()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "POST /tam HTTP/1.1\r\nHost: x\r\nAccept: "+MediaType+"\r\nContent-Type: "+MediaType+"\r\nContent-Length: 5\r\n\r\nab")
	reply, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(reply), "HTTP/1.1 408 ") {
		t.Errorf("%q, %v", reply, err)
	}
	if r := do(s.Config.Handler, "POST", "", nil); r.StatusCode != 200 {
		t.Errorf("the place is lost: %d", r.StatusCode)
	}
}

func TestHandlerBodyBreaksOff(t *testing.T) {
	h := NewHandler(fakeTAM{}, HandlerOptions{})
	r := httptest.NewRequest("POST", "/tam", io.MultiReader(strings.NewReader("ab"), brokenReader{}))
	r.Header.Set("Accept", MediaType)
	r.Header.Set("Content-Type", MediaType)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != 400 {
		t.Error(w.Code)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestNewServer(t *testing.T) {
	s := NewServer(http.NotFoundHandler())
	if s.ReadHeaderTimeout == 0 || s.IdleTimeout == 0 || s.MaxHeaderBytes == 0 {
		t.Errorf("%+v has no limits", s)
	}
}

// TestHandlerProcessTimeout: an endpoint that hangs on something behind it is given up, and the client told
// to come again.
func TestHandlerProcessTimeout(t *testing.T) {
	hang := func(ctx context.Context) ([]byte, error) {
		<-ctx.Done()
		return nil, fmt.Errorf("asking the database: %w", ctx.Err())
	}
	h := NewHandler(fakeTAM{connect: hang, process: func(ctx context.Context, _ []byte) ([]byte, error) { return hang(ctx) }},
		HandlerOptions{ProcessTimeout: time.Millisecond})
	for _, body := range []string{"", "m"} {
		if r := do(h, "POST", body, nil); r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" {
			t.Errorf("%q: %d %v", body, r.StatusCode, r.Header)
		}
	}
}

// TestHandlerSlowBodiesDisplaceThemselves: slow messages take no place of those that are there, and the
// oldest goes when a further one comes.
func TestHandlerSlowBodiesDisplaceThemselves(t *testing.T) {
	s := httptest.NewServer(NewHandler(fakeTAM{}, HandlerOptions{MaxArriving: 2, MaxConcurrent: 1}))
	defer s.Close()
	for range 5 {
		var slow []net.Conn
		for range 3 {
			conn, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			io.WriteString(conn, "POST /tam HTTP/1.1\r\nHost: x\r\nAccept: "+MediaType+"\r\nContent-Type: "+MediaType+"\r\nContent-Length: 5\r\n\r\nab")
			slow = append(slow, conn)
		}
		// Which came first is the server's to say; of three, one at least has to go.
		cut := make(chan string, len(slow))
		for _, conn := range slow {
			go func() {
				reply := make([]byte, len("HTTP/1.1 408"))
				io.ReadFull(conn, reply) //nolint:errcheck // the others end with the test
				cut <- string(reply)
			}()
		}
		if reply := <-cut; reply != "HTTP/1.1 408" {
			t.Fatalf("%q", reply)
		}
		r, err := http.NewRequest("POST", s.URL, strings.NewReader("m"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", MediaType)
		r.Header.Set("Content-Type", MediaType)
		response, err := http.DefaultClient.Do(r)
		if err != nil || response.StatusCode/100 != 2 {
			t.Fatalf("a message among slow ones: %v, %v", response, err)
		}
		response.Body.Close()
	}
}
